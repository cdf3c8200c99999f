"""The electronic purse of an ETC card: purchase, its proof, load.

Order of a composite purchase: 8050 opens it, 80DC puts records into a cache, 8054 debits and writes the cache, all or
nothing. When the answer to 8054 was lost, 805A with the opening sequence + 1 tells whether the card debited.
Amounts are fen; times are 14 digits YYYYMMDDhhmmss and must be those the PSAM made MAC1 with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from protocols.card.apdu import Command
from protocols.card.codes import TradeType
from protocols.codings import time_bytes
from protocols.crypto.algorithm import Algorithm
from protocols.crypto.keys import uint
from protocols.crypto.primitives import expect_length
from protocols.errors import RemoteProtocolError

SEQUENCE_MAX: Final = 0xFFFF
"""The card's counters are 16 bits and never wrap: a full one ends the card's life."""

_ALGORITHM_OFFSET_PURCHASE = 10
_ALGORITHM_OFFSET_LOAD = 7


@dataclass(frozen=True, slots=True)
class PurchaseOpened:
    """Answer to 8050 for a purchase, 15 bytes."""

    balance_raw: int
    """Before the purchase; unsigned 32 bits, see `signed_balance`."""
    offline_sequence: int
    """Value before this purchase; the proof is asked with this + 1."""
    overdraft_fen: int
    key_version: int
    algorithm: Algorithm
    card_random: bytes = field(repr=False)

    @property
    def proof_sequence(self) -> int:
        """Sequence under which this purchase is found afterwards, in file 0018 and by 805A (agreed)."""
        return self.offline_sequence + 1

    def encode(self) -> bytes:
        """The 15 bytes."""
        return (
            uint(self.balance_raw, 4, "balance_raw")
            + uint(self.offline_sequence, 2, "offline_sequence")
            + uint(self.overdraft_fen, 3, "overdraft_fen")
            + bytes((self.key_version, self.algorithm))
            + expect_length("card_random", self.card_random, 4)
        )


@dataclass(frozen=True, slots=True)
class DebitProof:
    """TAC and MAC2 of a purchase. 8054 answers TAC | MAC2, 805A answers MAC | TAC: never mix them up."""

    tac: bytes
    mac2: bytes


@dataclass(frozen=True, slots=True)
class LoadOpened:
    """Answer to 8050 for a load, 16 bytes."""

    old_balance: int
    online_sequence: int
    key_version: int
    algorithm: Algorithm
    card_random: bytes = field(repr=False)
    mac1: bytes

    def encode(self) -> bytes:
        """The 16 bytes."""
        return (
            uint(self.old_balance, 4, "old_balance")
            + uint(self.online_sequence, 2, "online_sequence")
            + bytes((self.key_version, self.algorithm))
            + expect_length("card_random", self.card_random, 4)
            + expect_length("mac1", self.mac1, 4)
        )


def get_balance() -> Command:
    """GET BALANCE of the purse."""
    return Command(0x80, 0x5C, 0x00, 0x02, le=4)


def parse_balance(data: bytes) -> int:
    """Unsigned 32 bits; on charge cards a counter, see `signed_balance`."""
    return int.from_bytes(_exactly(data, 4, "balance"), "big")


def signed_balance(balance_raw: int) -> int:
    """Signed value of a charge card's counter: two's complement of 32 bits (verified on a real card)."""
    return balance_raw - (1 << 32) if balance_raw >> 31 else balance_raw


def init_purchase(key_index: int, amount_fen: int, terminal: bytes, *, composite: bool = True) -> Command:
    """INITIALIZE FOR (CAPP) PURCHASE. `terminal`: 6 bytes of PSAM file 0016. Zero amounts are legal."""
    data = _purse_request(key_index, amount_fen, terminal)
    return Command(0x80, 0x50, 0x03 if composite else 0x01, 0x02, data, 15)


def parse_purchase_opened(data: bytes) -> PurchaseOpened:
    """Answer to `init_purchase`. Raises RemoteProtocolError for another length or an unknown algorithm."""
    _exactly(data, 15, "INITIALIZE FOR PURCHASE answer")
    return PurchaseOpened(
        balance_raw=int.from_bytes(data[0:4], "big"),
        offline_sequence=int.from_bytes(data[4:6], "big"),
        overdraft_fen=int.from_bytes(data[6:9], "big"),
        key_version=data[9],
        algorithm=_algorithm(data, _ALGORITHM_OFFSET_PURCHASE),
        card_random=data[11:15],
    )


def update_cache(record_id: int, record: bytes, *, sfi: int = 0x19) -> Command:
    """UPDATE CAPP DATA CACHE: `record` as a whole, its 3-byte head included, under its id (AA, C1, ...)."""
    return Command(0x80, 0xDC, record_id, sfi << 3, record)


def debit(terminal_serial: int, time: str, mac1: bytes) -> Command:
    """DEBIT FOR (CAPP) PURCHASE. `terminal_serial` and `mac1` come from the PSAM."""
    data = uint(terminal_serial, 4, "terminal_serial") + time_bytes(time) + expect_length("mac1", mac1, 4)
    return Command(0x80, 0x54, 0x01, 0x00, data, 8)


def parse_debit(data: bytes) -> DebitProof:
    """Answer to `debit`: TAC, then MAC2."""
    _exactly(data, 8, "DEBIT answer")
    return DebitProof(tac=data[:4], mac2=data[4:])


def transaction_prove(sequence: int, trade_type: int = TradeType.COMPOSITE) -> Command:
    """GET TRANSACTION PROVE for the sequence a purchase ended with. 9406 means: that one did not happen (agreed)."""
    return Command(0x80, 0x5A, 0x00, trade_type, uint(sequence, 2, "sequence"), 8)


def parse_transaction_prove(data: bytes) -> DebitProof:
    """Answer to `transaction_prove`: MAC, then TAC (agreed)."""
    _exactly(data, 8, "GET TRANSACTION PROVE answer")
    return DebitProof(tac=data[4:], mac2=data[:4])


def init_load(key_index: int, amount_fen: int, terminal: bytes) -> Command:
    """INITIALIZE FOR LOAD. Needs a verified PIN."""
    return Command(0x80, 0x50, 0x00, 0x02, _purse_request(key_index, amount_fen, terminal), 16)


def parse_load_opened(data: bytes) -> LoadOpened:
    """Answer to `init_load`. Raises RemoteProtocolError for another length or an unknown algorithm."""
    _exactly(data, 16, "INITIALIZE FOR LOAD answer")
    return LoadOpened(
        old_balance=int.from_bytes(data[0:4], "big"),
        online_sequence=int.from_bytes(data[4:6], "big"),
        key_version=data[6],
        algorithm=_algorithm(data, _ALGORITHM_OFFSET_LOAD),
        card_random=data[8:12],
        mac1=data[12:16],
    )


def credit_load(time: str, mac2: bytes) -> Command:
    """CREDIT FOR LOAD with the host's time and MAC2."""
    return Command(0x80, 0x52, 0x00, 0x00, time_bytes(time) + expect_length("mac2", mac2, 4), 4)


def parse_credit_load(data: bytes) -> bytes:
    """Answer to `credit_load`: the 4-byte TAC."""
    return _exactly(data, 4, "CREDIT FOR LOAD answer")


def _purse_request(key_index: int, amount_fen: int, terminal: bytes) -> bytes:
    return uint(key_index, 1, "key_index") + uint(amount_fen, 4, "amount_fen") + expect_length("terminal", terminal, 6)


def _exactly(data: bytes, length: int, name: str) -> bytes:
    if len(data) != length:
        raise RemoteProtocolError(f"{len(data)} bytes, {length} wanted", field=name, offset=min(len(data), length))
    return data


def _algorithm(data: bytes, offset: int) -> Algorithm:
    try:
        return Algorithm(data[offset])
    except ValueError as error:
        raise RemoteProtocolError(
            f"unknown algorithm {data[offset]:02X}",
            field="algorithm",
            offset=offset,
            hint="known: 00 3DES, 04 SM4",
        ) from error
