"""Finding the picture files that captions name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from embshare.tasks.captioning.dataset import Picture
from embshare.tasks.captioning.errors import CaptionFileError, PicturesMissingError

__all__ = ["PictureFolders", "collect"]

USUAL: Final = (
    ".",
    "images",
    "Images",
    "Flicker8k_Dataset",  # as it is spelled in the published archive
    "Flickr8k_Dataset",
    "flickr30k-images",
    "flickr30k_images",
)


@dataclass(frozen=True)
class PictureFolders:
    """Where pictures may be."""

    folders: tuple[Path, ...]
    _listed: dict[Path, frozenset[str]] = field(default_factory=dict, compare=False)

    @classmethod
    def around(cls, data: Path, images: Path | None, more: Iterable[str] = ()) -> PictureFolders:
        """The folder that was named, or the usual ones in that of the captions and above it."""
        if images is not None:
            names = [images, *(images / name for name in more)]
        else:
            roots = (data, data.parent)
            names = [root / name for root in roots for name in (*USUAL, *more)]
        return cls(tuple(dict.fromkeys(path for path in names if path.is_dir())) or (data,))

    def find(self, file: str, below: str = "") -> Path | None:
        """The picture with this name; listing folders once is quick where they are far away."""
        for folder in self.folders:
            within = folder / below / file
            if within.parent not in self._listed:
                at = within.parent
                names = (path.name for path in at.iterdir()) if at.is_dir() else ()
                self._listed[at] = frozenset(names)
            if within.name in self._listed[within.parent]:
                return within
        return None


def collect(pictures: Sequence[Picture], folders: PictureFolders) -> tuple[Picture, ...]:
    """Give each picture its file; its name may carry a folder.

    Raises:
        PicturesMissingError: some are nowhere; names the first, and counts all.
        CaptionFileError: two that have other names than each other are one file.
    """
    found = [replace(picture, path=_find(picture.name, folders)) for picture in pictures]
    missing = [picture for picture in found if picture.path is None]
    if missing:
        raise PicturesMissingError(
            place=missing[0].place.rstrip(","),
            file=missing[0].name,
            count=len(missing),
            of=len(found),
            looked=[f"`{folder}`" for folder in folders.folders],
        )
    _check_files(found)
    return tuple(found)


def _check_files(pictures: Iterable[Picture]) -> None:
    first: dict[Path | None, Picture] = {}
    for picture in pictures:
        other = first.setdefault(picture.path, picture)
        if other.name != picture.name:
            raise CaptionFileError(
                place=picture.place,
                needs=f"name a file of its own as `{picture.name}`",
                finding=f"that and `{other.name}` are both found as `{picture.path}` alone",
                way_out="Put each picture into the folder of its name, or name the folder that "
                "these are in as `images`.",
            )


def _find(name: str, folders: PictureFolders) -> Path | None:
    below, _, file = name.rpartition("/")
    return folders.find(file, below) or (folders.find(file) if below else None)
