"""A card pulled at any command, a PSAM or a gateway lost at any command: the card pays once, and the books say so."""

import pytest

from drivers.errors import LinkLost
from gateway.points.counter.point import NotPaid, Served
from tests.gateway.points import plaza as bench
from tests.gateway.points.counter.desk import PRICE, PURSE, TERMINAL, Desk, Died, Fault, purchases, stored_value

plaza_made_once, play = bench.plaza_made_once, bench.play

OTHERS_ASK_S = 6
"""Seconds after which a purchase asked for elsewhere is no longer under way."""


def charged(plaza):
    """(fen, terminal) of every claim that was let go, in order."""
    return plaza.rows(
        "select d.amount, p.terminal from debit d join purchase p on p.debit_id = d.id"
        " where d.state in ('funded', 'released', 'owed') and p.state = 'taken' order by d.hold_id"
    )


def test_a_card_pays(play):
    async def story(plaza):
        card = stored_value()
        desk = Desk(plaza)
        paid = await desk.pay(card)
        assert (paid.decision.outcome, paid.decision.amount_fen, paid.earlier) == ("paid", PRICE, False)
        assert card.balance_raw == PURSE - PRICE
        rows = plaza.rows("select state, terminal, card_serial, psam_serial, tac_source, balance_after from purchase")
        assert rows == [("taken", TERMINAL, 2, 1, "54", PURSE - PRICE)]
        assert charged(plaza) == purchases(card)

    play(story)


@pytest.mark.parametrize("reader", ["counter", "psam"])
@pytest.mark.parametrize("error", [LinkLost, Died])
def test_lost_at_each_command_and_shown_again(play, reader, error):
    """The customer comes back with the card, to the same bill. A gateway that died has been started again."""

    async def story(plaza):
        desk = Desk(plaza)
        assert (await desk.pay(stored_value())).decision.outcome == "paid"
        count = len(desk.slot(reader).commands)
        assert count > 5
        ends = set()
        for n in range(1, count + 1):
            for after in (False, True):
                desk, first, second = await _twice(plaza, desk, reader, Fault(n, after, error))
                assert second.decision.outcome == "paid", (n, after, first, second)
                ends.add(("none" if first is None else type(first).__name__, second.earlier))
        assert len(charged(plaza)) == 1 + 2 * count
        assert plaza.rows("select count(*) from debit where state = 'held'") == [(0,)]
        assert {earlier for _, earlier in ends} == {True, False}, ends

    play(story)


async def _twice(plaza, desk, reader, fault):
    """Have a new card pay a bill with this fault, and once more without; what both came to."""
    card = stored_value(1000 + 2 * fault.at + fault.after)
    reference = f"bill {fault.at} {fault.after}"
    faults = {"fault" if reader == "counter" else "psam_fault": fault}
    if reader == "psam":
        await desk.close_psam()
    try:
        first = await desk.pay(card, reference=reference, **faults)
    except Died:
        first = None
        await plaza.crash()
        desk = Desk(plaza, desk.readers, desk.psam)
    await plaza.settle(OTHERS_ASK_S)
    second = await desk.pay(card, reference=reference)
    assert isinstance(second, Served), (fault, first, second)
    assert purchases(card) == [(PRICE, TERMINAL)], (fault, first, second)
    return desk, first, second


def test_a_card_pulled_before_it_was_asked_leaves_nothing_behind(play):
    async def story(plaza):
        desk = Desk(plaza)
        assert await desk.pay(stored_value(), fault=Fault(2, after=True)) == NotPaid("card_removed")
        assert plaza.rows("select count(*) from debit") == [(0,)]

    play(story)
