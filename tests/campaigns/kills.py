"""SIGKILL at random moments of writing: what stands there loads as the old state or as the new one.

Seven in twelve rounds kill `embshare.save`, three `save_pretrained` of a shared model of
transformers, and two `embshare train`, half of them over an earlier run. A folder of transformers
may also be refused: between two renamings it has no ``config.json``. Models of two saves are wrong
anywhere.
"""

from __future__ import annotations

import logging
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

import embshare
from embshare import ShareConfig
from embshare.errors import CheckpointError, EmbshareError
from embshare.runtime.bank import require_bank
from embshare.tasks.checkpoints import read_checkpoints
from embshare.tasks.runs.folder import RunFolder
from tests.campaigns.material import seeded
from tests.campaigns.rounds import WRONG, Outcome, campaign_main, die_within, in_child, rng_of
from tests.campaigns.trainings import Reference, make_reference, measure, scores_of, train

__all__ = ["play"]


class Plain(nn.Module):
    """Large enough that writing it takes a while."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4000, 64)
        self.layers = nn.ModuleList([nn.Linear(64, 64) for _ in range(4)])


def bert() -> Any:
    """Likewise, of transformers."""
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(
        BertConfig(
            vocab_size=4000,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
        )
    )


@dataclass(frozen=True)
class State:
    """A model as it was saved."""

    model: Any
    plan: Any
    tensors: Mapping[str, Tensor]
    options: Mapping[str, Any]
    """Moments of the saving."""

    def equals(self, other: Any) -> bool:
        """Whether a loaded model is this one, to the last bit, and by the same plan."""
        found = other.state_dict()
        return bool(
            require_bank(other).plan == self.plan
            and found.keys() == self.tensors.keys()
            and all(torch.equal(found[name], tensor) for name, tensor in self.tensors.items())
        )


def _state(model: Any, options: Mapping[str, Any] | None = None) -> State:
    tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    return State(model, require_bank(model).plan, tensors, options or {})


def _states(build: Callable[[], nn.Module], parts: Mapping[str, Any]) -> list[State]:
    """Two starts, one of them trained on, one in parts, one shared otherwise."""
    models = [seeded(build, ShareConfig(), seed) for seed in (0, 1, 0, 0)]
    with torch.no_grad():
        for model in models[2:]:
            for parameter in model.parameters():
                parameter.mul_(1.01 if model is models[2] else 0.99)
    states = [_state(model) for model in models[:3]] + [_state(models[3], parts)]
    return [*states, _state(seeded(build, ShareConfig(factor=16, anchor=1.0), 0))]


@dataclass
class _Kept:
    work: Path
    saves: list[State]
    pretrained: list[State]
    reference: Reference
    earlier: Reference
    seconds: dict[str, float]


_kept: list[_Kept] = []


def material(work: Path) -> _Kept:
    """Everything that is saved and trained: made once, before the first process is forked."""
    if not _kept:
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        torch.set_num_threads(1)
        import transformers

        transformers.utils.logging.disable_progress_bar()
        saves, pretrained = _states(Plain, {}), _states(bert, {"max_shard_size": "100KB"})
        made = _Kept(
            work,
            saves,
            pretrained,
            make_reference(work / "reference", seed=0),
            make_reference(work / "earlier", seed=1),
            {},
        )
        _kept.append(made)
    return _kept[0]


def _measure(kept: _Kept) -> None:
    """See how long each kind takes in a process that was forked for it, as busy as things are."""
    one, parts = kept.pretrained[0], kept.pretrained[3]
    with tempfile.TemporaryDirectory(dir=kept.work) as name:
        work = Path(name)
        acts: dict[str, Callable[[], object]] = {
            "save": lambda: embshare.save(kept.saves[0].model, work / "0"),
            "pretrained": lambda: parts.model.save_pretrained(work / "1", **parts.options),
            "one file": lambda: one.model.save_pretrained(work / "2"),
        }
        for label, act in acts.items():
            kept.seconds[label] = statistics.median(_seconds(act) for _ in range(5))
        measure(kept.reference, work)
    kept.seconds["train"] = kept.reference.seconds


def _seconds(act: Callable[[], object]) -> float:
    (seconds,), _ = in_child(lambda: _timed(act))
    return float(seconds)


def _timed(act: Callable[[], object]) -> Iterator[float]:
    begun = time.perf_counter()
    act()
    yield time.perf_counter() - begun


def play(seed: int, numbers: Sequence[int]) -> Iterator[Outcome]:
    """Play rounds."""
    kept = _kept[0]
    _measure(kept)
    for number in numbers:
        fate = rng_of(seed, number)
        act = PARTS[ORDER[number % len(ORDER)]]
        with tempfile.TemporaryDirectory(dir=kept.work) as name:
            kind, ended, detail = act(kept, Path(name), fate)
        yield Outcome(number, kind, ended, detail)


def _save(kept: _Kept, work: Path, fate: Any) -> tuple[str, str, str]:
    folder = work / "folder"
    old, new = fate.sample(kept.saves, 2)
    if fate.random() < 0.2:
        old = None
    else:
        embshare.save(old.model, folder)
    how = die_within(
        fate.uniform(0, 1.3) * kept.seconds["save"], lambda: embshare.save(new.model, folder)
    )
    kind = f"embshare.save/{how}"
    try:
        loaded = embshare.load(folder, Plain())
    except EmbshareError as error:
        if old is None and how == "killed" and not (folder / "embshare.json").exists():
            return kind, "nothing, as before", ""
        return kind, f"{WRONG}: {type(error).__name__}", str(error)
    return kind, *_which(loaded, old, new, how)


def _which(loaded: Any, old: State | None, new: State, how: str) -> tuple[str, str]:
    if new.equals(loaded):
        return "the new one", ""
    if old is not None and old.equals(loaded) and how == "killed":
        return "the old one", ""
    return f"{WRONG}: neither the old one nor the new one", ""


def _pretrained(kept: _Kept, work: Path, fate: Any) -> tuple[str, str, str]:
    folder = work / "folder"
    old, new = fate.sample(kept.pretrained, 2)
    old.model.save_pretrained(folder, **old.options)
    seconds = kept.seconds["pretrained" if new.options else "one file"]
    how = die_within(
        fate.uniform(0, 1.3) * seconds,
        lambda: new.model.save_pretrained(folder, **new.options),
    )
    files = "one file" if old.plan == new.plan and not old.options and not new.options else "files"
    kind = f"save_pretrained, {files} changed/{how}"
    try:
        loaded: Any = type(new.model).from_pretrained(folder)
    except CheckpointError as error:
        return kind, f"{WRONG}: plan and weights of two saves, refused", str(error)
    except Exception as error:  # transformers reads weights without a config.json as its default
        missing = not (folder / "config.json").exists()
        if missing and how == "killed" and files == "files":
            return kind, "refused: no config.json", ""
        return kind, f"{WRONG}: {type(error).__name__}", str(error)
    return kind, *_which(loaded, old, new, how)


def _train(kept: _Kept, work: Path, fate: Any) -> tuple[str, str, str]:
    out, log = work / "run", work / "log"
    over = fate.random() < 0.5
    if over:
        shutil.copytree(kept.earlier.folder, out)
    more = ["--overwrite"] if over else []
    how = die_within(
        fate.uniform(0, 1.15) * kept.seconds["train"],
        lambda: train(kept.reference, out, *more),
        log,
    )
    kind = f"embshare train{' --overwrite' if over else ''}/{how}"
    if how == "failed":
        return kind, f"{WRONG}: it failed", log.read_text()[-400:]
    try:
        return kind, *_judge(kept, out, over, how)
    except Exception as error:
        return kind, f"{WRONG}: {type(error).__name__}", str(error)


def _judge(kept: _Kept, out: Path, over: bool, how: str) -> tuple[str, str]:
    """What a killed run left: every part of it whole, and the command may be given again."""
    runs = (kept.reference, kept.earlier) if over else (kept.reference,)
    folder = RunFolder(out)
    folder.check(kept.reference.config, overwrite=True, resume=False)
    saved = read_checkpoints(folder.checkpoints)
    for found in saved[-1:]:
        weights = (found.folder / "model.safetensors").read_bytes()
        if all(run.checkpoints.get(found.step) != weights for run in runs):
            return f"{WRONG}: a checkpoint of step {found.step} is of no run", ""
    if folder.result.is_file():
        if all(scores_of(out) != run.metrics for run in runs):
            return f"{WRONG}: a result of no run", str(scores_of(out))
    if not (folder.model / "model.safetensors").is_file():
        assert how == "killed"
        return ("checkpoints, no model yet" if saved else "nothing to load yet"), ""
    loaded = embshare.load(folder.model, kept.reference.build())
    state = loaded.state_dict()
    for run, name in zip(runs, ("the new model", "the old model"), strict=False):
        if all(torch.equal(state[key], tensor) for key, tensor in run.state.items()):
            if name == "the old model" and not folder.result.is_file():
                return f"{name}, without its result", ""
            return name, ""
    return f"{WRONG}: a model of no run", ""


ORDER: Final = (*("save", "pretrained", "save", "train", "save") * 2, "pretrained", "save")
PARTS: Final[Mapping[str, Callable[[_Kept, Path, Any], tuple[str, str, str]]]] = {
    "save": _save,
    "pretrained": _pretrained,
    "train": _train,
}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        material(Path(place))
        campaign_main("kills", play, batch=50)
