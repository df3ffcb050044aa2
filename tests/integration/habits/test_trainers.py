"""Trainers and checkpointers that people use: equal weights afterwards, and exact resuming."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import embshare
from embshare import ShareConfig
from embshare.errors import StateMismatchError
from tests._support.habit_models import IDS, LM, equal, loss, out, shared, train

TIED = pytest.mark.parametrize("config", [ShareConfig(), ShareConfig(factor=5)], ids=str)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A process group of one, over gloo."""
    store = torch._C._distributed_c10d.FileStore(str(tmp_path_factory.mktemp("gloo") / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def tied(config: ShareConfig, seed: int = 0) -> Any:
    """A language model whose head is its table."""
    torch.manual_seed(seed)
    model: Any = LM()
    model.head = nn.Linear(12, 97, bias=False)
    model.head.weight = model.embed.weight
    return embshare.share_from_embedding(model, config)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@TIED
def test_distributed_checkpoints_with_the_optimizer(
    config: ShareConfig, world: None, tmp_path: Path
) -> None:
    import torch.distributed.checkpoint as checkpoint
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    first, second = tied(config), tied(config, seed=1)
    optimizers = [torch.optim.AdamW(m.parameters(), lr=0.01) for m in (first, second)]
    train(first, 3, optimizers[0])
    state, moments = get_state_dict(first, optimizers[0])
    dcp: Any = checkpoint
    dcp.save({"model": state, "optim": moments}, checkpoint_id=tmp_path / "dcp")
    train(second, 1, optimizers[1])  # another state to be overwritten
    state, moments = get_state_dict(second, optimizers[1])
    both: dict[str, Any] = {"model": state, "optim": moments}
    dcp.load(both, checkpoint_id=tmp_path / "dcp")
    set_state_dict(
        second, optimizers[1], model_state_dict=both["model"], optim_state_dict=both["optim"]
    )
    assert equal(first, second)
    train(first, 2, optimizers[0]), train(second, 2, optimizers[1])
    assert equal(first, second)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@TIED
def test_sharded_models_give_and_take_full_states(config: ShareConfig, world: None) -> None:
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        get_model_state_dict,
        set_model_state_dict,
    )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    first, second = train(shared(config)), shared(config, seed=1)
    wanted = out(first)
    mesh = init_device_mesh("cpu", (1,))
    for model in (first, second):
        for group in embshare.fsdp_groups(model, min_parameters=0):
            fully_shard(group, mesh=mesh)
    full = get_model_state_dict(first, options=StateDictOptions(full_state_dict=True))
    plain = shared(config, seed=2)
    plain.load_state_dict(full)
    torch.testing.assert_close(out(plain), wanted)
    set_model_state_dict(second, full, options=StateDictOptions(full_state_dict=True))
    torch.testing.assert_close(out(second), wanted)


@TIED
def test_accelerate_saves_and_loads_a_training(config: ShareConfig, tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    first, second = tied(config), tied(config, seed=1)
    optimizers = [torch.optim.AdamW(m.parameters(), lr=0.01) for m in (first, second)]
    accelerator = accelerate.Accelerator(cpu=True)
    prepared, optimizer = accelerator.prepare(first, optimizers[0])
    train(prepared, 3, optimizer)
    accelerator.save_state(str(tmp_path / "state"))
    accelerator.free_memory()
    accelerator = accelerate.Accelerator(cpu=True)
    again, resumed = accelerator.prepare(second, optimizers[1])
    accelerator.load_state(str(tmp_path / "state"))
    assert equal(again, prepared)
    train(prepared, 2, optimizer), train(again, 2, resumed)
    assert equal(again, prepared)


class Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    """A few sequences that predict themselves."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        ids = (torch.arange(6) + index * 7) % 97
        return {"input_ids": ids, "labels": ids}


def bert(seed: int, config: ShareConfig) -> Any:
    """A shared tiny BERT."""
    from tests._support.layer_examples import bert as build

    torch.manual_seed(seed)
    return embshare.share_from_embedding(build(), config)


@pytest.mark.slow
@TIED
def test_the_trainer_loads_the_best_model_at_the_end_and_resumes(
    config: ShareConfig, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")

    def trainer(model: Any, **options: Any) -> Any:
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / "run"),
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            per_device_train_batch_size=4,
            learning_rate=0.01,
            eval_strategy="steps",
            save_strategy="steps",
            eval_steps=2,
            save_steps=2,
            logging_steps=100,
            metric_for_best_model="eval_loss",
            **options,
        )
        return transformers.Trainer(
            model=model, args=arguments, train_dataset=Rows(), eval_dataset=Rows()
        )

    first = trainer(bert(0, config), max_steps=6, load_best_model_at_end=True)
    first.train()
    best = Path(first.state.best_model_checkpoint)
    second = bert(1, config)
    from safetensors.torch import load_file

    second.load_state_dict(load_file(best / "model.safetensors"))
    ids = {"input_ids": IDS}
    with torch.no_grad():
        assert torch.equal(second.eval()(**ids).logits, first.model.eval()(**ids).logits)
    resumed = trainer(bert(2, config), max_steps=8)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    assert resumed.state.global_step == 8


def lit(config: ShareConfig) -> type[Any]:
    """A Lightning module that shares its network in the constructor."""
    lightning: Any = pytest.importorskip("lightning")
    base: Any = lightning.LightningModule

    class Lit(base):  # type: ignore[misc]
        def __init__(self, seed: int = 0) -> None:
            super().__init__()
            self.net = shared(config, seed=seed)

        def training_step(self, batch: Any, _: int) -> Tensor:
            del batch
            return loss(self.net)

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=0.01)

    return Lit


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@TIED
def test_lightning_loads_from_its_checkpoint_and_resumes(
    config: ShareConfig, tmp_path: Path
) -> None:
    kind = lit(config)
    import lightning

    def trainer(steps: int) -> Any:
        return lightning.Trainer(
            max_steps=steps,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            enable_checkpointing=False,
        )

    data: Any = torch.utils.data.DataLoader([0] * 4)  # type: ignore[arg-type]
    model, first = kind(), trainer(3)
    first.fit(model, data)
    first.save_checkpoint(tmp_path / "a.ckpt")
    again = kind.load_from_checkpoint(tmp_path / "a.ckpt", seed=1, weights_only=False)
    assert equal(again.net, model.net)
    resumed, straight = kind(seed=2), kind()
    trainer(5).fit(resumed, data, ckpt_path=tmp_path / "a.ckpt", weights_only=False)
    trainer(5).fit(straight, data)
    assert equal(resumed.net, straight.net)
    embshare.save(model, tmp_path / "x")
    assert equal(embshare.load(tmp_path / "x", LM()), model.net)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lightning_refuses_a_checkpoint_of_another_plan(tmp_path: Path) -> None:
    lit(ShareConfig())
    import lightning

    trainer = lightning.Trainer(
        max_steps=1,
        logger=False,
        default_root_dir=tmp_path,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    model = lit(ShareConfig(anchor=0.0, order="row"))()
    trainer.fit(model, torch.utils.data.DataLoader([0] * 4))  # type: ignore[arg-type]
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    other = lit(ShareConfig(anchor=4.0, order="column"))
    with pytest.raises(StateMismatchError, match="anchor=4"):
        other.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=False)


def test_timms_moving_average_reads_its_own() -> None:
    timm = pytest.importorskip("timm")
    model = shared()
    average = timm.utils.ModelEmaV3(model, decay=0.5, foreach=True)
    for _ in range(3):
        average.update(train(model, 1))
    fresh = shared(seed=1)
    fresh.load_state_dict(average.module.state_dict())
    assert equal(fresh, average.module) and not equal(fresh, model)


def test_schedulers_and_moments_are_resumed_to_the_bit(tmp_path: Path) -> None:
    """The plain torch loop: model, optimizer and scheduler in one file."""

    def parts(seed: int) -> tuple[Any, Any, Any]:
        model = shared(seed=seed)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
        return model, optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)

    first = parts(0)
    train(first[0], 3, first[1])
    first[2].step()
    torch.save([part.state_dict() for part in first], tmp_path / "a.pt")
    second = parts(1)
    for part, state in zip(second, torch.load(tmp_path / "a.pt", weights_only=True), strict=True):
        part.load_state_dict(state)
    for model, optimizer, scheduler in (first, second):
        train(model, 2, optimizer)
        scheduler.step()
    assert equal(first[0], second[0])


def test_warnings_of_a_training_are_none() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(tied(ShareConfig()), 3)
