"""Proof of an earlier purchase, as its card shows it on a reader: taken, not taken, or neither can be said.

A balance alone proves nothing: a load, an entry of zero or another terminal changes it, or does not. What proves is the
number under which the card knows the purchase (one more than its INIT told), together with what stands under it:

| the card's log (0018) under that number | serial now | 805A for it | file 0019 | then |
|---|---|---|---|---|
| this purchase: terminal, amount, time | any | any | any | taken; its TAC where 805A gives it |
| another purchase: terminal and time | any | any | not as meant | not taken, and it never can be |
| no record | one less | refused | as before | not taken, where the balance is as before, loads apart |
| no record | that number | given | as meant | taken |
| anything else | | | | disputed |

The third row wants all four to agree: a card that says nothing happened may be broken, or a fake. A purchase ordered
through an antenna has no number that could be asked for; its time stands in the log, and file 0019 tells the rest.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from drivers.card_slot import CardSlot
from gateway.cards.contents import LOG_RECORDS_MAX
from gateway.debit.claims import PreviousPurchase, PurchasePlan
from gateway.debit.purchase_proof import BALANCES, SERIALS
from gateway.model.passage import PurchaseOutcome
from protocols.card.apdu import SW_NO_PROOF, Response
from protocols.card.codes import TradeType
from protocols.card.commands import (
    ETC_APPLICATION,
    RECORD_AA,
    SFI_STATIONS,
    SFI_TRANSACTIONS,
    read_record,
    select_id,
)
from protocols.card.files import TRANSACTION_BYTES, TransactionLog, decode_transaction_log
from protocols.card.psam import TERMINAL_BYTES
from protocols.card.purse import (
    DebitProof,
    get_balance,
    init_purchase,
    parse_balance,
    parse_purchase_opened,
    parse_transaction_prove,
    transaction_prove,
)
from protocols.card.station import STATION_BYTES
from protocols.crypto.algorithm import Algorithm
from protocols.errors import ProtocolError

LOADS: Final = frozenset({TradeType.LOAD_DEPOSIT, TradeType.LOAD})

STATION_RECORD_NUMBER: Final = 1
"""Number of record AA in file 0019."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """Purchase that was ordered, as its intent tells it."""

    card_serial: int | None
    """None where nobody knew it before the debit, as through an antenna; so with the terminal."""
    terminal: str | None
    purchase_time: str
    written_fen: int
    balance_before: int | None
    file_before: bytes | None
    file_after: bytes | None

    @classmethod
    def planned(cls, plan: PurchasePlan) -> Ordered:
        """Purchase of a plan that is carried out now."""
        numbers = plan.numbers
        return cls(
            card_serial=None if numbers is None else numbers.card_serial,
            terminal=None if numbers is None else numbers.terminal,
            purchase_time=plan.purchase_time,
            written_fen=plan.written_fen,
            balance_before=plan.balance_before,
            file_before=plan.file_before,
            file_after=plan.file_after,
        )

    @classmethod
    def before(cls, previous: PreviousPurchase) -> Ordered:
        """The purchase of an intent in the ledger. Its serial counts where a reader told it: else it is a guess."""
        return cls(
            card_serial=None if previous.terminal is None else previous.card_serial,
            terminal=previous.terminal,
            purchase_time=previous.purchase_time,
            written_fen=previous.written_fen,
            balance_before=previous.balance_before,
            file_before=previous.file_before,
            file_after=previous.file_after,
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence that a card shows about it. None stands for what it would not tell."""

    log: tuple[TransactionLog, ...] | None
    """File 0018, newest first, without blank records."""
    serial_now: int | None
    balance_raw: int | None
    station: bytes | None
    """Record AA of file 0019."""
    proof: DebitProof | None
    proof_refused: bool
    """True where the card says that it knows no such purchase."""


@dataclass(frozen=True, slots=True)
class Judged:
    """End of a purchase as its card proves it. What is None is not proved."""

    outcome: PurchaseOutcome
    card_serial: int | None = None
    tac: bytes | None = None
    balance_after: int | None = None


async def ask(card: CardSlot, ordered: Ordered) -> Evidence:
    """Collect the evidence. Nothing is changed on the card. Raises `DeviceError` when it goes meanwhile."""
    await card.transmit(select_id(ETC_APPLICATION))
    station = await card.transmit(read_record(SFI_STATIONS, STATION_RECORD_NUMBER, STATION_BYTES))
    log = await _log(card)
    balance = await card.transmit(get_balance())
    serial = ordered.card_serial
    if serial is None and log is not None:
        serial = next((one.sequence for one in log if _is_ours(one, ordered)), None)
    proof, refused = (None, False) if serial is None else await _proof(card, serial)
    serial_now = await _serial_now(card, ordered)
    return Evidence(
        log=log,
        serial_now=serial_now,
        balance_raw=parse_balance(balance.data) if balance.ok and len(balance.data) == 4 else None,
        station=station.data if _is_record(station) else None,
        proof=proof,
        proof_refused=refused,
    )


def judge(ordered: Ordered, shown: Evidence) -> Judged:
    """Judge by the table of this module."""
    ours = _ours(ordered, shown)
    if ours is not None:
        return _taken(ordered, shown, ours.sequence)
    as_meant = ordered.file_after is not None and shown.station == ordered.file_after
    if ordered.card_serial is None:
        return _judge_by_file(ordered, shown, as_meant=as_meant)
    under_it = next((one for one in shown.log or () if _has_number(one, ordered.card_serial)), None)
    if under_it is not None:
        other = _is_another(under_it, ordered) and not as_meant
        return Judged(PurchaseOutcome.NOT_TAKEN if other else PurchaseOutcome.DISPUTED)
    if _never_happened(ordered, shown):
        return Judged(PurchaseOutcome.NOT_TAKEN)
    if as_meant and shown.proof is not None and shown.serial_now == ordered.card_serial:
        return _taken(ordered, shown, ordered.card_serial)
    return Judged(PurchaseOutcome.DISPUTED)


def _judge_by_file(ordered: Ordered, shown: Evidence, *, as_meant: bool) -> Judged:
    """Judge a purchase that no number is known of: the log has not its time, so file 0019 tells."""
    if as_meant:
        return Judged(PurchaseOutcome.TAKEN)
    untouched = shown.station is not None and shown.station == ordered.file_before
    return Judged(PurchaseOutcome.NOT_TAKEN if untouched and shown.log is not None else PurchaseOutcome.DISPUTED)


def _ours(ordered: Ordered, shown: Evidence) -> TransactionLog | None:
    """Record of this purchase in the card's log."""
    return next((one for one in shown.log or () if _is_ours(one, ordered)), None)


def _is_ours(record: TransactionLog, ordered: Ordered) -> bool:
    return (
        record.trade_type == TradeType.COMPOSITE
        and record.amount_fen == ordered.written_fen
        and _moment(record) == ordered.purchase_time
        and ordered.card_serial in (None, record.sequence)
        and ordered.terminal in (None, record.terminal.hex())
    )


def _is_another(record: TransactionLog, ordered: Ordered) -> bool:
    """True for a purchase at another terminal and time. One difference alone may be a bit that fell over."""
    return record.terminal.hex() != ordered.terminal and _moment(record) != ordered.purchase_time


def _has_number(record: TransactionLog, serial: int) -> bool:
    """True for a purchase with this number; loads are counted apart."""
    return record.trade_type not in LOADS and record.sequence == serial


def _moment(record: TransactionLog) -> str | None:
    return None if record.day is None else f"{record.day:%Y%m%d}{record.time}"


def _taken(ordered: Ordered, shown: Evidence, serial: int) -> Judged:
    """Taken; the balance that stands there now is that of afterwards only while nothing came after it."""
    newest = shown.log[0] if shown.log else None
    last = newest is None or _has_number(newest, serial)
    alone = last and shown.serial_now in (None, serial)
    return Judged(
        PurchaseOutcome.TAKEN,
        card_serial=serial,
        tac=None if shown.proof is None else shown.proof.tac,
        balance_after=shown.balance_raw if alone else None,
    )


def _never_happened(ordered: Ordered, shown: Evidence) -> bool:
    """True when card serial, log, proof, file and balance agree that nothing happened."""
    if ordered.card_serial is None or shown.log is None or not shown.proof_refused:
        return False
    serial_before = (ordered.card_serial - 1) % SERIALS
    untouched = shown.station == ordered.file_before or ordered.file_before is None
    if shown.serial_now != serial_before or not untouched:
        return False
    if ordered.balance_before is None or shown.balance_raw is None:
        return True
    loaded = sum(
        record.amount_fen
        for record in shown.log
        if record.trade_type in LOADS and (_moment(record) or "") >= ordered.purchase_time
    )
    return (ordered.balance_before + loaded - shown.balance_raw) % BALANCES == 0


# --- the card -------------------------------------------------------------------------------------------------------


async def _log(card: CardSlot) -> tuple[TransactionLog, ...] | None:
    """File 0018 as far as there are records; None where the card does not give it."""
    records: list[TransactionLog] = []
    for number in range(1, LOG_RECORDS_MAX + 1):
        answer = await card.transmit(read_record(SFI_TRANSACTIONS, number, TRANSACTION_BYTES))
        if not answer.ok or len(answer.data) != TRANSACTION_BYTES:
            return tuple(records) if number > 1 else None
        record = decode_transaction_log(answer.data)
        if record.is_blank:
            break
        records.append(record)
    return tuple(records)


async def _proof(card: CardSlot, serial: int) -> tuple[DebitProof | None, bool]:
    answer = await card.transmit(transaction_prove(serial))
    try:
        return (parse_transaction_prove(answer.data) if answer.ok else None), answer.sw == SW_NO_PROOF
    except ProtocolError:
        return None, False


async def _serial_now(card: CardSlot, ordered: Ordered) -> int | None:
    """Serial of the card's last purchase, from an INIT over nothing that is ended at once."""
    terminal = bytes(TERMINAL_BYTES) if ordered.terminal is None else bytes.fromhex(ordered.terminal)
    serial = None
    for algorithm in Algorithm:
        answer = await card.transmit(init_purchase(algorithm.purse_key_index, 0, terminal))
        if answer.ok:
            with suppress(ProtocolError):
                serial = parse_purchase_opened(answer.data).offline_sequence
            break
    await card.transmit(select_id(ETC_APPLICATION))
    return serial


def _is_record(answer: Response) -> bool:
    return answer.ok and len(answer.data) == STATION_BYTES and answer.data[0] == RECORD_AA
