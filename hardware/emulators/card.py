"""An emulated ETC user card: files, purse, composite purchase, load, in 3DES and SM4.

Theory of operation. What survives power loss stands in one frozen `Stored` value, and a debit or a load replaces it by
a new one in a single assignment after every check has passed: balance, counter, file 0019, log and proof change
together or not at all. Everything else (directory, PIN state, open purchase, challenge) is volatile.

    idle --8050--> open --80DC--> open --8054 with the right MAC1--> idle, debited
                    |  a wrong MAC1 (9302), a new 8050, SELECT of a directory or a reset end it without a debit

Left out, because only card factories use it: creating files, writing keys, reloading the PIN, INTERNAL AUTHENTICATE.
Those answer 6D00. What no source says about a refusal is marked inferred.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from enum import Enum
from types import MappingProxyType
from typing import Final

from hardware.emulators.chip import (
    SW_BLOCKED,
    SW_NO_CURRENT_FILE,
    SW_NO_REFERENCE,
    SW_TRIES,
    SW_WRONG_LE,
    SW_WRONG_P1P2,
    TRIES_MAX,
    Chip,
    Instruction,
    InstructionTable,
    RandomSource,
    Refused,
    file_address,
    read_part,
    write_part,
)
from hardware.emulators.issuers import issuing_region
from hardware.emulators.test_keys import LeafKeys
from protocols.card import (
    CardFile,
    TransactionLog,
    apdu,
    card_file_new,
    decode_card_file,
    decode_transaction_log,
    signed_balance,
)
from protocols.card.apdu import LE_MAX, Command
from protocols.card.codes import CardType, TradeType
from protocols.card.commands import (
    ETC_AID,
    ETC_APPLICATION,
    MF,
    RECORD_AA,
    SFI_CARD_FILE,
    SFI_FREE_AREA,
    SFI_HOLDER,
    SFI_STATIONS,
    SFI_TOLL,
    SFI_TRANSACTIONS,
)
from protocols.card.files import CARD_FILE_LENGTHS, HOLDER_BYTES
from protocols.card.psam import KeyKind
from protocols.card.purse import SEQUENCE_MAX, DebitProof, LoadOpened, PurchaseOpened
from protocols.crypto import (
    Algorithm,
    Trade,
    load_mac1,
    load_mac2,
    load_session_key,
    load_tac,
    mac1,
    mac2,
    session_key,
    tac,
)

DIRECTORY_NAME: Final = b"1PAY.SYS.DDF01"
FCI_MF: Final = bytes.fromhex("6F15840E") + DIRECTORY_NAME + bytes.fromhex("A503880101")

PIN_DEFAULT: Final = bytes.fromhex("888888")
"""Six digits as three BCD bytes: the usual PIN of test cards."""

SFI_PURSE: Final = 0x02
SFI_FLAG_STATIONS: Final = 0x08

TRANSACTIONS_MAX: Final = 10
"""Records of the cyclic file 0018; the oldest gives way."""

BALANCE_MODULUS: Final = 1 << 32

SW_MEMORY: Final = 0x6581
SW_WRONG_FILE: Final = 0x6981
SW_WRONG_DATA: Final = 0x6A80
SW_APPLICATION_BLOCKED: Final = 0x6A81
SW_NO_RECORD: Final = 0x6A83
SW_LIMIT: Final = 0x9301
SW_LOCKED_FOR_EVER: Final = 0x9303
SW_COUNTER_FULL: Final = 0x9402
SW_KEY_INDEX: Final = 0x9403

RECORD_SIZES_NEW: Final = MappingProxyType(
    {0xAA: 43, 0xB1: 43, 0xB2: 43, 0xB3: 43, 0xB4: 43, 0xB5: 43, 0xC1: 63, 0xC2: 63, 0xD1: 96, 0xD2: 96}
)
"""Records of file 0019, id to total length, in record order, on cards of version 40 and later."""

RECORD_SIZES_OLD: Final = MappingProxyType({0xAA: 43, 0x44: 60})


class Fci(Enum):
    """Answer to SELECT of the ETC application. Card makers differ; nobody may depend on it."""

    COPY = "copy"
    """Version and a copy of file 0015."""
    MINIMAL = "minimal"
    """The application id only."""
    RAW = "raw"
    """50 bytes that are no TLV where TLV should be, as a real card has it."""
    NONE = "none"
    """Nothing but the status word."""


class Block(Enum):
    """State of the application: blocked by the issuer or not."""

    NONE = "none"
    TEMPORARY = "temporary"
    PERMANENT = "permanent"


@dataclass(frozen=True, slots=True)
class Proof:
    """Answer to GET TRANSACTION PROVE for the last transaction of one type."""

    sequence: int
    proof: DebitProof


@dataclass(frozen=True, slots=True)
class Stored:
    """State of a card that survives power loss. Replaced as a whole, never changed in place."""

    balance_raw: int
    offline_sequence: int
    online_sequence: int
    files: Mapping[int, bytes]
    """Transparent files by short id."""
    records: Mapping[int, bytes]
    """Records of file 0019 by id, in record order."""
    log: tuple[bytes, ...] = ()
    """File 0018, newest first."""
    proofs: Mapping[int, Proof] = field(default_factory=dict)
    """Proofs by transaction type."""
    pin_tries: int = TRIES_MAX
    auth_tries: int = TRIES_MAX
    block: Block = Block.NONE
    unreadable: frozenset[int] = frozenset()
    """Short ids of files whose memory has failed."""


@dataclass(frozen=True, slots=True)
class OpenPurchase:
    """Purchase between 8050 and 8054."""

    trade: Trade
    algorithm: Algorithm
    card_random: bytes
    cache: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class OpenLoad:
    """Load between 8050 and 8052."""

    trade: Trade
    algorithm: Algorithm
    session: bytes


class UserCard(Chip):
    """One ETC card. `process` takes a command APDU and returns the response APDU; `reset` is power off and on."""

    def __init__(
        self,
        *,
        card_file: bytes,
        balance_raw: int,
        random: RandomSource,
        station: bytes | None = None,
        offline_sequence: int = 0,
        online_sequence: int = 0,
        algorithms: frozenset[Algorithm] | None = None,
        holder: bytes = bytes(HOLDER_BYTES),
        holder_in_application: bool = True,
        pin: bytes = PIN_DEFAULT,
        fci: Fci = Fci.COPY,
        levels: int = 2,
        t0: bool = False,
    ) -> None:
        """`card_file`: 0015, 43 or 50 bytes; its numbers diversify the keys once and for all.

        `algorithms`: key sets on the card; default 3DES, and SM4 too from version 50. `levels`: 2, or 1 for a card
        whose keys are not diversified by region. `station`: record AA of file 0019, default never written.
        """
        super().__init__(random=random, t0=t0)
        decoded = decode_card_file(card_file)
        own = decoded.algorithm
        self._card_type = decoded.card_type
        self._line_algorithm = own
        self._algorithms = algorithms if algorithms is not None else frozenset({Algorithm.DES3, own})
        self._keys = LeafKeys((decoded.region_factor, decoded.inner_number)[-levels:])
        self._pin = pin
        self._fci = fci
        self._holder_in_application = holder_in_application
        sizes = RECORD_SIZES_NEW if decoded.version >= 0x40 else RECORD_SIZES_OLD
        records = {number: bytes((number, size - 2, 0)).ljust(size, b"\xff") for number, size in sizes.items()}
        if station is not None:
            records[RECORD_AA] = _exactly(station, records[RECORD_AA])
        files = {
            SFI_CARD_FILE: bytes(card_file),
            SFI_HOLDER: _exactly(holder, bytes(HOLDER_BYTES)),
            SFI_TOLL: bytes(40),
            SFI_FLAG_STATIONS: bytes(128),
            SFI_FREE_AREA: bytes(512),
        }
        self._stored: Stored = Stored(balance_raw, offline_sequence, online_sequence, files, records)
        self._directory = MF
        self._current: int | None = None
        self._authenticated = False
        self._pin_ok = False
        self._open: OpenPurchase | OpenLoad | None = None

    @property
    def card_file(self) -> CardFile:
        """File 0015 as it stands on the card."""
        return decode_card_file(self._stored.files[SFI_CARD_FILE])

    @property
    def balance_raw(self) -> int:
        """Purse balance or counter, unsigned 32 bits."""
        return self._stored.balance_raw

    @property
    def offline_sequence(self) -> int:
        """Number of the last purchase."""
        return self._stored.offline_sequence

    @property
    def station(self) -> bytes:
        """Record AA of file 0019, 43 bytes."""
        return self._stored.records[RECORD_AA]

    @property
    def transactions(self) -> tuple[TransactionLog, ...]:
        """File 0018, newest first, at most ten."""
        return tuple(decode_transaction_log(record) for record in self._stored.log)

    def reset(self) -> None:
        """Power off and on. What is stored stays, proofs included."""
        super().reset()
        self._enter(MF)

    def _instructions(self) -> InstructionTable:
        return {
            (0x00, 0xA4): Instruction(self._select),
            (0x00, 0xB0): Instruction(self._read_binary),
            (0x00, 0xB2): Instruction(self._read_record),
            (0x00, 0xD6): Instruction(self._update_binary),
            (0x04, 0xD6): Instruction(self._update_protected),
            (0x00, 0x20): Instruction(self._verify_pin),
            (0x00, 0x82): Instruction(self._external_authenticate, data_bytes=8),
            (0x80, 0x5C): Instruction(self._get_balance, answer_bytes=4),
            (0x80, 0x50): Instruction(self._initialize, data_bytes=11),
            (0x80, 0xDC): Instruction(self._update_cache),
            (0x80, 0x54): Instruction(self._debit, answer_bytes=8, data_bytes=15),
            (0x80, 0x52): Instruction(self._credit_load, answer_bytes=4, data_bytes=11),
            (0x80, 0x5A): Instruction(self._transaction_prove, answer_bytes=8, data_bytes=2),
            (0x84, 0x1E): Instruction(self._block),
            (0x84, 0x18): Instruction(self._unblock),
        }

    # --- files ------------------------------------------------------------------------------------------------------

    def _select(self, command: Command) -> bytes:
        if command.p1 == 0x04:
            return self._select_directory({DIRECTORY_NAME: MF, ETC_AID: ETC_APPLICATION}.get(command.data))
        if command.p1 != 0x00 or len(command.data) != 2:
            raise Refused(SW_WRONG_P1P2 if command.p1 else apdu.SW_WRONG_LENGTH)
        file_id = int.from_bytes(command.data, "big")
        if file_id in (MF, ETC_APPLICATION):
            return self._select_directory(file_id)
        self._check_visible(file_id)
        self._current = file_id
        return b""

    def _select_directory(self, directory: int | None) -> bytes:
        if directory is None:
            raise Refused(apdu.SW_FILE_NOT_FOUND)
        self._enter(directory)
        if directory == MF:
            return FCI_MF
        if self._fci is Fci.NONE:
            return b""
        body = tlv(0x84, ETC_AID)
        if self._fci is Fci.RAW:
            body += tlv(0xA5, bytes(50))
        if self._fci is Fci.COPY:
            # Version 02 and the copy as in the computed sessions; real content differs by maker (inferred).
            copy = self._stored.files.get(SFI_CARD_FILE, b"")[: max(CARD_FILE_LENGTHS)]
            body += tlv(0xA5, bytes.fromhex("9F080102") + b"\x9f\x0c" + bytes((len(copy),)) + copy)
        return tlv(0x6F, body)

    def _enter(self, directory: int) -> None:
        """Enter another directory: security state and anything open end."""
        self._directory = directory
        self._current = None
        self._authenticated = False
        self._pin_ok = False
        self._open = None

    def _check_visible(self, sfi: int) -> None:
        special = (SFI_PURSE, SFI_TRANSACTIONS, SFI_STATIONS)
        in_application = sfi in special or (sfi in self._stored.files and sfi != SFI_HOLDER)
        holder = sfi == SFI_HOLDER and (self._directory == MF or self._holder_in_application)
        if not (holder or (in_application and self._directory == ETC_APPLICATION)):
            raise Refused(apdu.SW_FILE_NOT_FOUND)
        if sfi in self._stored.unreadable:
            raise Refused(SW_MEMORY)

    def _transparent(self, command: Command) -> tuple[int, int]:
        sfi, offset = file_address(command)
        if sfi is None:
            if self._current is None:
                raise Refused(SW_NO_CURRENT_FILE)
            sfi = self._current
        self._check_visible(sfi)
        self._current = sfi
        if sfi not in self._stored.files:
            raise Refused(SW_WRONG_FILE)  # the purse, and files made of records
        return sfi, offset

    def _read_binary(self, command: Command) -> bytes:
        sfi, offset = self._transparent(command)
        return read_part(self._stored.files[sfi], offset, command.le)

    def _read_record(self, command: Command) -> bytes:
        sfi, mode = command.p2 >> 3, command.p2 & 0x07
        if mode != 0x04:
            raise Refused(SW_WRONG_P1P2)
        self._check_visible(sfi)
        record = self._record(sfi, command.p1)
        if command.le not in (None, LE_MAX, len(record)):
            raise Refused(SW_WRONG_LE | len(record))
        return record

    def _record(self, sfi: int, number: int) -> bytes:
        if sfi == SFI_TRANSACTIONS:
            records = self._stored.log + (b"\xff" * 23,) * (TRANSACTIONS_MAX - len(self._stored.log))
        elif sfi == SFI_STATIONS:
            records = tuple(self._stored.records.values())
        else:
            raise Refused(SW_WRONG_FILE)
        if not 1 <= number <= len(records):
            raise Refused(SW_NO_RECORD)
        return records[number - 1]

    def _update_binary(self, command: Command) -> bytes:
        sfi, offset = self._transparent(command)
        # 0009 is free, 0012 and 0008 want external authentication, 0015 and 0016 take protected updates only.
        if sfi in (SFI_TOLL, SFI_FLAG_STATIONS) and not self._authenticated:
            raise Refused(apdu.SW_SECURITY)
        if sfi in (SFI_CARD_FILE, SFI_HOLDER):
            raise Refused(apdu.SW_SECURITY)
        self._store_file(sfi, write_part(self._stored.files[sfi], offset, command.data))
        return b""

    def _update_protected(self, command: Command) -> bytes:
        sfi, offset = self._transparent(command)
        if sfi not in (SFI_CARD_FILE, SFI_HOLDER):
            raise Refused(apdu.SW_SECURITY)
        leaf = self._keys[KeyKind.MAINTENANCE, self._line_algorithm]
        data = self._protected_data(command, leaf, self._line_algorithm)
        self._store_file(sfi, write_part(self._stored.files[sfi], offset, data))
        return b""

    def _store_file(self, sfi: int, content: bytes) -> None:
        self._stored = replace(self._stored, files={**self._stored.files, sfi: content})

    # --- security ---------------------------------------------------------------------------------------------------

    def _verify_pin(self, command: Command) -> bytes:
        if command.p1 or command.p2:
            raise Refused(SW_WRONG_P1P2)
        if not command.data:
            raise Refused(apdu.SW_WRONG_LENGTH)  # asking for the tries left is not an ETC card's command
        if self._stored.pin_tries == 0:
            raise Refused(SW_BLOCKED)
        self._pin_ok = command.data == self._pin
        tries = TRIES_MAX if self._pin_ok else self._stored.pin_tries - 1
        self._stored = replace(self._stored, pin_tries=tries)
        if not self._pin_ok:
            raise Refused(SW_TRIES | tries)
        return b""

    def _external_authenticate(self, command: Command) -> bytes:
        algorithm = {0x01: Algorithm.DES3, 0x41: Algorithm.SM4}.get(command.p2)
        if command.p1 or algorithm not in self._algorithms:
            raise Refused(SW_NO_REFERENCE)
        if self._stored.auth_tries == 0:
            raise Refused(SW_BLOCKED)
        leaf = self._keys[KeyKind.EXTERNAL_AUTH, algorithm]
        self._authenticated = self._external_auth_ok(command, leaf, algorithm)
        tries = TRIES_MAX if self._authenticated else self._stored.auth_tries - 1
        self._stored = replace(self._stored, auth_tries=tries)
        if not self._authenticated:
            raise Refused(SW_TRIES | tries)
        return b""

    def _block(self, command: Command) -> bytes:
        block = {(0, 0): Block.TEMPORARY, (0, 1): Block.PERMANENT}.get((command.p1, command.p2))
        if block is None:
            raise Refused(SW_WRONG_P1P2)
        self._check_order(command)
        self._stored = replace(self._stored, block=block)
        self._open = None
        return b""

    def _unblock(self, command: Command) -> bytes:
        if command.p1 or command.p2:
            raise Refused(SW_WRONG_P1P2)
        self._check_order(command)
        self._stored = replace(self._stored, block=Block.NONE)
        return b""

    def _check_order(self, command: Command) -> None:
        """Check an order of the issuer: right MAC, and the application not blocked for ever."""
        self._check_in_application()
        if self._stored.block is Block.PERMANENT:
            raise Refused(SW_LOCKED_FOR_EVER)
        if self._protected_data(command, self._keys[KeyKind.MAINTENANCE, self._line_algorithm], self._line_algorithm):
            raise Refused(apdu.SW_WRONG_LENGTH)

    def _check_in_application(self) -> None:
        if self._directory != ETC_APPLICATION:
            raise Refused(apdu.SW_CONDITIONS)

    # --- purse ------------------------------------------------------------------------------------------------------

    def _get_balance(self, command: Command) -> bytes:
        if (command.p1, command.p2) != (0x00, 0x02):
            raise Refused(SW_WRONG_P1P2)
        self._check_in_application()
        return self._stored.balance_raw.to_bytes(4, "big")

    def _initialize(self, command: Command) -> bytes:
        self._check_in_application()
        if self._stored.block is not Block.NONE:
            permanent = self._stored.block is Block.PERMANENT
            raise Refused(SW_LOCKED_FOR_EVER if permanent else SW_APPLICATION_BLOCKED)
        self._open = None
        opener = {
            (0x00, 0x02): (self._init_load, TradeType.LOAD, 16),
            (0x01, 0x02): (self._init_purchase, TradeType.PURCHASE, 15),
            (0x03, 0x02): (self._init_purchase, TradeType.COMPOSITE, 15),
        }.get((command.p1, command.p2))
        if opener is None:
            raise Refused(SW_WRONG_P1P2)
        handler, trade_type, answer_bytes = opener
        if command.le not in (None, LE_MAX, answer_bytes):
            raise Refused(SW_WRONG_LE | answer_bytes)
        key_index, amount, terminal = command.data[0], command.data[1:5], command.data[5:]
        algorithm = next((known for known in self._algorithms if known.purse_key_index == key_index), None)
        if algorithm is None:
            raise Refused(SW_KEY_INDEX)
        return handler(Trade(int.from_bytes(amount, "big"), trade_type, terminal), algorithm)

    def _init_purchase(self, trade: Trade, algorithm: Algorithm) -> bytes:
        stored = self._stored
        # A charge card's counter says nothing about the ability to pay.
        if self._card_type == CardType.STORED_VALUE and trade.amount_fen > max(signed_balance(stored.balance_raw), 0):
            raise Refused(apdu.SW_BALANCE)
        if stored.offline_sequence >= SEQUENCE_MAX:
            raise Refused(SW_COUNTER_FULL)
        opened = PurchaseOpened(
            balance_raw=stored.balance_raw,
            offline_sequence=stored.offline_sequence,
            overdraft_fen=0,
            key_version=algorithm.purse_key_index,
            algorithm=algorithm,
            card_random=self._random(4),
        )
        self._open = OpenPurchase(trade, algorithm, opened.card_random, {})
        return opened.encode()

    def _update_cache(self, command: Command) -> bytes:
        opened = self._open
        if not isinstance(opened, OpenPurchase) or opened.trade.trade_type != TradeType.COMPOSITE:
            raise Refused(apdu.SW_CONDITIONS)
        if command.p2 >> 3 != SFI_STATIONS:
            raise Refused(apdu.SW_FILE_NOT_FOUND)
        record_id = self._record_id(command.p1, command.p2 & 0x07)
        if len(command.data) != len(self._stored.records[record_id]):
            raise Refused(apdu.SW_WRONG_LENGTH)
        if command.data[0] != record_id:
            raise Refused(SW_WRONG_DATA)  # it could not be found under its id any more (inferred)
        self._open = replace(opened, cache={**opened.cache, record_id: command.data})
        return b""

    def _record_id(self, p1: int, mode: int) -> int:
        """Id of a record. Low bits 000: P1 is the id. 011 (transit scheme, one source) or 100: P1 is its number."""
        ids = tuple(self._stored.records)
        if mode in (0x03, 0x04) and 1 <= p1 <= len(ids):
            return ids[p1 - 1]
        if mode == 0x00 and p1 in ids:
            return p1
        raise Refused(SW_NO_RECORD if mode in (0x00, 0x03, 0x04) else SW_WRONG_P1P2)

    def _debit(self, command: Command) -> bytes:
        if (command.p1, command.p2) != (0x01, 0x00):
            raise Refused(SW_WRONG_P1P2)
        opened, stored = self._open, self._stored
        if not isinstance(opened, OpenPurchase):
            raise Refused(apdu.SW_CONDITIONS)
        self._open = None
        trade, algorithm = opened.trade, opened.algorithm
        terminal_serial, time, given = int.from_bytes(command.data[:4], "big"), command.data[4:11], command.data[11:]
        purchase_leaf = self._keys[KeyKind.PURCHASE, algorithm]
        session = session_key(purchase_leaf, opened.card_random, stored.offline_sequence, terminal_serial, algorithm)
        if mac1(session, trade, time, algorithm) != given:
            raise Refused(apdu.SW_MAC)
        proof = DebitProof(
            tac=tac(self._keys[KeyKind.TAC, algorithm], trade, terminal_serial, time, algorithm),
            mac2=mac2(session, trade, algorithm),
        )
        sequence = stored.offline_sequence + 1
        after = replace(
            stored,
            balance_raw=(stored.balance_raw - trade.amount_fen) % BALANCE_MODULUS,
            offline_sequence=sequence,
            records={**stored.records, **opened.cache},
        )
        self._stored = _with_transaction(after, trade, sequence, time, proof)
        return proof.tac + proof.mac2

    def _init_load(self, trade: Trade, algorithm: Algorithm) -> bytes:
        stored = self._stored
        if not self._pin_ok:
            raise Refused(apdu.SW_SECURITY)
        if stored.online_sequence >= SEQUENCE_MAX:
            raise Refused(SW_COUNTER_FULL)
        if stored.balance_raw + trade.amount_fen >= BALANCE_MODULUS:
            raise Refused(SW_LIMIT)
        card_random = self._random(4)
        session = load_session_key(self._keys[KeyKind.LOAD, algorithm], card_random, stored.online_sequence, algorithm)
        self._open = OpenLoad(trade, algorithm, session)
        return LoadOpened(
            old_balance=stored.balance_raw,
            online_sequence=stored.online_sequence,
            key_version=algorithm.purse_key_index,
            algorithm=algorithm,
            card_random=card_random,
            mac1=load_mac1(session, trade, stored.balance_raw, algorithm),
        ).encode()

    def _credit_load(self, command: Command) -> bytes:
        opened, stored = self._open, self._stored
        if not isinstance(opened, OpenLoad):
            raise Refused(apdu.SW_CONDITIONS)
        self._open = None
        trade, algorithm, time, given = opened.trade, opened.algorithm, command.data[:7], command.data[7:]
        if load_mac2(opened.session, trade, time, algorithm) != given:
            raise Refused(apdu.SW_MAC)
        balance = stored.balance_raw + trade.amount_fen
        proof = load_tac(
            self._keys[KeyKind.TAC, algorithm],
            trade,
            time,
            algorithm,
            new_balance=balance,
            online_sequence=stored.online_sequence,
        )
        sequence = stored.online_sequence + 1
        after = replace(stored, balance_raw=balance, online_sequence=sequence)
        # That the proof of a load carries the host's MAC2 is inferred from the purchase.
        self._stored = _with_transaction(after, trade, sequence, time, DebitProof(tac=proof, mac2=given))
        return proof

    def _transaction_prove(self, command: Command) -> bytes:
        self._check_in_application()
        if command.p1:
            raise Refused(SW_WRONG_P1P2)
        kept = self._stored.proofs.get(command.p2)
        if kept is None or kept.sequence != int.from_bytes(command.data, "big"):
            raise Refused(apdu.SW_NO_PROOF)
        return kept.proof.mac2 + kept.proof.tac


def make_card(
    *,
    plate: str,
    balance_raw: int,
    plate_colour: int = 0,
    vehicle_class: int = 1,
    card_type: int = CardType.STORED_VALUE,
    version: int = 0x40,
    network: str = "9901",
    inner_number: str = "2301220100000001",
    starts: date = date(2024, 1, 1),
    expires: date = date(2034, 1, 1),
    user_type: int = 0,
    length: int = 50,
    station: bytes | None = None,
    offline_sequence: int = 1,
    online_sequence: int = 0,
    algorithms: frozenset[Algorithm] | None = None,
    holder: bytes = bytes(HOLDER_BYTES),
    pin: bytes = PIN_DEFAULT,
    fci: Fci = Fci.COPY,
    t0: bool = False,
    random: RandomSource = secrets.token_bytes,
) -> UserCard:
    """A card from its facts, issued by the region of `network` (9901: the fictional bench region).

    `balance_raw` is fen on a stored-value card and an unsigned 32-bit counter on a charge card. `inner_number` is 16
    digits. A repeatable run passes its own `random`.
    """
    region = issuing_region(network)
    card_file = card_file_new(
        issuer=region.text_bytes + bytes.fromhex(network) + b"\x00\x01",
        card_type=card_type,
        version=version,
        network=network,
        inner_number=bytes.fromhex(inner_number),
        starts=starts,
        expires=expires,
        plate=plate,
        user_type=user_type,
        plate_colour=plate_colour,
        vehicle_class=vehicle_class,
        length=length,
    )
    return UserCard(
        card_file=card_file,
        balance_raw=balance_raw,
        random=random,
        station=station,
        offline_sequence=offline_sequence,
        online_sequence=online_sequence,
        algorithms=algorithms,
        holder=holder,
        pin=pin,
        fci=fci,
        t0=t0,
    )


def _with_transaction(stored: Stored, trade: Trade, sequence: int, time: bytes, proof: DebitProof) -> Stored:
    """`stored` with one more record in file 0018 and the proof of this transaction."""
    record = (
        sequence.to_bytes(2, "big")
        + bytes(3)
        + trade.amount_fen.to_bytes(4, "big")
        + bytes((trade.trade_type,))
        + trade.terminal
        + time
    )
    return replace(
        stored,
        log=(record, *stored.log)[:TRANSACTIONS_MAX],
        proofs={**stored.proofs, trade.trade_type: Proof(sequence, proof)},
    )


def tlv(tag: int, value: bytes) -> bytes:
    """Tag, length and value, of one byte each but the value."""
    return bytes((tag, len(value))) + value


def _exactly(content: bytes, like: bytes) -> bytes:
    if len(content) != len(like):
        raise ValueError(f"{len(content)} bytes given for a file of {len(like)}")
    return bytes(content)
