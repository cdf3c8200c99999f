"""Start-up with many open debits: time to classify, time to close them, and whether vehicles are barred.

The ledger is filled by the engine's own changes, as a power cut in the midst of a day would leave it: purchases without
an answer, sales under way, decided nothing, pumps running, advices waiting. Then a new engine starts on it. The
reference is one plain SQL count over the same tables, cold. While the closing goes on, vehicles come: with the card of
an open debit, with its tag and another card, and some that nothing is known of.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from drivers.clock import SystemClock
from gateway.banks.channel import BankAnswer, NewAttempt
from gateway.banks.pos import PosChannel, PosOrder
from gateway.debit import attempts, conclusions, holds, purchases
from gateway.debit.attempts import Asking
from gateway.debit.claims import (
    DecisionContext,
    HoldPlaced,
    HoldRefused,
    HoldRequest,
    Identity,
    Payer,
    PurchasePlan,
    PurchaseResult,
    Sight,
)
from gateway.debit.engine import DebitEngine
from gateway.debit.recovery import Findings
from gateway.debit.states import add_attempt, debit_row
from gateway.ledger import engines, tables
from gateway.ledger.reading import Reader
from gateway.ledger.transaction import Transaction
from gateway.ledger.writer import Committer, Writer
from gateway.model.clock import Clock, to_us
from gateway.model.delivery import Delivery
from gateway.model.passage import Abandoned, DeclinePolicy, Funding, PurchaseOutcome, Service
from gateway.rules.loading import shipped_rules
from hardware.bench.chain_key import KEYS
from hardware.bench.ledgers import new_ledger

OPEN_DEBITS = 100_000
PER_COMMIT = 500
FARE_FEN = 1425
LONG_AGO = datetime(2023, 11, 14, 22, tzinfo=UTC)
TERMINALS = tuple(f"T{number:07d}" for number in range(64))

COUNT = """
    select count(*), sum(t.amount), count(p.id), count(a.id)
    from debit d join transfer t on t.id = d.hold_id
         left join purchase p on p.debit_id = d.id left join attempt a on a.debit_id = d.id
    where d.state in ('held', 'owed')
"""
"""Reference for what start-up has to look at, as one statement."""


class _Bank(PosChannel):
    """A channel that is never reached: this is about what is stored."""

    max_message_age_s = 60.0
    up = False

    def takes(self, contract_ref: str) -> bool:
        return bool(contract_ref)

    def message(self, kind: str, order: PosOrder) -> bytes:
        return f"{kind} {order.terminal} {order.batch} {order.stan} {order.amount_fen}".encode()

    def repeat(self, request: bytes) -> bytes:
        return request

    async def exchange(self, request: bytes, *, timeout_s: float) -> BankAnswer:
        await asyncio.sleep(0)
        return BankAnswer(Delivery.NOT_SENT, detail=f"{len(request)} bytes, {timeout_s} s: there is no bank")


BANK = _Bank("bank-1", {"lane-1": TERMINALS})
TAKEN = PurchaseResult(PurchaseOutcome.TAKEN, card_serial=7, tac=bytes(4), tac_source="b5")


@dataclass(frozen=True, slots=True)
class Left:
    """One kind of open debit, and how the last run left it."""

    funding: Funding
    service: Service
    card: bool
    purchase: PurchaseResult | None = None
    asked: bool = False
    """True when its bank was being asked."""
    delivered_fen: int | None = None
    decided: bool = False
    """True when it is decided; what is owed on our own word has its advice waiting."""
    answer: BankAnswer | None = None
    """Answer of its bank, where that was asked and heard."""


KINDS: Mapping[str, Left] = {
    "purse, card being asked": Left(Funding.PURSE, Service.TOLL, True),
    "purse, card's answer lost": Left(Funding.PURSE, Service.TOLL, True, PurchaseResult(PurchaseOutcome.UNKNOWN)),
    "card paid, not decided": Left(Funding.PURSE, Service.TOLL, True, TAKEN),
    "card paid, bank being asked": Left(Funding.BANK_ONLINE, Service.TOLL, True, TAKEN, asked=True),
    "plate, bank being asked": Left(Funding.BANK_ONLINE, Service.PARKING, False, asked=True),
    "toll hold, nothing asked": Left(Funding.BANK_ONLINE, Service.TOLL, False),
    "pump running": Left(Funding.BANK_ONLINE, Service.FUEL, False),
    "pump finished, not decided": Left(Funding.BANK_ONLINE, Service.FUEL, False, delivered_fen=900),
    "owed, advice waiting": Left(Funding.BANK_ONLINE, Service.TOLL, False, decided=True),
}


@dataclass(slots=True)
class Vehicles:
    """Counts of what became of the vehicles that came while the closing went on."""

    barred_by_card: int = 0
    barred_by_tag: int = 0
    let_in: int = 0
    wrong: list[object] = field(default_factory=list)
    longest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Start:
    """One start-up, measured."""

    filled: int
    found: Findings
    closed: Findings
    classify_s: float
    close_s: float
    count_s: float
    progress_told: int
    longest_silence_s: float
    vehicles: Vehicles


def measure(folder: Path, number: int = OPEN_DEBITS) -> list[dict[str, Any]]:
    """Fill a ledger, start on it, and say how long that took."""
    start = asyncio.run(start_up(folder / "start.db", number))
    vehicles = start.vehicles
    return [
        {"figure": "open debits", "value": start.filled},
        {"figure": "plain SQL count, s", "value": start.count_s},
        {"figure": "classified in, s", "value": start.classify_s},
        {"figure": "classifying, times the count", "value": start.classify_s / start.count_s},
        {"figure": "lines of progress", "value": start.progress_told},
        {"figure": "longest silence, s", "value": start.longest_silence_s},
        {"figure": "closed behind in, s", "value": start.close_s},
        {"figure": "closing, times the count", "value": start.close_s / start.count_s},
        {"figure": "decided by closing", "value": start.closed.decided_now},
        {"figure": "vehicles barred by card, by tag", "value": f"{vehicles.barred_by_card}, {vehicles.barred_by_tag}"},
        {"figure": "vehicles let in meanwhile", "value": vehicles.let_in},
        {"figure": "vehicles treated wrongly", "value": len(vehicles.wrong)},
        {"figure": "longest wait of a vehicle, ms", "value": vehicles.longest_s * 1000},
    ]


async def start_up(path: Path, number: int) -> Start:
    """Start on a ledger with so many open debits, and let vehicles come while they are closed."""
    clock = SystemClock()
    new_ledger(path, clock)
    writing = engines.open_writer(path)
    fill(Committer(writing, clock, keys=KEYS), number, clock)
    writing.dispose()
    reading = engines.open_reader(path)
    begun = time.perf_counter()
    with reading.connect() as connection:
        connection.exec_driver_sql(COUNT).all()
    count_s = time.perf_counter() - begun
    writing = engines.open_writer(path)
    writer = Writer(Committer(writing, clock, keys=KEYS))
    writer.start()
    reader = Reader(reading)
    reader.start()
    try:
        engine = DebitEngine(writer, reader, {BANK.name: BANK}, clock=clock, random=random.SystemRandom())
        told = [time.perf_counter()]
        found = await engine.start_up.recover(
            {"lane-1": DeclinePolicy.RELEASE_AS_DEBT},
            lambda _tx, _mandate: 100_000,
            lambda _: told.append(time.perf_counter()),
        )
        classified = time.perf_counter()
        vehicles, closing = Vehicles(), asyncio.create_task(engine.start_up.close_backlog())
        await _vehicles(engine, vehicles, closing, number, clock)
        closed = await closing
        return Start(
            filled=number,
            found=found,
            closed=closed,
            classify_s=classified - told[0],
            close_s=time.perf_counter() - classified,
            count_s=count_s,
            progress_told=len(told) - 1,
            longest_silence_s=max(later - earlier for earlier, later in pairwise(told)),
            vehicles=vehicles,
        )
    finally:
        reader.stop()
        writer.stop()
        writing.dispose()
        reading.dispose()


def fill(
    committer: Committer,
    number: int,
    clock: Clock,
    kinds: Sequence[Left] = tuple(KINDS.values()),
    *,
    vehicles: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Fill the ledger with so many debits, of all kinds in turn; each of another vehicle, or of so many `vehicles`."""
    left = iter(range(number))
    while group := list(islice(left, PER_COMMIT)):
        committer.commit([_leave(n, kinds[n % len(kinds)], clock, vehicles or number) for n in group])
        progress(group[-1] + 1)


def _leave(n: int, left: Left, clock: Clock, vehicles: int) -> Callable[[Transaction], None]:
    """Make the change that leaves debit number `n` as its kind says."""
    request = _request(n, left.funding, left.service, card=left.card, vehicle=n % vehicles, now=clock.utcnow())
    result = left.purchase
    if result is not None and result.outcome is PurchaseOutcome.TAKEN:
        result = replace(result, card_serial=n // vehicles)
    ids = holds.NewIds(*(f"{n:031x}{part}" for part in "012"))
    context = DecisionContext("lane-1")

    def change(tx: Transaction) -> None:
        rules = shipped_rules()
        if not isinstance(holds.place_hold(tx, request, ids, rules), HoldPlaced):
            raise TypeError(f"debit {n} was not placed")
        if result is not None:
            purchases.store_result(tx, ids.purchase, result, request.sight.identity.card_number)
        if left.asked:
            _sale_under_way(tx, n, ids.debit)
        if left.delivered_fen is not None:
            holds.complete(tx, ids.debit, left.delivered_fen, request.payer, asking=None, context=context)
        if left.decided:
            policy = DeclinePolicy.RELEASE_AS_DEBT
            channel = None if left.answer is None else BANK
            conclusion = conclusions.Conclusion(
                ids.debit, context, policy, 100_000, result=result, bank=left.answer, channel=channel
            )
            conclusions.conclude(tx, conclusion, rules)
            # Asks nothing of a bank that has answered, or that the debit does not concern.
            debit, new = debit_row(tx, ids.debit), NewAttempt(f"{n:031x}4", clock.utcnow())
            attempts.queue_advice(tx, debit, Asking(BANK, new))

    return change


def _sale_under_way(tx: Transaction, n: int, debit_id: str) -> None:
    """Store a sale as `attempts.store_sale` does, at a terminal of its own: at one site so many are never under way."""
    attempt_id = f"{n:031x}4"
    add_attempt(
        tx,
        attempt_id,
        debit_id=debit_id,
        channel=BANK.name,
        reference=f"A{n:07d}/000001/000001",
        destination=f"{BANK.name}/A{n:07d}",
        kind="sale",
        amount=FARE_FEN,
        request=bytes(100),
        reversal=bytes(100),
    )
    tx.insert(
        tables.pos_attempt,
        attempt_id=attempt_id,
        channel=BANK.name,
        terminal=f"A{n:07d}",
        batch="000001",
        stan="000001",
    )


def _request(
    n: int, funding: Funding, service: Service, *, card: bool, vehicle: int | None = None, now: datetime = LONG_AGO
) -> HoldRequest:
    who = n if vehicle is None else vehicle
    identity = Identity(
        obu_id=who.to_bytes(4) if card else None,
        card_number=_card(who) if card else None,
        plate=f"测{who:06d}",
        plate_colour=0,
    )
    sight = Sight(f"{n:031x}5", "lane-1", service, identity, to_us(now), "trusted", f"{now:%Y%m%d}")
    mandate = None if funding is Funding.PURSE else f"m{who}"
    at_bank = funding is Funding.BANK_ONLINE
    name, contract = (BANK.name, f"c{who}") if at_bank else ("issuer-9901", None)
    payer = Payer(funding, name, mandate, contract, None, 100_000)
    plan = PurchasePlan(FARE_FEN, "20231114100000", 50_000, bytes(43), bytes(43)) if card else None
    abandoned = Abandoned.VOID if service is Service.TOLL else Abandoned.KEEP
    return HoldRequest(f"key-{n}", sight, "road", payer, FARE_FEN, plan, abandoned)


def _card(n: int) -> str:
    return f"9901{n:016d}"


async def _vehicles(
    engine: DebitEngine, seen: Vehicles, closing: asyncio.Task[Findings], number: int, clock: SystemClock
) -> None:
    """Send three vehicles one after another, again and again until the closing is done; at least once."""
    for n in _of_kind("purse, card being asked", number):
        by_card, by_tag = _again(n, _card(n), n), _again(n, _card(number * 2 + n), n)
        fresh = _again(n, _card(number * 3 + n), number * 3 + n)
        for request, count in ((by_card, "barred_by_card"), (by_tag, "barred_by_tag"), (fresh, "let_in")):
            begun = clock.monotonic()
            found = await engine.hold(replace(request, idempotency_key=f"{count}-{n}"), timeout_s=60)
            seen.longest_s = max(seen.longest_s, clock.monotonic() - begun)
            barred = isinstance(found, HoldRefused) and found.reason == "purchase_open"
            if barred is not (count != "let_in"):
                seen.wrong.append((count, n, found))
            else:
                setattr(seen, count, getattr(seen, count) + 1)
        if closing.done():
            return


def _of_kind(name: str, number: int) -> Iterator[int]:
    return iter(range(list(KINDS).index(name), number, len(KINDS)))


def _again(n: int, card: str, obu: int) -> HoldRequest:
    """Hold request of a vehicle with this card and this tag, at another lane."""
    request = _request(n, Funding.PURSE, Service.TOLL, card=True)
    identity = replace(request.sight.identity, card_number=card, obu_id=obu.to_bytes(4), plate=f"新{card[-8:]}")
    passage_id = f"{int(card):031x}"[-31:] + f"{obu % 7}"
    return replace(request, sight=replace(request.sight, passage_id=passage_id, identity=identity))
