"""Vocabularies and encoded data, kept on disk by their content for the next run on the same data.

An entry is found by a hash of everything that it was made from: the text itself, the settings that
change it, the tokenizer, and the versions of this module and of the packages that made it. So it
can never be of other data, and the whole folder may be removed at any time. Each file begins with a
hash of its own content: one that was cut off or changed is made anew.
"""

from __future__ import annotations

import os
import secrets
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from embshare.errors import EmbshareWarning

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "CACHE",
    "CacheWarning",
    "cache_folder",
    "hash_texts",
    "kept",
    "kept_tensors",
]

T = TypeVar("T")

CACHE: Final = "EMBSHARE_CACHE"
"""Environment variable with the folder of the cache; ``off`` turns it off."""
OFF: Final = ("", "off")
FORMAT: Final = 1
"""Raised whenever code changes what is learned or encoded from the same text and settings."""
DIGEST: Final = sha256().digest_size


class CacheWarning(EmbshareWarning):
    """The cache cannot be written, so that what was made is made again by the next run."""

    def __init__(self, *, path: Path, finding: str) -> None:
        super().__init__(
            f"`{path}` must be a file that can be written, but: {finding}. Vocabularies and "
            f"encoded data will be made again by the next run: name another folder in {CACHE}, or "
            f"turn the cache off with {CACHE}=off."
        )
        self.path, self.finding = path, finding


def cache_folder() -> Path | None:
    """Folder of the cache: `CACHE`, or else ``embshare`` in the user's; ``None``: turned off."""
    named = os.environ.get(CACHE)
    if named is not None:
        return None if named in OFF else Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    with suppress(RuntimeError):  # nobody's home
        return (Path(base) if base else Path.home() / ".cache") / "embshare"
    return None


def hash_texts(texts: Iterable[str]) -> str:
    """Hash texts, each for itself: another cut into texts is another hash."""
    digest = sha256()
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        digest.update(b"%d\0" % len(raw))
        digest.update(raw)
    return digest.hexdigest()


def kept(
    kind: str,
    about: Iterable[object],
    make: Callable[[], T],
    *,
    dump: Callable[[T], bytes],
    load: Callable[[bytes], T],
) -> T:
    """Make something, or read what an earlier call made of the same.

    Several processes may ask for the same at once: each reads a whole file, or makes its own.

    Args:
        kind: folder of the entry, a plural noun.
        about: everything that the result depends on; strings and what `repr` writes exactly.
        make: makes it.
        dump: converts it to the content of a file.
        load: converts it back.
    Warns:
        CacheWarning: the folder cannot be written to.
    """
    folder = cache_folder()
    if folder is None:
        return make()
    path = folder / kind / _key(kind, about)
    found = _read(path)
    if found is not None:
        return load(found)
    made = make()
    _write(path, dump(made))
    return made


def kept_tensors(
    kind: str, about: Iterable[object], make: Callable[[], Mapping[str, Tensor]]
) -> Mapping[str, Tensor]:
    """Make tensors by name, or read them; see `kept`."""
    from safetensors.torch import load, save

    return kept(
        kind,
        about,
        make,
        dump=lambda tensors: save(dict(tensors)),
        load=load,
    )


def _key(kind: str, about: Iterable[object]) -> str:
    """Hash of what an entry is made from, and of what makes it."""
    made_by = (FORMAT, version("tokenizers"), version("transformers"), unicodedata.unidata_version)
    parts = (kind, *made_by, *about)
    return hash_texts(part if isinstance(part, str) else repr(part) for part in parts)


def _read(path: Path) -> bytes | None:
    """Content of an entry; ``None`` where there is none, or it is not as it was written."""
    try:
        with path.open("rb") as file:
            digest, content = file.read(DIGEST), file.read()
    except OSError:
        return None
    return content if sha256(content).digest() == digest else None


def _write(path: Path, content: bytes) -> None:
    """Write an entry atomically, under a name that no other process writes to."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("xb") as file:
                file.write(sha256(content).digest())
                file.write(content)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        finding = error.strerror or str(error)
        warnings.warn(CacheWarning(path=path, finding=finding), stacklevel=4)
