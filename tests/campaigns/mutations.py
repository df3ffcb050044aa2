"""Files as disks, networks and people's editors leave them: pure functions of bytes and dice."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

__all__ = ["BYTES", "HEADERS", "Pairs", "join", "rewrite_json", "rewrite_plan", "split", "write"]

Dice = random.Random


def flip(data: bytes, dice: Dice, _: bytes) -> bytes:
    """Up to eight bytes take other values."""
    changed = bytearray(data)
    for _turn in range(dice.randint(1, 8)):
        changed[dice.randrange(len(changed))] = dice.randrange(256)
    return bytes(changed)


def flip_bit(data: bytes, dice: Dice, _: bytes) -> bytes:
    """One bit is turned over."""
    changed = bytearray(data)
    changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def truncate(data: bytes, dice: Dice, _: bytes) -> bytes:
    """Cut off anywhere, also before the first byte."""
    return data[: dice.randrange(len(data))]


def extend(data: bytes, dice: Dice, other: bytes) -> bytes:
    """Something stands behind the end, or before the beginning."""
    more = dice.choice((b"\0" * dice.randint(1, 4096), dice.randbytes(dice.randint(1, 64)), other))
    return data + more if dice.random() < 0.8 else more + data


def swap(data: bytes, dice: Dice, other: bytes) -> bytes:
    """A section is that of another save, at the same place."""
    start = dice.randrange(len(data))
    stop = dice.randint(start, len(data))
    return data[:start] + other[start:stop] + data[stop:]


def drop_section(data: bytes, dice: Dice, _: bytes) -> bytes:
    """A section is missing, or is there twice."""
    start = dice.randrange(len(data))
    stop = dice.randint(start, len(data))
    return data[:start] + dice.choice((b"", data[start:stop] * 2)) + data[stop:]


BYTES: Final[Mapping[str, Callable[[bytes, Dice, bytes], bytes]]] = {
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


def _number(value: Any, dice: Dice) -> Any:
    base = value if isinstance(value, int | float) and not isinstance(value, bool) else 1
    return dice.choice(
        (
            -base,
            -1,
            0,
            base + 1,
            base * 2,
            base + 0.5,
            dice.randrange(2**15),
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


def _other_type(value: Any, dice: Dice) -> Any:
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
    return dice.choice(choices)


def _text(value: Any, dice: Dice) -> Any:
    base = value if isinstance(value, str) else "x"
    return dice.choice(
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


def _nested(_: Any, dice: Dice) -> Any:
    depth = dice.choice((3, 60, 500, 3000, 100_000))
    opening, closing = dice.choice((("[", "]"), ('{"x":', "}"), ('{"plan":', "}")))
    return Raw(opening * depth + "0" + closing * depth)


def _swapped(root: Any, place: tuple[Any, int], dice: Dice) -> None:
    """Two values of a tree change places."""
    other = dice.choice(list(_places(root)))
    first, second = _get(place), _get(other)
    if not isinstance(first, list) and not isinstance(second, list):  # no tree within itself
        _put(place, second)
        _put(other, first)


VALUES: Final = (_number, _other_type, _text, _nested)


def rewrite_json(
    text: bytes | str,
    dice: Dice,
    within: Callable[[Any], Any] = lambda root: root,
) -> tuple[str, str]:
    """Rewrite one to three places of a JSON document.

    Args:
        text: sound JSON, an object or a list.
        dice: decides.
        within: from the tree to the part of it that is rewritten.
    Returns:
        What was done, and the new text.
    """
    root = read(text)
    names = []
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        names.append(_rewrite(within(root), dice))
    return "+".join(sorted(set(names))), write(root)


def _rewrite(root: Any, dice: Dice) -> str:
    places = list(_places(root))
    if not places:
        return "nothing"
    place = dice.choice(places)
    node, index = place
    value = _get(place)
    way = dice.random()
    if way < 0.35:
        numeric = isinstance(value, int | float)
        change = _number if numeric and dice.random() < 0.8 else dice.choice(VALUES[1:])
        if isinstance(value, str) and dice.random() < 0.5:
            change = _text
        _put(place, change(value, dice))
        return {"_number": "number", "_other_type": "type", "_text": "text", "_nested": "depth"}[
            change.__name__
        ]
    if way < 0.5:
        del node[index]
        return "dropped"
    if way < 0.6:
        node.insert(dice.randrange(len(node) + 1), node[index])
        return "twice"
    if way < 0.7:
        added: tuple[str, Any] = (
            "more" + dice.choice(("", "\ud800", "é")),
            dice.choice((0, None, "x", [])),
        )
        node.append(added if isinstance(node, Pairs) else added[1])
        return "added"
    if way < 0.8:
        _swapped(root, place, dice)
        return "exchanged"
    return _jump(root, dice)


def _jump(root: Any, dice: Dice) -> str:
    """A number anywhere is exaggerated: small trees of names have few numbers."""
    numbers = [place for place in _places(root) if isinstance(_get(place), int | float)]
    if not numbers:
        return "nothing"
    place = dice.choice(numbers)
    _put(place, _number(_get(place), dice))
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


def rewrite_plan(plan: Any, dice: Dice) -> str:
    """Change one to three fields of a plan to values that are sound on their own.

    Args:
        plan: as `read` returned it; changed in place.
        dice: decides.
    Returns:
        What was done.
    """
    done = set()
    for _ in range(dice.choice((1, 1, 2, 3))):
        part = dice.choice(sorted(FIELDS))
        field = dice.choice(sorted(FIELDS[part]))
        value = dice.choice(FIELDS[part][field])
        node = next((value for key, value in plan if key == part), None)
        if not isinstance(node, Pairs):
            node = dice.choice(node) if node else Pairs()
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


def _field(header: Pairs, dice: Dice, name: str) -> tuple[Pairs, int]:
    entry: Pairs = header[dice.choice(_entries(header))][1]
    return entry, next(index for index, (key, _) in enumerate(entry) if key == name)


def shapes(data: bytes, dice: Dice) -> bytes:
    """A shape is exaggerated, negative, of other dimensions, or exchanged."""
    header, body = split(data)
    entry, index = _field(header, dice, "shape")
    shape = list(entry[index][1])
    new = dice.choice(
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


def offsets(data: bytes, dice: Dice) -> bytes:
    """Offsets overlap, lie beyond the end, are negative, or run backwards."""
    header, body = split(data)
    entry, index = _field(header, dice, "data_offsets")
    start, stop = entry[index][1]
    other = dice.choice(header[dice.choice(_entries(header))][1])[1]
    new = dice.choice(
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


def dtypes(data: bytes, dice: Dice) -> bytes:
    """Numbers are read as others of the same size, or the type is none, or of another size."""
    header, body = split(data)
    entry, index = _field(header, dice, "dtype")
    known = SIZES | SIZES_TOO
    size = known.get(str(entry[index][1]))
    same = [name for name, bytes_ in known.items() if bytes_ == size and name != entry[index][1]]
    odd = dice.choice(("F4", "C64", "F128", "", "f32", "F8_E8M0", *known))
    new = dice.choice(same) if same and dice.random() < 0.7 else odd
    entry[index] = ("dtype", new)
    return join(header, body)


def names(data: bytes, dice: Dice) -> bytes:
    """A tensor is left out, appears twice, has another's name or a new one."""
    header, body = split(data)
    one, other = dice.choice(_entries(header)), dice.choice(_entries(header))
    name, entry = header[one]
    way = dice.randrange(4)
    if way == 0:
        del header[one]
    elif way == 1:
        header.append((header[other][0], entry))
    elif way == 2:
        header[one], header[other] = (header[other][0], entry), (name, header[other][1])
    else:
        header[one] = (_text(name, dice), entry)
    return join(header, body)


def metadata(data: bytes, dice: Dice) -> bytes:
    """Metadata are dropped, of another type, twice, or without embshare's entry."""
    header, body = split(data)
    at = next((i for i, (name, _) in enumerate(header) if name == "__metadata__"), None)
    old = Pairs() if at is None else header.pop(at)[1]
    new = dice.choice((None, Pairs(), Pairs([("format", "pt")]), [], "x", 1, old[:1], old + old))
    if new is not None:
        header.insert(0, ("__metadata__", Pairs(new) if isinstance(new, list) else new))
    return join(header, body)


def length(data: bytes, dice: Dice) -> bytes:
    """The header's length lies."""
    (true,) = struct.unpack("<Q", data[:8])
    near = true + dice.choice((-8, -1, 1, 8))
    new = dice.choice((0, 1, 2, near, len(data), 2**27, 2**31, 2**40, 2**63 - 9, 2**63, 2**64 - 1))
    return struct.pack("<Q", new) + data[8:]


def header_json(data: bytes, dice: Dice) -> bytes:
    """Anything in the header is rewritten."""
    header, body = split(data)
    _, text = rewrite_json(write(header), dice)
    return join(Raw(text), body)


def values(data: bytes, dice: Dice) -> bytes:
    """A tensor's bytes are others, some of them no numbers."""
    header, body = split(data)
    entry, index = _field(header, dice, "data_offsets")
    start, stop = entry[index][1]
    size = stop - start
    new = dice.choice((dice.randbytes(size), b"\xff" * size, b"\0" * size, body[:size]))
    return join(header, body[:start] + new.ljust(size, b"\1") + body[stop:])


HEADERS: Final[Mapping[str, Callable[[bytes, Dice], bytes]]] = {
    "shapes": shapes,
    "offsets": offsets,
    "dtypes": dtypes,
    "names": names,
    "metadata": metadata,
    "length": length,
    "JSON": header_json,
    "values": values,
}
