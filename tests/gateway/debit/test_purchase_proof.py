"""A purchase is believed when it fits what is known of it; what contradicts that is disputed, with its reason."""

import asyncio
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.debit import manual_resolution, purchases
from gateway.debit.claims import PurchaseResult
from gateway.debit.engine import ProvenClaim
from gateway.debit.purchase_proof import (
    BALANCES,
    BETWEEN_MAX,
    SERIALS,
    Known,
    balance_agrees,
    failed_checks,
    serial_is_above,
)
from gateway.ledger.writer import Committer
from gateway.model.passage import Funding, PassageOutcome, PurchaseOutcome, Release
from gateway.model.reasons import REASONS, Severity
from gateway.rules.loading import shipped_rules
from hardware.bench.chain_key import KEYS

from .conftest import CONTEXT, POLICY, TAKEN, charge, hold_request, honest, live

VECTORS = Path(__file__).parents[2] / "vectors" / "purchase-results.jsonl"
NOTHING_KNOWN = Known(written_fen=1500, balance_before=50_000, last_serial=None, psam_serial_used=False)
CARD, OTHER_CARD = "99010000000000000001", "99010000000000000002"
BALANCE, SERIAL, PSAM = "purchase_balance_wrong", "card_serial_not_above", "psam_serial_repeated"


# --- the checks themselves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "written", "after", "agrees"),
    [
        (50_000, 1500, 48_500, True),
        (50_000, 1500, 50_000, False),
        (50_000, 1500, 48_501, False),
        (50_000, 0, 50_000, True),
        (50_000, 0, 49_999, False),
        (100, 1500, BALANCES - 1400, True),
        (0xFA0A1E33, 100, 0xFA0A1DCF, True),
        (50_000, 1500, None, True),
        (None, 1500, 7, True),
    ],
)
def test_balance_before_amount_and_balance_after_agree(before, written, after, agrees):
    assert balance_agrees(before, written, after) is agrees


@pytest.mark.parametrize(
    ("last", "serial", "above"),
    [
        (41, 42, True),
        (41, 41, False),
        (41, 40, False),
        (41, 41 + BETWEEN_MAX, True),
        (41, 42 + BETWEEN_MAX, False),
        (SERIALS - 1, 0, True),
        (SERIALS - 1, SERIALS - 1, False),
        (SERIALS - 3, 12, True),
        (12, SERIALS - 3, False),
        (None, 7, True),
        (7, None, True),
    ],
)
def test_a_serial_is_above_the_last_one_also_over_the_end_of_two_bytes(last, serial, above):
    assert serial_is_above(last, serial) is above


@given(st.integers(0, SERIALS - 1), st.integers(0, SERIALS - 1))
def test_of_two_serials_at_most_one_is_above_the_other(one, other):
    assert not (serial_is_above(one, other) and serial_is_above(other, one))


def test_every_failed_check_is_named_the_gravest_first():
    known = Known(written_fen=1500, balance_before=50_000, last_serial=7, psam_serial_used=True)
    result = replace(TAKEN, balance_after=50_000, card_serial=7)
    assert failed_checks(result, known) == (BALANCE, PSAM, SERIAL)
    assert failed_checks(TAKEN, NOTHING_KNOWN) == ()
    assert failed_checks(PurchaseResult(PurchaseOutcome.TAKEN), NOTHING_KNOWN) == (), "what is not told"


@pytest.mark.parametrize("code", [BALANCE, SERIAL, PSAM, "purchase_proof_incomplete"])
def test_every_check_has_its_text_in_both_languages_and_wants_a_person(code):
    reason = REASONS[code]
    assert reason.severity is Severity.ATTENDANT
    assert all((reason.zh, reason.en, reason.next_step_zh, reason.next_step_en))


# --- in the ledger --------------------------------------------------------------------------------------------------


def told(request, **otherwise):
    """What an antenna tells of this purchase: as it should be, but for this."""
    return replace(honest(TAKEN, request, 0), **otherwise)


def disputes(box):
    return box.rows("select state, reason from purchase where state = 'disputed' order by id")


FORGED = {
    "unchanged balance": ({"balance_after": 50_000}, BALANCE),
    "another amount": ({"balance_after": 48_499}, BALANCE),
    "serial as before": ({"card_serial": 7}, SERIAL),
    "serial below": ({"card_serial": 3}, SERIAL),
    "serial too far above": ({"card_serial": 8 + BETWEEN_MAX}, SERIAL),
    "PSAM serial as before": ({"card_serial": 8, "psam_serial": 9}, PSAM),
}


@pytest.mark.parametrize("funding", [Funding.PURSE, Funding.BANK_ONLINE, Funding.ISSUER_CLEARING])
@pytest.mark.parametrize("name", FORGED)
def test_a_success_that_contradicts_what_is_known_opens_nothing(box, name, funding):
    otherwise, reason = FORGED[name]

    async def scenario(box):
        await charge(box, hold_request("k1"))
        request = hold_request("k2", funding=funding)
        heard = len(box.bank.heard)
        values = {"card_serial": 8, "psam_serial": 10, **otherwise}
        decision = await charge(box, request, result=told(request, **values))
        assert (decision.release, decision.outcome, decision.reason) == (
            Release.ATTENDANT,
            PassageOutcome.UNKNOWN,
            reason,
        )
        assert len(box.bank.heard) == heard, "no bank is asked for what is disputed"
        assert disputes(box) == [("disputed", reason)]
        assert box.states() == ["funded", "held"]
        ((kind, note),) = box.rows("select kind, note from item")
        assert (kind, note) == ("disputed_purchase", f"{reason}: {REASONS[reason].en}")
        ((event, detail),) = box.rows("select event, detail from journal where kind = 'purchase'")
        assert event == "disputed"
        assert detail.startswith(reason)
        assert f"told {values.get('balance_after', 48_500)}" in detail
        assert "TAC aabbccdd" in detail

    live(box, scenario)


def test_what_a_disputed_purchase_told_is_not_remembered_of_the_card(box):
    """A lie about the serial must not make the next true one look old, nor take a PSAM serial from its owner."""

    async def scenario(box):
        request = hold_request("k1")
        await charge(box, request, result=told(request, balance_after=1, card_serial=900, psam_serial=77))
        assert box.rows("select * from card_serial") == []
        after = hold_request("k2")
        decision = await charge(box, after, result=told(after, card_serial=8, psam_serial=77))
        assert decision.outcome is PassageOutcome.PAID

    live(box, scenario)


def test_of_two_with_one_psam_serial_one_is_believed_however_they_come(box):
    """In one group: both are stored by the same commit."""

    async def place(box):
        requests = [hold_request("k1"), hold_request("k2", card=OTHER_CARD)]
        return requests, [await box.engine.hold(request, timeout_s=5) for request in requests]

    async def scenario(box):
        requests, placed = await place(box)

        def store(number):
            result = told(requests[number], card_serial=7 + number)
            card = requests[number].sight.identity.card_number
            return lambda tx: purchases.store_result(tx, placed[number].purchase_id, result, card)

        box.writer.stop()
        first, second = Committer(box.database, box.clock, keys=KEYS).commit([store(0), store(1)])
        assert (first.outcome, second.outcome) == (PurchaseOutcome.TAKEN, PurchaseOutcome.DISPUTED)
        assert second.reason == PSAM

    live(box, scenario, check=False)


def test_of_two_at_once_one_is_believed(box):
    async def scenario(box):
        requests = [hold_request("k1"), hold_request("k2", card=OTHER_CARD)]
        placed = [await box.engine.hold(request, timeout_s=5) for request in requests]
        claims = [
            ProvenClaim(p.debit_id, r.payer, CONTEXT, POLICY, p.purchase_id, told(r), r.sight.identity.card_number)
            for r, p in zip(requests, placed, strict=True)
        ]
        deadline = box.clock.monotonic() + 2
        brought = await asyncio.gather(*(box.engine.bring_in(claim, deadline=deadline) for claim in claims))
        assert sorted(b.decision.outcome for b in brought) == [PassageOutcome.PAID, PassageOutcome.UNKNOWN]
        assert disputes(box) == [("disputed", PSAM)]

    live(box, scenario)


def test_the_same_serial_under_another_terminal_is_another_one(box):
    async def scenario(box):
        one, other = hold_request("k1"), hold_request("k2", card=OTHER_CARD)
        for request, terminal in ((one, "019900000001"), (other, "019900000002")):
            assert (await charge(box, request, result=told(request, terminal=terminal))).outcome is PassageOutcome.PAID

    live(box, scenario)


def test_a_card_whose_counter_begins_anew_goes_on_paying(box):
    async def scenario(box):
        for number, serial in enumerate((SERIALS - 2, SERIALS - 1, 0, 5)):
            request = hold_request(f"k{number}")
            decision = await charge(box, request, result=told(request, card_serial=serial, psam_serial=number))
            assert decision.outcome is PassageOutcome.PAID, serial
        assert box.rows("select serial from card_serial") == [(5,)]

    live(box, scenario)


def test_of_a_card_that_was_forgotten_nothing_is_compared(box):
    async def scenario(box):
        await charge(box, hold_request("k1"))
        await box.in_books(lambda tx: tx.execute(purchases.tables.card_serial.delete()))
        request = hold_request("k2")
        assert (
            await charge(box, request, result=told(request, card_serial=3, psam_serial=90))
        ).outcome is PassageOutcome.PAID

    live(box, scenario)


def test_a_late_success_is_compared_as_well(box):
    async def scenario(box):
        request = hold_request("k1")
        placed = await box.engine.hold(request, timeout_s=5)
        claim = ProvenClaim(placed.debit_id, request.payer, CONTEXT, POLICY, placed.purchase_id, None, CARD)
        for result, reason in (
            (PurchaseResult(PurchaseOutcome.UNKNOWN), "purchase_unknown"),
            (told(request, balance_after=50_000), BALANCE),
            (told(request), BALANCE),
        ):
            brought = await box.engine.bring_in(replace(claim, result=result), deadline=box.clock.monotonic() + 2)
            assert brought.decision.release is not Release.GO
            assert brought.decision.reason == reason
        assert box.states() == ["held"], "the first end of a purchase stands, until a person has looked"

    live(box, scenario)


@pytest.mark.parametrize("taken", [True, False])
def test_a_person_ends_it_and_what_was_told_stays_in_the_journal(box, taken):
    async def scenario(box):
        request = hold_request("k1")
        decision = await charge(box, request, result=told(request, balance_after=50_000))
        by, deciding = (
            manual_resolution.ResolvedBy("wang", "the card was read"),
            manual_resolution.Deciding(shipped_rules(), lambda tx, m: 0),
        )
        await box.in_books(
            lambda tx: manual_resolution.resolve_purchase(tx, decision.debit_id, taken=taken, by=by, deciding=deciding)
        )
        assert box.states() == ["funded" if taken else "voided"]
        assert box.rows("select state, tac from purchase") == [("taken" if taken else "not_taken", None)]
        kinds = {("disputed_purchase", "corrected")} | ({("charged_without_tac", "open")} if taken else set())
        assert set(box.items()) == kinds, "a TAC that was told by a disputed result proves nothing"
        assert "TAC aabbccdd" in box.rows("select detail from journal where event = 'disputed'")[0][0]
        assert box.rows("select * from card_serial") == []
        # The next one has the same PSAM serial: it is used where the disputed purchase was one.
        after = await charge(box, hold_request("k2"), result=told(hold_request("k2"), card_serial=8))
        assert after.reason == (PSAM if taken else None)

    live(box, scenario)


def test_the_purchase_that_was_taken_speaks_for_its_debit_whatever_was_tried_after_it(box):
    async def scenario(box):
        request = hold_request("k1")
        placed = await box.engine.hold(request, timeout_s=5)

        def change(tx):
            purchases.store_intent(
                tx,
                purchase_id="f" * 32,
                debit_id=placed.debit_id,
                attempt_no=2,
                plan=replace(request.plan, purchase_time="20261123100001"),
            )
            purchases.store_result(tx, "f" * 32, PurchaseResult(PurchaseOutcome.NOT_TAKEN), CARD)
            newest = purchases.newest_of_debit(tx, placed.debit_id)
            purchases.store_result(tx, placed.purchase_id, told(request), CARD)
            return newest, purchases.newest_of_debit(tx, placed.debit_id)

        before, after = await box.in_books(change)
        assert (before.id, before.attempt_no) == ("f" * 32, 2)
        assert (after.id, after.state) == (placed.purchase_id, "taken")

    live(box, scenario, check=False)


# --- real purchases -------------------------------------------------------------------------------------------------


def real_purchases():
    return [json.loads(line) for line in VECTORS.read_text().splitlines()]


def test_real_purchases_pass_every_check(box):
    """41 of one station's day, 3 of them from a purse, amounts from nothing to 4,387.58 yuan."""
    rows = real_purchases()
    assert len(rows) == 41

    async def scenario(box):
        for number, row in enumerate(rows):
            purse = row["card_type"] == 22
            request = hold_request(
                row["id"],
                funding=Funding.PURSE if purse else Funding.ISSUER_CLEARING,
                amount=row["amount_fen"],
                card=f"9901{number:016d}",
            )
            plan = replace(request.plan, balance_before=row["balance_before"], purchase_time=row["purchase_time"])
            request = replace(request, plan=plan)
            result = PurchaseResult(
                PurchaseOutcome.TAKEN,
                terminal=row["terminal"],
                card_serial=row["card_serial"],
                psam_serial=row["psam_serial"],
                tac=bytes.fromhex(row["tac"]),
                tac_source="b5",
                balance_after=row["balance_after"],
            )
            assert (await charge(box, request, result=result)).outcome is PassageOutcome.PAID, row["id"]

    live(box, scenario)


def test_a_real_purchase_with_another_ones_numbers_does_not_pass():
    rows = real_purchases()
    for row, other in pairwise(rows):
        known = Known(row["amount_fen"], row["balance_before"], row["card_serial"] - 1, psam_serial_used=False)
        mixed = PurchaseResult(PurchaseOutcome.TAKEN, balance_after=other["balance_after"])
        assert failed_checks(mixed, known) == (BALANCE,), row["id"]
