"""The real gateway against a bank that is not to be believed: what it says is compared, and its book has the last word.

Every car meets one lie of the bank. When all messages are through, our books and the bank's own agree to the fen, and
whatever needs people stands on their list.
"""

import sqlite3

import pytest

from hardware.bench.ledger_view import texts
from tests.hardware.test_site_faults import online, scenario

pytestmark = [pytest.mark.bench, pytest.mark.timeout(400)]

FARE = 1425
YES_NO = {"mode": "approve_then_decline", "next": 1}
NO_YES = {"mode": "decline_then_approve", "next": 1}


def rows(r, sql):
    with sqlite3.connect(f"file:{r.site.ledger}?mode=ro", uri=True) as connection:
        return [texts(row) for row in connection.execute(sql)]


async def pass_through(r, car, bank):
    """The car meets this behaviour of the bank at its sale, and goes."""
    await r.bank.request("behave", contract=car.contract_ref, **bank)
    await r.arrive(car)
    await r.open(car)
    await r.leave(car)
    await r.event(car, "gone")


async def comes_to_rest(r):
    """No message waits, and nothing is in doubt but what people must find out."""
    doubt = "select count(*) from attempt where state in ('stored', 'unknown', 'reversing')"
    owed = "select count(*) from debit where state = 'owed' and id not in"
    disputed = "select debit_id from attempt where state = 'disputed'"
    await r.until(
        lambda: r.view.waiting() == 0 and rows(r, doubt) == [(0,)] and rows(r, f"{owed} ({disputed})") == [(0,)],
        "everything that messages can end has ended",
    )


async def at_the_bank(r):
    """Fen by contract, as the bank's book has them."""
    accounts = (await r.bank.request("book"))["accounts"]
    return {contract: sum(p["amount_fen"] for p in account["postings"]) for contract, account in accounts.items()}


def in_our_books(r):
    return -rows(r, "select coalesce(sum(balance), 0) from account where kind in ('bank', 'suspense')")[0][0]


def items(r, kind):
    return [note for (note,) in rows(r, f"select note from item where kind = '{kind}' and state = 'open' order by id")]


def state(r, car):
    (debit,) = r.debits(car)
    return debit.state


def test_no_answer_is_believed_that_says_something_else_than_was_asked(tmp_path):
    lies = [
        (online(211), {"mode": "altered", "field": 4, "value": "000000000001", "next": 1}),
        (online(212), {"mode": "altered", "field": 4, "value": "000099999999", "next": 1}),
        (online(213), {"mode": "altered", "field": 49, "value": "840", "next": 1}),
        (online(214), {"mode": "altered", "field": 42, "value": "990100047849999", "next": 1}),
        (online(215), {"mode": "altered", "field": 41, "value": "X9999999", "next": 1}),
    ]

    async def inside(r):
        for car, lie in lies:
            await pass_through(r, car, lie)
        await comes_to_rest(r)
        assert [state(r, car) for car, _ in lies] == ["funded"] * len(lies)
        # Each sale was undone, and the bank told once more by an advice.
        assert rows(r, "select kind, state, count(*) from attempt group by kind, state order by kind") == [
            ("advice", "approved", len(lies)),
            ("sale", "reversed", len(lies)),
        ]
        assert [note.split(" asked")[0] for note in items(r, "answer_differs")] == ["F4", "F4", "F49", "F42", "F41"]
        assert await at_the_bank(r) == {car.contract_ref: FARE for car, _ in lies}
        assert in_our_books(r) == FARE * len(lies)

    scenario(tmp_path, [car for car, _ in lies], inside)


def test_a_code_that_no_table_knows_is_no_decline(tmp_path):
    lies = [
        (online(221), {"mode": "posted_but_code", "code": "08", "next": 1}),
        (online(222), {"mode": "posted_but_code", "code": "Z9", "next": 1}),
        (online(223), {"mode": "posted_but_code", "code": "  ", "next": 1}),
        (online(224), {"mode": "posted_but_code", "code": "", "next": 1}),
        (online(225), {"mode": "decline", "code": "77", "next": 1}),
    ]

    async def inside(r):
        for car, lie in lies:
            await pass_through(r, car, lie)
        await comes_to_rest(r)
        assert [state(r, car) for car, _ in lies] == ["funded"] * len(lies)
        assert rows(r, "select distinct kind, state from attempt order by kind") == [
            ("advice", "approved"),
            ("sale", "reversed"),
        ]
        assert await at_the_bank(r) == {car.contract_ref: FARE for car, _ in lies}
        assert in_our_books(r) == FARE * len(lies)

    scenario(tmp_path, [car for car, _ in lies], inside)


def test_the_first_of_two_opposite_answers_counts(tmp_path):
    paid, refused = online(231), online(232)

    async def inside(r):
        await pass_through(r, paid, YES_NO)
        await pass_through(r, refused, NO_YES)
        ends = [("sale", "approved"), ("sale", "reversed")]
        attempts = "select kind, state from attempt order by created_at"
        await r.until(lambda: rows(r, attempts) == ends, "the second answers are heard, and the approval is undone")
        await comes_to_rest(r)
        assert (state(r, paid), state(r, refused)) == ("funded", "debt")
        assert rows(r, attempts) == ends
        assert len(items(r, "answer_contradicted")) == 1, "of the other one the reversal has ended it"
        assert await at_the_bank(r) == {paid.contract_ref: FARE, refused.contract_ref: 0}
        assert in_our_books(r) == FARE

    scenario(tmp_path, [paid, refused], inside)


def test_keys_the_bank_knows_at_a_first_send_are_left_to_people(tmp_path):
    booked, unbooked, next_car = online(241), online(242), online(243)

    async def inside(r):
        await pass_through(r, booked, {"mode": "posted_but_code", "code": "94", "next": 1})
        await pass_through(r, unbooked, {"mode": "decline", "code": "94", "next": 1})
        await pass_through(r, next_car, {"mode": "normal"})
        await r.part("disputes/bank-a", False)
        said = r.parts()["disputes/bank-a"]
        assert said["code"] == "bank_disputed"
        assert said["zh"]
        assert len(items(r, "attempt_disputed")) == 2
        disputed = "select debit_id, id from attempt where state = 'disputed' order by created_at"
        for (debit_id, attempt_id), word in zip(rows(r, disputed), ("--posted", "--not-posted"), strict=True):
            asked = ("--attempt", attempt_id, word, "--source", "called the bank", "--reason", "94")
            await r.site.command("debits", "resolve", debit_id, *asked)
        await r.part("disputes/bank-a", True)
        await r.until(lambda: state(r, unbooked) == "funded", "the bank is told under other keys")
        await comes_to_rest(r)
        assert [state(r, car) for car in (booked, unbooked, next_car)] == ["funded"] * 3
        requests = (await r.bank.request("requests"))["requests"]
        assert [request["mti"] for request in requests if request["mti"].startswith("04")] == [], "nothing is undone"
        first, second, third = (
            int(b)
            for (b,) in rows(
                r, "select batch from attempt join pos_attempt on attempt_id = id where kind = 'sale' order by batch"
            )
        )
        assert first < second < third, "each goes on in a batch of its own"
        assert set((await at_the_bank(r)).values()) == {FARE}
        assert in_our_books(r) == 3 * FARE

    scenario(tmp_path, [booked, unbooked, next_car], inside)
