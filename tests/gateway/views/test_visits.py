"""Visits: by any name a person has for them, masked unless asked, with all their parts."""

from dataclasses import replace

import pytest

from gateway.model.passage import Funding, Occasion, PassageOutcome, Release
from gateway.views.debits import find_debit
from gateway.views.history import history_of
from gateway.views.passages import find_passage
from gateway.views.visits import find_visit, find_visit_of_debit
from tests.gateway.cli.conftest import CARD, PLATE
from tests.gateway.debit.conftest import box, live  # noqa: F401 - a fixture among them
from tests.gateway.debit.test_refunds import paid_debit, refund


def test_values_are_typed_and_names_masked(connection):
    visit = find_visit(connection, "4", unmask=False)
    (decision,) = visit.decisions
    assert (decision.outcome, decision.release, decision.occasion) == (PassageOutcome.OWED, Release.GO, Occasion.LANE)
    assert type(decision.outcome) is PassageOutcome
    assert visit.debit.funding is Funding.BANK_ONLINE
    assert visit.debit.stood_in is True
    assert visit.passage.who.plate == "测A***01"
    assert visit.attempts[0].request is None
    assert [message.kind for message in visit.attempts[0].waiting] == ["reversal"]
    assert visit.transfers[0].source.kind == "open"


def test_in_full_it_is_the_same_but_for_what_names_a_person(connection):
    masked, full = find_visit(connection, "1", unmask=False), find_visit(connection, "1", unmask=True)
    assert (full.passage.who.plate, full.passage.who.card_number) == (PLATE, CARD)
    assert replace(full, passage=masked.passage, purchases=masked.purchases, debit=masked.debit) == masked
    assert full.purchases[0].file_0019.after.raw is not None
    assert masked.purchases[0].file_0019.after.raw is None


@pytest.mark.parametrize("which", ["99", "f" * 32, "nonsense", "9" * 40])
def test_what_is_not_there_is_none(connection, which):
    assert find_visit(connection, which, unmask=False) is None
    assert find_visit_of_debit(connection, which, unmask=False) is None
    assert find_passage(connection, which) is None


def test_the_history_is_sorted_by_booking(connection):
    booked = [event.booked_us for event in history_of(connection, find_debit(connection, "4"))]
    assert booked == sorted(booked)


def test_a_debit_is_found_by_its_key_and_its_parts(box):  # noqa: F811 - the fixture
    async def scenario(box):
        debit_id = await paid_debit(box)
        refunded = await refund(box, debit_id, 500)
        with box.reader.connect() as connection:
            names = ("k1", debit_id, debit_id.upper(), refunded.refund_id)
            found = [find_visit_of_debit(connection, name, unmask=True) for name in names]
            history = history_of(connection, debit_id)
            assert find_visit_of_debit(connection, "k2", unmask=True) is None
            assert find_visit_of_debit(connection, "0" * 32, unmask=True) is None
        view = found[0]
        assert all(one == view for one in found)
        assert [(r.amount_fen, r.state) for r in view.refunds] == [(500, "decided")]
        assert sorted(a.kind for a in view.attempts) == ["refund", "sale"], "both of the same instant here"
        assert [t.event for t in view.transfers] == ["hold", "released", "bank_approved", "refund_decided"]
        assert (view.debit.collected_fen, view.debit.refunded_fen, view.debit.refundable_fen) == (1500, 500, 1000)
        assert ("refund", "decided", "ann") in [(event.what, event.event, event.actor) for event in history]

    live(box, scenario)
