"""The day end on a real ledger: agreed days settle to nothing left over, planted differences are each found."""

import pytest

from gateway.clearing import day as day_end
from gateway.clearing.bank_file import BankFileError
from gateway.clearing.day import ClearingRefused
from gateway.clearing.items import explain, write_off
from gateway.model.clearing import DayFileWord, DifferenceKind
from gateway.model.passage import PurchaseOutcome
from tests.gateway.clearing.conftest import DAY, DAY_AFTER, DAY_BEFORE, approved
from tests.gateway.debit.conftest import DECLINED, NOT_FOUND, SILENT, TAKEN, PurchaseResult


async def small_day(plaza):
    """Two bank cars, one purse, one issuer card."""
    await plaza.pass_bank(approved())
    await plaza.pass_bank(approved(), amount=2500)
    await plaza.pass_purse()
    await plaza.pass_issuer()


def kinds(result):
    return [difference.kind.value for difference in result.differences]


def transfers(plaza, *events):
    found = plaza.rows(
        "select t.event, f.kind || ':' || f.owner, g.kind || ':' || g.owner, t.amount from transfer t"
        " join account f on f.id = t.from_account join account g on g.id = t.to_account"
        " where t.reference like 'clearing/%' order by t.id"
    )
    return [row for row in found if not events or row[0] in events]


# --- a day on which all agree ---------------------------------------------------------------------------------------


def test_a_day_on_which_all_agree_leaves_nothing_over(plaza):
    plaza.drive(small_day)
    plaza.bring(plaza.lines())
    result = plaza.run()
    assert result.differences == []
    assert dict(result.states) == {"cleared": 4}
    assert plaza.balances() == {}
    assert plaza.rows("select merchant, payer, payer_kind, service, seq, count, amount, paid from clearing_line") == [
        ("road-1", "bank-1", "bank", "toll", 1, 2, 4000, 4000),
        ("road-1", "issuer-9901", "issuer", "toll", 1, 2, 1500, 1500),
    ]
    assert transfers(plaza) == [
        ("settlement", "settlement:main", "bank:bank-1", 4000),
        ("payout", "merchant:road-1", "settlement:main", 4000),
        ("settlement", "settlement:main", "issuer:issuer-9901", 1500),
        ("payout", "merchant:road-1", "settlement:main", 1500),
    ]
    assert plaza.rows("select state from debit where funding = 'issuer_clearing'") == [("funded",)]
    assert plaza.items() == []


def test_run_again_nothing_is_written(plaza):
    plaza.drive(small_day)
    plaza.bring(plaza.lines())
    plaza.run()
    before = plaza.counted()
    again = plaza.run()
    assert not again.changed
    assert dict(again.states) == {"cleared": 4}
    assert plaza.counted() == before


def test_a_day_that_is_not_over_is_refused(plaza):
    with pytest.raises(ClearingRefused) as refused:
        plaza.run("20231120")
    assert refused.value.reason == "clearing_day_open"


def test_without_the_banks_file_the_bank_waits_and_the_issuer_is_cleared(plaza):
    plaza.drive(small_day)
    first = plaza.run()
    assert first.waiting == ["bank-1"]
    assert dict(first.states) == {"cleared": 2}
    assert plaza.balances() == {"bank:bank-1": -4000, "merchant:road-1": 4000}
    plaza.bring(plaza.lines())
    assert plaza.run().waiting == []
    assert plaza.balances() == {}


def test_a_fee_is_kept_by_the_bank_and_borne_by_the_collector(plaza):
    plaza.rules(fees={"bank-1": {"basis_points": 60}})
    plaza.drive(small_day)
    plaza.bring(plaza.lines())
    plaza.run()
    assert transfers(plaza)[:4] == [
        ("settlement", "settlement:main", "bank:bank-1", 3976),
        ("fee", "fee:bank-1", "bank:bank-1", 24),
        ("fee_charged", "merchant:road-1", "fee:bank-1", 24),
        ("payout", "merchant:road-1", "settlement:main", 3976),
    ]
    assert plaza.balances() == {}


def test_a_fee_on_the_whole_line_borne_by_the_operator(plaza):
    plaza.rules(fees={"bank-1": {"basis_points": 33, "per": "line", "borne_by": "operator", "rounding": "down"}})
    plaza.drive(small_day)
    plaza.bring(plaza.lines())
    plaza.run()
    assert plaza.balances() == {"fee:bank-1": -13, "settlement:main": 13}


def test_a_fee_is_shared_by_road_owners_to_the_fen(plaza):
    plaza.rules(splits={"99010101": {"road-1": 1, "road-2": 1, "road-3": 1}}, fees={"bank-1": {"basis_points": 10}})
    plaza.drive(small_day)
    plaza.bring(plaza.lines())
    plaza.run()
    assert plaza.rows("select owner, sum(amount) from clearing_share group by owner order by owner") == [
        ("road-1", 500 + 834 + 267 + 234),
        ("road-2", 500 + 833 + 267 + 233),
        ("road-3", 500 + 833 + 266 + 233),
    ]
    # Fees of 2 and 3 fen, split like the amounts.
    assert plaza.rows("select owner, amount, fee from clearing_payout where line_id = 1 order by owner") == [
        ("road-1", 1334, 2),
        ("road-2", 1333, 2),
        ("road-3", 1333, 1),
    ]
    assert plaza.balances() == {}


def test_a_run_that_is_cut_anywhere_is_taken_up_where_it_was(plaza):
    plaza.rules(fees={"bank-1": {"basis_points": 60}}, splits={"lane-1": {"road-2": 1, "road-3": 2}})
    plaza.drive(small_day)
    plaza.bring([*plaza.lines(), ("sale", "T0000001", "000009", "000001", 5)])
    for budget in range(1, 12):
        left = [budget]

        def commit(change, left=left):
            if not left[0]:
                raise InterruptedError("power cut")
            left[0] -= 1
            return plaza.commit(change)

        try:
            plaza.run(commit=commit)
        except InterruptedError:
            plaza.box.check()
        else:
            break
    assert plaza.balances() == {}
    assert len(plaza.rows("select * from clearing_line")) == 2
    assert [item[0] for item in plaza.items()] == ["missing_here"]


def test_two_runs_at_once_do_nothing_twice(plaza, monkeypatch):
    """The second run reads before the first has written, and writes after it."""
    plaza.drive(small_day)
    plaza.bring(plaza.lines()[:1])
    compare = day_end._compare

    def meanwhile(*arguments):
        found = compare(*arguments)
        monkeypatch.setattr(day_end, "_compare", compare)
        plaza.run()
        return found

    monkeypatch.setattr(day_end, "_compare", meanwhile)
    late = plaza.run()
    assert not late.changed
    assert plaza.rows("select count(*) from clearing_row") == [(4,)]
    assert len(plaza.items()) == 1


def test_a_line_is_closed_once(plaza):
    plaza.drive(small_day)
    plaza.run()
    before = plaza.counted()
    with plaza.box.reader.connect() as connection:
        closed = day_end._sums(connection, 1)
    assert plaza.commit(day_end._close_change(1, closed, plaza.terms)) == 0
    assert plaza.counted() == before


def test_a_busy_day_goes_in_pages(plaza, monkeypatch):
    monkeypatch.setattr("gateway.ledger.pace.FIRST_ROWS", 2)
    plaza.drive(small_day)
    plaza.bring(plaza.lines())
    assert plaza.run().rows_written == 4
    assert plaza.rows("select count(*) from clearing_line") == [(2,)]
    assert plaza.balances() == {}


# --- differences of every kind --------------------------------------------------------------------------------------


def test_a_line_that_the_bank_does_not_have_is_disputed_until_a_later_file_has_it(plaza):
    plaza.drive(small_day)
    first, second = plaza.lines()
    plaza.bring([first])
    result = plaza.run()
    assert kinds(result) == ["missing_at_bank"]
    assert dict(result.states) == {"cleared": 3, "disputed": 1}
    assert plaza.balances() == {"bank:bank-1": -2500, "merchant:road-1": 2500}
    plaza.bring([second], DAY_AFTER)
    late = plaza.run(DAY_AFTER)
    assert kinds(late) == ["other_day"]
    assert [(kind, state) for kind, _, _, state in plaza.items()] == [
        ("missing_at_bank", "corrected"),
        ("other_day", "explained"),
    ]
    assert plaza.balances() == {}
    assert plaza.run().differences == []
    assert plaza.rows("select day, seq, amount from clearing_line where payer = 'bank-1' order by id") == [
        (DAY, 1, 1500),
        (DAY_AFTER, 1, 2500),
    ]


def test_a_supplement_brings_what_was_missing_into_a_line_of_its_own(plaza):
    plaza.drive(small_day)
    first, second = plaza.lines()
    plaza.bring([first])
    plaza.run()
    with pytest.raises(BankFileError) as refused:
        plaza.bring([second])
    assert refused.value.reason == "bank_file_second"
    plaza.bring([second], supplement=True)
    assert plaza.run().differences == []
    assert plaza.rows("select seq, amount from clearing_line where payer = 'bank-1' order by seq") == [
        (1, 1500),
        (2, 2500),
    ]
    assert [state for *_, state in plaza.items()] == ["corrected"]
    assert plaza.balances() == {}


def test_the_same_file_again_is_refused_by_its_digest(plaza):
    plaza.drive(small_day)
    path = plaza.file(plaza.lines())
    day_end_import(plaza, path)
    with pytest.raises(BankFileError) as refused:
        day_end_import(plaza, path)
    assert refused.value.reason == "bank_file_known"


def day_end_import(plaza, path, **more):
    from gateway.clearing.imports import import_file

    return import_file(path, "bank-1", DAY, more.pop("commit", plaza.commit), plaza.terms, **more)


def test_a_file_that_changes_while_it_is_read_does_not_count(plaza):
    plaza.drive(small_day)
    path = plaza.file(plaza.lines())

    def commit(change):
        if "000009" not in path.read_text(encoding="utf-8"):
            path.write_text(path.read_text(encoding="utf-8").replace(",000001,000002,", ",000009,000002,"))
        return plaza.commit(change)

    with pytest.raises(BankFileError, match="changed while it was read"):
        day_end_import(plaza, path, commit=commit)
    assert plaza.run().waiting == ["bank-1"]


def test_an_import_that_was_cut_off_is_taken_up_again(plaza, monkeypatch):
    monkeypatch.setattr("gateway.ledger.pace.FIRST_ROWS", 1)
    plaza.drive(small_day)
    path = plaza.file(plaza.lines())
    left = [2]

    def commit(change):
        if not left[0]:
            raise InterruptedError
        left[0] -= 1
        return plaza.commit(change)

    with pytest.raises(InterruptedError):
        day_end_import(plaza, path, commit=commit)
    assert plaza.run().waiting == ["bank-1"], "half a file does not count"
    day_end_import(plaza, path)
    assert plaza.rows("select count(*) from bank_line") == [(2,)]
    assert plaza.run().differences == []


def test_a_line_that_we_do_not_have(plaza):
    plaza.drive(small_day)
    plaza.bring([*plaza.lines(), ("sale", "T0000002", "000001", "000777", 990)])
    assert kinds(plaza.run()) == ["missing_here"]
    assert plaza.items() == [("missing_here", "bank-1/T0000002/000001/000777", -990, "open")]
    assert plaza.balances() == {}


def test_another_amount_is_disputed_and_given_up_by_two(plaza):
    plaza.drive(small_day)
    first, second = plaza.lines()
    plaza.bring([first, (*second[:4], 2400)])
    assert kinds(plaza.run()) == ["amount_differs"]
    assert plaza.items()[0][2] == 100
    plaza.commit(lambda tx: write_off(tx, 1, "wang", "bank's own rounding", plaza.terms))
    assert plaza.items()[0][3] == "open"
    with pytest.raises(ClearingRefused) as refused:
        plaza.commit(lambda tx: write_off(tx, 1, "Wang", "again", plaza.terms))
    assert refused.value.reason == "item_needs_second"
    done = plaza.commit(lambda tx: write_off(tx, 1, "li", "agreed", plaza.terms))
    assert (done.state, done.actor, done.second_actor, done.lost_fen) == ("written_off", "wang", "li", 100)
    result = plaza.run()
    assert dict(result.states) == {"cleared": 4}
    # The collector has its whole fare; the hundred fen are ours.
    assert plaza.balances() == {"loss:bank-1": -100, "settlement:main": 100}
    assert plaza.rows("select event, actor from journal where kind = 'item' order by number") == [
        ("open", None),
        ("write_off_proposed", "wang"),
        ("written_off", "li"),
    ]
    with pytest.raises(ClearingRefused) as refused:
        plaza.commit(lambda tx: write_off(tx, 1, "li", "once more", plaza.terms))
    assert refused.value.reason == "item_closed"


def test_what_the_bank_never_pays_is_rejected_and_a_loss(plaza):
    plaza.drive(small_day)
    plaza.bring(plaza.lines()[:1])
    plaza.run()
    for by in ("wang", "li"):
        plaza.commit(lambda tx, by=by: write_off(tx, 1, by, "bank refuses", plaza.terms))
    result = plaza.run()
    assert dict(result.states) == {"cleared": 3, "rejected": 1}
    assert plaza.balances() == {"loss:bank-1": -2500, "settlement:main": 2500}
    assert not plaza.run().changed


def test_a_booking_too_many(plaza):
    plaza.drive(small_day)
    first, second = plaza.lines()
    plaza.bring([first, second, second])
    result = plaza.run()
    assert kinds(result) == ["duplicate_at_bank"]
    assert dict(result.states) == {"cleared": 4}
    assert plaza.items()[0][2:] == (-2500, "open")
    plaza.bring([("reversal", *second[1:])], DAY_AFTER)
    assert plaza.run(DAY_AFTER).differences == []
    assert plaza.items()[0][3] == "corrected"
    assert not plaza.run().changed


def test_the_same_line_in_the_files_of_two_days(plaza):
    plaza.drive(small_day)
    plaza.bring(plaza.lines())
    plaza.run()
    plaza.bring(plaza.lines()[:1], DAY_AFTER)
    assert kinds(plaza.run(DAY_AFTER)) == ["duplicate_at_bank"]
    assert plaza.rows("select count(*) from clearing_line where day = :d", d=DAY_AFTER) == [(0,)]


def test_what_the_bank_took_back_on_the_day_and_after_it(plaza):
    plaza.drive(small_day)
    first, second = plaza.lines()
    plaza.bring([first, ("reversal", *first[1:]), second])
    result = plaza.run()
    assert kinds(result) == ["reversed_at_bank"]
    assert dict(result.states) == {"cleared": 3, "disputed": 1}
    plaza.bring([("reversal", *second[1:])], DAY_AFTER)
    late = plaza.run(DAY_AFTER)
    assert kinds(late) == ["reversed_at_bank"]
    for by in ("wang", "li"):
        for item in (1, 2):
            plaza.commit(lambda tx, by=by, item=item: write_off(tx, item, by, "card stolen", plaza.terms))
    plaza.run()
    # The second was settled before: what the bank took back left our own account.
    assert plaza.balances()["loss:bank-1"] == -4000
    assert plaza.balances()["settlement:main"] == 4000
    assert set(plaza.balances()) == {"loss:bank-1", "settlement:main"}


def test_booked_by_the_bank_and_declined_here(plaza):
    async def declined(plaza):
        await plaza.pass_bank(DECLINED)

    plaza.drive(declined)
    (keys,) = plaza.rows("select terminal, batch, stan from attempt join pos_attempt on attempt_id = id")
    plaza.bring([("sale", *keys, 1500)])
    assert kinds(plaza.run()) == ["not_posted_here"]
    assert plaza.rows("select state, amount, paid from clearing_row") == [("disputed", 0, 1500)]


def test_booked_before_the_cut_over_and_reversed_after_it_corrects_itself(plaza):
    async def reversed_(plaza):
        await plaza.pass_bank(SILENT)
        plaza.box.clock.now += 100
        plaza.box.bank.answers.extend([NOT_FOUND, NOT_FOUND, NOT_FOUND])
        await plaza.box.drain(3)

    plaza.drive(reversed_)
    ((*keys, state),) = plaza.rows(
        "select terminal, batch, stan, state from attempt join pos_attempt on attempt_id = id where kind = 'sale'"
    )
    assert state == "reversed"
    plaza.bring([("sale", *keys, 1500)])
    assert "not_posted_here" in kinds(plaza.run())
    plaza.bring([("reversal", *keys, 1500)], DAY_AFTER)
    plaza.run(DAY_AFTER)
    assert [(kind, state) for kind, _, _, state in plaza.items() if kind == "not_posted_here"] == [
        ("not_posted_here", "corrected")
    ]
    assert "not_posted_here" not in kinds(plaza.run())


def test_a_claim_without_its_proof_waits_for_an_explanation(plaza):
    async def unproved(plaza):
        await plaza.pass_purse(result=PurchaseResult(PurchaseOutcome.TAKEN))
        await plaza.pass_issuer(result=PurchaseResult(PurchaseOutcome.TAKEN))

    plaza.drive(unproved)
    result = plaza.run()
    assert kinds(result) == ["proof_missing", "proof_missing"]
    assert dict(result.states) == {"disputed": 2}
    items = [number for (number,) in plaza.rows("select id from item where kind = 'proof_missing' order by id")]
    plaza.commit(lambda tx: explain(tx, items[0], "wang", "the issuer took it by its picture"))
    assert dict(plaza.run().states) == {"cleared": 1, "disputed": 1}
    # What the issuer will not take over becomes the payer's debt.
    for by in ("wang", "li"):
        done = plaza.commit(lambda tx, by=by: write_off(tx, items[1], by, "refused", plaza.terms))
    assert done.lost_fen == 0
    plaza.run()
    assert plaza.rows("select state from debit order by created_at") == [("funded",), ("debt",)]
    assert plaza.rows("select state from clearing_row order by ref") == [("cleared",), ("rejected",)]
    assert "loss:issuer-9901" not in plaza.balances()


def test_a_disputed_claim_stays_with_its_day(plaza):
    async def unproved(plaza):
        await plaza.pass_purse(result=PurchaseResult(PurchaseOutcome.TAKEN))

    plaza.drive(unproved)
    assert dict(plaza.run().states) == {"disputed": 1}
    assert not plaza.run(DAY_AFTER).states
    assert plaza.rows("select day from clearing_row") == [(DAY,)]


def test_a_purse_claim_that_the_issuer_refuses_is_a_loss(plaza):
    async def unproved(plaza):
        await plaza.pass_purse(result=PurchaseResult(PurchaseOutcome.TAKEN))

    plaza.drive(unproved)
    plaza.run()
    ((number,),) = plaza.rows("select id from item where kind = 'proof_missing'")
    for by in ("wang", "li"):
        plaza.commit(lambda tx, by=by: write_off(tx, number, by, "refused", plaza.terms))
    assert dict(plaza.run().states) == {"rejected": 1}
    assert plaza.balances() == {"loss:issuer-9901": -800, "settlement:main": 800}


def test_a_lane_that_did_not_write_down_or_wrote_something_else(plaza):
    plaza.drive(small_day)
    plaza.bring(plaza.lines())
    debits = [debit for (debit,) in plaza.rows("select id from debit order by created_at")]
    tamper(plaza, f"update decision set outcome = 'refused' where debit_id = x'{debits[0]}'")
    tamper(plaza, f"update decision set amount = 1 where debit_id = x'{debits[1]}'")
    found = plaza_run_unchecked(plaza)
    assert kinds(found) == ["missing_lane_record", "lane_amount_differs"]
    assert dict(found.states) == {"disputed": 2, "cleared": 2}
    for item in (1, 2):
        plaza.commit(lambda tx, item=item: explain(tx, item, "wang", "pictures were looked at"))
    assert dict(plaza_run_unchecked(plaza).states) == {"cleared": 4}
    assert plaza.balances() == {}


def test_a_lane_that_let_go_without_a_claim(plaza):
    async def held(plaza):
        await plaza.pass_purse(result=PurchaseResult(PurchaseOutcome.UNKNOWN))

    plaza.drive(held)
    tamper(plaza, "update decision set outcome = 'paid'")
    assert kinds(plaza_run_unchecked(plaza)) == ["lane_without_claim"]
    with pytest.raises(ClearingRefused) as refused:
        plaza.commit(lambda tx: write_off(tx, 1, "wang", "x", plaza.terms))
    assert refused.value.reason == "item_not_a_loss"


def tamper(plaza, sql):
    from sqlalchemy import text

    with plaza.box.database.begin() as connection:
        connection.execute(text(sql))


def plaza_run_unchecked(plaza):
    from tests.gateway.clearing.conftest import TODAY

    return day_end.run_day(DAY, plaza.box.reader, plaza.commit, plaza.terms, today=TODAY)


# --- in doubt -------------------------------------------------------------------------------------------------------


def test_the_file_tells_of_attempts_in_doubt(plaza):
    async def silent(plaza):
        await plaza.pass_bank(SILENT)
        await plaza.pass_bank(SILENT)

    plaza.drive(silent)
    rows = plaza.rows(
        "select id, terminal, batch, stan"
        " from attempt join pos_attempt on attempt_id = id where kind = 'sale' order by created_at"
    )
    plaza.bring([("sale", *rows[0][1:], 1500)])
    first = plaza.run()
    assert first.told(DayFileWord.POSTED) == [rows[0][0]]
    assert first.told(DayFileWord.NOT_POSTED) == [], "the bank may have booked it after its cut-over"
    assert kinds(first) == ["in_doubt"]
    plaza.bring([], DAY_AFTER)
    second = plaza.run(DAY_AFTER)
    assert second.told(DayFileWord.POSTED) == []
    assert second.told(DayFileWord.NOT_POSTED) == [rows[1][0]], "the other one stands in the file of the day before"


def test_silence_counts_only_with_the_files_of_all_days_it_may_stand_in(plaza):
    async def silent(plaza):
        await plaza.pass_bank(SILENT)

    plaza.drive(silent)
    ((attempt,),) = plaza.rows("select id from attempt where kind = 'sale'")
    plaza.bring([], DAY_AFTER)
    assert plaza.run(DAY_AFTER).told(DayFileWord.NOT_POSTED) == []
    plaza.bring([])
    assert plaza.run(DAY_AFTER).told(DayFileWord.NOT_POSTED) == [attempt]


def test_a_bank_whose_cut_over_is_known_needs_one_file(plaza):
    plaza.rules(day_files={"bank-1": {"cut_over": "23:00"}})

    async def silent(plaza):
        await plaza.pass_bank(SILENT)

    plaza.drive(silent)
    plaza.bring([])
    ((attempt,),) = plaza.rows("select id from attempt where kind = 'sale'")
    assert plaza.run().told(DayFileWord.NOT_POSTED) == [attempt]


def test_a_bank_that_tells_no_settlement_day_is_taken_by_its_cut_over(plaza):
    plaza.rules(day_files={"bank-1": {"cut_over": "06:00"}})

    async def untold(plaza):
        await plaza.pass_bank(approved(None))

    plaza.drive(untold)
    assert plaza.run().waiting == []
    assert plaza.run(DAY_AFTER).waiting == ["bank-1"]
    (keys,) = plaza.rows("select terminal, batch, stan from attempt join pos_attempt on attempt_id = id")
    plaza.bring([("sale", *keys, 1500)], DAY_AFTER)
    assert plaza.run(DAY_AFTER).differences == []
    assert plaza.balances() == {}


# --- late and back --------------------------------------------------------------------------------------------------


def test_a_claim_that_was_settled_after_its_day_comes_into_the_next_run(plaza):
    async def late(plaza):
        await plaza.pass_purse(result=PurchaseResult(PurchaseOutcome.UNKNOWN))

    plaza.drive(late)
    assert not plaza.run().states

    async def proved(plaza):
        plaza.numbers -= 1
        await plaza.pass_purse(result=TAKEN)

    plaza.drive(proved)
    assert dict(plaza.run(DAY_AFTER).states) == {"cleared": 1}
    assert plaza.balances() == {}
    assert not plaza.run().states
    assert not plaza.run(DAY_BEFORE).states


def test_a_refund_by_the_issuer_is_paid_with_the_run(plaza):
    plaza.drive(small_day)
    ((debit, obligor),) = plaza.rows("select id, obligor_id from debit where funding = 'purse'")
    plaza.commit(lambda tx: decide_refund(tx, debit, obligor, 300))
    plaza.bring(plaza.lines())
    result = plaza.run()
    assert dict(result.states) == {"cleared": 5}
    assert plaza.rows("select state from refund") == [("paid",)]
    assert plaza.rows("select count, amount, paid from clearing_line where payer = 'issuer-9901'") == [(3, 1200, 1200)]
    assert plaza.balances() == {}
    assert not plaza.run().changed


def test_a_day_on_which_more_goes_back_than_comes_in(plaza):
    plaza.rules(fees={"issuer-9901": {"basis_points": 100}}, splits={"lane-1": {"road-2": 1, "road-1": 2}})
    plaza.drive(small_day)
    plaza.bring(plaza.lines())
    plaza.run()
    ((debit, obligor),) = plaza.rows("select id, obligor_id from debit where funding = 'purse'")
    plaza.commit(lambda tx: decide_refund(tx, debit, obligor, 300))
    plaza.run(DAY_AFTER)
    assert transfers(plaza)[-7:] == [
        ("settlement", "issuer:issuer-9901", "settlement:main", 297),
        ("fee", "issuer:issuer-9901", "fee:issuer-9901", 3),
        ("fee_charged", "fee:issuer-9901", "merchant:road-1", 2),
        ("payout", "settlement:main", "merchant:road-1", 198),
        ("share", "merchant:road-2", "merchant:road-1", 100),
        ("fee_charged", "fee:issuer-9901", "merchant:road-2", 1),
        ("payout", "settlement:main", "merchant:road-2", 99),
    ]
    assert plaza.balances() == {}


def decide_refund(tx, debit, obligor, amount):
    from gateway.ledger import tables
    from gateway.ledger.books import AccountKind

    tx.books.move(
        "refund_decided",
        debit,
        source=(AccountKind.MERCHANT, "road-1"),
        target=(AccountKind.DUE_BACK, obligor),
        amount=amount,
        event_us=tx.now_us,
    )
    tx.update(tables.debit, {"id": debit}, refunded=amount, collected=800)
    tx.insert(
        tables.refund,
        id="f" * 32,
        idempotency_key="r1",
        content_hash="h",
        debit_id=debit,
        amount=amount,
        reason="overcharged",
        target="issuer",
        state="decided",
        created_at=tx.now_us,
        changed_at=tx.now_us,
    )


# --- items ----------------------------------------------------------------------------------------------------------


def test_an_item_that_is_not_there(plaza):
    with pytest.raises(ClearingRefused) as refused:
        plaza.commit(lambda tx: explain(tx, 99, "wang", "x"))
    assert refused.value.reason == "item_unknown"


def test_every_kind_of_difference_is_planted_in_this_module():
    """A kind nobody plants is a kind nobody knows to work."""
    with open(__file__, encoding="utf-8") as file:  # noqa: PTH123 - this very file
        text = file.read()
    assert [kind for kind in DifferenceKind if f'"{kind.value}"' not in text] == []
