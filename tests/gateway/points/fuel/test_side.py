"""A sale at one side, from the lifted nozzle to the committed debit, whatever stops in between."""

import asyncio
from types import SimpleNamespace

import pytest

from gateway.acts.actor import Actor
from gateway.acts.acts import Refused, SettleSale, Terms
from gateway.acts.doing import change_of
from gateway.model.passage import Funding
from gateway.rules.loading import shipped_rules
from protocols.pump.types import (
    AmountLimit,
    AskTotals,
    Authorise,
    Clear,
    NozzleSeen,
    Outcome,
    SideState,
    StateSeen,
    Stop,
)
from tests.gateway.debit.conftest import APPROVED, DECLINED, SILENT

from .conftest import LIMIT, PRICE, live

ML, FEN = 10_000, 7850
PUMP = {"total_ml": 1_209_090, "volume_ml": 0, "amount": 0}


async def fill(court, ml=ML):
    """Lift, fill, hang up."""
    court.pump.lift()
    await court.authorised()
    court.pump.flow(ml)
    court.pump.hang_up()


@pytest.mark.parametrize("funding", [Funding.BANK_ONLINE, Funding.ISSUER_CLEARING])
def test_what_was_delivered_is_charged_once(box, funding):
    async def scenario(court):
        court.car(funding=funding)
        court.approve()
        await fill(court)
        await court.sale_is("billed")
        assert court.sales() == [("billed", ML, FEN, None)]
        assert court.debits() == {("funded" if funding is Funding.BANK_ONLINE else "released", FEN): 1}
        assert court.held() == 0
        await court.until(lambda: court.pump.did(Clear))
        assert court.pump.did(Authorise) == 1

    live(box, scenario)
    assert box.balance("merchant") == FEN


def test_a_nozzle_hung_up_while_the_pump_is_authorised_keeps_the_hold_until_the_pump_is_stopped(box):
    async def scenario(court):
        do, held = court.pump.do, []

        async def hang_up_meanwhile(command):
            if isinstance(command, Authorise):
                court.pump.out = False
                court.pump.say(NozzleSeen(1, out=False))  # before the pump has the authorisation
            if isinstance(command, Stop):
                held.append((court.sales()[-1][0], court.held()))
            return await do(command)

        court.pump.do = hang_up_meanwhile
        court.car()
        court.pump.lift()
        await court.sale_is("nothing")
        assert held[0] == ("open", LIMIT)
        assert court.pump.limit is None

    live(box, scenario)


def test_whoever_has_filled_up_before_a_restart_proves_no_other_lift(box):
    async def first(court):
        court.car()
        court.approve()
        await fill(court)
        await court.sale_is("billed")

    async def second(court):
        court.car()  # it stands there still
        court.pump.lift()
        court.car(2)
        await court.authorised()
        assert box.rows("select mandate_id from debit order by created_at, id")[-1] == ("m2",)

    live(box, first)
    live(box, second)


def test_a_nozzle_that_is_out_still_after_the_pump_has_lost_power_is_no_new_customer_s(box):
    async def scenario(court):
        court.car()
        court.approve()
        court.pump.lift()
        await court.authorised()
        court.car(2)
        court.pump.flow(ML)
        court.pump.limit = None
        court.pump.say(StateSeen(SideState.COMPLETED))
        await court.until(lambda: court.side.facts.state is SideState.IDLE)
        court.pump.say(NozzleSeen(1, out=False))
        await court.until(lambda: not court.side.facts.out)
        court.pump.lift()
        await court.authorised()
        assert [row[0] for row in court.sales()] == ["billed", "open"]
        assert court.pump.did(Authorise) == 2

    live(box, scenario)


def test_a_clock_that_was_set_back_leaves_sales_in_their_order(box):
    async def scenario(court):
        for number in (1, 2):
            court.car(number)
            court.approve()
            await fill(court)
            await court.until(lambda number=number: [row[0] for row in court.sales()] == ["billed"] * number)
            await court.until(lambda: court.side.sale is None)
            box.clock.now -= 3600
        assert box.rows("select volume_after from sale order by created_at desc")[0] == (court.pump.book.total_ml,)

    live(box, scenario)


def test_the_pump_is_let_deliver_what_is_held_and_no_more(box):
    async def scenario(court):
        court.car(limit=15_000)
        court.approve()
        await fill(court, ml=50_000)
        await court.sale_is("billed")
        assert Authorise(AmountLimit(15_000), (1,)) in court.pump.commands
        volume = 15_000 * 10_000 // PRICE // 10 * 10
        assert court.sales() == [("billed", volume, (volume * PRICE + 5000) // 10_000, None)]

    live(box, scenario)


def test_the_sale_is_durable_before_the_pump_is_authorised(box):
    async def scenario(court):
        seen = []
        do = court.pump.do

        async def watched(command):
            if isinstance(command, Authorise):
                seen.append((court.sales(), court.held()))
            return await do(command)

        court.pump.do = watched
        court.car()
        court.pump.lift()
        await court.authorised()
        assert seen == [([("open", None, None, None)], LIMIT)]

    live(box, scenario)


def test_a_nozzle_hung_up_again_costs_nothing(box):
    async def scenario(court):
        court.car()
        court.pump.lift()
        await court.authorised()
        court.pump.hang_up()
        await court.sale_is("nothing")
        await court.until(lambda: court.held() == 0)
        assert dict(court.debits()) == {("voided", LIMIT): 1}

    live(box, scenario)


def test_a_nozzle_that_is_changed_for_another_while_the_pump_is_asked_is_not_the_one_that_is_sold(box):
    async def scenario(court):
        await court.until(lambda: court.pump.did(AskTotals) == 2)  # it was looked over as it came
        do = court.pump.do

        async def changed_meanwhile(command):
            if isinstance(command, AskTotals) and court.pump.did(AskTotals) == 2:
                court.pump.say(NozzleSeen(1, out=False), NozzleSeen(2, out=True, unit_price_milli=PRICE))
            return await do(command)

        court.pump.do = changed_meanwhile
        court.car()
        court.pump.lift()
        await court.authorised()
        asked, sold = [each for each in court.pump.commands[2:] if isinstance(each, AskTotals | Authorise)][-2:]
        assert (asked, sold.nozzles) == (AskTotals(2), (2,))
        assert box.rows("select nozzle from sale") == [(2,)]

    live(box, scenario)


def test_whoever_hung_up_with_nothing_may_lift_again(box):
    async def scenario(court):
        court.car()
        court.pump.lift()
        await court.authorised()
        court.pump.hang_up()
        await court.sale_is("nothing")
        court.approve()
        court.pump.say(StateSeen(SideState.IDLE))
        court.pump.lift()
        await court.until(lambda: court.side.facts.lifts == 2)
        assert not list(court.island.sightings(1))  # it may have left
        court.car()
        assert not list(court.island.sightings(2))  # it stands at this side
        box.clock.now += 21
        court.car()
        assert list(court.island.sightings(2))  # it has left, and come back
        await court.authorised()
        court.pump.flow(ML)
        court.pump.hang_up()
        await court.until(lambda: sorted(row[0] for row in court.sales()) == ["billed", "nothing"])

    live(box, scenario)


def test_nobody_there_is_not_authorised_until_somebody_is_seen(box):
    async def scenario(court):
        court.pump.lift()
        await court.until(lambda: court.side.facts.out)
        assert not court.pump.commands
        court.car()
        await court.authorised()

    live(box, scenario)


def test_two_vehicles_are_the_attendants_choice(box):
    async def scenario(court):
        court.car(1)
        court.car(2)
        court.pump.lift()
        await court.until(lambda: box.rows("select reason from decision"))
        assert box.rows("select reason, release from decision") == [("pump_vehicle_unclear", "attendant")]
        assert not court.pump.did(Authorise)

    live(box, scenario)


def test_a_nozzle_that_is_back_before_the_pump_is_authorised_is_not_authorised(box):
    async def scenario(court):
        hold = court.services.engine.hold

        async def slow(*request, **limits):
            court.pump.hang_up()
            return await hold(*request, **limits)

        court.services.engine.hold = slow
        court.car()
        court.pump.lift()
        await court.sale_is("nothing")
        assert court.sales()[0][3] == "nozzle_returned"
        assert not court.pump.did(Authorise)

    live(box, scenario)


def test_a_cut_line_without_a_totaliser_proves_nothing(box):
    async def scenario(court):
        court.car()
        court.pump.lift()
        await court.authorised()
        court.pump.gone()
        court.pump.flow(ML, quietly=True)
        court.pump.hang_up(quietly=True)
        court.pump.outcomes[AskTotals] = Outcome.REFUSED
        court.pump.back()
        await court.sale_is("grey")
        assert court.sales()[0][3] == "pump_totals_missing"

    live(box, scenario)


@pytest.mark.parametrize("killed", [True, False])
def test_a_car_that_has_filled_up_is_nobody_s_proof_until_it_has_left(box, killed):
    """It may stand there still while somebody else, whose tag is not read, lifts the next nozzle."""
    pump_book = SimpleNamespace(**PUMP)

    async def first(court):
        court.car()
        court.approve()
        court.pump.lift()
        await court.authorised()
        court.pump.flow(ML)
        if not killed:
            court.pump.hang_up()
            await second(court)

    async def second(court):
        await court.sale_is("billed")
        await court.until(lambda: court.pump.did(Clear))
        court.car()  # it is still seen
        court.pump.lift()
        await court.until(lambda: court.side.facts.out)
        assert not list(court.island.sightings(1))
        box.clock.now += 21
        court.car()  # it has left, and come back
        await court.until(lambda: len(court.sales()) == 2)

    async def again(court):
        court.approve()
        court.pump.out = False
        court.pump.back()
        await second(court)

    live(box, first, pump_book=pump_book)
    if killed:
        live(box, again, pump_book=pump_book)


def test_a_car_that_has_filled_up_is_nobody_s_proof_after_a_start_of_the_gateway(box):
    """It stands there still, and whoever lifts the nozzle next is somebody else."""
    pump_book = SimpleNamespace(**PUMP)

    async def before(court):
        court.car()
        court.approve()
        await fill(court)
        await court.sale_is("billed")

    async def after(court):
        await court.until(lambda: court.side._facts.online)  # it has recovered, and serves
        court.car()
        assert not list(court.island.sightings(1))
        court.car(2)
        assert len(list(court.island.sightings(1))) == 1
        box.clock.now += 21
        court.car()  # it has left, and come back
        assert len(list(court.island.sightings(1))) == 2

    live(box, before, pump_book=pump_book)
    live(box, after, pump_book=pump_book)


def test_a_pump_that_says_nothing_of_its_nozzles_tells_by_its_state(box):
    async def scenario(court):
        court.pump.out = None
        court.car()
        court.approve()
        court.pump.say(StateSeen(SideState.CALLING))
        await court.authorised()
        court.pump.flow(ML)
        court.pump.limit = None
        court.pump.say(StateSeen(SideState.COMPLETED))
        await court.sale_is("billed")

    live(box, scenario, tells_nozzle=False)


@pytest.mark.parametrize("outcome", [Outcome.NOT_SENT, Outcome.REFUSED])
def test_a_pump_that_refuses_costs_nothing(box, outcome):
    async def scenario(court):
        court.pump.outcomes[Authorise] = outcome
        court.car()
        court.pump.lift()
        await court.sale_is("nothing")
        assert court.sales()[0][3] == "pump_refused"
        await court.until(lambda: court.held() == 0)

    live(box, scenario)


def test_an_authorisation_without_an_answer_is_taken_back_and_charged_as_delivered(box):
    async def scenario(court):
        court.pump.outcomes[Authorise] = Outcome.UNKNOWN
        court.car()
        court.approve()
        court.pump.lift()
        await court.until(lambda: court.pump.did(Stop))
        assert court.sales() == [("open", None, None, None)]
        court.pump.flow(ML)
        court.pump.hang_up()
        await court.sale_is("billed")
        assert court.sales() == [("billed", ML, FEN, None)]

    live(box, scenario)


def test_a_silent_bank_lets_the_car_go_and_is_told_later(box):
    async def scenario(court):
        court.car()
        court.approve(SILENT)
        await fill(court)
        await court.sale_is("billed")
        assert dict(court.debits()) == {("owed", FEN): 1}

    live(box, scenario)


def test_a_bank_that_declines_makes_a_debt(box):
    async def scenario(court):
        court.car()
        court.approve(DECLINED)
        await fill(court)
        await court.sale_is("billed")
        assert dict(court.debits()) == {("debt", FEN): 1}

    live(box, scenario)


def test_an_amount_that_does_not_fit_is_billed_by_nobody(box):
    async def scenario(court):
        court.car()
        court.pump.lift()
        await court.authorised()
        court.pump.flow(ML)
        court.pump.book.amount += 2
        court.pump.hang_up()
        await court.sale_is("grey")
        assert court.sales()[0][3] == "pump_amount_differs"
        assert court.held() == LIMIT
        assert box.items() == [("sale_grey", "open")]
        await court.until(lambda: court.pump.did(Clear))
        box.clock.now += 21
        court.pump.lift()  # the same payer gets no second authorisation
        court.car()
        await court.until(lambda: box.rows("select 1 from decision where reason = 'pump_earlier_open'"))
        assert court.pump.did(Authorise) == 1

    live(box, scenario)


def test_a_line_that_was_cut_while_fuel_flowed_is_settled_by_three_witnesses(box):
    async def scenario(court):
        court.car()
        court.approve()
        court.pump.lift()
        await court.authorised()
        court.pump.gone()
        court.pump.flow(ML, quietly=True)
        court.pump.hang_up(quietly=True)
        court.pump.back(restarted=True)
        await court.sale_is("billed")
        assert court.sales() == [("billed", ML, FEN, None)]

    live(box, scenario)


def test_litres_of_somebody_else_in_the_gap_leave_the_sale_grey(box):
    async def scenario(court):
        court.car()
        court.pump.lift()
        await court.authorised()
        court.pump.gone()
        court.pump.flow(ML, quietly=True)
        court.pump.book.total_ml += 5_000
        court.pump.hang_up(quietly=True)
        court.pump.back()
        await court.sale_is("grey")
        assert court.sales()[0][3] == "pump_totals_differ"
        assert court.held() == LIMIT

    live(box, scenario)


def test_a_delivery_that_no_sale_explains_is_found(box):
    async def scenario(court):
        court.car()
        court.approve()
        await fill(court)
        await court.sale_is("billed")
        await court.until(lambda: court.pump.did(Clear))
        court.pump.book.volume_ml = court.pump.book.amount = 0
        court.pump.flow(4_000)  # stand-alone
        court.pump.hang_up()
        await court.until(lambda: len(court.sales()) == 2)
        assert court.sales()[1] == ("billed", 4_000, 3_140, "fuel_unexplained")
        assert box.items() == [("fuel_unexplained", "open")]

    live(box, scenario)


@pytest.mark.parametrize("step", ["authorised", "flowing", "hung up"])
def test_a_gateway_that_dies_takes_the_sale_up_again(box, step):
    pump_book = SimpleNamespace(**PUMP)

    async def before(court):
        court.car()
        court.pump.lift()
        await court.authorised()
        if step == "flowing":
            court.pump.flow(3_000)
            await court.until(lambda: court.side.facts.flowed)

    async def after(court):
        assert court.held() == LIMIT
        court.approve()
        court.pump.out = False
        court.pump.flow(ML - court.pump.book.volume_ml, quietly=True)
        court.pump.back()
        await court.sale_is("billed")
        assert court.sales() == [("billed", ML, FEN, None)]
        assert court.held() == 0

    live(box, before, pump_book=pump_book)
    live(box, after, pump_book=pump_book)
    assert box.rows("select state, amount from debit") == [("funded", FEN)]


def test_a_gateway_that_dies_before_it_charged_charges_once(box):
    pump_book = SimpleNamespace(**PUMP)

    async def before(court):
        court.car()
        court.services.engine.complete = lambda *_, **__: asyncio.sleep(3600)
        await fill(court)
        await court.sale_is("delivered")

    async def after(court):
        await court.sale_is("billed")

    live(box, before, pump_book=pump_book)
    box.bank.answers.append(APPROVED)
    live(box, after, pump_book=pump_book)
    assert box.rows("select state, amount from debit") == [("funded", FEN)]


@pytest.mark.parametrize("call", ["hold", "release"])
def test_a_hold_under_which_nothing_can_flow_is_freed_at_the_start(box, call):
    """The gateway dies after the hold and before the sale, or after the sale's end and before the hold's."""
    pump_book = SimpleNamespace(**PUMP)

    async def before(court):
        if call == "hold":
            court.side._begin = lambda *_: asyncio.sleep(3600)
        else:
            court.services.engine.release = lambda *_: asyncio.sleep(3600)
        court.car()
        court.pump.lift()
        if call == "release":
            await court.authorised()
            court.pump.hang_up()
            await court.sale_is("nothing")
        await court.until(lambda: court.held() == LIMIT)

    async def after(court):
        await court.until(lambda: court.held() == 0)
        assert dict(court.debits()) == {("voided", LIMIT): 1}

    live(box, before, pump_book=pump_book)
    live(box, after, pump_book=pump_book)


def settle(box, **word):
    """A person's word, through the one door for acts."""
    act = SettleSale(reason="looked at the display", **word)
    change = change_of(act, Actor(0, "li", frozenset()), Terms(shipped_rules(), lambda: None), {})
    return box.writer.submit(change, essential=True)


@pytest.mark.parametrize("nothing", [True, False])
def test_a_person_ends_a_grey_sale(box, nothing):
    pump_book = SimpleNamespace(**PUMP)

    async def before(court):
        court.car()
        court.pump.lift()
        await court.authorised()
        court.pump.flow(ML)
        court.pump.book.amount += 5
        court.pump.hang_up()
        await court.sale_is("grey")
        sale_id = box.rows("select id from sale")[0][0]
        done = {} if nothing else {"volume_ml": ML, "amount_fen": FEN}
        await settle(box, sale_id=sale_id, **done)
        with pytest.raises(Refused, match="sale_settled"):
            await settle(box, sale_id=sale_id)
        assert box.items()[0] == ("sale_grey", "corrected")
        if nothing:
            assert (court.sales()[0][0], court.held()) == ("nothing", 0)
        else:
            court.approve()
            await court.charge_what_is_known()
            assert court.sales() == [("billed", ML, FEN, None)]

    live(box, before, pump_book=pump_book)
    state = ("voided", LIMIT) if nothing else ("funded", FEN)
    assert box.rows("select state, amount from debit") == [state]
