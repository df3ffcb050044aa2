"""Random programs over the public verbs: whatever was done, a model computes what its twin does.

A round is some programs of up to twenty steps, found by hypothesis from the round's seed: a shared
model of any layer kind under any of some configs is trained, copied, saved, cast, frozen, wrapped,
written into ... in any order. After each step every model of the program is compared with its twin
(`tests.campaigns.twins`), and the ones that nobody acted on answer as before, to the last bit.
A program that fails is made shorter by hypothesis before it is reported.
"""

from __future__ import annotations

import logging
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import embshare
from embshare.errors import FrozenLayerWarning
from tests._support.layer_examples import EXAMPLES
from tests.campaigns import acts, edits
from tests.campaigns.rounds import WRONG, Outcome, campaign_main, rng_of
from tests.campaigns.twins import (
    CONFIGS,
    FAILS,
    FINE,
    Subject,
    alarmed,
    answer,
    fits,
    make,
    same_outputs,
)

__all__ = ["Programs", "play"]

PROGRAMS: Final = 10
"""Programs of one round."""
STEPS: Final = 20
"""Maximum number of steps of one program."""
DTYPES: Final = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
MODES: Final = ("grad", "no_grad", "inference", "autocast")

KINDS: Final = {example.name: example for example in EXAMPLES}

counted: Counter[str] = Counter()
"""What the process has done: programs, steps by rule, comparisons."""
which = st.integers(0, 1)
some = st.integers(0, 63)


def chosen(options: Sequence[str], number: int) -> str:
    """One of some that depend on the program."""
    return options[number % len(options)]


class Programs(RuleBasedStateMachine):
    """One or two shared models and what is done to them."""

    subjects: list[Subject]

    @initialize(name=st.sampled_from(sorted(KINDS)), config=st.sampled_from(sorted(CONFIGS)))
    def begin(self, name: str, config: str) -> None:
        """Share a model."""
        example = KINDS[name]
        if not fits(example, config):
            config = "veps"
        self.subjects = [make(example, config, 1)]
        self.acted: Subject | None = None
        torch.manual_seed(2)
        counted["programs"] += 1
        counted[f"config: {config}"] += 1

    def pick(self, number: int, name: str) -> Subject:
        """The subject that a step acts on."""
        subject = self.subjects[number % len(self.subjects)]
        self.acted = subject
        counted[f"step: {name}"] += 1
        return subject

    def join(self, made: Subject | None) -> None:
        """Another subject, beside the one that it came from."""
        if made is not None:
            assert self.acted is not None
            self.subjects = [self.acted, made]

    @rule(n=which, optimizer=st.sampled_from(sorted(acts.OPTIMIZERS)), steps=st.integers(1, 3))
    def train(self, n: int, optimizer: str, steps: int) -> None:
        """Optimizer steps."""
        acts.train(self.pick(n, "train"), optimizer, steps)

    @rule(n=which, way=st.sampled_from(sorted(acts.COPIES)))
    def copy_whole(self, n: int, way: str) -> None:
        """Two models from one."""
        self.join(acts.copy_whole(self.pick(n, f"copy by {way}"), way))

    @rule(n=which, k=some)
    def copy_part(self, n: int, k: int) -> None:
        """A part that follows the original."""
        subject = self.pick(n, "copy a part")
        if paths := [path for path in subject.layers() if path]:
            acts.copy_part(subject, chosen(paths, k))

    @rule(n=which, into=st.sampled_from(("dense", "copy", "itself")))
    def save_and_load(self, n: int, into: str) -> None:
        """A folder and back."""
        subject = self.pick(n, f"save, load into {into}")
        self.join(acts.save_and_load(subject, into))

    @rule(n=which, assign=st.booleans())
    def give_state(self, n: int, assign: bool) -> None:
        """A state dict into a model of another start."""
        subject = self.pick(n, f"load_state_dict{' by assign' if assign else ''}")
        self.join(acts.give_state(subject, assign=assign))

    @rule(n=which, k=some, whole=st.booleans())
    def freeze(self, n: int, k: int, whole: bool) -> None:
        """Weights that stop following."""
        subject = self.pick(n, "freeze")
        names = list(subject.derived())
        if len(names) > 1:
            name = chosen(names, k)
            path, before = name.rpartition(".")[0], set(names)
            whole = whole and not all(other.startswith(f"{path}.") for other in names)
            glob = f"{path}.*" if whole else name
            with alarmed():
                embshare.freeze(subject.model, glob)
            subject.frozen |= before - set(subject.derived())

    @rule(n=which, k=some)
    def unfreeze(self, n: int, k: int) -> None:
        """Weights that follow again."""
        subject = self.pick(n, "unfreeze")
        if subject.frozen:
            paths = [f"{name.rpartition('.')[0]}.*" for name in sorted(subject.frozen)]
            glob = chosen([*paths, "*"], k)  # with biases, which would be frozen layers that move
            with alarmed():
                embshare.unfreeze(subject.model, glob)
            subject.frozen -= set(subject.derived())

    @rule(n=which, k=some)
    def replace_layer(self, n: int, k: int) -> None:
        """A dense layer instead of one that is derived."""
        subject = self.pick(n, "replace a layer")
        if paths := [path for path in subject.layers() if path]:
            edits.replace_layer(subject, chosen(paths, k))

    @rule(n=which, rows=st.sampled_from((0, 0, 1, 5)))
    def grow(self, n: int, rows: int) -> None:
        """Another parameter in the table's module."""
        edits.grow(self.pick(n, f"a table of {'more' if rows else 'new'} rows"), rows)

    @rule(n=which)
    def replace_table(self, n: int) -> None:
        """Another module in the table's place, for a moment."""
        subject = self.pick(n, "replace the table's module")
        if subject.derived():
            edits.replace_table(subject)

    @rule(n=which, dtype=st.sampled_from(DTYPES))
    def cast(self, n: int, dtype: torch.dtype) -> None:
        """All of a model in another type."""
        subject = self.pick(n, f"cast to {dtype}".replace("torch.", ""))
        subject.model.to(dtype)

    @rule(n=which, k=some, dtype=st.sampled_from(DTYPES))
    def cast_part(self, n: int, k: int, dtype: torch.dtype) -> None:
        """A layer in another type than its table."""
        subject = self.pick(n, "cast a part")
        if paths := [path for path in subject.layers() if path]:
            subject.model.get_submodule(chosen(paths, k)).to(dtype)

    @rule(n=which, way=st.sampled_from(sorted(edits.WRITES)), k=some)
    def write(self, n: int, way: str, k: int) -> None:
        """Other numbers in what is stored."""
        edits.write(self.pick(n, f"write by {way}"), way, k)

    @rule(n=which, way=st.sampled_from(sorted(edits.WRITES_INTO_DERIVED)), k=some)
    def write_into_derived(self, n: int, way: str, k: int) -> None:
        """Refused."""
        subject = self.pick(n, f"write into a derived weight by {way}")
        if subject.derived():
            edits.write_into_derived(subject, way, k)

    @rule(n=which, meta=st.booleans())
    def through_empty(self, n: int, meta: bool) -> None:
        """Memory without values, and a state dict for it."""
        subject = self.pick(n, f"to_empty{' from meta' if meta else ''}, load")
        edits.through_empty(subject, meta=meta)

    @rule(n=which, training=st.booleans())
    def mode(self, n: int, training: bool) -> None:
        """Training or evaluation."""
        self.pick(n, "train or eval").model.train(training)

    @rule(n=which, k=some)
    def call_part(self, n: int, k: int) -> None:
        """A submodule on its own."""
        subject = self.pick(n, "call a part")
        paths = [
            name
            for name, module in subject.plain.named_modules()
            if name and any(path.startswith(name) for path in subject.layers())
            and ".parametrizations" not in name and "ModuleList" not in type(module).__name__
        ]  # fmt: skip
        if paths:
            acts.call_part(subject, chosen(paths, k))

    @rule(n=which)
    def functional(self, n: int) -> None:
        """`functional_call`."""
        acts.functional(self.pick(n, "functional_call"))

    @rule(n=which, way=st.sampled_from(("no_grad", "inference")))
    def keep(self, n: int, way: str) -> None:
        """`cached`, `keep` and `release`."""
        acts.keep(self.pick(n, "cached, keep, release"), way)

    @rule(n=which, inplace=st.booleans())
    def materialize(self, n: int, inplace: bool) -> None:
        """The plain model."""
        subject = self.pick(n, f"materialize {'in place' if inplace else 'a copy'}")
        if subject.derived():
            acts.materialize(subject, inplace=inplace)

    @rule(n=which, way=st.sampled_from(("parent", "parent", "dict", "dict", "compile")))
    def wrap(self, n: int, way: str) -> None:
        """Something around it."""
        subject = self.pick(n, f"wrap: {way}")
        other = self.subjects[(n + 1) % len(self.subjects)]
        acts.wrap(subject, None if other is subject else other, way)

    @rule(n=which, mode=st.sampled_from(MODES))
    def call(self, n: int, mode: str) -> None:
        """A call in some mode."""
        subject = self.pick(n, f"call: {mode}")
        compare(subject, mode)

    @precondition(lambda self: hasattr(self, "subjects"))
    @invariant()
    def as_the_twin(self) -> None:
        """Every model computes what its twin does, and stores what it says."""
        for subject in self.subjects:
            look(subject, acted=subject is self.acted or subject.seen is None)
        self.acted = None


def look(subject: Subject, *, acted: bool) -> None:
    """Hold a subject to what has to be true at any time."""
    model = subject.model
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    derived = subject.derived()
    assert not names & derived.keys() and not model.state_dict().keys() & derived.keys()
    assert embshare.summarize(model).stored == sum(p.numel() for p in model.parameters())
    fine = FINE | ({"unread"} if subject.replaced or subject.frozen else set())
    findings = [f for f in embshare.check(model) if f.kind not in fine]
    assert not findings, str(findings[0])
    numbers = acts.plan_numbers(model)
    assert all(numbers[name] == subject.noted[name] for name in derived), "gains have changed"
    was = subject.seen
    subject.seen = compare(subject, "grad")
    if not acted and was is not None and subject.seen is not None and not model.training:
        counted["untouched models that answered as before"] += 1
        assert torch.equal(subject.seen, was), "it answers otherwise, and nobody acted on it"


MODED: Final[dict[str, Callable[[], Any]]] = {
    "grad": torch.enable_grad,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


def compare(subject: Subject, mode: str) -> torch.Tensor | None:
    """One call of both in one mode; where the twin fails (types that clash), so does the model."""
    twin, wanted, failed = subject.refresh(), None, ""
    with warnings.catch_warnings(), MODED[mode]():
        warnings.simplefilter("ignore")
        try:
            wanted = answer(subject.example, twin).detach()
        except FAILS as error:
            failed = f"{type(error).__name__}: {error}"
    with alarmed(FrozenLayerWarning), MODED[mode]():
        try:
            found = answer(subject.example, subject.model).detach()
        except FAILS as error:
            assert failed, f"the twin computes, and the model has {error}"
            counted["both fail"] += 1
            return None
    assert wanted is not None, f"the model computes, and the twin has {failed}"
    if not bool(torch.isfinite(wanted).all()):
        assert bool((torch.isfinite(found) == torch.isfinite(wanted)).all())
        counted["not finite in both"] += 1
        return found
    kind = torch.bfloat16 if mode == "autocast" else coarsest(subject)
    equal = same_outputs(found, wanted, kind)
    counted["bitwise equal" if equal else "equal to rounding"] += 1
    return found


def coarsest(subject: Subject) -> torch.dtype:
    """The least exact type in a model."""
    kinds: set[torch.dtype] = {p.dtype for p in subject.plain.parameters()}
    return max(kinds, key=lambda kind: torch.finfo(kind).eps)


OPTIONS: Final = settings(
    max_examples=PROGRAMS,
    stateful_step_count=STEPS,
    deadline=None,
    database=None,
    print_blob=False,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


def play(number_of_seed: int, numbers: Sequence[int]) -> Iterator[Outcome]:
    """Play rounds."""
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    for number in numbers:
        counted.clear()
        drawn = rng_of(number_of_seed, number).getrandbits(64)
        machine = seed(drawn)(type("Programs", (Programs,), {}))
        ended, detail = "as the twin", ""
        try:
            run_state_machine_as_test(machine, settings=OPTIONS)
        except Exception as error:
            notes = "\n".join(getattr(error, "__notes__", ()))
            traceback.print_exc()
            ended = f"{WRONG}: {type(error).__name__}"
            detail = f"{error!s:.200}\n{notes}"
        yield Outcome(number, f"{PROGRAMS} programs", ended, detail, counts=dict(counted))


if __name__ == "__main__":
    campaign_main("programs", play, batch=2, settings={"programs": PROGRAMS, "steps": STEPS})
