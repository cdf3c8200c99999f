"""Every row of the table by which a card proves an earlier purchase, and what must never follow from less."""

from dataclasses import replace
from datetime import date

import pytest

from gateway.cards.proof import Evidence, Ordered, judge
from gateway.model.passage import PurchaseOutcome
from protocols.card.codes import TradeType
from protocols.card.files import decode_transaction_log
from protocols.card.purse import DebitProof

TAKEN, NOT_TAKEN, DISPUTED = PurchaseOutcome.TAKEN, PurchaseOutcome.NOT_TAKEN, PurchaseOutcome.DISPUTED

BEFORE, AFTER, OTHER = bytes(43), b"\xaa" + bytes(42), b"\xbb" + bytes(42)
TERMINAL = "019900000001"
PROOF = DebitProof(tac=bytes.fromhex("F48A6336"), mac2=bytes.fromhex("72921F32"))

ORDERED = Ordered(
    card_serial=7,
    terminal=TERMINAL,
    purchase_time="20261201103015",
    written_fen=1250,
    balance_before=5000,
    file_before=BEFORE,
    file_after=AFTER,
)
THROUGH_ANTENNA = replace(ORDERED, card_serial=None, terminal=None)


def record(*, serial=7, amount=1250, kind=TradeType.COMPOSITE, terminal=TERMINAL, time="20261201103015"):
    return decode_transaction_log(
        serial.to_bytes(2, "big")
        + bytes(3)
        + amount.to_bytes(4, "big")
        + bytes((kind,))
        + bytes.fromhex(terminal)
        + bytes.fromhex(time)
    )


OURS = record()
EARLIER = record(serial=6, amount=300, time="20261130080000")
ANOTHER = record(serial=7, amount=900, terminal="019900000099", time="20261201120000")

PAID = Evidence((OURS, EARLIER), 7, 3750, AFTER, PROOF, proof_refused=False)
UNPAID = Evidence((EARLIER,), 6, 5000, BEFORE, None, proof_refused=True)


def test_a_purchase_in_the_log_is_taken_with_its_tac_and_the_balance_after_it():
    judged = judge(ORDERED, PAID)
    assert (judged.outcome, judged.card_serial, judged.tac, judged.balance_after) == (TAKEN, 7, PROOF.tac, 3750)


def test_it_stays_taken_when_the_card_went_on_elsewhere_but_later_balances_prove_nothing_of_it():
    later = record(serial=8, amount=100, terminal="019900000099", time="20261202080000")
    shown = Evidence((later, OURS, EARLIER), 8, 3650, OTHER, None, proof_refused=True)
    judged = judge(ORDERED, shown)
    assert (judged.outcome, judged.card_serial, judged.tac, judged.balance_after) == (TAKEN, 7, None, None)


def test_a_load_after_it_makes_the_balance_no_witness():
    load = record(serial=3, amount=10_000, kind=TradeType.LOAD, time="20261201110000")
    shown = replace(PAID, log=(load, OURS, EARLIER), balance_raw=13_750)
    assert judge(ORDERED, shown).balance_after is None


def test_a_purchase_elsewhere_under_its_number_proves_that_it_never_happened():
    shown = Evidence((ANOTHER, EARLIER), 7, 4100, OTHER, PROOF, proof_refused=False)
    assert judge(ORDERED, shown).outcome is NOT_TAKEN


@pytest.mark.parametrize(
    "under_it",
    [
        record(amount=1251),
        record(terminal="019900000003"),
        record(time="20261201103016"),
        record(kind=TradeType.PURCHASE),
    ],
    ids=["amount", "terminal", "time", "kind"],
)
def test_a_record_that_differs_in_one_thing_only_is_disputed(under_it):
    assert judge(ORDERED, replace(PAID, log=(under_it, EARLIER))).outcome is DISPUTED


def test_a_purchase_elsewhere_does_not_undo_what_file_0019_shows():
    assert judge(ORDERED, replace(PAID, log=(ANOTHER, EARLIER))).outcome is DISPUTED


def test_nothing_happened_when_serial_log_proof_file_and_balance_agree():
    assert judge(ORDERED, UNPAID).outcome is NOT_TAKEN


@pytest.mark.parametrize(
    "contradiction",
    [
        {"serial_now": 7},
        {"serial_now": None},
        {"proof_refused": False},
        {"proof": PROOF, "proof_refused": False},
        {"station": OTHER},
        {"station": None},
        {"balance_raw": 3750},
        {"log": None},
    ],
    ids=str,
)
def test_one_witness_that_disagrees_makes_it_disputed(contradiction):
    assert judge(ORDERED, replace(UNPAID, **contradiction)).outcome is DISPUTED


def test_a_load_since_explains_the_balance():
    load = record(serial=3, amount=10_000, kind=TradeType.LOAD, time="20261201110000")
    loaded = replace(UNPAID, log=(load, EARLIER), balance_raw=15_000)
    assert judge(ORDERED, loaded).outcome is NOT_TAKEN
    assert judge(ORDERED, replace(loaded, balance_raw=14_000)).outcome is DISPUTED


def test_without_a_log_file_and_proof_under_the_present_serial_prove_it():
    shown = replace(PAID, log=None)
    assert judge(ORDERED, shown).outcome is TAKEN
    assert judge(ORDERED, replace(shown, proof=None)).outcome is DISPUTED
    assert judge(ORDERED, replace(shown, serial_now=8)).outcome is DISPUTED
    assert judge(ORDERED, replace(shown, station=BEFORE)).outcome is DISPUTED


def test_a_purchase_through_an_antenna_is_found_in_the_log_by_its_time():
    judged = judge(THROUGH_ANTENNA, PAID)
    assert (judged.outcome, judged.card_serial, judged.tac) == (TAKEN, 7, PROOF.tac)


@pytest.mark.parametrize(
    ("station", "log", "outcome"),
    [
        (AFTER, (EARLIER,), TAKEN),
        (BEFORE, (EARLIER,), NOT_TAKEN),
        (BEFORE, None, DISPUTED),
        (OTHER, (EARLIER,), DISPUTED),
        (None, (EARLIER,), DISPUTED),
    ],
)
def test_else_file_0019_tells_of_a_purchase_through_an_antenna(station, log, outcome):
    shown = Evidence(log, 6, 5000, station, None, proof_refused=True)
    assert judge(THROUGH_ANTENNA, shown).outcome is outcome


def test_a_record_without_a_date_is_nobodys():
    undated = decode_transaction_log(OURS.raw[:16] + b"\xff" * 7)
    assert undated.day is None or undated.day != date(2026, 12, 1)
    assert judge(ORDERED, replace(PAID, log=(undated,))).outcome is DISPUTED
