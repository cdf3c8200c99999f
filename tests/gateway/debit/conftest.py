"""A real ledger on SQLite, the real engine and outbox, and a bank that does as it is told."""

import asyncio
import itertools
import random
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from gateway.banks.channel import BankAnswer
from gateway.banks.pos import PosChannel, PosLateAnswer
from gateway.debit import debts, late, purchases, refunds
from gateway.debit.claims import DecisionContext, HoldRequest, Identity, Payer, PurchasePlan, PurchaseResult, Sight
from gateway.debit.engine import DebitEngine, ProvenClaim, StorageLate
from gateway.ledger import engines, marks
from gateway.ledger.hex_text import to_stored
from gateway.ledger.marks import MarkState, MemoryMark
from gateway.ledger.positions import STAN_MAX
from gateway.ledger.verify import verify
from gateway.ledger.writer import Committer, Writer
from gateway.model.answers import AnswerClass
from gateway.model.delivery import Delivery
from gateway.model.ids import digest_of
from gateway.model.passage import Abandoned, DeclinePolicy, Funding, PurchaseOutcome, Service
from gateway.outbox.collector import Collector
from gateway.outbox.worker import OutboxWorker
from gateway.rules.loading import parse_rules
from hardware.bench.chain_key import KEYS
from hardware.bench.ledger_view import texts
from hardware.bench.ledgers import ID, new_ledger
from protocols.bank.responses import ResponseClass, response_code
from tests.gateway.ledger.queries import AnswersAtOnce

APPROVED = BankAnswer(Delivery.ANSWERED, AnswerClass.APPROVED, "00")
DECLINED = BankAnswer(Delivery.ANSWERED, AnswerClass.DECLINED_FOR_NOW, "51")
NOT_FOUND = BankAnswer(Delivery.ANSWERED, AnswerClass.NOT_FOUND, "25")
DUPLICATE = BankAnswer(Delivery.ANSWERED, AnswerClass.DUPLICATE, "94")
SILENT = BankAnswer(Delivery.SILENT)
NOT_SENT = BankAnswer(Delivery.NOT_SENT)

BATCH_1 = STAN_MAX
"""Position of batch 000001, STAN 000001: with a clock of this century the numbers of a test could not be foretold."""


TERMINALS = {"lane-1": ("T0000001", "T0000002")}


class FakeClock:
    """Time that moves when somebody sleeps or pushes it."""

    boot = "first boot"

    def __init__(self):
        self.now = 1_700_000_000.0

    def monotonic(self):
        return self.now

    def utcnow(self):
        return datetime.fromtimestamp(self.now, UTC)

    async def sleep(self, seconds):
        self.now += seconds
        await asyncio.sleep(0)


class ToldBank(PosChannel):
    """A channel whose answers are queued by the test; messages are kept for reading."""

    max_message_age_s = 60.0
    up = True

    def __init__(self, clock):
        super().__init__("bank-1", TERMINALS)
        self.clock = clock
        self.answers = deque()
        self.heard = []

    def takes(self, contract_ref):
        return True

    def message(self, kind, order):
        contract = "" if kind == "reversal" else f" {order.contract_ref}"
        return f"{kind} {order.terminal} {order.stan} {order.amount_fen}{contract}".encode()

    def repeat(self, request):
        return request + b" again"

    async def exchange(self, request, *, timeout_s):
        self.heard.append(request.decode())
        answer = self.answers.popleft() if self.answers else SILENT
        if answer.delivery is Delivery.SILENT:
            self.clock.now += max(0.0, timeout_s)
        await asyncio.sleep(0)
        return answer


class GatedCommitter(Committer):
    """Commits only while its gate is open: a test says what becomes durable too late, not the speed of two threads."""

    def __init__(self, *parts, **more):
        super().__init__(*parts, **more)
        self._open = threading.Event()
        self._open.set()

    def commit(self, changes):
        self._open.wait()
        return super().commit(changes)

    @contextmanager
    def shut(self):
        """Nothing that is handed in meanwhile becomes durable before this ends."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()


class Box:
    """What a test drives: engine, ledger, bank, clock."""

    def __init__(self, path, *, rules=None, bank=ToldBank):
        self.path = path
        self.rules = rules
        self.clock = FakeClock()
        self.bank = bank(self.clock)
        self.random = random.Random(7)
        state = MarkState(ID, 1) if path.exists() else new_ledger(path, self.clock)
        self.mark = MemoryMark(state, first=BATCH_1)
        self.open()
        with self.database.begin() as connection:
            self.purchases = itertools.count(connection.execute(text("select count(*) from purchase")).scalar_one())

    def open(self):
        self.database = engines.open_writer(self.path)
        self.reader = engines.open_reader(self.path)
        self.queries = AnswersAtOnce(self.reader)
        self.committer = GatedCommitter(self.database, self.clock, keys=KEYS, mark=self.mark)
        self.writer = Writer(self.committer)

    async def __aenter__(self):
        self.writer.start()
        parts = {"clock": self.clock, "random": self.random, "rules": self.rules}
        self.engine = DebitEngine(self.writer, self.queries, {"bank-1": self.bank}, **parts)
        self.outbox = OutboxWorker(
            self.bank, self.writer, self.queries, fresh=lambda: self.engine.banks.fresh("bank-1"), **parts
        )
        self.collector = Collector("bank-1", self.engine, self.queries, clock=self.clock)
        return self

    async def __aexit__(self, *_):
        self.writer.stop()
        self.database.dispose()
        self.reader.dispose()

    def keep_mark(self):
        """Put the mark where commands look for it."""
        self.committer.follow()
        marks.write(Path(f"{self.path}.mark"), self.mark.state)

    async def drain(self, rounds=8):
        """Let the outbox send what is due, a few times over."""
        for _ in range(rounds):
            for row in await self.outbox._due():
                await self.outbox._send(row)
            self.clock.now += 1.0

    def queued(self):
        """Messages that a bank must still hear."""
        return self.rows("select count(*) from outbox where done_at is null")[0][0]

    def previous(self, card_number):
        """As the engine's, without a loop."""
        with self.reader.connect() as connection:
            return purchases.newest_purchase(connection, card_number, self.clock)

    def rows(self, sql, **values):
        with self.reader.connect() as connection:
            values = {name: to_stored(v) if isinstance(v, str) else v for name, v in values.items()}
            return [texts(row) for row in connection.execute(text(sql), values)]

    def balance(self, kind, owner=None):
        rows = self.rows("select sum(balance) from account where kind=:k and (:o is null or owner=:o)", k=kind, o=owner)
        return rows[0][0] or 0

    # --- what most tests ask for ------------------------------------------------------------------------------------

    async def charge(self, request, *answers, timeout=2.0):
        """Charge without a card; the bank's next answers are these."""
        if answers:
            self.bank.answers.extend(answers)
        found = await self.engine.charge(request, CONTEXT, POLICY, deadline=self.clock.monotonic() + timeout)
        return getattr(found, "decision", found)

    async def complete(self, debit_id, amount, payer, *answers, timeout=2.0):
        """Complete a hold; the bank's next answers are these."""
        if answers:
            self.bank.answers.extend(answers)
        deadline = self.clock.monotonic() + timeout
        found = await self.engine.complete(debit_id, amount, payer, CONTEXT, POLICY, deadline=deadline)
        return getattr(found, "decision", found)

    async def in_books(self, change):
        """One change of the ledger, durable."""
        return await self.writer.submit(change, essential=True)

    async def refund(self, request, *, told=False):
        """A person's word that some is given back; `told`: its bank is, as by the collector."""
        refund_id = self.engine.new_id()
        found = await self.in_books(lambda tx: refunds.decide_refund(tx, request, refund_id))
        if told and isinstance(found, refunds.Refunded) and not found.replayed:
            await self.engine.upkeep.adopt(request.debit_id)
        return found

    async def adjust(self, debit_id, amount, reason, actor):
        """A person's word of what an unpaid claim asks for."""
        rules = self.engine.rules
        return await self.in_books(lambda tx: refunds.adjust(tx, debit_id, amount, reason, actor=actor, rules=rules))

    async def write_off(self, debit_id, actor, reason):
        """A person's word that a debt is given up."""
        return await self.in_books(lambda tx: debts.write_off(tx, debit_id, actor, reason, self.engine.rules))

    async def resolve_attempt(self, attempt_id, **word):
        """A person's word, or the day file's, of what the bank did: `posted`, `source`, `actor`."""
        rules = self.engine.rules
        return await self.in_books(lambda tx: late.resolve_attempt(tx, attempt_id, rules=rules, **word))

    async def hold_too_late(self, request):
        """A hold that its caller gave up before it was durable, as on a slow disk; the engine follows it up."""
        with self.committer.shut(), pytest.raises(StorageLate):
            await self.engine.hold(request, timeout_s=0)
        await self.followed_up()

    async def followed_up(self):
        """Everything is stored that nobody waits for any more."""
        while self.engine._follow_ups.under_way:
            await asyncio.sleep(0.001)

    async def start_up(self):
        """Classify, then close what can be closed; what was found and what was closed."""
        found = await self.engine.start_up.recover({"lane-1": POLICY}, lambda tx, mandate: 100_000)
        return found, await self.engine.start_up.close_backlog()

    async def heard_late(self, answer, stan="000001", terminal="T0000001"):
        """An answer nobody waits for any more."""
        self.bank._late(PosLateAnswer(terminal, stan, answer))
        await self.followed_up()

    def states(self, table="debit"):
        order = {"debit": "hold_id", "attempt": "created_at, reference", "refund": "created_at, id"}[table]
        return [row[0] for row in self.rows(f"select state from {table} order by {order}")]

    def kinds(self):
        """Of the messages the bank heard."""
        return [message.split()[0] for message in self.bank.heard]

    def items(self):
        return self.rows("select kind, state from item order by id")

    def check(self):
        bad = [f for c in verify(self.reader, KEYS) for f in c.findings]
        assert not bad, bad


POLICY = DeclinePolicy.RELEASE_AS_DEBT
CONTEXT = DecisionContext("lane-1", tariff_version="t1", list_version="l1", list_age_s=3)


def payer_of(funding, *, mandate="m1", limit=None, stand_in=100_000):
    if funding is Funding.BANK_ONLINE:
        return Payer(funding, "bank-1", mandate, f"contract-{mandate}", limit, stand_in)
    return Payer(funding, "issuer-9901", mandate if funding is Funding.ISSUER_CLEARING else None, None, limit, 0)


def _obu_of(card):
    """A tag for each card: real ones are not shared either."""
    return None if card is None else int(card).to_bytes(9)[-4:]


def abandoned_at(sight):
    """Lanes' holds are void when nobody comes back to them; anybody else's are kept."""
    return Abandoned.VOID if sight.service is Service.TOLL else Abandoned.KEEP


def hold_request(key="k1", *, funding=Funding.PURSE, amount=1500, card="99010000000000000001", payer=None, at=0):
    sight = Sight(
        passage_id=digest_of("passage", key)[:32],
        charge_point="lane-1",
        service=Service.TOLL,
        identity=Identity(_obu_of(card), "c" * 32, card, "测A00001", 0, 1, 1),
        opened_at=at,
        clock_quality="trusted",
    )
    plan = PurchasePlan(amount, "20261123100000", 50_000, b"before" + key.encode(), b"after" + key.encode())
    return HoldRequest(key, sight, "road-1", payer or payer_of(funding), amount, plan, abandoned_at(sight))


def claim_request(
    key="k1",
    *,
    funding=Funding.BANK_ONLINE,
    amount=1500,
    service=Service.TOLL,
    mandate="m1",
    limit=None,
    stand_in=100_000,
    day="20231114",
    merchant="road-1",
    plate="测A00001",
):
    """What is charged without a purchase on a card: a plate, a code, a contract."""
    sight = Sight(
        passage_id=digest_of("passage", key)[:32],
        charge_point="lane-1",
        service=service,
        identity=Identity(plate=plate, plate_colour=0),
        opened_at=0,
        clock_quality="trusted",
        day=day,
    )
    if funding is Funding.BANK_ONLINE:
        payer = Payer(funding, "bank-1", mandate, f"contract-{mandate}", limit, stand_in)
    else:
        payer = Payer(funding, "issuer-9901", mandate, None, limit, 0)
    return HoldRequest(key, sight, merchant, payer, amount, None, abandoned_at(sight))


TAKEN = PurchaseResult(
    PurchaseOutcome.TAKEN,
    error=0,
    terminal="019900000001",
    card_serial=7,
    psam_serial=9,
    tac=b"\xaa\xbb\xcc\xdd",
    tac_source="b5",
    algorithm=0,
    key_version=1,
    balance_after=48_500,
)


def honest(result, request, number):
    """`TAKEN` as a card and a PSAM that are so far on would tell it of this purchase; other results as they are."""
    if result is not TAKEN or request.plan is None:
        return result
    after = request.plan.balance_before - request.plan.written_fen
    return replace(TAKEN, card_serial=7 + number, psam_serial=9 + number, balance_after=after)


async def charge(box, request, *, result=TAKEN, timeout=2.0):
    """Hold, then bring in; returns the decision."""
    result = honest(result, request, next(box.purchases))
    placed = await box.engine.hold(request, timeout_s=5)
    claim = ProvenClaim(
        placed.debit_id,
        request.payer,
        CONTEXT,
        POLICY,
        placed.purchase_id,
        result,
        request.sight.identity.card_number,
    )
    brought = await box.engine.bring_in(claim, deadline=box.clock.monotonic() + timeout)
    return brought.decision


def rules_of(text):
    """The shipped rules with what differs, as a site's document says it."""
    return parse_rules(f'version = "test-1"\n{text}'.encode(), Path("rules.toml"))


REFUSALS = {
    ResponseClass.DECLINED: AnswerClass.DECLINED,
    ResponseClass.DECLINED_FOR_NOW: AnswerClass.DECLINED_FOR_NOW,
    ResponseClass.MANUAL: AnswerClass.MANUAL,
}


def code(number, verdict=None):
    """An answer with this code, which refuses where nothing else is said."""
    return BankAnswer(Delivery.ANSWERED, verdict or REFUSALS[response_code(number).response_class], number)


def live(box, *lives, check=True):
    """Run the box for each of these lives; between two the power is cut."""

    async def one(scenario):
        async with box:
            result = await scenario(box)
            if check:
                box.check()
            return result

    result = None
    for number, scenario in enumerate(lives):
        if number:
            box.open()
        result = asyncio.run(one(scenario))
    return result


@pytest.fixture
def box(tmp_path):
    return Box(tmp_path / "ledger.db")
