"""What the trainer adds to the one of transformers."""

from __future__ import annotations

from pathlib import Path

import pytest

from embshare.models.matched import MatchedConfig, MatchedLanguageModel
from embshare.tasks.settings import TrainSettings
from embshare.tasks.training import SharingTrainer, make_arguments


def test_matrices_have_the_rate_that_the_settings_say(tmp_path: Path) -> None:
    settings = TrainSettings(learning_rate=0.02, hidden_lr=0.25, weight_decay=0.1)
    model = MatchedLanguageModel(MatchedConfig(architecture="conv", vocab_size=50, width=16))
    arguments = make_arguments(settings, seed=0, folder=tmp_path)
    trainer = SharingTrainer(model=model, args=arguments, hidden_lr=settings.hidden_lr)
    groups = {group["name"]: group for group in trainer.create_optimizer().param_groups}
    assert groups["table"]["lr"] == groups["vectors"]["lr"] == pytest.approx(0.02)
    assert groups["hidden"]["lr"] == pytest.approx(0.005)
    assert [p is model.embedding.weight for p in groups["table"]["params"]] == [True]
    assert groups["vectors"]["weight_decay"] == 0 < groups["hidden"]["weight_decay"]
