"""Commands that cards, PSAMs and OBUs share: selecting, reading, authenticating, protected writing."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from protocols.card.apdu import LE_MAX, Command
from protocols.crypto.primitives import expect_length
from protocols.errors import LocalProtocolError
from protocols.fields import Label

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


class PinCoding(Enum):
    """Coding of a PIN's digits. A card does not tell its own."""

    BCD = "bcd"
    """Two digits a byte: the usual one."""
    ASCII = "ascii"


def pin_bytes(digits: str, coding: PinCoding = PinCoding.BCD) -> bytes:
    """PIN as VERIFY wants it. Raises LocalProtocolError for what is no PIN, without showing it."""
    if not (digits.isascii() and digits.isdigit() and len(digits) % 2 == 0):
        raise LocalProtocolError(f"{len(digits)} characters are no even number of digits", field="PIN")
    return bytes.fromhex(digits) if coding is PinCoding.BCD else digits.encode("ascii")


def verify_pin(pin: bytes) -> Command:
    """VERIFY PIN. Never try another coding unasked: a wrong one costs a try."""
    return Command(0x00, 0x20, 0x00, 0x00, pin)


def external_authenticate(key_id: int, proof: bytes) -> Command:
    """EXTERNAL AUTHENTICATE with 8 bytes. Key 01 is the 3DES external key, 41 the SM4 one (agreed)."""
    return Command(0x00, 0x82, 0x00, key_id, expect_length("proof", proof, 8))


def internal_authenticate(key_id: int, challenge: bytes) -> Command:
    """INTERNAL AUTHENTICATE: have the chip encrypt 8 bytes (one source)."""
    return Command(0x00, 0x88, 0x00, key_id, expect_length("challenge", challenge, 8), 8)


def update_binary(sfi: int, offset: int, data: bytes) -> Command:
    """UPDATE BINARY without protection: free files, or after an external authentication."""
    return Command(0x00, 0xD6, 0x80 | sfi, offset, data)


def update_record(sfi: int, number: int, record: bytes) -> Command:
    """UPDATE RECORD by number."""
    return Command(0x00, 0xDC, number, sfi << 3 | 0x04, record)


def append_record(record: bytes) -> Command:
    """APPEND RECORD to the selected file."""
    return Command(0x00, 0xE2, 0x00, 0x00, record)


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


COMMAND_NAMES: Final[Mapping[tuple[int, int], Label]] = MappingProxyType(
    {
        (0x00, 0x20): Label("校验PIN", "VERIFY PIN"),
        (0x00, 0x82): Label("外部认证", "EXTERNAL AUTHENTICATE"),
        (0x00, 0x84): Label("取随机数", "GET CHALLENGE"),
        (0x00, 0x88): Label("内部认证", "INTERNAL AUTHENTICATE"),
        (0x00, 0xA4): Label("选择文件", "SELECT"),
        (0x00, 0xB0): Label("读二进制文件", "READ BINARY"),
        (0x00, 0xB2): Label("读记录文件", "READ RECORD"),
        (0x00, 0xB4): Label("加密读车辆信息", "READ vehicle file encrypted"),
        (0x00, 0xC0): Label("取响应数据", "GET RESPONSE"),
        (0x00, 0xD6): Label("写二进制文件", "UPDATE BINARY"),
        (0x04, 0xD6): Label("带MAC写二进制文件", "UPDATE BINARY with MAC"),
        (0x00, 0xDC): Label("写记录文件", "UPDATE RECORD"),
        (0x04, 0xDC): Label("带MAC写记录文件", "UPDATE RECORD with MAC"),
        (0x00, 0xE2): Label("追加记录", "APPEND RECORD"),
        (0x80, 0x1A): Label("密钥分散", "INIT_FOR_DESCRYPT"),
        (0x80, 0x50): Label("消费或圈存初始化", "INITIALIZE FOR PURCHASE or LOAD"),
        (0x80, 0x52): Label("圈存", "CREDIT FOR LOAD"),
        (0x80, 0x54): Label("消费", "DEBIT FOR PURCHASE"),
        (0x80, 0x5A): Label("取交易认证", "GET TRANSACTION PROVE"),
        (0x80, 0x5C): Label("读余额", "GET BALANCE"),
        (0x80, 0x5E): Label("重装PIN", "RELOAD PIN"),
        (0x80, 0x70): Label("PSAM消费初始化", "INIT_SAM_FOR_PURCHASE"),
        (0x80, 0x72): Label("PSAM校验MAC2", "CREDIT_SAM_FOR_PURCHASE"),
        (0x80, 0xCA): Label("取数据", "GET DATA"),
        (0x80, 0xDC): Label("更新复合消费缓存", "UPDATE CAPP DATA CACHE"),
        (0x80, 0xE0): Label("建文件", "CREATE FILE"),
        (0x80, 0xEA): Label("建文件结束", "CREATE END"),
        (0x80, 0xF6): Label("读OBU号", "READ OBU id"),
        (0x80, 0xFA): Label("加解密", "DES CRYPT"),
        (0x84, 0x18): Label("应用解锁", "APPLICATION UNBLOCK"),
        (0x84, 0x1E): Label("应用锁定", "APPLICATION BLOCK"),
        (0x84, 0xD4): Label("写密钥", "WRITE KEY"),
    }
)
"""Commands of cards, PSAMs and ESAMs by class and instruction."""


def command_name(command: Command) -> Label | None:
    """Name of a command, None for one that nobody lists."""
    return COMMAND_NAMES.get((command.cla, command.ins))
