"""Start-up: everything open is found and classified before a charge point opens, and closed behind, once."""

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from gateway.debit import holds, recovery
from gateway.debit.claims import HoldPlaced, HoldRefused
from gateway.debit.engine import DebitEngine
from gateway.ledger import engines
from gateway.ledger.engines import StorageTrouble
from gateway.ledger.verify import verify
from gateway.ledger.writer import Committer, StorageUnavailable
from gateway.model.passage import Abandoned, DeclinePolicy, Funding, Occasion, Service
from hardware.bench import measure_start
from hardware.bench.chain_key import KEYS

from .conftest import (
    APPROVED,
    CONTEXT,
    DECLINED,
    NOT_SENT,
    POLICY,
    SILENT,
    Box,
    ToldBank,
    claim_request,
    hold_request,
    live,
    rules_of,
)

pytestmark = pytest.mark.slow

MANY = 2700
"""A multiple of the kinds, and more than a page of each that is counted in pages."""
EACH = MANY // len(measure_start.KINDS)


def findings_of(path):
    reader = engines.open_reader(path)
    try:
        return [finding for check in verify(reader, KEYS) for finding in check.findings]
    finally:
        reader.dispose()


def test_thousands_of_open_debits_of_all_kinds_are_classified_then_closed(tmp_path):
    path = tmp_path / "start.db"
    start = asyncio.run(measure_start.start_up(path, MANY))
    found, closed = start.found.counts, start.closed.counts
    assert found["open_debits"] == EACH * 8, "those that are owed are decided"
    assert found["unknown_purchases"] == EACH * 2
    assert found["sales_in_doubt"] == found["reversals_waiting"] == EACH * 2
    assert found["advices_waiting"] == EACH
    assert (found["decided_now"], found["voided"]) == (0, 0), "nothing is closed before charge points open"
    assert closed["decided_now"] == EACH * 5
    assert closed["voided"] == EACH
    assert start.progress_told >= 2
    vehicles = start.vehicles
    assert vehicles.wrong == []
    assert min(vehicles.barred_by_card, vehicles.barred_by_tag, vehicles.let_in) >= 1
    assert findings_of(path) == []


def test_the_measurement_says_what_it_found(tmp_path):
    figures = {row["figure"]: row["value"] for row in measure_start.measure(tmp_path, 90)}
    assert figures["open debits"] == 90
    assert figures["decided by closing"] == 50
    assert figures["vehicles treated wrongly"] == 0
    assert figures["classifying, times the count"] > 0


@pytest.mark.parametrize("after", range(6))
def test_a_power_cut_in_the_midst_of_it_changes_nothing(tmp_path, monkeypatch, after):
    """The next start finds the rest; nothing is decided, reversed or advised twice."""
    monkeypatch.setattr(recovery, "PAGE", 3)
    monkeypatch.setattr(recovery, "CLOSING_PAGE", 3)
    box = Box(tmp_path / "ledger.db")
    box.bank = measure_start.BANK
    number = 2 * len(measure_start.KINDS)
    measure_start.fill(Committer(box.database, box.clock, keys=KEYS), number, box.clock)

    async def cut(box):
        commits = iter(range(after))
        submit = box.writer.submit

        def counted(change, *, essential=False):
            if next(commits, None) is None:
                raise ConnectionError("power")
            return submit(change, essential=essential)

        box.writer.submit = counted
        with pytest.raises(ConnectionError):
            await start(box)

    async def start(box):
        await box.engine.start_up.recover({"lane-1": POLICY}, lambda tx, mandate: 100_000)
        return await box.engine.start_up.close_backlog()

    live(box, cut, start)
    assert box.rows("select state, count(*) from debit group by state order by state") == [
        ("funded", 2),
        ("held", 6),
        ("owed", 8),
        ("voided", 2),
    ]
    assert box.rows("select count(*), count(distinct debit_id) from decision where outcome <> 'unknown'") == [(12, 12)]
    assert box.rows("select kind, count(*) from outbox where done_at is null group by kind order by kind") == [
        ("advice", 4),
        ("reversal", 4),
    ]


def test_started_twice_the_second_finds_the_same_open_and_closes_nothing(tmp_path):
    box = Box(tmp_path / "ledger.db")
    number = 3 * len(measure_start.KINDS)
    measure_start.fill(Committer(box.database, box.clock, keys=KEYS), number, box.clock)
    seen = []

    async def start(box):
        found, closed = await box.start_up()
        seen.append((found.counts, closed.counts))

    live(box, start, start)
    (first, closed), (second, nothing) = seen
    assert first["open_debits"] == 24
    assert second["open_debits"] == 9
    assert closed["decided_now"] == 15
    assert (nothing["decided_now"], nothing["voided"], second["sales_in_doubt"]) == (0, 0, 0)
    assert second["reversals_waiting"] == first["reversals_waiting"] == 6


class PickyBank(ToldBank):
    """Its messages cannot carry one contract any more: the debit's advice cannot be built."""

    def message(self, kind, order):
        if kind == "advice" and order.contract_ref == "contract-m3":
            raise ValueError("no such contract")
        return super().message(kind, order)


@pytest.mark.parametrize("page", [2, 100])
def test_a_debit_that_cannot_be_closed_stops_no_other_and_is_told(tmp_path, monkeypatch, caplog, page):
    monkeypatch.setattr(recovery, "CLOSING_PAGE", page)
    box = Box(tmp_path / "ledger.db", bank=PickyBank)
    ids = []

    async def first(box):
        for n in range(6):
            request = claim_request(f"k{n}", mandate=f"m{n}", service=Service.FUEL)
            ids.append((await box.engine.hold(request, timeout_s=5)).debit_id)
            parts = {"debit_id": ids[n], "amount_fen": 500, "payer": request.payer, "asking": None, "context": CONTEXT}
            await box.in_books(partial(holds.complete, **parts))

    async def second(box):
        _, closed = await box.start_up()
        return closed

    closed = live(box, first, second)
    assert (closed.decided_now, closed.not_closed) == (5, 1)
    assert box.states() == ["owed"] * 3 + ["held"] + ["owed"] * 2
    assert box.rows("select count(*) from attempt where kind = 'advice'") == [(5,)]
    assert box.rows("select count(*) from decision") == [(5,)]
    assert [record.getMessage() for record in caplog.records if ids[3] in record.getMessage()]
    assert box.rows("select kind, ref, debit_id, state from item") == [("debit_not_closed", ids[3], ids[3], "open")]
    assert "contract-m3" not in box.rows("select note from item")[0][0], "whatever an error says of a payer"


def test_a_debit_that_could_not_be_closed_leaves_peoples_list_when_it_has_ended(tmp_path):
    box = Box(tmp_path / "ledger.db", bank=PickyBank)

    async def first(box):
        request = claim_request("k3", mandate="m3", service=Service.FUEL)
        held = (await box.engine.hold(request, timeout_s=5)).debit_id
        parts = {"debit_id": held, "amount_fen": 500, "payer": request.payer, "asking": None, "context": CONTEXT}
        await box.in_books(partial(holds.complete, **parts))

    async def start(box):
        await box.start_up()
        return box.items()

    assert live(box, first, start, start) == [("debit_not_closed", "open")]
    box.open()
    box.bank = ToldBank(box.clock)
    assert live(box, start) == [("debit_not_closed", "corrected")]
    assert box.states() == ["owed"]


def test_a_storage_in_trouble_is_no_bad_debit(box):
    """Whoever closes hears of it and is started again; nothing is called a bad debit for it."""

    async def first(box):
        await box.engine.hold(claim_request(), timeout_s=5)

    async def second(box):
        await box.engine.start_up.recover({"lane-1": POLICY}, lambda tx, mandate: 100_000)
        submitted = []

        def refused(change, *, essential=False):
            submitted.append(change)
            future = asyncio.get_running_loop().create_future()
            future.set_exception(StorageUnavailable(StorageTrouble.STOPPED))
            return future

        submit, box.writer.submit = box.writer.submit, refused
        with pytest.raises(StorageUnavailable):
            await box.engine.start_up.close_backlog()
        box.writer.submit = submit
        assert len(submitted) == 1
        assert (await box.engine.start_up.close_backlog()).voided == 1

    live(box, first, second)


def test_charge_points_may_open_while_it_closes(box, monkeypatch):
    """A vehicle of this run is never taken for one of the last, however long the closing takes."""
    monkeypatch.setattr(recovery, "CLOSING_PAGE", 2)

    async def first(box):
        for n in range(6):
            await box.engine.hold(claim_request(f"k{n}"), timeout_s=5)

    async def second(box):
        await box.engine.start_up.recover({"lane-1": POLICY}, lambda tx, mandate: 100_000)
        closing = asyncio.create_task(box.engine.start_up.close_backlog())
        mine = [await box.engine.hold(claim_request(f"new{n}"), timeout_s=5) for n in range(4)]
        closed = await closing
        assert closed.voided == 6
        states = dict(box.rows("select id, state from debit"))
        assert [states[placed.debit_id] for placed in mine] == ["held"] * 4

    live(box, first, second)


def test_it_binds_until_it_is_closed(box):
    """A hold of the last run counts towards its payer's limit from the first moment."""

    async def first(box):
        await box.engine.hold(claim_request("k1", amount=4000, limit=5000), timeout_s=5)
        await box.engine.hold(claim_request("k2", amount=1000, limit=5000, service=Service.FUEL), timeout_s=5)

    async def second(box):
        await box.engine.start_up.recover({"lane-1": POLICY}, lambda tx, mandate: 100_000)
        refused = await box.engine.hold(claim_request("k3", amount=1, limit=5000), timeout_s=5)
        assert refused == HoldRefused("limit_exceeded")
        await box.engine.start_up.close_backlog()
        assert isinstance(await box.engine.hold(claim_request("k4", amount=4000, limit=5000), timeout_s=5), HoldPlaced)

    live(box, first, second)


@pytest.mark.parametrize("service", [Service.TOLL, Service.FUEL, Service.PARKING])
@pytest.mark.parametrize("abandoned", Abandoned)
def test_what_becomes_of_an_abandoned_hold_is_a_field_of_the_hold(box, service, abandoned):
    """Whatever the money is for: a pump may be bound like a lane, and a lane like a pump."""

    async def first(box):
        await box.engine.hold(replace(claim_request(service=service), abandoned=abandoned), timeout_s=5)

    async def second(box):
        await box.start_up()

    live(box, first, second)
    assert box.states("debit") == ["voided" if abandoned is Abandoned.VOID else "held"]


def test_a_debit_of_a_charge_point_that_is_gone_is_told_to_its_bank_all_the_same(box):
    async def first(box):
        request = claim_request(service=Service.FUEL)
        debit_id = (await box.engine.hold(request, timeout_s=5)).debit_id
        await box.in_books(lambda tx: holds.complete(tx, debit_id, 500, request.payer, asking=None, context=CONTEXT))

    async def second(box):
        await box.engine.start_up.recover({"lane-9": POLICY}, lambda tx, mandate: 100_000)
        await box.collector.round()
        await box.engine.start_up.close_backlog()
        await box.collector.round()
        box.bank.answers.append(APPROVED)
        await box.drain(2)

    live(box, first, second)
    assert box.kinds() == ["advice"]
    assert box.states() == ["funded"]


def test_other_rules_under_a_version_that_decided_here_stop_the_start(box):
    async def first(box):
        await box.start_up()

    async def second(box):
        changed = replace(rules_of("[debt]\nmax_tries = 1"), version=box.engine.rules.version)
        box.engine = DebitEngine(
            box.writer, box.queries, {"bank-1": box.bank}, clock=box.clock, random=box.random, rules=changed
        )
        with pytest.raises(recovery.RulesConflict):
            await box.start_up()

    live(box, first, second)


@pytest.mark.parametrize("answer", [APPROVED, DECLINED, SILENT, NOT_SENT])
def test_what_was_decided_is_left_alone(box, answer):
    async def first(box):
        await box.charge(claim_request(), answer)

    async def second(box):
        before = box.rows("select * from debit"), box.rows("select * from attempt"), box.rows("select * from outbox")
        found, closed = await box.start_up()
        assert (found.open_debits, found.sales_in_doubt, closed.decided_now) == (0, 0, 0)
        after = box.rows("select * from debit"), box.rows("select * from attempt"), box.rows("select * from outbox")
        assert after == before

    live(box, first, second)


def test_a_card_and_a_tag_stay_barred_as_long_as_their_purchase_is_open(box):
    async def first(box):
        await box.engine.hold(hold_request("k1"), timeout_s=5)

    async def second(box):
        await box.start_up()
        assert box.states() == ["held"]
        same_card = hold_request("k2")
        identity = replace(same_card.sight.identity, card_number="99010000000000000077")
        same_tag = replace(same_card, sight=replace(same_card.sight, identity=identity), idempotency_key="k3")
        return [await box.engine.hold(request, timeout_s=5) for request in (same_card, same_tag)]

    assert live(box, first, second) == [HoldRefused("purchase_open")] * 2


def test_a_lane_that_keeps_who_is_declined_is_remembered(box):
    """The bank had said no when the power went: the policy of its charge point decides the barrier."""
    strict = DeclinePolicy.HOLD_FOR_ATTENDANT

    async def first(box):
        placed = await box.engine.hold(hold_request(funding=Funding.BANK_ONLINE), timeout_s=5)
        from gateway.banks.channel import NewAttempt
        from gateway.debit import attempts, purchases
        from gateway.debit.states import debit_row

        from .conftest import TAKEN

        def change(tx):
            purchases.store_result(tx, placed.purchase_id, TAKEN, None)
            new = NewAttempt("0" * 32, box.clock.utcnow())
            attempts.store_sale(tx, attempts.Asking(box.bank, new, "lane-1"), debit_row(tx, placed.debit_id))
            attempts.settle_answer(tx, new.id, DECLINED)

        await box.in_books(change)

    async def second(box):
        await box.engine.start_up.recover({"lane-1": strict}, lambda tx, mandate: 100_000)
        await box.engine.start_up.close_backlog()

    live(box, first, second)
    assert box.rows("select release, outcome, recovered from decision") == [("attendant", "debt", Occasion.START)]
