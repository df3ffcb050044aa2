"""Run the official ConvBERT code once and keep its numbers: `official.npz`, see `README.md`.

    python tests/integration/models/convbert/make_official.py CHECKOUT

CHECKOUT is a clone of github.com/yitu-opensource/ConvBert. Nothing of it is copied here: its models
are built with the settings below, filled with random numbers, and asked for outputs and gradients.
It runs alone, with Python 3.11, tensorflow-cpu 2.15.1 and without this library.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
GRID = 128
"""Weights are multiples of 1 / GRID, stored as small integers."""
IDS = np.array([[1, 9, 17, 30, 8, 22, 2], [1, 35, 11, 26, 2, 0, 0]], np.int32)
MASK = (IDS != 0).astype(np.int32)
TYPES = np.array([[0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 0, 0]], np.int32)
BODIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "two groups": {"num_groups": 2},
    "a quarter of the heads": {"head_ratio": 4},
    "one head": {"num_attention_heads": 1},
}
START, END, IMPOSSIBLE = (np.array(row, np.int32) for row in ([3, 2], [5, 4], [0, 1]))
POSITIONS = np.array([[5, 3, 5, 1], [2, 1, 3, 3]], np.int32)
"""One position is drawn twice among the three that are predicted; the last are not."""
UNIFORM = np.array([[0.1, 0.9, 0.3, 0.2], [0.5, 0.6, 0.7, 0.8]], np.float32)
"""One predicted word is shown."""
ANSWERS = {
    "training": ("start_logits", "end_logits", "answerable_logit"),
    "search": ("start_top_index", "end_top_index", "end_top_log_probs"),
}
METRICS = (
    *("input_ids", "masked_lm_preds", "mlm_loss", "masked_lm_ids", "masked_lm_weights"),
    *("input_mask", "disc_loss", "disc_labels", "disc_probs", "disc_preds", "sampled_tokids"),
)
"""What the official model tells of a step, in its order."""


def tensorflow() -> Any:
    """TensorFlow in the manner of version 1, with the one function that it lost."""
    tf = importlib.import_module("tensorflow.compat.v1")
    tf.disable_v2_behavior()

    def layer_norm(inputs: Any, begin_norm_axis: int, begin_params_axis: int, scope: Any) -> Any:
        with tf.variable_scope(scope, "LayerNorm"):
            size = inputs.shape[-1:]
            beta = tf.get_variable("beta", size, initializer=tf.zeros_initializer())
            gamma = tf.get_variable("gamma", size, initializer=tf.ones_initializer())
            mean, variance = tf.nn.moments(inputs, [-1], keepdims=True)
            return tf.nn.batch_normalization(inputs, mean, variance, beta, gamma, 1e-12)

    contrib = types.ModuleType("tensorflow.contrib")
    layers = types.ModuleType("tensorflow.contrib.layers")
    layers.layer_norm = layer_norm  # type: ignore[attr-defined]
    contrib.layers = layers  # type: ignore[attr-defined]
    sys.modules |= {"tensorflow.contrib": contrib, "tensorflow.contrib.layers": layers}
    return tf


def keep(tf: Any, kept: dict[str, Any], place: str, outputs: dict[str, Any], loss: Any) -> None:
    """Fill the graph with random numbers; keep them, what they give, and the loss's gradients."""
    generator = np.random.default_rng(0)
    variables = tf.trainable_variables()
    gradients = tf.gradients(loss, variables)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for variable in variables:
            shape = variable.shape.as_list()
            whole = np.rint(0.25 * GRID * generator.standard_normal(shape))
            whole += GRID * variable.name.endswith("gamma:0")
            variable.load((whole / GRID).astype(np.float32), session)
            kept[f"{place}/weight/{variable.op.name}"] = whole.astype(np.int16)
        found = session.run({**outputs, "loss": loss})
        known = [(v, g) for v, g in zip(variables, gradients, strict=True) if g is not None]
        values = session.run([tf.convert_to_tensor(g) for _, g in known])
    for name, value in found.items():
        kept[f"{place}/{name}"] = value
    for (variable, _), value in zip(known, values, strict=True):
        if value.size < 10_000:  # the two widest matrices' would be half of the file
            kept[f"{place}/grad/{variable.op.name}"] = value


def body(tf: Any, **settings: Any) -> tuple[Any, Any]:
    """An official encoder of these settings, and a loss of its states."""
    modeling = importlib.import_module("model.modeling")
    config = modeling.BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=settings.get("num_attention_heads", 4),
        intermediate_size=24,
        max_position_embeddings=12,
    )
    config.linear_groups = settings.get("num_groups", 1)
    config.conv_kernel_size, config.conv_type = 5, "sdconv"
    config.head_ratio = settings.get("head_ratio", 2)
    given = (tf.constant(part) for part in (IDS, MASK, TYPES))
    model = modeling.BertModel(
        config,
        False,
        *given,
        use_one_hot_embeddings=False,
        embedding_size=settings.get("embedding_size", 8),
    )
    states = model.get_sequence_output()
    return model, tf.reduce_sum(states**3)


def answers(tf: Any, training: bool) -> dict[str, Any]:
    """What the official heads of SQuAD give."""
    tasks = importlib.import_module("finetune.qa.qa_tasks")
    config = types.SimpleNamespace(
        beam_size=3,
        joint_prediction=True,
        answerable_classifier=True,
        answerable_uses_start_logits=True,
        answerable_weight=0.5,
    )
    features = {
        "input_mask": tf.constant(MASK),
        "segment_ids": tf.constant(TYPES),
        "squad_start_positions": tf.constant(START),
        "squad_end_positions": tf.constant(END),
        "squad_is_impossible": tf.constant(IMPOSSIBLE),
        "squad_eid": tf.constant([0, 1]),
    }
    task = types.SimpleNamespace(config=config, name="squad")
    model, _ = body(tf)
    _, outputs = tasks.QATask.get_prediction_module(task, model, features, training, 0.0)
    found: dict[str, Any] = outputs
    return found


def pretraining(tf: Any, kept: dict[str, Any], folder: Path) -> Any:
    """A step of the official pretraining, whose random draws are the constants of this file."""
    (folder / "vocab.txt").write_text("[PAD]\n[CLS]\n[SEP]\n[MASK]\n")
    settings = importlib.import_module("configure_pretraining").PretrainingConfig(
        "test",
        str(folder),
        model_size="small",
        vocab_file=str(folder / "vocab.txt"),
        vocab_size=40,
        embedding_size=8,
        conv_kernel_size=5,
        linear_groups=2,
        generator_hidden_size=0.5,
        mask_prob=0.4,
        max_seq_length=10,  # so 4 predictions
        model_hparam_overrides={
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 12,
        },
    )
    noise = np.random.default_rng(7).random((2, 4, 40), np.float32)
    kept["pretraining/noise"] = noise
    drawn = {(2, 4): UNIFORM, (2, 4, 40): noise}
    tf.random.categorical = lambda logits, number, dtype: tf.constant(POSITIONS)
    tf.random.uniform = lambda shape, **_: tf.constant(drawn[tuple(shape)])
    features = {"input_ids": IDS, "input_mask": MASK, "segment_ids": TYPES}
    return importlib.import_module("run_pretraining").PretrainingModel(
        settings, {name: tf.constant(part) for name, part in features.items()}, False
    )


def main(checkout: Path) -> None:
    """Write `official.npz`."""
    tf = tensorflow()
    sys.path.insert(0, str(checkout))
    kept: dict[str, Any] = {}
    for case, settings in BODIES.items():
        with tf.Graph().as_default():
            model, loss = body(tf, **settings)
            keep(tf, kept, f"body/{case}", {"states": model.get_sequence_output()}, loss)
    searched: dict[str, Any] = {}
    for place, names in ANSWERS.items():
        with tf.Graph().as_default():
            outputs = answers(tf, training=place == "training")
            wanted = {name: outputs[name] for name in names}
            into = kept if place == "training" else searched
            keep(tf, into, f"answers/{place}", wanted, tf.reduce_mean(outputs["loss"]))
    for name, value in searched.items():  # the weights are those of training
        if "/weight/" in name:
            assert np.array_equal(value, kept[name.replace("search", "training")]), name
        elif name.rpartition("/")[2] in ANSWERS["search"]:
            kept[name] = value
    with tf.Graph().as_default(), tempfile.TemporaryDirectory() as folder:
        step = pretraining(tf, kept, Path(folder))
        shown = ("masked_lm_weights", "disc_labels", "disc_probs", "sampled_tokids")
        found = dict(zip(METRICS, step.eval_metrics[1], strict=True))
        outputs = {name: found[name] for name in shown}
        outputs["generator_loss"] = step.mlm_output.loss
        outputs["generator_logits"] = step.mlm_output.logits
        keep(tf, kept, "pretraining", outputs, step.total_loss)
    np.savez_compressed(HERE / "official.npz", **kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
