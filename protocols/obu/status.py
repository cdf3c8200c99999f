"""The two status bytes an OBU reports (agreed), and how the device type changes their meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.fields import FieldText, unreadable

# Device types of pcrsu-v3 B2.
TWO_PIECE: Final = 1
ONE_PIECE: Final = 2
CPC_CARD: Final = 3

STATUS_BYTES: Final = 2

_NO_CARD = 0x80
_CONTACTLESS = 0x20
_LOGIC_CARD = 0x10
_CARD_ERROR = 0x08
_LOCKED = 0x04
_TAMPERED = 0x02
_BATTERY_LOW = 0x01

_BATTERY_LOW_CPC = 0x80
"""A CPC card has no slot; its bit 7 means the battery (one source)."""

_MEANINGS: Final = (
    (_NO_CARD, "no card", "card in the tag"),
    (_CONTACTLESS, "contactless card interface", "contact card interface"),
    (_LOGIC_CARD, "logic-encrypted card", "CPU card"),
    (_CARD_ERROR, "card error", "card normal"),
    (_LOCKED, "locked", "not locked"),
    (_TAMPERED, "tampered: taken off the windscreen", "not tampered"),
    (_BATTERY_LOW, "battery low", "battery normal"),
)


@dataclass(frozen=True, slots=True)
class ObuStatus:
    """Status of an OBU. Card flags are None where the device has no slot (one-piece OBU, CPC card)."""

    card_present: bool | None
    contactless: bool | None
    logic_card: bool | None
    """True for a Mifare card, which cannot purchase; False for a CPU card."""
    card_error: bool | None
    locked: bool | None
    """None for a CPC card."""
    tampered: bool | None
    """First byte only. A tag is also to be taken as removed when its system file's mount flag is 00."""
    battery_low: bool
    mount_flag: int
    """Second byte: byte 27 of the system file. Real good tags show 01; no source explains other values."""
    raw: bytes

    def encode(self) -> bytes:
        """The two bytes."""
        return self.raw


def decode_obu_status(data: bytes, device_type: int = TWO_PIECE) -> ObuStatus:
    """Two status bytes of a device of this pcrsu-v3 type (1 two-piece, 2 one-piece, 3 CPC card)."""
    if len(data) != STATUS_BYTES:
        raise RemoteProtocolError(f"{len(data)} bytes, {STATUS_BYTES} wanted", field="OBU status", offset=len(data))
    bits, mount_flag = data
    slot = device_type not in (ONE_PIECE, CPC_CARD)
    cpc = device_type == CPC_CARD
    return ObuStatus(
        card_present=not bits & _NO_CARD if slot else None,
        contactless=bool(bits & _CONTACTLESS) if slot else None,
        logic_card=bool(bits & _LOGIC_CARD) if slot else None,
        card_error=bool(bits & _CARD_ERROR) if slot else None,
        locked=None if cpc else bool(bits & _LOCKED),
        tampered=None if cpc else bool(bits & _TAMPERED),
        battery_low=bool(bits & (_BATTERY_LOW_CPC if cpc else _BATTERY_LOW)),
        mount_flag=mount_flag,
        raw=bytes(data),
    )


def obu_status_new(
    device_type: int = TWO_PIECE,
    *,
    card_present: bool = True,
    contactless: bool = True,
    card_error: bool = False,
    locked: bool = False,
    tampered: bool = False,
    battery_low: bool = False,
    mount_flag: int = 1,
) -> bytes:
    """The two status bytes for these facts; facts that the device has no bit for are left out."""
    if device_type == CPC_CARD:
        return bytes((_BATTERY_LOW_CPC if battery_low else 0, _byte(mount_flag)))
    bits = _LOCKED * locked | _TAMPERED * tampered | _BATTERY_LOW * battery_low
    if device_type != ONE_PIECE:
        bits |= _NO_CARD * (not card_present) | _CONTACTLESS * contactless | _CARD_ERROR * card_error
    return bytes((bits, _byte(mount_flag)))


def obu_status_words(bits: int, device_type: int = TWO_PIECE) -> list[str]:
    """Words for the bits of the first byte that mean something for this device."""
    if device_type == CPC_CARD:
        return ["battery low" if bits & _BATTERY_LOW_CPC else "battery normal"]
    relevant = _MEANINGS if device_type != ONE_PIECE else _MEANINGS[4:]
    return [yes if bits & mask else no for mask, yes, no in relevant]


def describe_obu_status(data: bytes, device_type: int = TWO_PIECE) -> list[FieldText]:
    """The bits that mean something for this device, then the second byte. Never raises."""
    if len(data) != STATUS_BYTES:
        return unreadable(data, "OBU status", f"{len(data)} bytes, {STATUS_BYTES} wanted", unmask=True)
    bits, mount_flag = data
    words = obu_status_words(bits, device_type)
    return [
        FieldText(0, 1, "obu_status", f"{bits:02X}", ", ".join(words)),
        FieldText(1, 1, "mount_flag", f"{mount_flag:02X}", "byte 27 of the system file; 01 on tags in order"),
    ]


def _byte(value: int) -> int:
    if not 0 <= value <= 0xFF:
        raise LocalProtocolError(f"{value} is no byte", field="mount_flag", offset=1)
    return value
