"""Answer to SELECT, and the public file of purse cards that are no ETC cards.

Nothing may depend on an FCI: some cards give none, and some fill the template A5 with bytes that are no TLV (real).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from protocols.card import layout
from protocols.fields import FieldText, is_fill

FCI: Final = 0x6F
NAME: Final = 0x84
PROPRIETARY: Final = 0xA5
DIRECTORY_SFI: Final = 0x88
VERSION: Final = 0x9F08
ISSUER_DATA: Final = 0x9F0C

_LONG_TAG = 0x1F
_MORE = 0x80


@dataclass(frozen=True, slots=True)
class SelectedFile:
    """Answer to SELECT, as far as it tells anything."""

    name: bytes
    """Application id or directory name; empty when it is not there."""
    directory_sfi: int | None
    version: int | None
    issuer_data: bytes = field(repr=False)
    """Tag 9F0C: a copy of file 0015 on ETC cards, the public file of 30 bytes on transit cards."""
    proprietary: bytes = field(repr=False)
    """Content of A5 as it stands."""


def decode_fci(data: bytes) -> SelectedFile:
    """Answer to SELECT. Never raises: what is no TLV tells nothing."""
    outer = dict(_tags(data))
    inner = dict(_tags(outer.get(FCI, b"")))
    proprietary = inner.get(PROPRIETARY, b"")
    known = dict(_tags(proprietary))
    return SelectedFile(
        name=inner.get(NAME, b""),
        directory_sfi=_byte(known.get(DIRECTORY_SFI)),
        version=_byte(known.get(VERSION)),
        issuer_data=known.get(ISSUER_DATA, b""),
        proprietary=proprietary,
    )


@dataclass(frozen=True, slots=True)
class TransitFile:
    """Public file of a transit or other purse card, 30 bytes: file 0015 of PBOC."""

    issuer: bytes
    application_type: int
    version: int
    serial: bytes = field(repr=False)
    starts: date | None
    expires: date | None
    free_pair: bytes
    raw: bytes = field(repr=False)
    warnings: tuple[str, ...]

    def encode(self) -> bytes:
        """The file's 30 bytes."""
        return layout.TRANSIT_FILE.patch(self.raw, self)


def decode_transit_file(data: bytes) -> TransitFile:
    """Public file of a purse card. Raises RemoteProtocolError for any length but 30; all else is a warning."""
    return TransitFile(raw=bytes(data), warnings=layout.TRANSIT_FILE.warnings(data), **layout.TRANSIT_FILE.parse(data))


def describe_transit_file(data: bytes, *, unmask: bool = False) -> list[FieldText]:
    """Every field of a purse card's public file. Never raises."""
    return layout.TRANSIT_FILE.describe(data, unmask=unmask)


def _byte(content: bytes | None) -> int | None:
    return content[0] if content is not None and len(content) == 1 else None


def _tags(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tags and contents as far as they are TLV with lengths below 128, as those of these cards are."""
    at = 0
    while len(data) - at >= 2 and not is_fill(data[at:]):
        size = 2 if data[at] & _LONG_TAG == _LONG_TAG else 1
        tag, rest = int.from_bytes(data[at : at + size], "big"), data[at + size :]
        if not rest or rest[0] >= _MORE or rest[0] >= len(rest):
            return
        yield tag, rest[1 : 1 + rest[0]]
        at += size + 1 + rest[0]
