"""Provenance of a result: code, packages and machine."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import torch

import embshare
from embshare._value import Value

__all__ = ["Provenance", "read_provenance"]

PACKAGES: Final = (
    "embshare",
    "torch",
    "numpy",
    "safetensors",
    "pydantic",
    "transformers",
    "accelerate",
    "tokenizers",
    "datasets",
    "sacrebleu",
    "pycocoevalcap",
    "torchvision",
    "torchaudio",
    "timm",
    "fairseq-fixed",
)


class Provenance(Value):
    """Code, packages and machine of a run; without them a number is not a result."""

    started: str
    """Time of the start, UTC, ISO 8601."""
    seconds: float = 0.0
    """Duration of the whole run."""
    commit: str | None
    """Commit of the work tree that embshare is imported from; ``None`` for an installed wheel."""
    dirty: bool | None
    """Whether that work tree had uncommitted changes or new Python files; other new files, such as
    results, do not count."""
    changes: str | None = None
    """Hash of those changes, 16 hexadecimal digits; ``None`` where there are none."""
    packages: dict[str, str]
    python: str
    platform: str
    processor: str
    cores: int
    threads: int
    """Number of threads of torch."""
    memory_mib: int | None
    device: str
    """Device that models were trained on."""


def read_provenance() -> Provenance:
    """Record the provenance of this process."""
    commit, dirty, changes = _work_tree(Path(embshare.__file__).parent)
    return Provenance(
        started=datetime.now(UTC).isoformat(timespec="milliseconds"),
        commit=commit,
        dirty=dirty,
        changes=changes,
        packages={name: found for name in PACKAGES if (found := _version(name))},
        python=platform.python_version(),
        platform=platform.platform(),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _cores(),
        threads=torch.get_num_threads(),
        memory_mib=_memory_mib(),
        device=_device(),
    )


def _device() -> str:
    """Name of the device that transformers' ``Trainer`` chooses."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _cores() -> int:
    return os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _work_tree(folder: Path) -> tuple[str | None, bool | None, str | None]:
    """Commit, dirtiness and changes of the repository that tracks ``folder/__init__.py``, if any.

    A wheel may be installed below another repository, whose commit would be meaningless.
    """
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None, None, None
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "diff", "HEAD")
    new = _git(folder, "ls-files", "--others", "--exclude-standard", "--full-name", ":/*.py")
    top = _git(folder, "rev-parse", "--show-toplevel")
    if changes is None or new is None or top is None:
        return commit, None, None
    if not changes and not new:
        return commit, False, None
    digest = sha256(changes.encode())
    for name in new.splitlines():
        digest.update(name.encode() + b"\0" + _content(Path(top, name)))
    return commit, True, digest.hexdigest()[:16]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # gone meanwhile, or a name that git quotes
        return b""


def _git(folder: Path, *words: str) -> str | None:
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None


def _processor() -> str:
    """Name of the processor, which Python knows on few systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _memory_mib() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (AttributeError, OSError, ValueError):
        return None
