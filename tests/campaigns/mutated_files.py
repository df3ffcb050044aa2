"""Mutated checkpoints and values: each is refused by an error of ours, or loaded right.

Three in five rounds are folders of `embshare.save`, one in five is a folder of `save_pretrained`,
and one in five is the JSON of a value. A part of the folders has its digest computed again, so that
what lies behind the digest is reached. Right is: what was saved, to the last bit; or, where the
file says something else and nothing contradicts it, exactly what the file says.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import random
import resource
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import safetensors.torch
import torch
from torch import Tensor

import embshare
from embshare import ShareConfig, SharePlan
from embshare.checkpoint_files import Checkpoint, digest_of
from embshare.errors import EmbshareError
from embshare.runtime.bank import require_bank
from tests.campaigns.material import CONFIGS, IDS, Saved, folders, pretrained
from tests.campaigns.mutations import (
    BYTES,
    HEADERS,
    Pairs,
    join,
    read,
    rewrite_json,
    rewrite_plan,
    split,
    write,
)
from tests.campaigns.rounds import WRONG, Outcome, campaign_main, rng_of

__all__ = ["play"]


MEMORY: Final = 200 * 2**20
"""Bytes that a round may take above what its process has."""
SECONDS: Final = 1.0
"""Seconds of processor time, for the library's part of a round."""
PATIENCE: Final = 5
"""Seconds after which a round is given up."""
WEIGHTS, DESCRIPTION = "model.safetensors", "embshare.json"


class TooLongError(Exception):
    """A round was given up."""


def play(seed: int, numbers: Sequence[int]) -> Iterator[Outcome]:
    """Play rounds, in a process whose memory is limited from here on."""
    _quiet()
    saved = _material()
    _limit_memory()
    with tempfile.TemporaryDirectory(dir=_fast()) as name:
        for number in numbers:
            fate = rng_of(seed, number)
            part = ("folder", "folder", "folder", "pretrained", "value")[number % 5]
            folder = Path(name) / str(number)
            folder.mkdir()
            yield _watched(number, part, lambda: PARTS[part](saved, folder, fate))  # noqa: B023
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()


_kept: dict[str, dict[str, Saved]] = {}


def _material() -> dict[str, dict[str, Saved]]:
    """What is mutated: made once, before the first process is forked."""
    if not _kept:
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            _kept["folder"], _kept["pretrained"] = folders(work / "f"), pretrained(work / "p")
        for saved in _kept["pretrained"].values():  # imports, so that no round pays for them
            with tempfile.TemporaryDirectory() as name:
                saved.write(Path(name), {})
                _load_pretrained(saved, Path(name))
    return _kept


def _fast() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _quiet() -> None:
    import transformers

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity(logging.CRITICAL)


def _limit_memory() -> None:
    """No more address space than there is, and what a round may take beyond its own memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY + 32 * 2**20  # and for the rounds together
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _status(key: str) -> int:
    """KiB of an entry of this process's status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    raise KeyError(key)


def _give_up(*_: object) -> None:
    raise TooLongError


def _watched(number: int, part: str, act: Callable[[], tuple[str, str, str]]) -> Outcome:
    """An outcome with what the round cost; too much of it is wrong."""
    _cost[:] = 0.0, 0.0
    kind, ended, detail = act()
    ms, mib = _cost
    ours = not ended.startswith("transformers")
    if ours and not ended.startswith(WRONG) and ms > SECONDS * 1000:
        ended, detail = f"{WRONG}: slow", f"{ended} after {ms:.0f} ms"
    if ours and not ended.startswith(WRONG) and mib > MEMORY / 2**20:
        ended, detail = f"{WRONG}: large", f"{ended} with {mib:.0f} MiB"
    return Outcome(number, f"{part}/{kind}", ended, detail, *((ms, mib) if ours else (None, None)))


_cost = [0.0, 0.0]
"""Milliseconds and mebibytes of the library's part of a round."""


@contextlib.contextmanager
def _timed() -> Iterator[None]:
    """What a block costs, which is given up after a while."""
    signal.signal(signal.SIGALRM, _give_up)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is that of this block
    before, begun = _status("VmRSS"), time.process_time()
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _cost[:] = (time.process_time() - begun) * 1000, (_status("VmHWM") - before) / 1024


def _name(error: BaseException) -> str:
    return type(error).__name__


# ---- folders of `embshare.save`


def _folder(
    saved: dict[str, dict[str, Saved]], folder: Path, fate: random.Random
) -> tuple[str, str, str]:
    one = saved["folder"][fate.choice(sorted(saved["folder"]))]
    kind, changed, digested = _mutate_folder(one, fate)
    one.write(folder, changed)
    fresh: Any = one.build().eval()
    before = fresh.state_dict(), fresh(IDS)
    try:
        with _timed():
            model = embshare.load(folder, fresh)
    except EmbshareError as error:
        if not (_equal(fresh.state_dict(), before[0]) and torch.equal(fresh(IDS), before[1])):
            return kind, f"{WRONG}: refused, but changed", str(error)
        return kind, f"refused: {_name(error)}{', digest again' if digested else ''}", ""
    except Exception as error:
        return kind, f"{WRONG}: {_name(error)}", f"{error}"
    try:
        return kind, *_judge(model, one, changed, digested)
    except Exception as error:
        return kind, f"{WRONG}: loaded, then {_name(error)}", f"{error}"


def _mutate_folder(one: Saved, fate: random.Random) -> tuple[str, dict[str, bytes], bool]:
    way = fate.random()
    if way < 0.1:
        kind, text = rewrite_json(one.files[DESCRIPTION], fate)
        return f"description: {kind}", {DESCRIPTION: _encoded(text)}, False
    if way < 0.3:
        name = DESCRIPTION if way < 0.15 else WEIGHTS
        kind = fate.choice(sorted(BYTES))
        return f"{name}: {kind}", {name: BYTES[kind](one.files[name], fate, one.other[name])}, False
    if way < 0.6:
        kind = fate.choice(sorted(HEADERS))
        data, kind = HEADERS[kind](one.files[WEIGHTS], fate), f"header: {kind}"
    else:
        kind, data = _rewrite_inside(one.files[WEIGHTS], fate)
    again = _digested(data) if fate.random() < 0.8 else None
    return kind, {WEIGHTS: again or data}, again is not None


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _rewrite_inside(data: bytes, fate: random.Random) -> tuple[str, bytes]:
    """The description within the weights' header, mostly its plan."""
    header, body = split(data)
    fields: Pairs = header[0][1]
    assert header[0][0] == "__metadata__" and fields[0][0] == "embshare"
    if fate.random() < 0.5:
        root = read(fields[0][1])
        done = rewrite_plan(next(value for key, value in root if key == "plan"), fate)
        fields[0] = ("embshare", write(root))
        return f"sound fields in the header: {done}", join(header, body)
    part = fate.choice(("plan", "plan", "plan", "config", "sources", "slots", "structure", ""))

    def within(root: Any) -> Any:
        plan = next((value for key, value in root if key == "plan"), root)
        for place in (root, plan if isinstance(plan, Pairs) else root):
            for key, value in place:
                if key == part and isinstance(value, list) and value:
                    return value
        return root

    kind, text = rewrite_json(fields[0][1], fate, within)
    fields[0] = ("embshare", text)
    return f"description in the header: {kind}", join(header, body)


def _digested(data: bytes) -> bytes | None:
    """A file with the digest of what it holds, or None where it holds nothing sound."""
    try:
        tensors = safetensors.torch.load(data)
        header, body = split(data)
        fields = next(value for name, value in header if name == "__metadata__")
        text = next(value for name, value in fields if name == "embshare")
        checkpoint = Checkpoint.from_json(text)
        digest = digest_of(tensors, checkpoint.plans, checkpoint.structure, checkpoint.dtypes)
        fields[:] = [("embshare", text.replace(checkpoint.digest, digest))]
        return join(header, body)
    except Exception:
        return None


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)


def _same(one: Tensor, other: Tensor) -> bool:
    """Bit by bit."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return bytes_of(one) == bytes_of(other)


def bytes_of(tensor: Tensor) -> bytes:
    """A tensor's numbers as they stand in a file."""
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def _parsed(data: bytes) -> dict[str, tuple[list[int], bytes]]:
    """Shapes and bytes of the tensors in a file, read without the library that the model uses."""
    header, body = split(data)
    found = {}
    for name, entry in header:
        if name != "__metadata__":
            fields = dict(entry)
            start, stop = fields["data_offsets"]
            found[name] = fields["shape"], body[start:stop]
    return found


def _judge(model: Any, one: Saved, changed: Mapping[str, bytes], digested: bool) -> tuple[str, str]:
    """How a folder was loaded: as saved, as the file says otherwise, or wrong."""
    data = changed.get(WEIGHTS, one.files[WEIGHTS])
    state, wanted = model.state_dict(), _parsed(data)
    if {n: (list(t.shape), bytes_of(t)) for n, t in state.items()} != wanted:
        return f"{WRONG}: other weights than the file's", str(sorted(wanted))
    text = json.loads(_description(data))
    plan = require_bank(model).plan
    if json.loads(plan.model_dump_json()) != _full(text["plan"]):
        return f"{WRONG}: another plan than the file's", ""
    finite = all(t.dtype == torch.float32 for t in state.values() if t.is_floating_point())
    if finite:
        model(IDS)  # not: what it returns, which may be anything
    original = _parsed(one.files[WEIGHTS])
    same = plan == Checkpoint.from_json(_description(one.files[WEIGHTS])).plan
    if wanted == original and same:
        return "loaded: as saved", ""
    if not digested:
        return f"{WRONG}: another value under the old digest", ""
    return f"loaded: another value, digest again{'' if same else ', another plan'}", ""


def _description(data: bytes) -> str:
    """The JSON in a file's header."""
    header, _ = split(data)
    return str(dict(dict(header)["__metadata__"])["embshare"])


def _full(plan: Any) -> Any:
    """A plan as JSON, with its defaults."""
    return json.loads(SharePlan.from_json(json.dumps(plan)).model_dump_json())


# ---- folders of `save_pretrained`

_asked = [""]


def _spied() -> None:
    """Note when transformers asks embshare, and when it has been answered."""
    from embshare.adapters.huggingface import quantizer

    if getattr(quantizer, "_spied", False):
        return
    for kind, name in (
        (quantizer.SharingConfig, "__init__"),
        (quantizer.SharingQuantizer, "_process_model_before_weight_loading"),
        (quantizer.SharingQuantizer, "_process_model_after_weight_loading"),
    ):
        setattr(kind, name, _noting(getattr(kind, name)))
    quantizer._spied = True  # type: ignore[attr-defined]


def _noting(method: Any) -> Any:
    def noted(*args: Any, **options: Any) -> Any:
        _asked[0] = "within"
        found = method(*args, **options)
        _asked[0] = "answered"
        return found

    return noted


def _load_pretrained(saved: Saved, folder: Path) -> tuple[Any, dict[str, Any]]:
    _spied()
    _asked[0] = "not yet"
    kind: Any = type(saved.build()) if not isinstance(saved.build, type) else saved.build
    found: tuple[Any, dict[str, Any]] = kind.from_pretrained(folder, output_loading_info=True)
    return found


def _pretrained(
    saved: dict[str, dict[str, Saved]], folder: Path, fate: random.Random
) -> tuple[str, str, str]:
    one = saved["pretrained"][fate.choice(sorted(saved["pretrained"]))]
    kind, changed = _mutate_pretrained(one, fate)
    one.write(folder, changed)
    try:
        with _timed():
            model, info = _load_pretrained(one, folder)
    except EmbshareError as error:
        return kind, f"refused: {_name(error)}", ""
    except Exception as error:
        if _asked[0] == "within":
            return kind, f"{WRONG}: {_name(error)}", str(error)
        when = "before embshare was asked" if _asked[0] == "not yet" else "of a plain part"
        return kind, f"transformers, {when}: {_name(error)}", ""
    try:
        return kind, *_judge_pretrained(model, info, one, changed)
    except Exception as error:
        return kind, f"{WRONG}: loaded, then {_name(error)}", str(error)


def _mutate_pretrained(one: Saved, fate: random.Random) -> tuple[str, dict[str, bytes]]:
    way = fate.random()
    weights = [name for name in one.files if name.endswith(".safetensors")]
    if way < 0.25:
        root = read(one.files["config.json"])
        entry = next(value for key, value in root if key == "quantization_config")
        done = rewrite_plan(next(value for key, value in entry if key == "plan"), fate)
        return f"sound fields in config.json: {done}", {"config.json": _encoded(write(root))}
    if way < 0.5:
        name = "config.json"

        def within(root: Any) -> Any:
            for key, value in root:
                if key == "quantization_config" and isinstance(value, Pairs) and value:
                    return value if way < 0.42 else root
            return root

        kind, text = rewrite_json(one.files[name], fate, within)
        return f"config.json: {kind}", {name: _encoded(text)}
    if way < 0.75:
        name = fate.choice(sorted(one.files))
        kind = fate.choice(sorted(BYTES))
        data = BYTES[kind](one.files[name], fate, one.other.get(name, b"x" * 64))
        return f"{'a weights file' if name in weights else name}: {kind}", {name: data}
    if way < 0.85:
        names = [name for name in one.files if name in one.other and fate.random() < 0.5]
        return "files of two saves", {name: one.other[name] for name in names}
    name, kind = fate.choice(weights), fate.choice(sorted(HEADERS))
    return f"header: {kind}", {name: HEADERS[kind](one.files[name], fate)}


def _judge_pretrained(
    model: Any, info: dict[str, Any], one: Saved, changed: Mapping[str, bytes]
) -> tuple[str, str]:
    files = dict(one.files) | dict(changed)
    wanted: dict[str, Tensor] = {}
    for name, data in files.items():
        if name.endswith(".safetensors"):
            wanted |= safetensors.torch.load(data)
    missing = set(info["missing_keys"])
    try:
        plan = require_bank(model).plan
    except EmbshareError:
        return "loaded: a dense model, as config.json says", ""
    for name, tensor in model.state_dict().items():
        if ".scales." in name:  # compared with the plan, which has them as well
            continue
        if name in wanted and name not in missing:
            if not _same(tensor, wanted[name].to(tensor.dtype)):
                return f"{WRONG}: other weights than the file's", name
        elif name not in missing:
            return f"{WRONG}: weights of nowhere", name
    config = json.loads(files["config.json"])
    if plan != SharePlan.from_json(json.dumps(config["quantization_config"]["plan"])):
        return f"{WRONG}: another plan than the file's", ""
    original = json.loads(one.files["config.json"])["quantization_config"]["plan"]
    rest = ", with what transformers found missing" if missing else ""
    if plan != SharePlan.from_json(json.dumps(original)):
        return f"loaded: another plan, as config.json says{rest}", ""
    same = all(files[name] == data for name, data in one.files.items() if name != "config.json")
    if same and not missing:
        return "loaded: as saved", ""
    return f"loaded: as the files say{rest}", ""


# ---- the JSON of values


def _values(
    saved: dict[str, dict[str, Saved]], _: Path, fate: random.Random
) -> tuple[str, str, str]:
    kind = fate.choice((ShareConfig, SharePlan, Checkpoint))
    one = saved["folder"][fate.choice(sorted(CONFIGS))]
    checkpoint = Checkpoint.from_json(one.files[DESCRIPTION])
    assert checkpoint.plan is not None
    value: Any = {Checkpoint: checkpoint, SharePlan: checkpoint.plan}.get(
        kind, checkpoint.plan.config
    )
    text = value.to_json()
    if fate.random() < 0.75:
        how, changed = rewrite_json(text, fate)
        data: str | bytes = changed if fate.random() < 0.5 else _encoded(changed)
    else:
        how = fate.choice(sorted(BYTES))
        data = BYTES[how](text.encode(), fate, checkpoint.plan.config.to_json().encode())
    label = f"{kind.__name__}: {how}"
    try:
        with _timed():
            found: Any = kind.from_json(data)
            shown = str(found)
    except EmbshareError as error:
        return label, f"refused: {_name(error)}", ""
    except Exception as error:
        return label, f"{WRONG}: {_name(error)}", str(error)
    if kind.from_json(found.to_json()) != found or not shown:
        return label, f"{WRONG}: does not come back equal", found.to_json()
    return label, "loaded: as saved" if found == value else "loaded: another value", ""


PARTS: Final[
    Mapping[str, Callable[[dict[str, dict[str, Saved]], Path, random.Random], tuple[str, str, str]]]
] = {"folder": _folder, "pretrained": _pretrained, "value": _values}


if __name__ == "__main__":
    _quiet()
    _material()
    digest = hashlib.sha256(repr(sorted(CONFIGS.items())).encode()).hexdigest()[:12]
    campaign_main(
        "mutated_files",
        play,
        batch=500,
        settings={"configs": digest, "seconds": SECONDS, "mebibytes": MEMORY // 2**20},
    )
