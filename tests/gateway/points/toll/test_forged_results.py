"""An antenna that lies, or is broken: no barrier opens as paid on a word that contradicts what is known."""

from dataclasses import replace

import pytest

from gateway.points.card.settings import ChargeCardPurchase
from protocols.rsu.messages import Debit, FetchTac, RecoverTac
from protocols.rsu.registry import dialect_named
from tests.gateway.points import plaza as bench
from tests.gateway.points.plaza import FARE, Car, Purchase

plaza_made_once, play = bench.plaza_made_once, bench.play

BALANCE, SERIAL, PSAM = "purchase_balance_wrong", "card_serial_not_above", "psam_serial_repeated"
PAID = ("paid", "go", None)
CHARGE = 23
LATER_S = 400
"""Longer than a vehicle keeps its right to pass."""


def disputed(reason):
    return ("unknown", "attendant", reason)


def lie(**otherwise):
    """B5 of a purchase that the card never made; values may be made of the honest result and the car."""

    def forged(result, car):
        honest = replace(result, card_serial=car.serial + 1, balance_raw=(car.balance - FARE) % (1 << 32))
        return replace(honest, **{k: v(result, car) if callable(v) else v for k, v in otherwise.items()})

    return Purchase(takes=False, forged=forged)


LIES = {
    "balance as it was": (lie(balance_raw=lambda _, car: car.balance), BALANCE),
    "a fen too much gone": (lie(balance_raw=lambda _, car: car.balance - FARE - 1), BALANCE),
    "balance unread": (lie(balance_raw=0xFFFFFFFF), BALANCE),
    "serial of the last purchase": (lie(card_serial=lambda _, car: car.serial), SERIAL),
    "serial zero": (lie(card_serial=0), SERIAL),
    "PSAM serial of the last purchase": (lie(psam_serial=1), PSAM),
    "no TAC": (lie(tac=bytes(4)), "purchase_proof_incomplete"),
    "nothing but success": (
        lie(tac=None, card_serial=None, psam_serial=None, balance_raw=None),
        "purchase_proof_incomplete",
    ),
}


def second_visit(plaza, lane, car):
    """The card was elsewhere in between, so it is a new passage."""
    car.station = bench.entry_record(station="0909")
    lane.road.meet(car)


@pytest.mark.parametrize("number", [1, bench.GOOD, bench.CLEARING])
@pytest.mark.parametrize("name", LIES)
def test_a_success_that_is_none(play, name, number):
    """On its second visit; the first one told the ledger its serials."""
    step, reason = LIES[name]
    car = Car(number, card_type=22 if number == 1 else CHARGE)

    async def story(plaza):
        lane = plaza.lane()
        plaza.bank.answers.append(bench.APPROVED)
        lane.road.meet(car)
        await plaza.settle(LATER_S)
        asked = len(plaza.bank.heard)
        car.script.append(step)
        second_visit(plaza, lane, car)
        await plaza.settle()
        assert plaza.outcomes() == [PAID, disputed(reason)]
        assert lane.board.lifts == 1
        assert len(plaza.bank.heard) == asked
        assert [fen for fen, _ in car.paid] == [FARE]
        assert plaza.rows("select state, reason from purchase order by created_at") == [
            ("taken", None),
            ("disputed", reason),
        ]
        assert plaza.rows("select kind, state from item") == [("disputed_purchase", "open")]
        await plaza.settle(lane.section.quiet_s)
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes()[2:] == [("refused", "attendant", reason)], "still the attendant's, and why"
        assert len(lane.road.of(Debit)) == 2

    play(story)


def test_another_cards_result_under_ones_own_name(play):
    """The attack that was seen to work: a real B5 of another card, with this vehicle's OBU id and time."""
    victim, cheat = Car(1), Car(2)
    heard = {}

    async def story(plaza):
        lane = plaza.lane()
        victim.script.append(Purchase(forged=lambda result, _: heard.setdefault("real", result)))
        lane.road.meet(victim)
        await plaza.settle()

        def another(result, _):
            return replace(heard["real"], obu_id=cheat.obu_id, trans_time_bcd=result.trans_time_bcd)

        cheat.script.append(Purchase(takes=False, forged=another))
        lane.road.meet(cheat)
        await plaza.settle()
        # Both cards had the same balance: what gives it away is the PSAM's serial.
        assert plaza.outcomes() == [PAID, disputed(PSAM)]
        assert lane.board.lifts == 1

    play(story)


def test_a_result_of_the_same_card_said_again_for_the_next_purchase(play):
    """A replay, with the time it is asked for: its serials are known."""
    car = Car(1)
    heard = {}

    async def story(plaza):
        lane = plaza.lane()
        car.script.append(Purchase(forged=lambda result, _: heard.setdefault("real", result)))
        lane.road.meet(car)
        await plaza.settle(LATER_S)

        def again(result, car):
            balance = car.balance - FARE
            return replace(heard["real"], trans_time_bcd=result.trans_time_bcd, balance_raw=balance)

        car.script.append(Purchase(takes=False, forged=again))
        second_visit(plaza, lane, car)
        await plaza.settle()
        assert plaza.outcomes() == [PAID, disputed(PSAM)]
        detail = plaza.rows("select detail from journal where kind = 'purchase'")[0][0]
        assert detail.startswith(f"{PSAM}, {SERIAL}: ")

    play(story)


def test_a_result_of_another_purchase_time_proves_nothing(play):
    """It speaks of another try, whatever its error byte says. The card, read again, tells that nothing was taken."""
    car = Car(1)

    async def story(plaza):
        lane = plaza.lane()
        car.script.append(lie(trans_time_bcd="20261123095959", error=0x06))
        lane.road.meet(car)
        await plaza.settle(1)
        assert plaza.outcomes() == [("unknown", "stop", "purchase_unknown")]
        assert plaza.rows("select state, error, tac, card_serial from purchase") == [("unknown", 6, None, None)]
        assert lane.board.lifts == 0
        lane.road.meet(car)
        await plaza.settle()
        assert [fen for fen, _ in car.paid] == [FARE]
        assert plaza.outcomes()[1:] == [PAID]
        assert plaza.rows("select state from purchase order by attempt_no") == [("not_taken",), ("taken",)]

    play(story)


def test_a_result_about_another_tag_ends_nothing_of_this_one(play):
    car, other = Car(1), Car(2)

    async def story(plaza):
        lane = plaza.lane()
        stray = lambda result, _: replace(result, obu_id=other.obu_id)  # noqa: E731 - one word
        car.script.append(Purchase(takes=False, forged=stray))
        lane.road.meet(car)
        lane.road.cars[other.obu_id] = other
        await plaza.settle()
        assert plaza.outcomes() == [("unknown", "stop", "purchase_unknown")]
        assert lane.board.lifts == 0

    play(story)


def test_a_late_success_is_compared_with_what_was_read_before_it_was_ordered(play):
    car = Car(1)

    async def story(plaza):
        lane = plaza.lane()
        car.script.append(Purchase(takes=False, error=None))
        lane.road.meet(car)
        await plaza.settle()
        (order,) = lane.road.of(Debit)
        lane.road.say(replace(car.result(order, 0, (lane.road.terminal, 2)), card_serial=41))
        await plaza.settle()
        assert plaza.outcomes() == [("unknown", "stop", "purchase_unknown"), disputed(BALANCE)]
        assert lane.board.lifts == 0

    play(story)


@pytest.fixture
def dialects(monkeypatch):
    """Also one without a command that fetches a TAC."""
    v3 = dialect_named("pcrsu-v3")
    mute = replace(v3, layouts=tuple(layout for layout in v3.layouts if layout.message is not FetchTac))
    monkeypatch.setattr(
        "gateway.points.etc.assemble.dialect_named", lambda name: mute if name == "mute" else dialect_named(name)
    )


@pytest.mark.parametrize("dialect", ["pcrsu-v3", "legacy-serial-bj", "mute"])
def test_a_card_that_shows_the_new_file_and_the_old_balance(play, dialects, dialect):
    """Nothing was taken, and the antenna shows file 0019 as if it had been: no TAC is even asked for."""
    car = Car(1, script=bench.deque([Purchase(takes=False, error=None)]))

    async def story(plaza):
        lane = plaza.lane(antenna={"address": "127.0.0.1:1", "dialect": dialect, "errors": "pcrsu-v3"})
        lane.road.meet(car)
        await plaza.settle()
        (order,) = lane.road.of(Debit)
        car.station = order.station
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [("unknown", "stop", "purchase_unknown"), disputed(BALANCE)]
        assert not lane.road.of(FetchTac)
        assert not lane.road.of(RecoverTac)
        assert lane.board.lifts == 0

    play(story)


def test_a_proof_that_tells_another_balance(play):
    """The file was written and the balance beside it is right; B8 tells another one."""
    car = Car(1, script=bench.deque([Purchase(), Purchase(error=0x01)]))

    async def story(plaza):
        lane = plaza.lane()
        lane.road.meet(car)
        await plaza.settle(LATER_S)
        second_visit(plaza, lane, car)
        await plaza.settle(1)
        lane.road.proof_off_fen = 7
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes()[-1] == disputed(BALANCE)
        assert len(lane.road.of(FetchTac)) == 1
        assert lane.board.lifts == 1

    play(story)


def test_a_proof_of_zeros_is_none(play):
    """The card has paid, its file and balance say so; what B8 brings would be worth nothing at clearing."""
    car = Car(1, script=bench.deque([Purchase(), Purchase(error=0x01)]))

    async def story(plaza):
        lane = plaza.lane()
        lane.road.meet(car)
        await plaza.settle(LATER_S)
        second_visit(plaza, lane, car)
        await plaza.settle(1)
        car.tac = lambda: bytes(4)
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes()[-1] == PAID
        assert plaza.rows("select tac from purchase order by created_at desc limit 1") == [(None,)]
        assert plaza.rows("select kind from item") == [("charged_without_tac",)]

    play(story)


def test_a_charge_card_asked_for_nothing_must_not_have_paid_anything(play):
    car = Car(bench.CLEARING, card_type=CHARGE)

    async def story(plaza):
        lane = plaza.lane(charge_card_purchase=ChargeCardPurchase.ZERO)
        car.script.append(Purchase(forged=lambda result, car: replace(result, balance_raw=car.balance - FARE)))
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [disputed(BALANCE)]

    play(story)
