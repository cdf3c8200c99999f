"""Double entry against a plain model: any mix of holds, ends and moves, in batches of any size, some failing."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from sqlalchemy import text

from gateway.ledger.books import AccountKind, BooksError
from gateway.ledger.verify_rules import RULES, check_rule
from gateway.ledger.writer import Committer
from hardware.bench.chain_key import KEYS
from hardware.bench.clocks import StillClock
from tests.gateway.ledger.empty import open_empty

pytestmark = pytest.mark.slow

ACCOUNTS = [
    (AccountKind.OPEN, "payer-1"),
    (AccountKind.OPEN, "payer-2"),
    (AccountKind.DEBT, "payer-1"),
    (AccountKind.MERCHANT, "road"),
    (AccountKind.BANK, "bank-1"),
    (AccountKind.ISSUER, "9901"),
]
BOOKS_RULES = [
    [rule.name for rule in RULES].index(name)
    for name in (
        "accounts agree with their transfers",
        "the books sum to zero",
        "a hold ends at most once, and never for more than it held",
    )
]

DEBIT = """
    insert into subject (id) values ('p');
    insert into passage (id, charge_point, service, opened_at, clock_quality)
        values ('p', 'lane-1', 'toll', 0, 'trusted');
    insert into obligor (id) values ('o');
    insert into debit (id, idempotency_key, content_hash, passage_id, obligor_id, merchant, service, day, funding,
        payer, amount, state, hold_id, created_at, changed_at, abandoned)
        values ('d', 'k', 'h', 'p', 'o', 'road', 'toll', '20261123', 'purse', '9901', 0, 'held', 0, 0, 0, 'void');
"""

accounts = st.sampled_from(ACCOUNTS)
amounts = st.one_of(st.integers(0, 5), st.integers(0, 1 << 40))


def ledger(folder):
    engine = open_empty(folder / "ledger.db")
    with engine.begin() as connection:
        for statement in DEBIT.split(";")[:-1]:
            connection.execute(text(statement))
    return engine


class _Failed(Exception):
    pass


class BooksMachine(RuleBasedStateMachine):
    holds = Bundle("holds")

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="books-"))
        self.engine = ledger(self.folder)
        self.committer = Committer(self.engine, StillClock(1), keys=KEYS)
        self.balance = dict.fromkeys(ACCOUNTS, 0)
        self.held = dict.fromkeys(ACCOUNTS, 0)
        self.waiting = []

    def teardown(self):
        self.engine.dispose()
        shutil.rmtree(self.folder)

    def _commit(self, *changes):
        return self.committer.commit(list(changes))

    @rule(target=holds, source=accounts, to=accounts, amount=amounts)
    def hold(self, source, to, amount):
        (transfer,) = self._commit(
            lambda tx: tx.books.hold("hold", "d", source=source, target=to, amount=amount, event_us=0)
        )
        self.held[source] += amount
        return transfer, source, to, amount

    @rule(hold=consumes(holds), data=st.data())
    def post(self, hold, data):
        transfer, source, to, amount = hold
        part = data.draw(st.one_of(st.none(), st.integers(0, amount)))
        self._commit(lambda tx: tx.books.post(transfer, "released", amount=part, event_us=0))
        moved = amount if part is None else part
        self.held[source] -= amount
        self.balance[source] -= moved
        self.balance[to] += moved

    @rule(hold=consumes(holds))
    def void(self, hold):
        transfer, source, _, amount = hold
        self._commit(lambda tx: tx.books.void(transfer, "refused", event_us=0))
        self.held[source] -= amount

    @rule(moves=st.lists(st.tuples(accounts, accounts, amounts), min_size=1, max_size=5))
    def move_in_one_batch(self, moves):
        def change(source, to, amount):
            return lambda tx: tx.books.move("fee", "d", source=source, target=to, amount=amount, event_us=0)

        self._commit(*(change(*m) for m in moves))
        for source, to, amount in moves:
            self.balance[source] -= amount
            self.balance[to] += amount

    @rule(source=accounts, to=accounts, amount=amounts)
    def hold_and_post_in_one_batch(self, source, to, amount):
        made = []

        def first(tx):
            made.append(tx.books.hold("hold", "d", source=source, target=to, amount=amount, event_us=0))
            assert tx.books.held(*source) == self.held[source] + amount

        def second(tx):
            tx.books.post(made[-1], "released", event_us=0)
            assert tx.books.held(*source) == self.held[source]

        self._commit(first, second)
        self.balance[source] -= amount
        self.balance[to] += amount

    @rule(source=accounts, to=accounts, amount=amounts)
    def a_failing_batch_leaves_no_trace(self, source, to, amount):
        def move(tx):
            tx.books.move("fee", "d", source=source, target=to, amount=amount, event_us=0)
            tx.books.hold("hold", "d", source=source, target=to, amount=amount, event_us=0)

        def fail(tx):
            raise _Failed

        with pytest.raises(_Failed):
            self._commit(move, fail)

    @rule(hold=holds, over=st.integers(1, 9))
    def more_than_was_held_is_refused(self, hold, over):
        transfer, *_, amount = hold
        for wrong in (amount + over, -over):
            with pytest.raises(BooksError):
                self._commit(lambda tx, wrong=wrong: tx.books.post(transfer, "released", amount=wrong, event_us=0))

    @rule(source=accounts, to=accounts, amount=st.integers(-9, -1))
    def negative_is_refused(self, source, to, amount):
        with pytest.raises(BooksError):
            self._commit(lambda tx: tx.books.move("fee", "d", source=source, target=to, amount=amount, event_us=0))
        with pytest.raises(BooksError):
            self._commit(lambda tx: tx.books.hold("hold", "d", source=source, target=to, amount=amount, event_us=0))

    @invariant()
    def the_ledger_says_what_the_model_says(self):
        with self.engine.connect() as connection:
            found = connection.execute(text("select kind, owner, balance, held from account")).all()
            bad = [f for number in BOOKS_RULES for f in check_rule(connection, number).findings]
        stored = {(AccountKind(kind), owner): (balance, held) for kind, owner, balance, held in found}
        for account in ACCOUNTS:
            assert stored.get(account, (0, 0)) == (self.balance[account], self.held[account])
        assert bad == []


BooksMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestBooks = BooksMachine.TestCase


@pytest.fixture
def committer(tmp_path):
    engine = ledger(tmp_path)
    yield Committer(engine, StillClock(1), keys=KEYS)
    engine.dispose()


def test_a_hold_ends_once(committer):
    (hold,) = committer.commit(
        [lambda tx: tx.books.hold("hold", "d", source=ACCOUNTS[0], target=ACCOUNTS[3], amount=5, event_us=0)]
    )
    committer.commit([lambda tx: tx.books.post(hold, "released", event_us=0)])
    for again in (
        lambda tx: tx.books.post(hold, "released", event_us=0),
        lambda tx: tx.books.void(hold, "refused", event_us=0),
    ):
        with pytest.raises(Exception, match="UNIQUE"):
            committer.commit([again])


def test_only_a_pending_transfer_can_end(committer):
    (moved,) = committer.commit(
        [lambda tx: tx.books.move("fee", "d", source=ACCOUNTS[0], target=ACCOUNTS[3], amount=5, event_us=0)]
    )
    for wrong in (moved, 999):
        with pytest.raises(BooksError):
            committer.commit([lambda tx, wrong=wrong: tx.books.void(wrong, "refused", event_us=0)])


def test_a_busy_account_is_written_once_a_batch(committer):
    def change(tx):
        tx.books.move("fee", "d", source=ACCOUNTS[0], target=ACCOUNTS[3], amount=1, event_us=0)

    committer.commit([change] * 40)
    with committer._engine.connect() as connection:
        versions = connection.execute(text("select balance, version from account order by balance")).all()
    assert [tuple(v) for v in versions] == [(-40, 1), (40, 1)]
