"""Files as disks, networks and people's editors leave them: pure functions of bytes and rng."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

__all__ = ["BYTES", "HEADERS", "Pairs", "join", "rewrite_json", "rewrite_plan", "split", "write"]


def flip(data: bytes, rng: random.Random, _: bytes) -> bytes:
    """Up to eight bytes take other values."""
    changed = bytearray(data)
    for _turn in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def flip_bit(data: bytes, rng: random.Random, _: bytes) -> bytes:
    """One bit is turned over."""
    changed = bytearray(data)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(data: bytes, rng: random.Random, _: bytes) -> bytes:
    """Cut off anywhere, also before the first byte."""
    return data[: rng.randrange(len(data))]


def extend(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """Something stands behind the end, or before the beginning."""
    more = rng.choice((b"\0" * rng.randint(1, 4096), rng.randbytes(rng.randint(1, 64)), other))
    return data + more if rng.random() < 0.8 else more + data


def swap(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """A section is that of another save, at the same place."""
    start = rng.randrange(len(data))
    stop = rng.randint(start, len(data))
    return data[:start] + other[start:stop] + data[stop:]


def drop_section(data: bytes, rng: random.Random, _: bytes) -> bytes:
    """A section is missing, or is there twice."""
    start = rng.randrange(len(data))
    stop = rng.randint(start, len(data))
    return data[:start] + rng.choice((b"", data[start:stop] * 2)) + data[stop:]


BYTES: Final[Mapping[str, Callable[[bytes, random.Random, bytes], bytes]]] = {
    "bytes changed": flip,
    "a bit turned": flip_bit,
    "cut off": truncate,
    "extended": extend,
    "section of another save": swap,
    "section lost or twice": drop_section,
}


class Pairs(list[tuple[str, Any]]):
    """A JSON object in which a key may appear twice."""


class Raw(str):
    """JSON that is written as it stands."""


def write(node: Any) -> str:
    """JSON text, of `Pairs` too, and with numbers that JSON does not have."""
    if isinstance(node, Raw):
        return str(node)
    if isinstance(node, Pairs):
        return "{" + ",".join(f"{json.dumps(key)}:{write(value)}" for key, value in node) + "}"
    if isinstance(node, list):
        return "[" + ",".join(map(write, node)) + "]"
    return json.dumps(node)


def read(text: bytes | str) -> Any:
    """JSON with its objects as `Pairs`."""
    return json.loads(text, object_pairs_hook=Pairs)


def _places(node: Any) -> Iterator[tuple[Any, int]]:
    """Every value in a tree, as the container and the index that hold it."""
    for index, item in enumerate(node):
        yield node, index
        value = item[1] if isinstance(node, Pairs) else item
        if isinstance(value, list):
            yield from _places(value)


def _get(place: tuple[Any, int]) -> Any:
    node, index = place
    return node[index][1] if isinstance(node, Pairs) else node[index]


def _put(place: tuple[Any, int], value: Any) -> None:
    node, index = place
    node[index] = (node[index][0], value) if isinstance(node, Pairs) else value


def _number(value: Any, rng: random.Random) -> Any:
    base = value if isinstance(value, int | float) and not isinstance(value, bool) else 1
    return rng.choice(
        (
            -base,
            -1,
            0,
            base + 1,
            base * 2,
            base + 0.5,
            rng.randrange(2**15),
            2**31,
            2**47,
            2**48 - 1,
            2**63 - 1,
            2**64,
            10**30,
            Raw("9" * 5000),
            1e-300,
            1e300,
            Raw("1e999"),
            Raw("NaN"),
            Raw("-Infinity"),
            True,
        )
    )


def _other_type(value: Any, rng: random.Random) -> Any:
    choices: tuple[Any, ...] = (
        None,
        True,
        0,
        "",
        "x",
        [],
        Pairs(),
        [value],
        Pairs([("x", value)]),
        str(value),
    )
    return rng.choice(choices)


def _text(value: Any, rng: random.Random) -> Any:
    base = value if isinstance(value, str) else "x"
    return rng.choice(
        (
            base + "\u0301",
            "\u202e" + base,
            "\ud800",
            "\0",
            base[:-1],
            base + ".weight",
            base[:300] * 300,
            "é🙂" * 5,
            "../" + base,
            base.upper(),
            "*",
            "",
        )
    )


def _nested(_: Any, rng: random.Random) -> Any:
    depth = rng.choice((3, 60, 500, 3000, 100_000))
    opening, closing = rng.choice((("[", "]"), ('{"x":', "}"), ('{"plan":', "}")))
    return Raw(opening * depth + "0" + closing * depth)


def _swapped(root: Any, place: tuple[Any, int], rng: random.Random) -> None:
    """Two values of a tree change places."""
    other = rng.choice(list(_places(root)))
    first, second = _get(place), _get(other)
    if not isinstance(first, list) and not isinstance(second, list):  # no tree within itself
        _put(place, second)
        _put(other, first)


VALUES: Final = (_number, _other_type, _text, _nested)


def rewrite_json(
    text: bytes | str,
    rng: random.Random,
    within: Callable[[Any], Any] = lambda root: root,
) -> tuple[str, str]:
    """Rewrite one to three places of a JSON document.

    Args:
        text: sound JSON, an object or a list.
        rng: decides.
        within: from the tree to the part of it that is rewritten.
    Returns:
        What was done, and the new text.
    """
    root = read(text)
    names = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        names.append(_rewrite(within(root), rng))
    return "+".join(sorted(set(names))), write(root)


def _rewrite(root: Any, rng: random.Random) -> str:
    places = list(_places(root))
    if not places:
        return "nothing"
    place = rng.choice(places)
    node, index = place
    value = _get(place)
    way = rng.random()
    if way < 0.35:
        numeric = isinstance(value, int | float)
        change = _number if numeric and rng.random() < 0.8 else rng.choice(VALUES[1:])
        if isinstance(value, str) and rng.random() < 0.5:
            change = _text
        _put(place, change(value, rng))
        return {"_number": "number", "_other_type": "type", "_text": "text", "_nested": "depth"}[
            change.__name__
        ]
    if way < 0.5:
        del node[index]
        return "dropped"
    if way < 0.6:
        node.insert(rng.randrange(len(node) + 1), node[index])
        return "twice"
    if way < 0.7:
        added: tuple[str, Any] = (
            "more" + rng.choice(("", "\ud800", "é")),
            rng.choice((0, None, "x", [])),
        )
        node.append(added if isinstance(node, Pairs) else added[1])
        return "added"
    if way < 0.8:
        _swapped(root, place, rng)
        return "exchanged"
    return _jump(root, rng)


def _jump(root: Any, rng: random.Random) -> str:
    """A number anywhere is exaggerated: small trees of names have few numbers."""
    numbers = [place for place in _places(root) if isinstance(_get(place), int | float)]
    if not numbers:
        return "nothing"
    place = rng.choice(numbers)
    _put(place, _number(_get(place), rng))
    return "number"


_COUNTS: Final = (1, 2, 3, 5, 8, 12, 40, 100, 1000, 10**6, 10**9, 2**47, 2**60, 10**20, 10**30)
_NAMES: Final = ("embed.weight", "head.weight", "rnn.weight_hh_l0", "layers.0.bias", "norm.weight")
FIELDS: Final[Mapping[str, Mapping[str, tuple[Any, ...]]]] = {
    "config": {
        "method": ("eps", "veps"),
        "factor": (None, *_COUNTS),
        "tie": ("none", "all", "sequence:2", "cycle:999999", "cycle_rev:1"),
        "source": ("auto", *_NAMES, Pairs([("*", "embed.weight")])),
        "gain": ("match", "none", "learned", "channel"),
        "init": ("random", "svd"),
        "residual_rank": (0, *_COUNTS),
        "order": ("row", "column"),
        "width": (None, *_COUNTS),
        "column_bias": (False, True),
        "anchor": (0.0, 1.0, 2.5, 1e3),
        "factor_norm": (False, True),
    },
    "sources": {
        "name": _NAMES,
        "rows": _COUNTS,
        "dim": _COUNTS,
        "stored_dim": _COUNTS,
        "width": _COUNTS,
        "tied": ([], *([name] for name in _NAMES)),
        "spread": (1.0, 1e-30, 1e30),
    },
    "slots": {
        "weights": tuple([name] for name in _NAMES),
        "source": (0, 1, 2),
        "start": (0, *_COUNTS),
        "shape": ([8, 8], [1, 64], [64, 1], [4, 4, 4], [8, 8, 1]),
        "transposed": (False, True),
        "channel": (0, 1, 2),
        "gain": (1.0, 1e-30, 1e30),
    },
}
"""Fields of a plan, with values that each field on its own may have."""


def rewrite_plan(plan: Any, rng: random.Random) -> str:
    """Change one to three fields of a plan to values that are sound on their own.

    Args:
        plan: as `read` returned it; changed in place.
        rng: decides.
    Returns:
        What was done.
    """
    done = set()
    for _ in range(rng.choice((1, 1, 2, 3))):
        part = rng.choice(sorted(FIELDS))
        field = rng.choice(sorted(FIELDS[part]))
        value = rng.choice(FIELDS[part][field])
        node = next((value for key, value in plan if key == part), None)
        if not isinstance(node, Pairs):
            node = rng.choice(node) if node else Pairs()
        for index, (key, _old) in enumerate(node):
            if key == field:
                node[index] = (key, value)
                done.add(part)
    return "+".join(sorted(done))


def split(data: bytes) -> tuple[Pairs, bytes]:
    """The header and the body of a sound safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    return read(data[8 : 8 + length]), data[8 + length :]


def join(header: Any, body: bytes) -> bytes:
    """A safetensors file from its parts."""
    text = write(header).encode("utf-8", "surrogatepass")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def _entries(header: Pairs) -> list[int]:
    return [index for index, (name, _) in enumerate(header) if name != "__metadata__"]


def _field(header: Pairs, rng: random.Random, name: str) -> tuple[Pairs, int]:
    entry: Pairs = header[rng.choice(_entries(header))][1]
    return entry, next(index for index, (key, _) in enumerate(entry) if key == name)


def shapes(data: bytes, rng: random.Random) -> bytes:
    """A shape is exaggerated, negative, of other dimensions, or exchanged."""
    header, body = split(data)
    entry, index = _field(header, rng, "shape")
    shape = list(entry[index][1])
    new = rng.choice(
        (
            [],
            shape[::-1],
            [*shape, 1],
            [1, *shape],
            [0, *shape],
            [2**40, *shape],
            [2**63, 2],
            [2**62, 4],
            [-size for size in shape],
            [size * 1000 for size in shape],
            [shape[0] + 1, *shape[1:]] if shape else [1],
            [Raw("1e3")],
            Raw("null"),
        )
    )
    entry[index] = ("shape", new)
    return join(header, body)


def offsets(data: bytes, rng: random.Random) -> bytes:
    """Offsets overlap, lie beyond the end, are negative, or run backwards."""
    header, body = split(data)
    entry, index = _field(header, rng, "data_offsets")
    start, stop = entry[index][1]
    other = rng.choice(header[rng.choice(_entries(header))][1])[1]
    new = rng.choice(
        (
            [stop, start],
            [start + 1, stop + 1],
            [start + 4, stop + 4],
            [max(0, start - 4), max(0, stop - 4)],
            [start, stop + 4],
            [start, 2**62],
            [2**63, 2**63 + stop - start],
            [2**64 - 8, 2**64 - 4],
            [-4, stop],
            [start],
            [start, stop, stop],
            [0, 0],
            other,
        )
    )
    entry[index] = ("data_offsets", new)
    return join(header, body)


SIZES: Final = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1}
SIZES_TOO: Final = {"U8": 1, "BOOL": 1, "U16": 2, "U32": 4, "U64": 8, "F8_E4M3": 1, "F8_E5M2": 1}


def dtypes(data: bytes, rng: random.Random) -> bytes:
    """Numbers are read as others of the same size, or the type is none, or of another size."""
    header, body = split(data)
    entry, index = _field(header, rng, "dtype")
    known = SIZES | SIZES_TOO
    size = known.get(str(entry[index][1]))
    same = [name for name, bytes_ in known.items() if bytes_ == size and name != entry[index][1]]
    odd = rng.choice(("F4", "C64", "F128", "", "f32", "F8_E8M0", *known))
    new = rng.choice(same) if same and rng.random() < 0.7 else odd
    entry[index] = ("dtype", new)
    return join(header, body)


def names(data: bytes, rng: random.Random) -> bytes:
    """A tensor is left out, appears twice, has another's name or a new one."""
    header, body = split(data)
    one, other = rng.choice(_entries(header)), rng.choice(_entries(header))
    name, entry = header[one]
    way = rng.randrange(4)
    if way == 0:
        del header[one]
    elif way == 1:
        header.append((header[other][0], entry))
    elif way == 2:
        header[one], header[other] = (header[other][0], entry), (name, header[other][1])
    else:
        header[one] = (_text(name, rng), entry)
    return join(header, body)


def metadata(data: bytes, rng: random.Random) -> bytes:
    """Metadata are dropped, of another type, twice, or without embshare's entry."""
    header, body = split(data)
    at = next((i for i, (name, _) in enumerate(header) if name == "__metadata__"), None)
    old = Pairs() if at is None else header.pop(at)[1]
    new = rng.choice((None, Pairs(), Pairs([("format", "pt")]), [], "x", 1, old[:1], old + old))
    if new is not None:
        header.insert(0, ("__metadata__", Pairs(new) if isinstance(new, list) else new))
    return join(header, body)


def length(data: bytes, rng: random.Random) -> bytes:
    """The header's length lies."""
    (true,) = struct.unpack("<Q", data[:8])
    near = true + rng.choice((-8, -1, 1, 8))
    new = rng.choice((0, 1, 2, near, len(data), 2**27, 2**31, 2**40, 2**63 - 9, 2**63, 2**64 - 1))
    return struct.pack("<Q", new) + data[8:]


def header_json(data: bytes, rng: random.Random) -> bytes:
    """Anything in the header is rewritten."""
    header, body = split(data)
    _, text = rewrite_json(write(header), rng)
    return join(Raw(text), body)


def values(data: bytes, rng: random.Random) -> bytes:
    """A tensor's bytes are others, some of them no numbers."""
    header, body = split(data)
    entry, index = _field(header, rng, "data_offsets")
    start, stop = entry[index][1]
    size = stop - start
    new = rng.choice((rng.randbytes(size), b"\xff" * size, b"\0" * size, body[:size]))
    return join(header, body[:start] + new.ljust(size, b"\1") + body[stop:])


HEADERS: Final[Mapping[str, Callable[[bytes, random.Random], bytes]]] = {
    "shapes": shapes,
    "offsets": offsets,
    "dtypes": dtypes,
    "names": names,
    "metadata": metadata,
    "length": length,
    "JSON": header_json,
    "values": values,
}
