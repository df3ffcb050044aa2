"""Vision models, which have no token table."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import embshare
from embshare import ShareConfig
from embshare.adapters.vision import add_table, share_vision, table_of, with_tables
from embshare.errors import InvalidValueError, NoSourceError

pytestmark = pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning")  # toys

torchvision = pytest.importorskip("torchvision")

IMAGES = torch.arange(2 * 3 * 64 * 64).float().sin().view(2, 3, 64, 64)


def resnet(**settings: Any) -> Any:
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=200, **settings).eval()


@pytest.mark.parametrize(
    ("name", "classifier", "patch"),
    [
        ("resnet18", "fc.weight", "conv1.weight"),
        ("squeezenet1_1", "classifier.1.weight", "features.0.weight"),
        ("vit_b_32", "heads.head.weight", "conv_proj.weight"),
        ("swin_t", "head.weight", "features.0.0.weight"),
    ],
)
def test_the_tables_of_torchvision(name: str, classifier: str, patch: str) -> None:
    with torch.device("meta"):
        model = torchvision.models.get_model(name)
    assert table_of(model, "classifier") == classifier
    assert table_of(model, "patch") == patch


def test_timm_says_what_its_classifier_is() -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("test_vit", num_classes=50)
    assert table_of(model, "classifier") == "head.weight"
    assert table_of(model, "patch") == "patch_embed.proj.weight"


def test_a_model_without_such_a_layer_says_so() -> None:
    with pytest.raises(NoSourceError, match="Identity has no table `classifier`"):
        table_of(nn.Identity(), "classifier")
    with pytest.raises(InvalidValueError, match=r"'new:ROWSxCOLUMNS', but is 'head'"):
        table_of(resnet(), "head")


@pytest.mark.parametrize("source", ["classifier", "patch", "new:256x16", "fc"])
def test_shared_trained_saved_loaded_and_made_plain(source: str, tmp_path: Path) -> None:
    model = share_vision(resnet(), source=source)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and all("weight" in norm._parameters for norm in norms)
    before = model(IMAGES).detach()
    model(IMAGES).square().mean().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    wanted = model(IMAGES).detach()
    assert not torch.equal(wanted, before)

    embshare.save(model, tmp_path)
    torch.manual_seed(1)
    new = source.startswith("new")
    fresh = add_table(resnet(), rows=256, columns=16) if new else resnet()
    assert torch.equal(embshare.load(tmp_path, fresh).eval()(IMAGES), wanted)
    plain = embshare.materialize(model)
    torch.testing.assert_close(plain(IMAGES), wanted, rtol=1e-4, atol=1e-4)


def test_a_new_table_is_stored_once_and_read_by_all() -> None:
    model = share_vision(resnet(), ShareConfig(tie="none"), source="new:2048x8")
    assert dict(model.named_parameters())["shared_table"].shape == (2048, 8)
    summary = embshare.summarize(model)
    assert summary.hidden_stored < summary.hidden_before / 200
    assert not summary.left_dense


def test_a_new_table_takes_the_model_s_device_and_type_and_is_there_once() -> None:
    with torch.device("meta"):
        model = add_table(torchvision.models.resnet18().half(), rows=10, columns=4)
    assert model.shared_table.is_meta and model.shared_table.dtype is torch.float16
    with pytest.raises(InvalidValueError, match="`shared_table`: is there already"):
        add_table(model)
    with pytest.raises(InvalidValueError, match=r"`rows`: must be at least 1, but is 0"):
        add_table(resnet(), rows=0)


def test_words_stand_for_names_in_a_mapping_too_and_a_model_s_own_names_come_first() -> None:
    model = resnet()
    config = ShareConfig(source={"layer1.*": "classifier", "*": "new:64x8"})
    assert with_tables(model, config).source == {"layer1.*": "fc.weight", "*": "shared_table"}
    dense = nn.ModuleDict({"classifier": nn.Linear(4, 9), "last": nn.Linear(4, 4)})
    assert with_tables(dense, ShareConfig(source="classifier")).source == "classifier"


class Captioner(nn.Module):
    """An image encoder of torchvision before a decoder with a table: nothing knows of sharing."""

    def __init__(self, encoder: Callable[[], nn.Module], channels: int) -> None:
        super().__init__()
        self.encoder = encoder()
        self.bridge = nn.Linear(channels, 16)
        self.embed = nn.Embedding(300, 16)
        self.decoder = nn.LSTM(16, 16, num_layers=2, batch_first=True)
        self.head = nn.Linear(16, 300, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, images: Tensor, ids: Tensor) -> Tensor:
        start = self.bridge(self.encoder(images).flatten(1)).unsqueeze(1)
        states, _ = self.decoder(torch.cat([start, self.embed(ids)], dim=1))
        scores: Tensor = self.head(states)
        return scores


def trunk(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        model: nn.Module = torchvision.models.get_model(name)
        last = "fc" if hasattr(model, "fc") else "classifier"
        setattr(model, last, nn.Identity())
        return model

    return build


@pytest.mark.parametrize(
    ("name", "channels", "groups"),
    [
        ("resnet18", 512, {1}),
        ("shufflenet_v2_x0_5", 1024, {1, 24, 48, 96}),  # depthwise
        ("regnet_y_400mf", 440, {1, 6, 13, 26, 55}),  # grouped
    ],
)
@pytest.mark.parametrize("mapped", [False, True])
def test_an_image_encoder_reads_from_the_decoder_s_table(
    name: str, channels: int, groups: set[int], mapped: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = Captioner(trunk(name), channels).eval()
    found = {m.groups for m in model.modules() if isinstance(m, nn.Conv2d)}
    assert len(found) >= len(groups) - 1 and (1 in found)
    config = ShareConfig(source={"*": "embed"} if mapped else "auto", tie="none")
    shared: Any = embshare.share_from_embedding(model, config)
    plan = shared.embshare_bank.plan
    assert [source.name for source in plan.sources] == ["embed.weight"]
    assert plan.sources[0].tied == ("head.weight",)
    assert not plan.left_dense
    ids = torch.arange(10).view(2, 5)
    shared(IMAGES, ids).square().mean().backward()
    torch.optim.SGD(shared.parameters(), lr=0.1).step()
    wanted = shared(IMAGES, ids).detach()
    folder = embshare.save(shared, tmp_path)
    again = embshare.load(folder, Captioner(trunk(name), channels)).eval()
    assert torch.equal(again(IMAGES, ids), wanted)
