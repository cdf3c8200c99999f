"""Text files that people write or export: always UTF-8, and told apart from GBK, which Chinese Windows writes."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

from gateway.texts.catalogue import Words

_NOT_IN_TEXT: Final = frozenset(range(0x20)) - frozenset(b"\t\n\f\r") | {0x7F}
"""Bytes that no text has, in either encoding."""

SAMPLE_BYTES: Final = 64 * 1024
"""Bytes that are enough to tell GBK from what is no text."""


class NotText(ValueError):
    """Refusal of bytes that are no text in UTF-8: names problem and cure."""

    def __init__(self, error: UnicodeDecodeError, *, looks_like_gbk: bool) -> None:
        self.looks_like_gbk = looks_like_gbk
        self.problem = Words("text.looks-like-gbk") if looks_like_gbk else Words("text.not-utf-8", at=error.start)
        self.cure = Words("text.save-as-utf-8")
        super().__init__(f"{self.problem}; {self.cure}")


def text_of(data: bytes) -> str:
    """Text of a file's bytes, without the mark that Windows puts before it. Raises `NotText`."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotText(error, looks_like_gbk=_looks_like_gbk(data)) from error


LINE_CHARS_MAX: Final = 100_000
"""Characters of one line of a table; a file without ends of lines, or a device, is none."""


def lines_of(stream: TextIO) -> Iterator[str]:
    """Lines of a table, for a reader of CSV; raises its error for one that does not end."""
    while line := stream.readline(LINE_CHARS_MAX + 1):
        if len(line) > LINE_CHARS_MAX:
            raise csv.Error(f"a line has more than {LINE_CHARS_MAX} characters")
        yield line


def not_text(path: Path, error: UnicodeDecodeError) -> NotText:
    """Refusal of a file whose reading, line by line, gave this error."""
    with path.open("rb") as stream:
        return NotText(error, looks_like_gbk=_looks_like_gbk(stream.read(SAMPLE_BYTES)))


def _looks_like_gbk(data: bytes) -> bool:
    """True for bytes that are GBK and hold nothing but text."""
    sample = data[:SAMPLE_BYTES]
    try:
        sample.decode("gbk")
    except UnicodeDecodeError as error:
        if error.end < len(sample):  # not just a character that the sample cuts in two
            return False
    return not _NOT_IN_TEXT.intersection(sample)
