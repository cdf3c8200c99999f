"""Commands and files of a PSAM: the module in lane or antenna that holds the terminal's root keys.

Data of 8070 and 801A list the factor nearest to the leaf first and the region last, while the PSAM derives from the
region down (verified for one real derivation). What makers do differently is in `psam_profiles`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from typing import Final

from protocols.card import layout
from protocols.card.apdu import Command
from protocols.card.commands import read_binary
from protocols.card.purse import PurchaseOpened
from protocols.codings import time_bytes
from protocols.crypto.algorithm import Algorithm
from protocols.crypto.keys import FACTOR_BYTES, uint
from protocols.crypto.primitives import expect_length
from protocols.errors import RemoteProtocolError
from protocols.fields import FieldText, Layout

PSAM_APPLICATION: Final = 0xDF01
"""The ETC application. A province may have a second one with a local purse."""

APPLICATION_BYTES: Final = (27, 25)
"""Lengths of file 0017, in the order to try them: a 25-byte file answers a longer read with its right length."""

TERMINAL_BYTES: Final = 6

AUTHORISATION_KEY: Final = 0x41
"""Key id of EXTERNAL AUTHENTICATE by which a centre authorises a PSAM: an SM4 key (one source)."""

AUTHORISATION_CHALLENGE_BYTES: Final = 8


class KeyKind(Enum):
    """Purpose of a root key."""

    PURCHASE = "purchase"
    LOAD = "load"
    TAC = "tac"
    MAINTENANCE = "maintenance"
    EXTERNAL_AUTH = "external_auth"
    VEHICLE = "vehicle"


@dataclass(frozen=True, slots=True)
class KeyUsage:
    """Key use that P1 and P2 of 801A ask for."""

    kind: KeyKind
    algorithm: Algorithm
    levels: int
    """Number of diversification factors that follow."""


class Crypt(Enum):
    """P1 of 80FA. Chained MACs (07, 03, 01) exist too; how they start is not known, so they are left out."""

    ENCRYPT = 0x00
    MAC = 0x05
    VEHICLE_MAC = 0x08
    """One source."""
    DECRYPT = 0x80


@dataclass(frozen=True, slots=True)
class SamPurchase:
    """Answer to 8070."""

    terminal_serial: int
    """The PSAM's counter; goes up with each use, not always by one."""
    mac1: bytes


@dataclass(frozen=True, slots=True)
class PsamIssue:
    """File 0015, 14 bytes."""

    serial: bytes
    """10 bytes BCD: network 2, number 8."""
    version: int
    key_type: int
    """00 3DES only, 04 SM4 too (agreed)."""
    issuer_free: bytes
    raw: bytes = field(repr=False)
    warnings: tuple[str, ...]

    def encode(self) -> bytes:
        """The 14 bytes."""
        return layout.PSAM_ISSUE.patch(self.raw, self)


@dataclass(frozen=True, slots=True)
class PsamApplication:
    """File DF01/0017, 25 or 27 bytes."""

    key_index: int
    issuer: bytes
    area: bytes
    """8 bytes; the first four twice are the region factor."""
    starts: date | None
    expires: date | None
    sm4_key_index: int | None
    """Only in the 27-byte form (one source)."""
    raw: bytes = field(repr=False)
    warnings: tuple[str, ...]

    def encode(self) -> bytes:
        """The file's bytes."""
        record = _application_layout(self.raw)
        return record.patch(self.raw, self)


def read_issue() -> Command:
    """READ BINARY 0015 of the MF."""
    return read_binary(0x15, layout.PSAM_ISSUE.size)


def read_terminal() -> Command:
    """READ BINARY 0016 of the MF: the 6-byte terminal number."""
    return read_binary(0x16, TERMINAL_BYTES)


def read_application(length: int = 25) -> Command:
    """READ BINARY 0017 of DF01, 25 or 27 bytes."""
    return read_binary(0x17, length)


def decode_issue(data: bytes) -> PsamIssue:
    """File 0015. Raises RemoteProtocolError for any length but 14."""
    record = layout.PSAM_ISSUE
    return PsamIssue(raw=bytes(data), warnings=record.warnings(data), **record.parse(data))


def decode_application(data: bytes) -> PsamApplication:
    """File 0017. Raises RemoteProtocolError for any length but 25 and 27."""
    record = _application_layout(data)
    values = {"sm4_key_index": None} | record.parse(data)
    values.pop("reserved", None)
    return PsamApplication(raw=bytes(data), warnings=record.warnings(data), **values)


def authorisation_factors(issue: PsamIssue, application: PsamApplication) -> tuple[bytes, bytes]:
    """Factors of the key with which a centre authorises a PSAM, first factor first (one source).

    The proof over the PSAM's challenge is `external_auth` with that key, for EXTERNAL AUTHENTICATE with
    `AUTHORISATION_KEY`.
    """
    return application.area[:4] * 2, issue.serial[2:]


def decode_terminal(data: bytes) -> bytes:
    """File 0016. Raises RemoteProtocolError for any length but 6."""
    if len(data) != TERMINAL_BYTES:
        raise RemoteProtocolError(f"{len(data)} bytes, {TERMINAL_BYTES} wanted", field="PSAM file 0016", offset=0)
    return data


def describe_issue(data: bytes, *, unmask: bool = False) -> list[FieldText]:
    """Every field of a PSAM file 0015. Never raises."""
    return layout.PSAM_ISSUE.describe(data, unmask=unmask)


def describe_application(data: bytes, *, unmask: bool = False) -> list[FieldText]:
    """Every field of a PSAM file 0017. Never raises."""
    return _application_layout(data).describe(data, unmask=unmask)


def init_sam_for_purchase(
    opened: PurchaseOpened, *, amount_fen: int, trade_type: int, time: str, inner_number: bytes, region: bytes | None
) -> Command:
    """INIT_SAM_FOR_PURCHASE. `inner_number` and `region` are 8-byte factors; without `region` one level is used."""
    data = (
        opened.card_random
        + uint(opened.offline_sequence, 2, "offline_sequence")
        + uint(amount_fen, 4, "amount_fen")
        + uint(trade_type, 1, "trade_type")
        + time_bytes(time)
        + bytes((opened.key_version, opened.algorithm))
        + expect_length("inner_number", inner_number, FACTOR_BYTES)
    )
    if region is not None:
        data += expect_length("region", region, FACTOR_BYTES)
    return Command(0x80, 0x70, 0x00, 0x00, data, 8)


def parse_sam_purchase(data: bytes) -> SamPurchase:
    """Answer to `init_sam_for_purchase`. Raises RemoteProtocolError for any length but 8."""
    if len(data) != 8:
        raise RemoteProtocolError(f"{len(data)} bytes, 8 wanted", field="INIT_SAM_FOR_PURCHASE answer", offset=0)
    return SamPurchase(terminal_serial=int.from_bytes(data[:4], "big"), mac1=data[4:])


def credit_sam_for_purchase(mac2: bytes) -> Command:
    """CREDIT_SAM_FOR_PURCHASE: have the PSAM check the card's MAC2. 9302 when it is wrong."""
    return Command(0x80, 0x72, 0x00, 0x00, expect_length("mac2", mac2, 4))


def crypt(function: Crypt, data: bytes, answer_bytes: int) -> Command:
    """80FA over data as its function wants it: whole blocks, or an IV and padded blocks for a MAC."""
    return Command(0x80, 0xFA, function.value, 0x00, data, answer_bytes)


def _application_layout(data: bytes) -> Layout:
    longer = layout.PSAM_APPLICATION_LONG
    return longer if len(data) == longer.size else layout.PSAM_APPLICATION_SHORT
