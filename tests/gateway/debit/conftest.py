"""A real ledger on SQLite, the real engine and outbox, and a bank that does as it is told."""

import asyncio
import random
from collections import deque
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from gateway.banks.channel import AnswerClass, BankAnswer, Delivery
from gateway.debit.attempts import Terminals
from gateway.debit.claims import DecisionContext, HoldRequest, Identity, Payer, PurchasePlan, PurchaseResult, Sight
from gateway.debit.engine import Collection, DebitEngine, ProvenClaim
from gateway.ledger import database, schema
from gateway.ledger.verify import verify
from gateway.ledger.writer import Committer, Writer
from gateway.model.clock import to_us
from gateway.model.passage import DeclinePolicy, Funding, PurchaseOutcome, Service
from gateway.outbox.worker import OutboxWorker

APPROVED = BankAnswer(Delivery.ANSWERED, AnswerClass.APPROVED, "00")
DECLINED = BankAnswer(Delivery.ANSWERED, AnswerClass.DECLINED, "51")
NOT_FOUND = BankAnswer(Delivery.ANSWERED, AnswerClass.NOT_FOUND, "25")
SILENT = BankAnswer(Delivery.SILENT)
NOT_SENT = BankAnswer(Delivery.NOT_SENT)


class FakeClock:
    """Time that moves when somebody sleeps or pushes it."""

    def __init__(self):
        self.now = 1_700_000_000.0

    def monotonic(self):
        return self.now

    def utcnow(self):
        return datetime.fromtimestamp(self.now, UTC)

    async def sleep(self, seconds):
        self.now += seconds
        await asyncio.sleep(0)


class ToldBank:
    """A channel whose answers are queued by the test; messages are kept for reading."""

    name = "bank-1"
    max_message_age_s = 60.0

    def __init__(self, clock):
        self.clock = clock
        self.answers = deque()
        self.heard = []
        self.late = None

    def takes(self, contract_ref):
        return True

    def sale(self, order):
        return f"sale {order.terminal} {order.stan} {order.amount_fen} {order.contract_ref}".encode()

    def reversal(self, order):
        return f"reversal {order.terminal} {order.stan} {order.amount_fen}".encode()

    def advice(self, order):
        return f"advice {order.terminal} {order.stan} {order.amount_fen} {order.contract_ref}".encode()

    def refund(self, order):
        return f"refund {order.terminal} {order.stan} {order.amount_fen} {order.contract_ref}".encode()

    def repeat(self, request):
        return request

    async def exchange(self, request, *, timeout_s):
        self.heard.append(request.decode())
        answer = self.answers.popleft() if self.answers else SILENT
        if answer.delivery is Delivery.SILENT:
            self.clock.now += max(0.0, timeout_s)
        await asyncio.sleep(0)
        return answer

    def on_late(self, handler):
        self.late = handler


class Box:
    """What a test drives: engine, ledger, bank, clock."""

    def __init__(self, path):
        self.path = path
        self.clock = FakeClock()
        self.bank = ToldBank(self.clock)
        self.random = random.Random(7)
        self.open()
        schema.upgrade(self.database)

    def open(self):
        self.database = database.open_writer(self.path)
        self.reader = database.open_reader(self.path)
        self.writer = Writer(Committer(self.database, lambda: to_us(self.clock.utcnow())))

    async def __aenter__(self):
        self.writer.start()
        self.engine = DebitEngine(self.writer, self.reader, {"bank-1": self.bank}, clock=self.clock, random=self.random)
        self.outbox = OutboxWorker(self.bank, self.writer, self.reader, clock=self.clock, random=self.random)
        return self

    async def __aexit__(self, *_):
        self.writer.stop()
        self.database.dispose()
        self.reader.dispose()

    async def drain(self, rounds=8):
        """Let the outbox send what is due, a few times over."""
        for _ in range(rounds):
            for row in self.outbox._due():
                await self.outbox._send(row)
            self.clock.now += 1.0

    def rows(self, sql, **values):
        with self.reader.connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql), values)]

    def balance(self, kind, owner=None):
        rows = self.rows("select sum(balance) from account where kind=:k and (:o is null or owner=:o)", k=kind, o=owner)
        return rows[0][0] or 0

    def check(self):
        bad = [f for c in verify(self.reader) for f in c.findings]
        assert not bad, bad


COLLECTION = Collection(DeclinePolicy.RELEASE_AS_DEBT, {"bank-1": Terminals(("T0000001", "T0000002"), "000001")})
CONTEXT = DecisionContext("lane-1", tariff_version="t1", list_version="l1", list_age_s=3)


def payer_of(funding, *, mandate="m1", limit=None, stand_in=100_000):
    if funding is Funding.BANK_ONLINE:
        return Payer(funding, "bank-1", mandate, f"contract-{mandate}", limit, stand_in)
    return Payer(funding, "issuer-9901", mandate if funding is Funding.ISSUER_CLEARING else None, None, limit, 0)


def hold_request(key="k1", *, funding=Funding.PURSE, amount=1500, card="99010000000000000001", payer=None, at=0):
    sight = Sight(
        passage_id=f"{hash(key) & (1 << 128) - 1:032x}",
        charge_point="lane-1",
        service=Service.TOLL,
        identity=Identity(b"\x01\x02\x03\x04", "c" * 32, card, "测A00001", 0, 1, 1),
        opened_at=at,
        clock_quality="trusted",
    )
    plan = PurchasePlan(amount, "20261123100000", 50_000, b"before" + key.encode(), b"after" + key.encode())
    return HoldRequest(key, sight, "road-1", payer or payer_of(funding), amount, plan)


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


async def charge(box, request, *, result=TAKEN, timeout=2.0):
    """Hold, then bring in; returns the decision."""
    placed = await box.engine.hold(request, timeout_s=5)
    claim = ProvenClaim(
        placed.debit_id,
        request.amount_fen,
        request.payer,
        CONTEXT,
        COLLECTION,
        placed.purchase_id,
        result,
        request.sight.identity.card_number,
    )
    brought = await box.engine.bring_in(claim, deadline=box.clock.monotonic() + timeout)
    return brought.decision


@pytest.fixture
def box(tmp_path):
    return Box(tmp_path / "ledger.db")
