"""Japanese My Number cards: what a reader may ask one without its PIN, and how it answers.

A wrong PIN costs one of a few tries, and a blocked one is an errand to an office. So there is a question for the tries
left, which costs nothing, and nothing here repeats by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from protocols.card.apdu import Command
from protocols.errors import RemoteProtocolError
from protocols.fields import Label

JPKI: Final = bytes.fromhex("D392F000260100000001")

APPLICATIONS: Final[Mapping[bytes, Label]] = MappingProxyType(
    {
        JPKI: Label("公的个人认证(JPKI)", "JPKI certificates"),
        bytes.fromhex("D3921000310001010408"): Label("券面事项输入辅助", "text input support"),
        bytes.fromhex("D3921000310001010402"): Label("券面事项确认", "visual confirmation"),
        bytes.fromhex("D3921000310001010100"): Label("住民基本台账", "resident register"),  # one source
    }
)
"""Applications by their ids."""

ATR_HEAD: Final = bytes.fromhex("3B888001")
"""Beginning of the answer to reset (one source)."""

AUTH_PIN: Final = 0x0018
SIGN_PIN: Final = 0x001B
TOKEN_INFO: Final = 0x0006
AUTH_CERTIFICATE: Final = 0x000A

_BLOCKED: Final = frozenset({0x63C0, 0x6983, 0x6984})
_NO_PIN_FILE: Final = 0x6986

_SEQUENCE = 0x30
_LONG_FORM = 0x80


def select_application(aid: bytes) -> Command:
    """SELECT by name, without an FCI."""
    return Command(0x00, 0xA4, 0x04, 0x0C, aid)


def select_file(file_id: int) -> Command:
    """SELECT a file of the application, without an FCI."""
    return Command(0x00, 0xA4, 0x02, 0x0C, file_id.to_bytes(2, "big"))


def ask_tries() -> Command:
    """VERIFY without a PIN: the tries left of the selected PIN file. Costs none."""
    return Command(0x00, 0x20, 0x00, 0x80)


def tries_left(sw: int) -> int | None:
    """Tries left by the answer to `ask_tries`, 0 when it is blocked; None when the selected file is no PIN.

    Raises RemoteProtocolError for an answer that no source lists.
    """
    if sw in _BLOCKED:
        return 0
    if sw >> 4 == 0x63C:
        return sw & 0xF
    if sw == _NO_PIN_FILE:
        return None
    raise RemoteProtocolError(f"{sw:04X} tells no tries", field="SW", hint="do not verify a PIN on this card")


def certificate_bytes(head: bytes) -> int:
    """Length of a DER certificate by its first 4 bytes. Raises RemoteProtocolError when it is none."""
    if len(head) < 4 or head[0] != _SEQUENCE:
        raise RemoteProtocolError("no DER certificate", field="certificate", offset=0)
    if head[1] < _LONG_FORM:
        return 2 + head[1]
    size = head[1] & ~_LONG_FORM
    if size not in (1, 2):
        raise RemoteProtocolError(f"length of {size} bytes", field="certificate", offset=1)
    return 2 + size + int.from_bytes(head[2 : 2 + size], "big")
