"""Models by name, in a process that has built none before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from embshare.models.convbert import ConvBertConfig
from embshare.models.elc_bert import ElcBertConfig
from embshare.models.matched import ARCHITECTURES
from embshare.models.sharebert import ShareBertConfig
from embshare.tasks.building import FAMILIES, MATCHED


def test_names_of_the_matched_family_are_its_architectures() -> None:
    assert MATCHED == ARCHITECTURES


def test_each_family_is_listed_by_the_type_in_its_files() -> None:
    kinds = {kind.model_type: kind for kind in (ConvBertConfig, ElcBertConfig, ShareBertConfig)}
    assert set(FAMILIES) == set(kinds)
    for kind, package in FAMILIES.items():
        assert kinds[kind].__module__.startswith(package)


def test_a_new_process_reads_a_folder_of_ours(tmp_path: Path) -> None:
    config = ElcBertConfig(
        hidden_size=16,
        intermediate_size=32,
        num_attention_heads=2,
        num_hidden_layers=1,
        position_bucket_size=8,
    )
    config.save_pretrained(tmp_path)
    code = (
        "from embshare.tasks.building import build_model\n"
        f"model = build_model({str(tmp_path)!r}, seed=0, matched=None, "
        "auto='AutoModelForMaskedLM', vocab_size=40)\n"
        "print(type(model).__name__, model.config.vocab_size)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "ElcBertForMaskedLM 40\n", done.stderr
