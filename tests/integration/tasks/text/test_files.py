"""Files of text: marks, line ends, encodings."""

from pathlib import Path

import pytest

from embshare.tasks.errors import DataError
from embshare.tasks.text.files import read_lines


def test_marks_and_line_ends_go_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes("\ufeffone\r\ntwo\u2028still\x85two\n\nlast".encode())
    assert read_lines(path) == ["one", "two\u2028still\x85two", "", "last"]


def test_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes("one\ntwo\ncafé\n".encode("latin1"))
    with pytest.raises(DataError, match=r"a\.tsv`, line 3, must be UTF-8, but has the byte 0xe9"):
        read_lines(path)
    path.write_text("one", encoding="utf-16")
    with pytest.raises(DataError, match=r"line 1, .*iconv -f utf-16"):
        read_lines(path)


def test_wide_characters_without_a_mark_are_named_too(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes("one\ntwo\n".encode("utf-16-le"))
    with pytest.raises(DataError) as caught:
        read_lines(path)
    assert str(caught.value) == (
        f"`{path}`, line 1, must be UTF-8, but has the byte 0x00 where no character can have it. "
        "Convert the file, for example with `iconv -f utf-16 -t utf-8`."
    )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.tsv` must be a file, but cannot be read"):
        read_lines(tmp_path / "none.tsv")
