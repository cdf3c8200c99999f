"""Text files that people write or export: always UTF-8, and told apart from GBK, which Chinese Windows writes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

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
