"""Quoting: integer arithmetic that always adds up, and a reason wherever there is no fare."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tariffs.quote import (
    ENTRY_AHEAD_MAX,
    Discount,
    EntryFact,
    FareKind,
    PerMetre,
    Quote,
    Refusal,
    Rounding,
    RoundingMode,
    RoundingPlace,
    RoundingUnit,
    TariffSet,
    TariffVersion,
    TollUnit,
    divide,
    quote,
    round_amounts,
    split,
)

T0 = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
PLAZA, ENTRY, MATRIX_EXIT, ROUTE_EXIT = "9901000A", "99010101", "99010102", "99010103"
FIVE_PERCENT = Discount(50, Rounding())


def tariff(**changes) -> TariffVersion:
    """Bench tariff: a plaza, a matrix relation and a route of two units, one charged per metre."""
    values = {
        "version": "9920261101001",
        "valid_from": T0,
        "discount": FIVE_PERCENT,
        "ceiling": {1: 100_000, 11: 100_000},
        "class_tables": {PLAZA: {1: 510}},
        "matrix": {MATRIX_EXIT: {ENTRY: {1: 2345}}},
        "routes": {ROUTE_EXIT: {ENTRY: ("U1", "U2")}},
        "units": {"U1": TollUnit("U1", {1: 1000}, 21_500), "U2": TollUnit("U2", metres=12_345)},
        "per_metre": PerMetre({1: 40}),
    }
    return TariffVersion(**(values | changes))


def ask(station, vehicle_class=1, entry=ENTRY, *, at=T0 + HOUR, entered=T0, data=None, **options):
    fact = None if entry is None else EntryFact(entry, entered)
    return quote(TariffSet((data or tariff(),)), at, station, vehicle_class, fact, **options)


# --- arithmetic -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numerator", "half_up", "half_even", "down", "up"),
    [(0, 0, 0, 0, 0), (9, 1, 1, 0, 1), (5, 1, 0, 0, 1), (15, 2, 2, 1, 2), (25, 3, 2, 2, 3), (14, 1, 1, 1, 2)],
)
def test_rounding_modes(numerator, half_up, half_even, down, up):
    assert divide(numerator, 10, RoundingMode.HALF_UP) == half_up
    assert divide(numerator, 10, RoundingMode.HALF_EVEN) == half_even
    assert divide(numerator, 10, RoundingMode.DOWN) == down
    assert divide(numerator, 10, RoundingMode.UP) == up


@given(st.integers(0, 10**15), st.integers(1, 10**6))
def test_rounding_agrees_with_exact_fractions(numerator, denominator):
    exact = Fraction(numerator, denominator)
    assert divide(numerator, denominator, RoundingMode.HALF_EVEN) == round(exact)
    assert divide(numerator, denominator, RoundingMode.DOWN) == exact.__floor__()
    assert divide(numerator, denominator, RoundingMode.UP) == exact.__ceil__()
    assert divide(numerator, denominator, RoundingMode.HALF_UP) == (exact + Fraction(1, 2)).__floor__()


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_shares_sum_to_the_fen_and_stay_within_one_of_their_due(total, weights):
    shares = split(total, weights)
    if sum(weights) == 0:
        assert shares == [0] * len(weights)
        return
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - Fraction(total * weight, sum(weights))) < 1


def test_ties_go_to_the_first():
    assert split(1, [5, 5, 5]) == [1, 0, 0]
    assert split(5, [1, 1, 1]) == [2, 2, 1]


@pytest.mark.parametrize(
    ("rounding", "amounts"),
    [
        (Rounding(), [1, 1, 1]),
        (Rounding(where=RoundingPlace.TOTAL), [1, 1, 0]),
        (Rounding(mode=RoundingMode.UP, where=RoundingPlace.TOTAL), [1, 1, 0]),
        (Rounding(mode=RoundingMode.DOWN), [0, 0, 0]),
        (Rounding(mode=RoundingMode.DOWN, where=RoundingPlace.TOTAL), [1, 0, 0]),
        (Rounding(unit=RoundingUnit.YUAN, mode=RoundingMode.UP), [100, 100, 100]),
        (Rounding(unit=RoundingUnit.YUAN, mode=RoundingMode.UP, where=RoundingPlace.TOTAL), [34, 33, 33]),
    ],
)
def test_where_and_how_rounding_happens(rounding, amounts):
    """Three units of 0.6 fen each: 1.8 fen in all."""
    assert round_amounts([6, 6, 6], 10, rounding) == amounts


# --- fares ----------------------------------------------------------------------------------------------------------


def test_class_table_needs_no_entry():
    fare = ask(PLAZA, entry=None)
    assert (fare.kind, fare.gross_fen, fare.discount_fen, fare.amount_fen) == (FareKind.CLASS_TABLE, 510, 25, 485)
    assert fare.tariff_version == "9920261101001"
    assert [part.name for part in fare.parts] == [PLAZA]


def test_matrix():
    fare = ask(MATRIX_EXIT)
    assert (fare.kind, fare.gross_fen, fare.amount_fen) == (FareKind.MATRIX, 2345, 2228)
    assert [part.name for part in fare.parts] == ["99010101>99010102"]


def test_route_of_a_fixed_and_a_metered_unit():
    """12345 m at 40 fen/km are 493.8 fen."""
    fare = ask(ROUTE_EXIT)
    assert [(part.name, part.gross_fen, part.amount_fen) for part in fare.parts] == [
        ("U1", 1000, 950),
        ("U2", 494, 469),
    ]
    assert (fare.kind, fare.gross_fen, fare.amount_fen, fare.metres) == (FareKind.ROUTES, 1494, 1419, 33_845)


def test_length_is_given_only_when_every_unit_has_one():
    units = {"U1": TollUnit("U1", {1: 1000}), "U2": TollUnit("U2", metres=12_345)}
    assert ask(ROUTE_EXIT, data=tariff(units=units)).metres is None


def test_the_place_of_rounding_is_seen_in_the_fare():
    """Ten units of 10 fen: 9.5 fen each after 5 %, so 10 units of 10 or once 95."""
    names = tuple(f"U{n}" for n in range(10))
    road = {
        "routes": {ROUTE_EXIT: {ENTRY: names}},
        "units": {name: TollUnit(name, {1: 10}) for name in names},
    }
    by_unit = ask(ROUTE_EXIT, data=tariff(**road))
    on_total = ask(ROUTE_EXIT, data=tariff(**road, discount=Discount(50, Rounding(where=RoundingPlace.TOTAL))))
    assert (by_unit.amount_fen, on_total.amount_fen) == (100, 95)
    assert sum(part.amount_fen for part in on_total.parts) == 95


def test_metered_units_may_be_rounded_on_their_total():
    names = ("A", "B", "C")
    road = {
        "routes": {ROUTE_EXIT: {ENTRY: names}},
        "units": {name: TollUnit(name, metres=10) for name in names},
        "discount": Discount(),
    }
    by_unit = tariff(**road, per_metre=PerMetre({1: 60}))
    on_total = tariff(**road, per_metre=PerMetre({1: 60}, Rounding(where=RoundingPlace.TOTAL)))
    assert ask(ROUTE_EXIT, data=by_unit).amount_fen == 3
    assert ask(ROUTE_EXIT, data=on_total).amount_fen == 2


def test_whole_yuan():
    for mode, amount in [(RoundingMode.HALF_UP, 2200), (RoundingMode.UP, 2300), (RoundingMode.DOWN, 2200)]:
        data = tariff(discount=Discount(50, Rounding(RoundingUnit.YUAN, mode)))
        assert ask(MATRIX_EXIT, data=data).amount_fen == amount


def test_rounding_never_makes_a_discount_negative():
    data = tariff(class_tables={PLAZA: {1: 199}}, discount=Discount(50, Rounding(RoundingUnit.YUAN, RoundingMode.UP)))
    fare = ask(PLAZA, data=data)
    assert (fare.gross_fen, fare.discount_fen, fare.amount_fen) == (199, 0, 199)


@pytest.mark.parametrize("where", RoundingPlace)
def test_whole_yuan_on_a_route_never_cost_more_than_the_full_fare(where):
    discount = Discount(50, Rounding(RoundingUnit.YUAN, RoundingMode.UP, where))
    fare = ask(ROUTE_EXIT, data=tariff(discount=discount))
    assert fare.gross_fen == 1494
    assert (fare.amount_fen, fare.discount_fen) == (1494, 0)
    assert [part.amount_fen for part in fare.parts] == [1000, 494]


def test_a_unit_with_own_fares_is_never_priced_by_its_length():
    data = tariff(
        units={"U1": TollUnit("U1", {1: 1000}, 21_500), "U2": TollUnit("U2", metres=12_345)},
        per_metre=PerMetre({1: 40, 11: 90}),
    )
    assert ask(ROUTE_EXIT, 11, data=data).reason.code == "fare_missing"


def test_without_discount():
    assert ask(MATRIX_EXIT, discounted=False).amount_fen == 2345
    assert ask(MATRIX_EXIT, data=tariff(discount=Discount())).amount_fen == 2345
    assert ask(MATRIX_EXIT, data=tariff(discount=Discount(1000))).amount_fen == 0


def test_exempt_user_types_are_data():
    assert ask(MATRIX_EXIT, user_type=8).amount_fen == 2228
    free = ask(MATRIX_EXIT, user_type=8, data=tariff(exempt_user_types=frozenset({8})))
    assert (free.gross_fen, free.discount_fen, free.amount_fen) == (2345, 2345, 0)
    assert free.note.code == "vehicle_exempt"


def test_small_letters_in_codes_are_the_same_station():
    assert ask(PLAZA.lower(), entry=None).amount_fen == 485


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ({"station": PLAZA, "at": T0 - HOUR}, "no_tariff"),
        ({"station": PLAZA, "vehicle_class": 7}, "obu_class_illegal"),
        ({"station": PLAZA, "vehicle_class": 0}, "obu_class_illegal"),
        ({"station": PLAZA, "vehicle_class": 11}, "fare_missing"),
        ({"station": MATRIX_EXIT, "vehicle_class": 11}, "fare_missing"),
        ({"station": ROUTE_EXIT, "vehicle_class": 11}, "fare_missing"),
        ({"station": "99019999"}, "fare_missing"),
        ({"station": MATRIX_EXIT, "entry": None}, "no_entry"),
        ({"station": ROUTE_EXIT, "entry": None}, "no_entry"),
        ({"station": MATRIX_EXIT, "entry": "99019999"}, "route_unreachable"),
        ({"station": MATRIX_EXIT, "entry": MATRIX_EXIT}, "u_turn"),
        ({"station": MATRIX_EXIT, "entered": datetime(1970, 1, 1, tzinfo=UTC)}, "entry_time_invalid"),
        ({"station": MATRIX_EXIT, "entered": datetime(2000, 1, 1, 8, tzinfo=UTC)}, "entry_time_invalid"),
        ({"station": MATRIX_EXIT, "entered": T0 + HOUR + ENTRY_AHEAD_MAX + HOUR}, "entry_time_invalid"),
        ({"station": MATRIX_EXIT, "data": tariff(ceiling={1: 2344})}, "amount_absurd"),
        ({"station": MATRIX_EXIT, "data": tariff(ceiling={})}, "amount_absurd"),
        ({"station": MATRIX_EXIT, "data": tariff(longest_trip=HOUR), "at": T0 + 2 * HOUR}, "trip_too_long"),
    ],
)
def test_where_there_is_no_fare_there_is_a_reason(question, reason):
    answer = ask(**question)
    assert isinstance(answer, Refusal)
    assert answer.reason.code == reason
    assert answer.detail


def test_borders_of_the_guards():
    assert isinstance(ask(MATRIX_EXIT, data=tariff(ceiling={1: 2345})), Quote)
    assert isinstance(ask(MATRIX_EXIT, entered=T0 + HOUR + ENTRY_AHEAD_MAX), Quote)
    assert isinstance(ask(MATRIX_EXIT, data=tariff(longest_trip=HOUR)), Quote)


def test_a_time_without_zone_is_our_mistake():
    with pytest.raises(ValueError, match="zone"):
        ask(MATRIX_EXIT, at=datetime(2026, 11, 1, 1))  # noqa: DTZ001 the mistake under test
    with pytest.raises(ValueError, match="zone"):
        ask(MATRIX_EXIT, entered=datetime(2026, 11, 1, 1))  # noqa: DTZ001 the mistake under test


def test_the_version_in_force():
    versions = TariffSet(
        (
            tariff(version="9920261101001", valid_to=T0 + HOUR),
            tariff(version="9920261101002", valid_from=T0 + HOUR, valid_to=T0 + 2 * HOUR),
        )
    )
    tick = timedelta(microseconds=1)
    found = [versions.in_force(at) for at in (T0 - tick, T0, T0 + HOUR - tick, T0 + HOUR, T0 + 2 * HOUR)]
    assert [version and version.version[-1] for version in found] == [None, "1", "1", "2", None]
    assert TariffSet(()).in_force(T0) is None


# --- invariants -----------------------------------------------------------------------------------------------------

roundings = st.builds(
    Rounding, st.sampled_from(RoundingUnit), st.sampled_from(RoundingMode), st.sampled_from(RoundingPlace)
)


@st.composite
def roads(draw):
    names = tuple(f"U{n}" for n in range(draw(st.integers(1, 8))))
    units = {
        name: TollUnit(name, metres=draw(st.integers(1, 90_000)))
        if draw(st.booleans())
        else TollUnit(name, {1: draw(st.integers(0, 5000))})
        for name in names
    }
    return tariff(
        routes={ROUTE_EXIT: {ENTRY: names}},
        units=units,
        per_metre=PerMetre({1: draw(st.integers(0, 300))}, draw(roundings)),
        discount=Discount(draw(st.integers(0, 1000)), draw(roundings)),
        ceiling={1: 10**9},
        exempt_user_types=frozenset({8}),
    )


@given(roads(), st.sampled_from([0, 8]), st.booleans())
def test_every_fare_adds_up(data, user_type, discounted):
    fare = ask(ROUTE_EXIT, data=data, user_type=user_type, discounted=discounted)
    assert 0 <= fare.amount_fen <= fare.gross_fen
    assert fare.amount_fen == fare.gross_fen - fare.discount_fen
    assert [part.name for part in fare.parts] == list(data.routes[ROUTE_EXIT][ENTRY])
    for name in ("amount_fen", "gross_fen", "discount_fen"):
        amounts = [getattr(part, name) for part in fare.parts]
        assert sum(amounts) == getattr(fare, name)
        assert all(isinstance(amount, int) and amount >= 0 for amount in amounts)
    assert all(part.amount_fen == part.gross_fen - part.discount_fen for part in fare.parts)
    if not discounted and user_type == 0:
        assert fare.discount_fen == 0
    if user_type == 8:
        assert fare.amount_fen == 0


@given(roads())
def test_a_discount_rounded_to_fen_is_off_by_less_than_one_fen_a_rounding(data):
    discount = Discount(data.discount.permille_off, Rounding(where=data.discount.rounding.where))
    fare = ask(
        ROUTE_EXIT, data=TariffVersion(**({n: getattr(data, n) for n in data.__slots__} | {"discount": discount}))
    )
    exact = Fraction(fare.gross_fen * (1000 - discount.permille_off), 1000)
    roundings_made = len(fare.parts) if discount.rounding.where is RoundingPlace.UNIT else 1
    assert abs(fare.amount_fen - exact) <= Fraction(roundings_made, 2)
