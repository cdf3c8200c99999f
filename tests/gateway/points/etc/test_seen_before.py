"""The table of vehicles that the ledger knows: every case has one answer, and each row is needed."""

from itertools import product
from types import SimpleNamespace

import pytest

from gateway.points.etc import seen_before
from gateway.points.etc.seen_before import TABLE, Next, what_next

BEFORE, MEANT, OTHER = b"before", b"as meant", b"something else"
STATES = ("intent", "unknown", "taken", "not_taken", "disputed")
TRUTH = (True, False)


def ask(state, station, *, held=True, proves=True, here=True, in_window=True):
    previous = SimpleNamespace(
        state=state, debit_state="held" if held else "funded", file_before=BEFORE, file_after=MEANT
    )
    return what_next(previous, station, proves=proves, here=here, in_window=in_window)


def every_case():
    return product(STATES, (BEFORE, MEANT, OTHER), TRUTH, TRUTH, TRUTH, TRUTH)


@pytest.mark.parametrize("state", ["intent", "unknown"])
@pytest.mark.parametrize(
    ("station", "here", "then"),
    [
        (MEANT, True, Next.TAKEN),
        (MEANT, False, Next.TAKEN),
        (BEFORE, True, Next.NEXT_ATTEMPT),
        (BEFORE, False, Next.VOID_THERE),
        (OTHER, True, Next.DISPUTED),
        (OTHER, False, Next.DISPUTED),
    ],
)
@pytest.mark.parametrize("in_window", TRUTH)
def test_a_purchase_without_an_end_is_ended_by_the_file(state, station, here, then, in_window):
    assert ask(state, station, here=here, in_window=in_window) is then
    # A reading that may be older than the order proves one thing alone: that it was carried out.
    older = ask(state, station, here=here, in_window=in_window, proves=False)
    assert older is (then if then is Next.TAKEN else Next.LOOK_AGAIN)


def test_no_reading_undoes_what_has_ended():
    for state, station, proves, here, in_window in product(
        ("taken", "not_taken"), (BEFORE, MEANT, OTHER), TRUTH, TRUTH, TRUTH
    ):
        assert ask(state, station, proves=proves, here=here, in_window=in_window) is Next.BRING_IN


def test_a_disputed_purchase_is_the_attendants_for_a_while():
    for station, proves, here in product((BEFORE, MEANT, OTHER), TRUTH, TRUTH):
        assert ask("disputed", station, proves=proves, here=here, in_window=True) is Next.STILL_DISPUTED
        assert ask("disputed", station, proves=proves, here=here, in_window=False) is Next.NEW


def test_only_who_has_paid_and_been_nowhere_else_is_let_through():
    for state, station, held, proves, here, in_window in every_case():
        found = ask(state, station, held=held, proves=proves, here=here, in_window=in_window)
        entitled = not held and state == "taken" and station == MEANT and in_window
        assert (found is Next.LET_THROUGH) is entitled
        if not held and not entitled:
            assert found is Next.NEW


def test_each_row_decides_something(monkeypatch):
    """Without any one of them some case has another answer."""
    answers = {case: _answer(case) for case in every_case()}
    for missing in TABLE:
        monkeypatch.setattr(seen_before, "TABLE", tuple(row for row in TABLE if row is not missing))
        assert any(_answer(case) is not answers[case] for case in answers), missing


def _answer(case):
    state, station, held, proves, here, in_window = case
    return ask(state, station, held=held, proves=proves, here=here, in_window=in_window)
