"""What a fleet's terms allow at a nozzle: worked out, preset at the pump, and kept by all its vehicles together."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.debit.claims import Identity, Payer
from gateway.ledger import tables
from gateway.model.passage import Funding
from gateway.payers.fuel_terms import NO_TERMS, FuelTerms, terms_row
from gateway.points.fuel.allowance import Allowance, Asked, Used, allow
from gateway.points.fuel.island import Island
from gateway.points.fuel.point import FuelPoint
from gateway.points.fuel.side import Side
from gateway.points.fuel.witnesses import WitnessKind
from protocols.pump.types import AmountLimit, Authorise, Clear, Decimals, SideState, StateSeen, VolumeLimit

from .conftest import LIMIT, PRICE, SETTINGS, Forecourt, ModelPump, live

ASKED = Asked(grade="92", most_fen=LIMIT, unit_price_milli=PRICE, decimals=Decimals(), minimum_fen=100)


# --- worked out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "used", "limit_fen", "preset"),
    [
        ({}, (), LIMIT, AmountLimit(LIMIT)),
        ({"grades": ("92", "95")}, (), LIMIT, AmountLimit(LIMIT)),
        ({"per_sale_fen": 10_000}, (), 10_000, AmountLimit(10_000)),
        ({"per_sale_fen": 90_000}, (), LIMIT, AmountLimit(LIMIT)),
        ({"per_day_fen": 30_000}, (25_000, 0, 25_000, 0), 5_000, AmountLimit(5_000)),
        ({"per_month_fen": 30_000}, (0, 0, 21_500, 0), 8_500, AmountLimit(8_500)),
        ({"per_sale_ml": 10_000}, (), 7_850, VolumeLimit(10_000)),
        ({"per_sale_ml": 60_000}, (), LIMIT, AmountLimit(LIMIT)),
        ({"per_sale_ml": 10_000, "per_sale_fen": 7_850}, (), 7_850, VolumeLimit(10_000)),
        ({"per_sale_ml": 10_000, "per_sale_fen": 7_849}, (), 7_849, AmountLimit(7_849)),
        ({"per_month_ml": 100_000}, (0, 0, 0, 95_005), 3_917, VolumeLimit(4_990)),
        ({"per_day_ml": 20_000, "per_day_fen": 9_000}, (1_000, 1_000, 1_000, 1_000), 8_000, AmountLimit(8_000)),
        ({"per_day_ml": 20_000, "per_day_fen": 9_000}, (1_000, 15_000, 1_000, 15_000), 3_925, VolumeLimit(5_000)),
    ],
)
def test_the_bound_that_is_reached_first_is_held_and_preset(terms, used, limit_fen, preset):
    found = allow(FuelTerms(**terms), Used(*used), ASKED)
    assert (found.limit_fen, found.preset) == (limit_fen, preset)


@pytest.mark.parametrize(
    ("terms", "used", "asked", "reason"),
    [
        ({"grades": ("95",)}, (), {}, "pump_grade_refused"),
        ({"grades": ("95",)}, (), {"grade": None}, "pump_grade_refused"),
        ({"per_day_fen": 5_000}, (5_000, 1, 5_000, 1), {}, "fuel_day_used_up"),
        ({"per_day_ml": 5_000}, (1, 5_001, 1, 5_001), {}, "fuel_day_used_up"),
        ({"per_month_fen": 5_000}, (0, 0, 5_000, 1), {}, "fuel_month_used_up"),
        ({"per_month_ml": 5_000, "per_day_ml": 1}, (0, 1, 0, 5_000), {}, "fuel_month_used_up"),
        ({"per_day_fen": 5_000}, (4_901, 1, 4_901, 1), {}, "fuel_too_little_left"),
        ({"per_month_ml": 5_000}, (0, 0, 0, 4_995), {}, "fuel_too_little_left"),
        ({}, (), {"most_fen": 99}, "fuel_too_little_left"),
        ({"per_sale_ml": 60_000}, (), {"unit_price_milli": None}, "fuel_price_unknown"),
    ],
)
def test_no_sale_has_a_reason(terms, used, asked, reason):
    assert allow(FuelTerms(**terms), Used(*used), replace(ASKED, **asked)) == reason


def test_without_bounds_in_litres_the_price_need_not_be_known():
    asked = replace(ASKED, unit_price_milli=None)
    assert allow(FuelTerms(per_sale_fen=5_000), Used(), asked) == Allowance(5_000, None, AmountLimit(5_000))


BOUNDS = st.none() | st.integers(0, 200_000)
DECIMALS = st.builds(Decimals, st.integers(0, 3), st.integers(0, 2), st.integers(0, 3))


@given(
    st.builds(FuelTerms, st.none(), *[BOUNDS] * 6),
    st.tuples(*[st.integers(0, 100_000)] * 4),
    st.integers(100, 1_000_000),
    st.integers(1_000, 20_000),
    DECIMALS,
)
def test_whatever_a_pump_counts_in_it_stops_within_every_bound(terms, used, most_fen, price, decimals):
    """A pump that goes as far as its display lets it: the last volume that shows no more than the preset."""
    asked = Asked(grade="92", most_fen=most_fen, unit_price_milli=price, decimals=decimals, minimum_fen=1)
    day_fen, day_ml, more_fen, more_ml = used
    used = Used(day_fen, day_ml, day_fen + more_fen, day_ml + more_ml)
    found = allow(terms, used, asked)
    if isinstance(found, str):
        return
    step = decimals.volume_ml(1)
    if isinstance(found.preset, VolumeLimit):
        volume = decimals.volume_ml(decimals.volume_digits(found.preset.volume_ml))
        assert volume == found.preset.volume_ml
    else:
        most = decimals.amount_minor(decimals.amount_digits(found.preset.amount_minor))
        assert most == found.preset.amount_minor
        volume = (most + 100) * 10_000 // price // step * step
        while decimals.amount_of(volume, price) > most:
            volume -= step
    amount = decimals.amount_of(volume, price)
    assert amount <= found.limit_fen <= most_fen
    assert volume <= found.limit_ml
    for bound, before in (
        (terms.per_sale_fen, 0),
        (terms.per_day_fen, used.day_fen),
        (terms.per_month_fen, used.month_fen),
    ):
        assert bound is None or before + found.limit_fen <= bound
    for bound, before in (
        (terms.per_sale_ml, 0),
        (terms.per_day_ml, used.day_ml),
        (terms.per_month_ml, used.month_ml),
    ):
        assert bound is None or before + found.limit_ml <= bound


# --- at the pump --------------------------------------------------------------------------------------------------


async def agree(box, mandate="m1", **terms):
    """The mandate has these fuel terms from now on."""

    def change(tx):
        if tx.find(tables.mandate, id=mandate) is None:
            tx.insert(
                tables.mandate,
                id=mandate,
                status="active",
                funding="bank_online",
                stand_in_limit_fen=0,
                imported_at=0,
            )
        tx.execute(tables.mandate_fuel.delete().where(tables.mandate_fuel.c.mandate_id == mandate))
        if terms:
            tx.insert(tables.mandate_fuel, **terms_row(mandate, FuelTerms(**terms)))

    await box.in_books(change)


async def come_and_lift(court, nozzle=1):
    """The vehicle has left, and is here again, at the pump as it was left."""
    court.box.clock.now += 21
    court.car()
    court.pump.lift(nozzle)


async def fill(court, ml, *, overrun=False):
    """A whole sale, from the vehicle's coming to the end of its charge."""
    before, cleared = len(court.sales()), court.pump.did(Clear)
    court.approve()
    await come_and_lift(court)
    await court.authorised()
    if overrun:
        court.pump.limit = None
    court.pump.flow(ml)
    court.pump.hang_up()
    await court.until(lambda: len(court.sales()) > before and court.sales()[-1][0] == "billed")
    await court.until(lambda: court.pump.did(Clear) > cleared)


async def refused(court):
    """The reason for which the vehicle is turned away."""
    before = len(refusals(court))
    await come_and_lift(court)
    await court.until(lambda: len(refusals(court)) > before)
    court.pump.hang_up()
    return refusals(court)[-1]


def refusals(court):
    return [row[0] for row in court.box.rows("select reason from decision where reason is not null order by record_no")]


def presets(pump):
    return [command.limit for command in pump.commands if isinstance(command, Authorise)]


@pytest.mark.parametrize(
    ("terms", "preset", "sale"),
    [
        ({"per_sale_fen": 7_850}, AmountLimit(7_850), ("billed", 10_000, 7_850, None)),
        ({"per_sale_ml": 20_000}, VolumeLimit(20_000), ("billed", 20_000, 15_700, None)),
    ],
)
def test_a_pump_stops_at_what_the_terms_leave(box, terms, preset, sale):
    async def scenario(court):
        await agree(box, **terms)
        await fill(court, 50_000)
        assert presets(court.pump) == [preset]
        assert court.sales() == [sale]
        assert court.held() == 0

    live(box, scenario)


def test_what_is_preset_by_volume_is_held(box):
    async def scenario(court):
        await agree(box, per_sale_ml=20_000)
        court.car()
        court.pump.lift()
        await court.authorised()
        assert court.held() == 15_700
        assert box.rows("select limit_fen, limit_ml, mandate_id, day from sale") == [(15_700, 20_000, "m1", "20231115")]

    live(box, scenario)


def test_another_grade_is_refused_before_anything_is_held(box):
    async def scenario(court):
        await agree(box, grades=("95",))
        assert await refused(court) == "pump_grade_refused"
        assert box.rows("select count(*) from debit") == [(0,)]
        await come_and_lift(court, nozzle=2)
        await court.authorised()
        assert presets(court.pump) == [AmountLimit(LIMIT)]

    live(box, scenario)


@pytest.mark.parametrize(
    ("terms", "used_up", "midnight"),
    [
        ({"per_day_fen": 11_775}, "fuel_day_used_up", 1_700_064_000),  # 16 November in China
        ({"per_day_ml": 15_000}, "fuel_day_used_up", 1_700_064_000),
        ({"per_month_fen": 11_775}, "fuel_month_used_up", 1_701_360_000),  # 1 December in China
        ({"per_month_ml": 15_000}, "fuel_month_used_up", 1_701_360_000),
    ],
)
def test_bounds_of_a_day_and_a_month_begin_anew_with_those_of_the_site(box, terms, used_up, midnight):
    box.clock.now = midnight - 3600

    async def scenario(court):
        await agree(box, **terms)
        await fill(court, 10_000)
        await fill(court, 50_000)
        assert court.sales()[1] == ("billed", 5_000, 3_925, None)
        assert await refused(court) == used_up
        box.clock.now = midnight - 22
        assert await refused(court) == used_up
        box.clock.now = midnight
        await fill(court, 10_000)
        assert presets(court.pump)[2] == presets(court.pump)[0]

    live(box, scenario)


def test_a_month_s_bound_outlives_the_day(box):
    async def scenario(court):
        await agree(box, per_month_fen=10_000, per_day_fen=9_000)
        await fill(court, 10_000)
        box.clock.now += 86_400
        await fill(court, 50_000)
        assert presets(court.pump) == [AmountLimit(9_000), AmountLimit(2_150)]

    live(box, scenario)


def test_less_than_a_smallest_sale_is_not_begun(box):
    async def scenario(court):
        await agree(box, per_day_fen=7_900)
        await fill(court, 10_000)
        assert await refused(court) == "fuel_too_little_left"

    live(box, scenario)


def test_what_was_delivered_counts_whether_more_or_less_than_was_let(box):
    async def scenario(court):
        await agree(box, per_sale_fen=4_000, per_day_fen=12_000)
        await fill(court, 10_000, overrun=True)
        await fill(court, 1_000)
        await come_and_lift(court)
        await court.authorised()
        assert presets(court.pump) == [AmountLimit(4_000), AmountLimit(4_000), AmountLimit(12_000 - 7_850 - 785)]

    live(box, scenario)


def test_a_nozzle_hung_up_again_has_used_nothing(box):
    async def scenario(court):
        await agree(box, per_day_fen=5_000)
        court.car()
        court.pump.lift()
        await court.authorised()
        court.pump.hang_up()
        await court.until(lambda: court.pump.did(Clear))
        assert court.sales()[0][0] == "nothing"
        await come_and_lift(court)
        await court.until(lambda: court.pump.did(Authorise) == 2)
        assert presets(court.pump) == [AmountLimit(5_000)] * 2

    live(box, scenario)


def test_litres_cannot_be_kept_at_a_pump_that_tells_no_price(box):
    async def scenario(court):
        await agree(box, per_day_ml=50_000)
        court.car()
        court.pump.say(StateSeen(SideState.CALLING))
        await court.until(lambda: refusals(court))
        assert refusals(court) == ["fuel_price_unknown"]

    live(box, scenario, tells_nozzle=False)


def test_terms_that_change_after_the_hold_bind_before_the_pump_is_authorised(box):
    async def scenario(court):
        hold = court.services.engine.hold

        async def slow(*request, **limits):
            placed = await hold(*request, **limits)
            await agree(box, grades=("95",))
            return placed

        court.services.engine.hold = slow
        court.car()
        court.pump.lift()
        await court.until(lambda: refusals(court))
        assert refusals(court) == ["pump_grade_refused"]
        assert court.held() == 0
        assert (court.sales(), presets(court.pump)) == ([], [])

    live(box, scenario)


# --- two at once --------------------------------------------------------------------------------------------------


class TwoPumps(Forecourt):
    """Two pumps apart from each other, with a vehicle of one fleet at each."""

    def __init__(self, box):
        super().__init__(box)
        self.services = replace(self.services, settings=replace(self.services.settings, deadline_s=60))
        self.pumps = [ModelPump(), ModelPump()]
        self.islands = [Island(box.clock, WitnessKind.ISLAND_ANTENNA, gone_s=20) for _ in self.pumps]
        self.sides = [
            Side(self.services, replace(SETTINGS, number=number), pump, island, self.charging)
            for number, (pump, island) in enumerate(zip(self.pumps, self.islands, strict=True), 1)
        ]

    async def __aenter__(self):
        silent = SimpleNamespace(run=asyncio.Event().wait)
        self.running = asyncio.create_task(
            FuelPoint(self.services, silent, self.sides, island=self.island, charging=self.charging).run()
        )
        return self

    async def lift_at_once(self):
        """Both lift their nozzles, and both are told what is left before either has taken any of it."""
        waiting = []
        hold = self.services.engine.hold

        def asked(*request, **limits):
            waiting.append(request)
            return hold(*request, **limits)

        self.services.engine.hold = asked
        with self.box.committer.shut():
            for number, (pump, island) in enumerate(zip(self.pumps, self.islands, strict=True), 1):
                seen = Identity(obu_id=number.to_bytes(4), plate=f"测A0000{number}", plate_colour=0)
                island.saw(seen, Payer(Funding.BANK_ONLINE, "bank-1", "m1", "contract-m1", None, 100_000))
                pump.lift()
            await self.until(lambda: len(waiting) == 2)

    @property
    def let(self):
        """Presets of both, and what they come to in fen and millilitres."""
        both = sorted((presets(pump) for pump in self.pumps), key=str)
        return both, self.box.rows("select sum(limit_fen), sum(limit_ml) from sale")[0]


@pytest.mark.parametrize(
    ("terms", "both"),
    [
        ({"per_day_fen": 30_000}, [[AmountLimit(10_000)], [AmountLimit(20_000)]]),
        ({"per_month_fen": 39_999}, [[AmountLimit(19_999)], [AmountLimit(20_000)]]),
        ({"per_day_ml": 30_000}, [[AmountLimit(20_000)], [VolumeLimit(4_520)]]),
        ({"per_day_fen": 20_000}, [[AmountLimit(20_000)], []]),
    ],
)
def test_two_vehicles_of_a_fleet_at_once_keep_its_bounds_together(box, terms, both):
    async def scenario():
        async with box, TwoPumps(box) as court:
            await agree(box, **terms)
            await court.lift_at_once()
            await court.until(lambda: len(presets(court.pumps[0]) + presets(court.pumps[1]) + refusals(court)) == 2)
            found, (fen, ml) = court.let
            assert found == both
            assert fen <= terms.get("per_day_fen", 40_000)
            assert ml <= terms.get("per_day_ml", 60_000)
            assert refusals(court) == ["fuel_day_used_up"] * both.count([])
            assert court.held() == 40_000 - 20_000 * both.count([])

    asyncio.run(scenario())
    box.open()
    box.check()


def test_without_terms_a_payer_has_what_the_site_allows():
    assert allow(NO_TERMS, Used(), ASKED).limit_fen == LIMIT
