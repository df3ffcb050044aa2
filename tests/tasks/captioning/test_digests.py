"""Digests of picture files: read once, and again as soon as a file is not what it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from embshare.tasks.captioning.dataset import Picture
from embshare.tasks.captioning.errors import PictureError
from embshare.tasks.captioning.pictures import digests
from embshare.tasks.captioning.pictures.decoding import digest
from embshare.tasks.captioning.pictures.digests import digests_of

LONG_AGO = 1_500_000_000


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read."""
    found: list[str] = []

    def counted(path: Path, place: str | None = None) -> bytes:
        found.append(path.name)
        return digest(path, place)

    monkeypatch.setattr(digests, "digest", counted)
    return found


def write(path: Path, text: str, at: int = LONG_AGO) -> None:
    path.write_text(text)
    os.utime(path, (at, at))


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    found: list[Picture] = []
    for name in ("a", "b", "c"):
        write(tmp_path / name, f"picture {name}")
        found.append(Picture(name, ("x",), tmp_path / name, f"`list`, line {len(found) + 1},"))
    return found


def expected(pictures: list[Picture]) -> list[bytes]:
    return [digest(picture.path) for picture in pictures if picture.path is not None]


def test_files_that_are_as_they_were_are_not_read_again(
    pictures: list[Picture], tmp_path: Path, reads: list[str]
) -> None:
    cache = tmp_path / "cache"
    assert digests_of(pictures, cache) == expected(pictures)
    assert sorted(reads) == ["a", "b", "c"]
    assert digests_of(pictures, cache) == expected(pictures)
    assert len(reads) == 3
    assert [path.suffix for path in cache.iterdir()] == [".digests"]


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("picture of b", LONG_AGO),  # another size
        ("picture d", LONG_AGO + 1),  # another time
        ("picture d", LONG_AGO),  # both set back, as a copy that keeps times leaves them
    ],
)
def test_a_changed_file_is_read_again_and_no_other(
    pictures: list[Picture], tmp_path: Path, reads: list[str], text: str, at: int
) -> None:
    before = digests_of(pictures, tmp_path / "cache")
    reads.clear()
    write(tmp_path / "b", text, at)
    after = digests_of(pictures, tmp_path / "cache")
    assert reads == ["b"]
    assert after == expected(pictures)
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True]
    digests_of(pictures, tmp_path / "cache")
    assert reads == ["b"]


def test_a_file_that_was_only_just_written_is_not_taken_for_granted(
    pictures: list[Picture], tmp_path: Path, reads: list[str]
) -> None:
    (tmp_path / "b").write_text("picture 1")  # what is written within a tick may have its time
    digests_of(pictures, tmp_path / "cache")
    reads.clear()
    digests_of(pictures, tmp_path / "cache")
    assert reads == ["b"]


def test_a_cut_file_of_digests_is_made_again(pictures: list[Picture], tmp_path: Path) -> None:
    whole = digests_of(pictures, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    raw = kept.read_bytes()
    for cut in (b"", raw[:-5], b"no digests"):
        kept.write_bytes(cut)
        assert digests_of(pictures, tmp_path / "cache") == whole
        assert kept.read_bytes() == raw


def test_a_folder_that_cannot_be_written_is_no_fault_of_the_pictures(
    pictures: list[Picture], tmp_path: Path
) -> None:
    assert digests_of(pictures, tmp_path / "a") == expected(pictures)  # a file, so no folder


def test_a_file_that_has_gone_is_named(pictures: list[Picture], tmp_path: Path) -> None:
    digests_of(pictures, tmp_path / "cache")
    (tmp_path / "b").unlink()
    with pytest.raises(PictureError, match=r"b`, named in `list`, line 2, .* \(No such file"):
        digests_of(pictures, tmp_path / "cache")
