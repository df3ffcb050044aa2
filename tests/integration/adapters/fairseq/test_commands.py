"""fairseq's own commands with ``--user-dir``: train, kill, resume, average, generate, interact."""

import signal
from pathlib import Path

import pytest
import torch

from embshare.adapters.fairseq import averaging
from embshare.errors import CheckpointError
from tests.integration.adapters.fairseq.conftest import KILLED, Commands

pytestmark = pytest.mark.fairseq

LSTM = (
    "--arch lstm --encoder-embed-dim 32 --encoder-hidden-size 32 --decoder-embed-dim 32 "
    "--decoder-hidden-size 32 --decoder-out-embed-dim 32"
)
FCONV = (
    "--arch fconv --encoder-embed-dim 32 --encoder-layers [(32,3)]*2 --decoder-embed-dim 32 "
    "--decoder-layers [(32,3)]*2 --decoder-out-embed-dim 32"
)
TRANSFORMER = "--arch transformer_tiny --share-decoder-input-output-embed"
ARCHITECTURES = {"lstm": LSTM, "fconv": FCONV, "transformer": TRANSFORMER}
SHARED = "--embshare veps --embshare-factor 16 --embshare-tie all"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_killed_training_goes_on_with_the_same_losses_and_generates(
    commands: Commands, architecture: str
) -> None:
    words = f"{ARCHITECTURES[architecture]} {SHARED}".split()
    straight = commands.train("straight", 40, words, every=20)
    assert straight.code == 0, straight.text
    killed = commands.train("killed", 40, words, every=20, before=KILLED.format(update=33))
    assert killed.code == -signal.SIGKILL, killed.text
    resumed = commands.train("killed", 40, words, every=20)
    assert list(resumed.losses()) == [*range(31, 41)]  # from the end of the second epoch
    assert resumed.losses() == {number: straight.losses()[number] for number in range(31, 41)}
    between = commands.train(
        "between", 40, [*words, "--restore-file", "straight/checkpoint_2_20.pt"], every=20
    )
    assert between.losses() == {number: straight.losses()[number] for number in range(21, 41)}

    translated = commands.generate("killed/checkpoint_last.pt")
    assert len(translated.hypotheses()) == 8, translated.text
    again = commands.generate("straight/checkpoint_last.pt")
    assert again.hypotheses() == translated.hypotheses()
    one = commands.generate("straight/checkpoint_last.pt", "--batch-size", "1")
    assert {k: v.split("\t")[1] for k, v in one.hypotheses().items()} == {
        k: v.split("\t")[1] for k, v in translated.hypotheses().items()
    }
    source = (commands.folder / "test.de").read_text()
    options = f"pairs --user-dir {_plugin()} --path killed/checkpoint_last.pt --cpu --beam 3"
    spoken = commands.run("interactive", *options.split(), "--max-len-b", "12", stdin=source)
    assert {k: v.split("\t")[1] for k, v in spoken.hypotheses().items()} == {
        k: v.split("\t")[1] for k, v in translated.hypotheses().items()
    }


def _plugin() -> Path:
    from embshare.adapters.fairseq import PLUGIN

    return PLUGIN


def test_averages_generate_and_other_plans_are_refused(commands: Commands) -> None:
    words = f"{TRANSFORMER} {SHARED}".split()
    assert commands.train("run", 6, words).code == 0
    files = sorted(commands.folder.glob("run/checkpoint_*_[246].pt"))
    assert len(files) == 3
    averaging.main([str(commands.folder / "mean.pt"), *map(str, files)])
    assert len(commands.generate("mean.pt").hypotheses()) == 8
    mean, parts = (
        averaging.average([commands.folder / "mean.pt"]),
        [averaging.average([file]) for file in files],
    )
    for name, tensor in mean["model"].items():
        stacked = torch.stack([part["model"][name].double() for part in parts])
        torch.testing.assert_close(tensor.double(), stacked.mean(0), rtol=1e-6, atol=1e-7)
    assert commands.train("other", 2, [*words, "--seed", "9"]).code == 0
    with pytest.raises(CheckpointError, match="shared by another plan than the first checkpoint"):
        averaging.average([files[0], commands.folder / "other" / "checkpoint_last.pt"])


def test_another_start_goes_on_with_the_checkpoints_own_plan(commands: Commands) -> None:
    # Gains are measured on a random start: by another seed they would be others, and with them
    # every derived weight.
    words = f"{TRANSFORMER} {SHARED}".split()
    first = commands.train("run", 2, words)
    plan = _plan(commands.folder / "run" / "checkpoint_last.pt")
    straight = commands.train("run", 4, [*words, "--restore-file", "run/checkpoint_1_2.pt"])
    (commands.folder / "fine").mkdir()
    tuned = commands.train(
        "fine", 2, [*words, "--seed", "9", "--finetune-from-model", "run/checkpoint_1_2.pt"]
    )
    assert tuned.code == straight.code == first.code == 0, tuned.text
    assert _plan(commands.folder / "fine" / "checkpoint_last.pt") == plan
    assert tuned.losses()[1] < first.losses()[1]  # it did not begin from nothing
    fresh = commands.train("fresh", 2, [*words, "--seed", "9"])
    assert fresh.code == 0
    assert _plan(commands.folder / "fresh" / "checkpoint_last.pt") != plan


def _plan(path: Path) -> str:
    from embshare.adapters.fairseq.pinning import plan_of

    plan = plan_of(averaging.average([path]))
    assert plan is not None
    return plan


def test_a_checkpoint_of_other_settings_is_refused_by_name(commands: Commands) -> None:
    assert commands.train("run", 2, f"{LSTM} {SHARED}".split()).code == 0
    other = commands.train(
        "run", 4, f"{LSTM} --embshare veps --embshare-factor 16 --embshare-tie none".split()
    )
    assert other.code == 1
    assert "`config.tie` must be 'all', but is 'none'" in other.text
    assert "options that they were trained with" in other.error()


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("--embshare-factor 16", "--embshare-factor needs --embshare veps"),
        ("--embshare eps --embshare-width 9", "`width` and `column_bias` belong to method='veps'"),
        ("--embshare veps --embshare-tie some", "`tie`: must be 'none', 'all', 'sequence:M'"),
        ("--embshare veps --embshare-factor many", "`factor`: Input should be a valid integer"),
        ("--embshare other", "`method`: Input should be 'eps', 'veps' or 'own'"),
        ("--embshare veps --quant-noise-pq 0.1", "--quant-noise-pq rewrites weights"),
        ("--embshare-plan nowhere.json", "--embshare-plan: `nowhere.json` cannot be read"),
    ],
)
def test_contradictions_are_one_message_before_any_work(
    commands: Commands, words: str, fault: str
) -> None:
    ran = commands.train("never", 2, f"{TRANSFORMER} {words}".split())
    assert ran.code == 2
    assert fault in ran.error()
    assert "Traceback" not in ran.text
    assert not (commands.folder / "never").exists()


def test_a_dense_training_is_as_without_the_plugin(commands: Commands) -> None:
    with_it = commands.train("with", 3, LSTM.split())
    plain = commands.run(
        "train",
        *"pairs --cpu --optimizer adam --lr 0.01 --batch-size 16 --max-update 3 --save-dir without "
        "--log-format json --log-interval 1 --required-batch-size-multiple 1".split(),
        *LSTM.split(),
    )
    assert with_it.losses() == plain.losses() != {}


@pytest.mark.parametrize("precision", ["--fp16 --fp16-no-flatten-grads", "--memory-efficient-fp16"])
def test_half_precision_and_moving_averages(commands: Commands, precision: str) -> None:
    # fairseq's optimizers write half-precision parameters through `.data`, which no version shows.
    words = f"{TRANSFORMER} {SHARED} {precision} --store-ema --ema-decay 0.5 --lr 0.003"
    ran = commands.train("half", 6, words.split())
    assert ran.code == 0, ran.text
    assert ran.losses()[6] < ran.losses()[1]
    resumed = commands.train("half", 8, [*words.split(), "--seed", "5"])
    assert list(resumed.losses()) == [7, 8]
    assert len(commands.generate("half/checkpoint_last.pt", "--fp16").hypotheses()) == 8


def test_joined_tables_and_a_reset_optimizer(commands: Commands) -> None:
    words = f"--arch transformer_tiny --share-all-embeddings {SHARED}".split()
    assert commands.train("run", 2, words, data="joined").code == 0
    ran = commands.train("run", 4, [*words, "--reset-optimizer"], data="joined")
    assert list(ran.losses()) == [1, 2, 3, 4]
    assert _plan(commands.folder / "run" / "checkpoint_last.pt").count('"rows"') == 1


def test_a_language_model_of_a_dataclass(commands: Commands) -> None:
    words = (
        "--task language_modeling --arch transformer_lm --tokens-per-sample 16 "
        "--decoder-embed-dim 32 --decoder-input-dim 32 --decoder-output-dim 32 "
        "--decoder-ffn-embed-dim 64 --decoder-layers 2 --decoder-attention-heads 2 "
        f"{SHARED} --embshare-column-bias --embshare-exclude *.fc1.*"
    ).split()
    straight = commands.train("straight", 5, words, data="text")
    assert straight.code == 0, straight.text
    assert commands.train("run", 3, words, data="text").code == 0
    resumed = commands.train("run", 5, [*words, "--seed", "1"], data="text")
    assert resumed.losses() == {n: straight.losses()[n] for n in (4, 5)}
    options = f"text --user-dir {_plugin()} --path run/checkpoint_last.pt --cpu --batch-size 4"
    scored = commands.run("eval_lm", *options.split(), "--required-batch-size-multiple", "1")
    assert "Perplexity" in scored.error()


def test_adaptive_softmax(commands: Commands) -> None:
    cut = "--adaptive-softmax-cutoff 10,20 --criterion adaptive_loss --ddp-backend legacy_ddp"
    words = f"{LSTM} {SHARED} {cut}".split()
    ran = commands.train("run", 6, words)
    assert ran.losses()[6] < ran.losses()[1], ran.text
    assert len(commands.generate("run/checkpoint_last.pt").hypotheses()) == 8


def test_without_the_plugin_a_shared_checkpoint_is_refused(commands: Commands) -> None:
    assert commands.train("run", 2, f"{TRANSFORMER} {SHARED}".split()).code == 0
    allow = "import argparse, torch; torch.serialization.add_safe_globals([argparse.Namespace])"
    words = "pairs --path run/checkpoint_last.pt --cpu".split()
    ran = commands.run("generate", *words, before=allow)
    assert ran.code == 1
    assert "Unexpected key(s) in state_dict" in ran.text
