"""Everything that `embshare.check` can find: one table, of findings and of a page for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["KINDS", "SUBJECTS", "Kind"]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One thing that can be wrong with, or surprising about, a shared model."""

    name: str
    subject: str
    """A key of `SUBJECTS`: where it stands on the page."""
    symptom: str
    """What somebody sees, in his words: a heading."""
    consequence: str
    hint: str
    """What helps."""
    folder: bool = False
    """Whether ``embshare check FOLDER`` sees it in a folder that `embshare.save` wrote."""


SUBJECTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "table": "The table",
        "training": "Training",
        "layers": "Layers and copies",
        "saving": "Saving and loading",
        "size": "Size and quality",
    }
)
"""Subjects of the page, in its order, and their headings."""

_ALL: Final = (
    Kind(
        name="table-replaced",
        subject="table",
        symptom="I replaced the embedding, and the hidden layers did not follow",
        consequence="The layers read a table that the model no longer has. The next call and the "
        "next save raise `TableReplacedError`.",
        hint="Keep the module and assign its parameter, `embedding.weight = nn.Parameter(new)`; "
        "or call `embshare.materialize(model)` before it is replaced, and share again after.",
    ),
    Kind(
        name="table-copied",
        subject="table",
        symptom="PEFT trains the embedding (`modules_to_save`), and the hidden layers stay as "
        "they were",
        consequence="The model looks tokens up in a copy of the table, and layers are derived from "
        "the original, which nobody trains.",
        hint="Leave the table out of `modules_to_save`. To train it, set `requires_grad_(True)` on "
        "the original after the adapter was added.",
    ),
    Kind(
        name="table-shrunk",
        subject="table",
        symptom="A vocabulary was made smaller (or partitioned), and calls raise "
        "`SourceShrunkError`",
        consequence="Derived weights read rows that are gone, so no call is possible.",
        hint="Keep the rows that the plan reads, or materialize, resize and share again. Where a "
        "framework partitions parameters (DeepSpeed ZeRO stage 3), use FSDP2, stage 1 or 2.",
    ),
    Kind(
        name="table-computed",
        subject="table",
        symptom="The embedding is pruned or parametrized, and the model cannot be saved",
        consequence="Training and calls are right: weights are derived from the table as it is "
        "looked up. `embshare.save` and `save_pretrained` refuse, since a plan reads parameters.",
        hint="Before saving, `torch.nn.utils.prune.remove(module, 'weight')` or "
        "`torch.nn.utils.parametrize.remove_parametrizations(module, 'weight')`.",
    ),
    Kind(
        name="table-renormed",
        subject="table",
        symptom="Two equal calls in evaluation give different results (`max_norm` was set on the "
        "embedding)",
        consequence="The embedding rewrites its own rows when they are looked up, after weights "
        "were derived from them; a backward then fails.",
        hint="Set `embedding.max_norm = None`, and norm the rows after each optimizer step.",
    ),
    Kind(
        name="tie-lost",
        subject="table",
        symptom="The head was tied to the embedding, and now both are trained apart",
        consequence="The matrix is stored twice, and what one learns the other does not. "
        "`to_empty` and assigning a new parameter to one of the two do that.",
        hint="Tie them again, `head.weight = embedding.weight`, before the optimizer is made.",
    ),
    Kind(
        name="non-finite",
        subject="table",
        symptom="The loss is NaN from one step on, in all layers at once",
        consequence="A number that is not finite is in all that is computed with it; one of a "
        "table or a projection is in all weights that read its column.",
        hint="Load an earlier checkpoint; lower the learning rate, clip gradients, and look at the "
        "loss scale of mixed precision.",
        folder=True,
    ),
    Kind(
        name="constant",
        subject="table",
        symptom="The loss does not fall at all, and all outputs are alike",
        consequence="All numbers of a table or projection are the same (zero, most often), so all "
        "derived weights are, and no gradient tells them apart.",
        hint="Initialise the table: your own `init_fn`, `to_empty` without loading, or "
        "`start=False` without loading leave it without values.",
        folder=True,
    ),
    Kind(
        name="partly-meta",
        subject="table",
        symptom="`Cannot copy out of meta tensor`, or `Tensor on device meta` in a call",
        consequence="Some parameters have values and others have none, so that some weights cannot "
        "be derived.",
        hint="Load the rest: `embshare.load(folder, model)`, or `model.to_empty(device=...)` and a "
        "state dict.",
    ),
    Kind(
        name="optimizer-misses",
        subject="training",
        symptom="The model trains, but slowly, or the hidden layers never move",
        consequence="The optimizer does not hold parameters that the layers are derived from: they "
        "stay as they began.",
        hint="Make the optimizer after sharing, from `model.parameters()` or "
        "`embshare.parameter_groups(model, ...)`; names in your own groups must cover "
        "`embshare_bank.*`.",
    ),
    Kind(
        name="optimizer-stale",
        subject="training",
        symptom="I made the optimizer before `share_from_embedding`",
        consequence="It steps weights that the model no longer has, which changes nothing.",
        hint="Make it anew from `model.parameters()`.",
    ),
    Kind(
        name="optimizer-foreign",
        subject="training",
        symptom="The loss does not move at all, and the optimizer holds as many parameters as the "
        "model",
        consequence="It holds no parameter of this model: those of a copy, of the model before it "
        "was moved, or of another one.",
        hint="Make it from this model's `parameters()`; where parameters are sharded or kept in "
        "half precision by a wrapper, give `check` the model that the optimizer was made from.",
    ),
    Kind(
        name="optimizer-sparse",
        subject="training",
        symptom="`SparseAdam does not support dense gradients`",
        consequence="Derived weights read all rows, so the table's gradient is dense, also with "
        "`sparse=True`.",
        hint="Use Adam or AdamW for the table, and `sparse=False`.",
    ),
    Kind(
        name="frozen-moves",
        subject="training",
        symptom="I froze some layers, and their outputs still change",
        consequence="A derived weight moves as long as its table or projection is trained, "
        "whatever `requires_grad` says of the layer's biases.",
        hint="`embshare.freeze(model, 'encoder.*')` keeps weights as they are.",
    ),
    Kind(
        name="gains-frozen",
        subject="training",
        symptom="Learned gains or residuals stay at their start",
        consequence="They are frozen while the table or projection beside them is trained: they "
        "take space and add nothing that is learned.",
        hint="`model.embshare_bank.relaxations.requires_grad_(True)`, before the optimizer is "
        "made; or share without them.",
    ),
    Kind(
        name="nothing-trained",
        subject="training",
        symptom="`element 0 of tensors does not require grad`",
        consequence="The model is in training mode, and no parameter of it requires a gradient.",
        hint="Call `requires_grad_(True)` on what is to be trained, or `model.eval()`.",
    ),
    Kind(
        name="data-parallel",
        subject="training",
        symptom="`nn.DataParallel copies layers without their bank`",
        consequence="On two or more GPUs `nn.DataParallel` makes replicas at each call, in which "
        "no weight can be derived; the call raises.",
        hint="Use `DistributedDataParallel`, which is also quicker.",
    ),
    Kind(
        name="sharded-apart",
        subject="training",
        symptom="`got mixed torch.Tensor and DTensor` from a sharded model",
        consequence="A table or the bank is in an FSDP group below the model's own, which is "
        "gathered after weights were derived: they would be derived from one shard.",
        hint="Shard what `embshare.fsdp_groups(model)` returns, in its order.",
    ),
    Kind(
        name="quantised",
        subject="training",
        symptom="`torch.ao.quantization` does nothing, or raises `DerivedWeightError`",
        consequence="A `qconfig` is set. torch.ao swaps layers by their class and knows no layer "
        "whose weight is derived.",
        hint="`embshare.materialize(model)` first, and quantise the plain model.",
    ),
    Kind(
        name="not-shared",
        subject="layers",
        symptom="I shared a model, and this one is as large as before",
        consequence="Nothing in it is derived: it was materialized, it is another object than the "
        "one that was shared (`inplace=False` returns a copy), or all of it was replaced.",
        hint="Give `check` what `share_from_embedding` returned, or a parent of it.",
    ),
    Kind(
        name="borrowed",
        subject="layers",
        symptom="A copied layer (a target network, an EMA of a part, an appended block) is never "
        "trained",
        consequence="Its derived weights are read from a table and projection that this model does "
        "not register: they are neither in its `parameters()` nor in its `state_dict()`.",
        hint="Copy the whole model, or make the part independent: `embshare.materialize(part)`.",
    ),
    Kind(
        name="copied",
        subject="layers",
        symptom="I appended a copy of a block, and both change together",
        consequence="A copy of a part reads what the original reads; only biases and norms are its "
        "own.",
        hint="Nothing, where that is meant; else `embshare.materialize(part)`, or build the deeper "
        "model first and share that.",
    ),
    Kind(
        name="bank-lost",
        subject="layers",
        symptom="`embshare_bank` was deleted, or the model was rebuilt from its children",
        consequence="Projections, gains and residuals are in no state dict and no optimizer, or "
        "nobody reads them in the way that they were planned.",
        hint="Keep the module that was shared whole, and wrap it; or rebuild the dense model and "
        "share that.",
    ),
    Kind(
        name="unpickled",
        subject="layers",
        symptom="`this is a part of a shared model that was pickled`",
        consequence="The part came without the table that its weights are derived from, and no "
        "call is possible.",
        hint="Pickle the whole model, or `embshare.materialize(part)` before it is pickled.",
    ),
    Kind(
        name="call-lost",
        subject="layers",
        symptom="Calls became slow after I assigned `module.forward`",
        consequence="The new `forward` does not seem to run the one that was there, which derives "
        "all weights in one projection: each is derived on its own now. Results are right.",
        hint="Wrap it (`old = module.forward`, and call `old`), use forward hooks, or assign it "
        "before sharing.",
    ),
    Kind(
        name="dtype-clash",
        subject="layers",
        symptom="`mat1 and mat2 must have the same dtype` after the table was cast",
        consequence="A derived weight has its table's dtype, and the layer's bias has another.",
        hint="Cast the whole model, `model.to(dtype)`, or the table before sharing.",
    ),
    Kind(
        name="cast",
        subject="layers",
        symptom="The table is float32 and the layers are not",
        consequence="Weights are derived in the table's dtype and cast to the layer's, once per "
        "derivation. Nothing is wrong with that; it costs memory and time for the copy.",
        hint="Nothing, where it is meant; else `model.to(dtype)`.",
        folder=True,
    ),
    Kind(
        name="loading-unchecked",
        subject="saving",
        symptom="`load_state_dict` took a state dict of another plan without a word",
        consequence="The hook that compares plans is gone, so a state that was saved under another "
        "layout is read as something else.",
        hint="Share the model again from the dense one; do not clear `_load_state_dict_pre_hooks`.",
    ),
    Kind(
        name="aliases-shown",
        subject="saving",
        symptom="`Some tensors share memory` from safetensors, or missing keys of a tied head",
        consequence="The hooks that list a tied parameter once in the state dict are gone.",
        hint="Share the model again from the dense one; do not clear `_state_dict_hooks`.",
    ),
    Kind(
        name="unsaveable",
        subject="saving",
        symptom="`embshare.save` raises, after a layer was copied into the model",
        consequence="The model as it is now is none that a plan can say.",
        hint="`embshare.materialize(model)`, and share the plain model anew.",
    ),
    Kind(
        name="two-saves",
        subject="saving",
        symptom="`embshare.json` and `model.safetensors` are of two saves",
        consequence="A save was killed between the two files. Loading takes the newer description, "
        "which is in the weights file, and is right; readers of `embshare.json` alone are not.",
        hint="Load the folder and save it again.",
        folder=True,
    ),
    Kind(
        name="newer",
        subject="saving",
        symptom="A folder was written by a newer embshare",
        consequence="It loads here, and what a later version added is not there.",
        hint="Upgrade embshare.",
        folder=True,
    ),
    Kind(
        name="growth",
        subject="size",
        symptom="The model is larger after sharing",
        consequence="The table has few rows for its width, so the projection is larger than what "
        "it replaces.",
        hint="Name a table of more rows (`source=`), tie more layers, lower the rank of the "
        "residual, or set a `factor`.",
        folder=True,
    ),
    Kind(
        name="unused-columns",
        subject="size",
        symptom="Some of the projection gets no gradient",
        consequence="It has columns that nothing reads. They are stored and trained for nothing.",
        hint="Leave `width` unset, or lower it.",
        folder=True,
    ),
    Kind(
        name="unread",
        subject="size",
        symptom="I replaced a layer, and the model stores its gains, residual or columns still",
        consequence="Slots are left that no layer reads. DistributedDataParallel complains of "
        "unused parameters where they have gains or residuals.",
        hint="Save and load the model, which drops gains and residuals of layers that are gone; or "
        "materialize and share again, which drops columns too.",
    ),
    Kind(
        name="uneven",
        subject="size",
        symptom="Only some of the repeated blocks are shared",
        consequence="Blocks of one kind are not shared alike, which is seldom meant.",
        hint="Let `include` and `exclude` name the weight in every block, or ignore this.",
        folder=True,
    ),
    Kind(
        name="poor-fit",
        subject="size",
        symptom="A trained model is far worse after sharing, before it is trained again",
        consequence="What its weights started from is far from the trained ones, as this sharing "
        "has too little room for them.",
        hint="Train it (distillation helps most), or give it room: a residual (`residual_rank`), "
        "fewer ties, a wider `factor`.",
        folder=True,
    ),
    Kind(
        name="unseen",
        subject="layers",
        symptom="`check` could not look at something",
        consequence="A part of the model is broken in a way that has no name here.",
        hint="Read the error; `embshare.materialize` in an earlier state, or a checkpoint, is the "
        "way back.",
    ),
)

KINDS: Final[Mapping[str, Kind]] = MappingProxyType({kind.name: kind for kind in _ALL})
"""By name, in the order of the page."""
