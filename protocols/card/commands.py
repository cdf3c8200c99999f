"""Commands that cards, PSAMs and OBUs share: selecting, reading, authenticating, protected writing."""

from __future__ import annotations

from typing import Final

from protocols.card.apdu import LE_MAX, Command
from protocols.crypto.primitives import expect_length

MF: Final = 0x3F00
ETC_APPLICATION: Final = 0x1001
ETC_AID: Final = bytes.fromhex("A00000000386980701")
"""Application id of file 1001. Transit purse cards carry the same one."""

SFI_FREE_AREA: Final = 0x09
SFI_TOLL: Final = 0x12
SFI_CARD_FILE: Final = 0x15
SFI_HOLDER: Final = 0x16
SFI_TRANSACTIONS: Final = 0x18
SFI_STATIONS: Final = 0x19

RECORD_AA: Final = 0xAA
"""Id of the toll record, record number 1 of file 0019."""

MAC_BYTES: Final = 4


def select_id(file_id: int) -> Command:
    """SELECT by a 2-byte file id."""
    return Command(0x00, 0xA4, 0x00, 0x00, file_id.to_bytes(2, "big"), LE_MAX)


def select_name(name: bytes) -> Command:
    """SELECT by application id."""
    return Command(0x00, 0xA4, 0x04, 0x00, name, LE_MAX)


def read_binary(sfi: int, length: int, offset: int = 0) -> Command:
    """READ BINARY by short file id; `offset` below 256."""
    return Command(0x00, 0xB0, 0x80 | sfi, offset, le=length)


def read_current(offset: int, length: int) -> Command:
    """READ BINARY of the selected file, from a 15-bit `offset`."""
    return Command(0x00, 0xB0, offset >> 8 & 0x7F, offset & 0xFF, le=length)


def read_record(sfi: int, number: int, length: int) -> Command:
    """READ RECORD by number, 1 first; in a cyclic file 1 is the newest."""
    return Command(0x00, 0xB2, number, sfi << 3 | 0x04, le=length)


def get_response(length: int) -> Command:
    """Fetch what 61xx announced."""
    return Command(0x00, 0xC0, 0x00, 0x00, le=length)


def get_challenge(length: int) -> Command:
    """GET CHALLENGE of 4, 8 or (SM4) 16 bytes; good for the next protected command only."""
    return Command(0x00, 0x84, 0x00, 0x00, le=length)


def verify_pin(pin: bytes) -> Command:
    """VERIFY PIN. Six digits are usually three BCD bytes; never guess: a wrong coding costs a try."""
    return Command(0x00, 0x20, 0x00, 0x00, pin)


def external_authenticate(key_id: int, proof: bytes) -> Command:
    """EXTERNAL AUTHENTICATE with 8 bytes. Key 01 is the 3DES external key, 41 the SM4 one (agreed)."""
    return Command(0x00, 0x82, 0x00, key_id, expect_length("proof", proof, 8))


def update_protected(sfi: int, offset: int, data: bytes) -> Command:
    """UPDATE BINARY with line protection, still without its MAC: see `protected_header` and `with_mac`."""
    return Command(0x04, 0xD6, 0x80 | sfi, offset, data)


def protected_header(command: Command) -> bytes:
    """The 5 header bytes a line MAC covers: Lc already counts the MAC."""
    return bytes((command.cla, command.ins, command.p1, command.p2, len(command.data) + MAC_BYTES))


def with_mac(command: Command, mac: bytes) -> Command:
    """The command with its 4-byte line MAC after the data."""
    expect_length("mac", mac, MAC_BYTES)
    return Command(command.cla, command.ins, command.p1, command.p2, command.data + mac, command.le)
