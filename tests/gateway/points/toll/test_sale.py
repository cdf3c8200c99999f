"""One vehicle's trade, every way it can go, with a real engine and ledger and an antenna in memory.

What must hold in every one of them is looked at by the plaza itself (`plaza.Plaza.broken`): no C6 without its
durable intent, no lift without its committed decision, no acknowledgement of what is not stored, one answer to a
report, no file 0019 written twice, and books that verify.
"""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from gateway.ledger import tables
from gateway.model.passage import DeclinePolicy, Funding, Occasion
from gateway.model.reasons import REASONS, Severity
from gateway.payers.list_file import ListFile, StatusListError
from gateway.points.card.settings import ChargeCardPurchase
from gateway.points.etc.settings import OnePiecePolicy
from gateway.points.toll.settings import LaneKind
from gateway.points.visit import PURCHASE_UNDER_WAY_S
from gateway.rules.loading import shipped_rules
from gateway.tariffs.quote import TariffSet
from protocols.card.codes import PassStatus
from protocols.card.station import decode_station
from protocols.obu import obu_status_new, vehicle_file_new
from protocols.rsu.messages import Continue, Debit, DebitResult, FetchTac, RecoverTac, Stop, StopType
from tests.gateway.points import plaza as bench
from tests.gateway.points.plaza import AT, FARE, Car, Purchase, entry_record

plaza_made_once, play = bench.plaza_made_once, bench.play

PAID = ("paid", "go", None)
ENTERED = ("entered", "go", None)
REPEAT = ("repeat", "go", "already_charged")
UNKNOWN = ("unknown", "stop", "purchase_unknown")
DISPUTED = ("unknown", "attendant", "purchase_disputed")
CHARGE = 23
EXEMPT = 8
EXIT = {"kind": LaneKind.EXIT, "station": "99010102"}
LOST, LOST_NOT_TAKEN = Purchase(takes=True, error=None), Purchase(takes=False, error=None)


def drive(play, car, *, settings=None, prepare=None, charge_cards=None):
    """One car through one lane; gives the plaza for looking at."""
    seen = {}

    async def story(plaza):
        plaza.charge_cards = charge_cards
        lane = plaza.lane(**(settings or {}))
        if prepare is not None:
            prepare(plaza)
        lane.road.meet(car)
        await plaza.settle()
        seen.update(plaza=plaza, lane=lane)

    play(story)
    return seen["plaza"], seen["lane"]


# --- a passage as it should be --------------------------------------------------------------------------------------


def test_a_stored_value_card_pays_and_the_barrier_opens(play):
    car = Car(1)
    plaza, lane = drive(play, car)
    assert plaza.decisions() == [("lane-1", "paid", "go", None, FARE, 0)]
    assert [type(order) for order in lane.road.orders] == [Continue, Debit, Continue]
    assert lane.board.done == ["lift", "go"]
    assert car.balance == 50_000 - FARE
    (written,) = (station for _, station in car.paid)
    record = decode_station(written)
    assert (record.station_code, record.fee_fen, record.lane) == ("99010101", FARE, 1)
    assert record.gantry_unix_seconds == record.unix_seconds
    assert record.gantry_unix_seconds == int(AT.timestamp())
    assert plaza.rows("select card_number, plate from subject") == [(car.card_number, car.plate)]
    by = plaza.rows("select tariff_version, list_version, list_age_s from decision")
    assert by == [("9920261101001", "L1", 3600)], "what it was decided by"
    (timing,) = lane.timings
    assert (timing.record_no, timing.bank_us) == (1, 0)
    assert timing.barrier_us == pytest.approx(bench.BOARD_S * 1e6, abs=10)
    assert timing.radio_us == pytest.approx(2 * bench.RADIO_S * 1e6, abs=10)
    assert not plaza.bank.heard


def test_days_are_local_ones(play):
    """At one in the morning it is the day before in UTC: the card is valid since an hour, and the fare is today's."""
    car = Car(1, card_dates=(date(2026, 11, 24), date(2030, 1, 1)))
    plaza, _ = drive(play, car, prepare=lambda plaza: setattr(plaza.clock, "shift", timedelta(hours=15)))
    assert plaza.outcomes() == [PAID]
    assert plaza.rows("select day from debit") == [("20261124",)]


def test_an_exit_lane_prices_the_entry_and_keeps_it_on_the_card(play):
    car = Car(1, balance=2_300, station=entry_record(station="0202"))
    before = decode_station(car.station)
    plaza, _ = drive(play, car, settings=EXIT)
    assert plaza.decisions() == [("lane-1", "paid", "go", None, 2_300, 0)]
    assert car.balance == 0
    after = decode_station(car.station)
    assert (after.station_code, after.unix_seconds, after.lane) == ("99010202", before.unix_seconds, before.lane)
    assert (after.status, after.fee_fen, after.last_gantry.hex()) == (PassStatus.ETC_EXIT, 2_300, "990101")
    assert after.gantry_unix_seconds > after.unix_seconds


@pytest.mark.parametrize("kind", [ChargeCardPurchase.FARE, ChargeCardPurchase.ZERO])
def test_what_is_written_to_a_charge_card_is_policy_what_is_owed_is_not(play, kind):
    car = Car(bench.GOOD, card_type=CHARGE, balance=0)
    plaza, lane = drive(
        play,
        car,
        settings={"charge_card_purchase": kind},
        prepare=lambda plaza: plaza.bank.answers.append(bench.APPROVED),
    )
    written = 0 if kind is ChargeCardPurchase.ZERO else FARE
    assert [order.amount_fen for order in lane.road.of(Debit)] == [written]
    assert plaza.rows("select written_fen from purchase") == [(written,)]
    assert decode_station(car.station).fee_fen == FARE
    assert plaza.bank.heard == [f"sale T0000011 000001 {FARE} 621799010101"]
    assert plaza.decisions() == [("lane-1", "paid", "go", None, FARE, 0)]


def test_zero_is_never_written_to_a_purse(play):
    car = Car(1)
    drive(play, car, settings={"charge_card_purchase": ChargeCardPurchase.ZERO})
    assert [fen for fen, _ in car.paid] == [FARE]


@pytest.mark.parametrize(("number", "policy"), [(bench.CLEARING, None), (500, Funding.ISSUER_CLEARING)])
def test_an_issuer_that_collects_itself_keeps_the_bank_out(play, number, policy):
    """By the card's mandate, or without one by the issuer's policy."""
    plaza, _ = drive(play, Car(number, card_type=CHARGE), charge_cards=policy)
    assert plaza.outcomes() == [PAID]
    assert plaza.rows("select state, funding, payer from debit") == [("released", "issuer_clearing", "issuer-9901")]
    assert not plaza.bank.heard


def antenna_of(dialect):
    """By its own command, or by a purchase of zero, as the dialect can."""
    return {"address": "127.0.0.1:1", "dialect": dialect, "errors": "pcrsu-v3"}


@pytest.mark.parametrize("dialect", ["pcrsu-v3", "legacy-serial-bj"])
@pytest.mark.parametrize("lost", [False, True])
def test_an_entry_lane_writes_where_a_trip_began_and_takes_nothing(play, dialect, lost):
    """A lost answer costs nothing: at the next reading the entry stands there."""
    car = Car(1, station=entry_record(station="0909", status=4))
    car.script.extend([LOST] if lost else [])

    async def story(plaza):
        lane = plaza.lane(kind=LaneKind.ENTRY, antenna=antenna_of(dialect))
        lane.road.meet(car)
        await plaza.settle()
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == ([ENTERED] if lost else [ENTERED, REPEAT])
        assert lane.board.lifts == len(plaza.outcomes())
        assert [order.amount_fen for order in lane.road.of(Debit)] in ([], [0])
        assert [order.stop_type for order in lane.road.of(Stop)] == [StopType.SEARCH_AGAIN]
        assert plaza.rows("select count(*) from debit") == [(0,)]

    play(story)
    assert car.balance == 50_000
    trip = decode_station(car.station)
    assert (trip.station_code, trip.lane, trip.status) == ("99010101", 1, PassStatus.ETC_ENTRY)
    assert trip.unix_seconds == int(AT.timestamp())


@pytest.mark.parametrize("dialect", ["pcrsu-v3", "legacy-serial-bj"])
def test_an_entry_that_was_not_written_opens_no_barrier(play, dialect):
    car = Car(1, script=bench.deque([Purchase(takes=False, error=0x06)]))
    plaza, lane = drive(play, car, settings={"kind": LaneKind.ENTRY, "antenna": antenna_of(dialect)})
    assert plaza.outcomes() == [("refused", "attendant", "mac1_failed")]
    assert lane.board.lifts == 0


# --- refusals -------------------------------------------------------------------------------------------------------


def truck(number=1, **more):
    return Car(number, vehicle_class=bench.CLASS_WITHOUT_FARE, card_class=0, **more)


OTHER_ISSUER = bytes.fromhex("BAD3B1B113010001")
PAST, FUTURE = (date(2020, 1, 1), date(2026, 11, 22)), (date(2026, 11, 24), date(2030, 1, 1))

REFUSED = {
    "obu_tampered": Car(1, tag_status=obu_status_new(tampered=True)),
    "obu_tampered by its mount flag": Car(1, tag_status=obu_status_new(mount_flag=0)),
    "obu_locked": Car(1, tag_status=obu_status_new(locked=True)),
    "obu_issuer_unknown": Car(1, issuer=OTHER_ISSUER),
    "obu_expired": Car(1, tag_dates=("20200101", "20261122")),
    "obu_not_yet_valid": Car(1, tag_dates=("20261124", "20300101")),
    "obu_no_card": Car(1, tag_status=obu_status_new(card_present=False)),
    "card_unreadable": Car(1, tag_status=obu_status_new(card_error=True)),
    "card_unreadable, a logic card": Car(1, tag_status=bytes((0x30, 1))),
    "card_unreadable, no files": Car(1, files=False),
    "card_unreadable by B4": Car(1, user_error=0x14),
    "obu_decrypt_failed": Car(1, tag_error=0x05),
    "rsu_error_unlisted": Car(1, tag_error=0x77),
    "obu_no_card by B4": Car(1, user_error=0x11),
    "obu_listed": Car(bench.LISTED_TAG),
    "card_listed_in_debt": Car(bench.LISTED_CARD),
    "plate_recovery": Car(bench.LISTED_PLATE),
    "card_issuer_unknown": Car(1, card_issuer=OTHER_ISSUER),
    "card_type_illegal": Car(1, card_type=21),
    "card_expired": Car(1, card_dates=PAST),
    "card_not_yet_valid": Car(1, card_dates=FUTURE),
    "obu_class_illegal": Car(1, vehicle_class=9),
    "plate_mismatch": Car(1, card_plate="测A00002"),
    "plate_mismatch in colour": Car(1, card_colour=1),
    "plate_unknown": Car(1, card_plate=""),
    "plate_unknown, colour of the tag": Car(1, plate_colour=9),
    "class_mismatch": Car(1, card_class=2),
    "no_mandate": Car(500, card_type=CHARGE),
    "mandate_paused": Car(bench.PAUSED, card_type=CHARGE),
    "mandate_closed": Car(bench.CLOSED, card_type=CHARGE),
    "mandate_plate_mismatch": Car(bench.OTHER_PLATE, card_type=CHARGE),
    "limit_exceeded": Car(bench.TIGHT, card_type=CHARGE),
    "bank_unavailable": Car(bench.NO_BANK, card_type=CHARGE),
    "fare_missing": truck(),
    "amount_absurd": Car(1, vehicle_class=bench.ABSURD_CLASS, card_class=0),
    "purse_suspicious": Car(1, balance=0xFFFF_FFFF),
    "purse_zero": Car(1, balance=0),
    "purse_too_low": Car(1, balance=FARE - 1),
    "one_piece_refused": Car(1, device_type=2),
    "cpc_to_attendant": Car(1, device_type=3),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_is_recorded_with_its_reason_and_asks_nothing_of_the_card(play, case):
    car = replace(REFUSED[case])
    plaza, lane = drive(play, car)
    ((_, outcome, release, reason, amount, _),) = plaza.decisions()
    assert (outcome, reason, amount) == ("refused", case.split()[0].rstrip(","), 0)
    severe = REASONS[reason].severity in (Severity.ATTENDANT, Severity.STOP)
    assert release == ("attendant" if severe or reason == "cpc_to_attendant" else "stop")
    assert lane.road.of(Debit) == []
    assert car.paid == []
    assert plaza.rows("select count(*) from debit") == [(0,)]
    assert lane.board.done == ["stop"]
    assert [order.stop_type for order in lane.road.of(Stop)] == [StopType.SEARCH_AGAIN]


def test_a_vehicle_that_cannot_be_looked_up_is_sent_to_the_attendant(play, monkeypatch):
    """Its list file was damaged while in use: whether it is listed is unknown, which is not no."""

    def damaged(self, digest):
        raise StatusListError(self.path, "content", "database disk image is malformed", "copy it again")

    car = Car(1)
    plaza, lane = drive(play, car, prepare=lambda _: monkeypatch.setattr(ListFile, "find", damaged))
    ((_, outcome, barrier, reason, *_),) = plaza.decisions()
    assert (outcome, barrier, reason, car.paid) == ("refused", "attendant", "list_unavailable", [])
    assert lane.road.of(Debit) == []


EXIT_REFUSED = {
    "no_entry": b"\xaa\x29\x00" + b"\xff" * 40,
    "no_entry, left already": entry_record(status=4),
    "u_turn": entry_record(station="0102"),
    "route_unreachable": entry_record(station="0303"),
    "trip_too_long": entry_record(station="0202", at=AT - timedelta(hours=73)),
    "entry_time_invalid": entry_record(station="0202", at=AT + timedelta(minutes=5)),
}


@pytest.mark.parametrize("case", EXIT_REFUSED)
def test_an_exit_without_a_priced_trip_is_refused(play, case):
    plaza, lane = drive(play, Car(1, station=EXIT_REFUSED[case]), settings=EXIT)
    ((_, outcome, _, reason, amount, _),) = plaza.decisions()
    assert (outcome, reason, amount) == ("refused", case.split(",")[0], 0)
    assert not lane.road.of(Debit)


@pytest.mark.parametrize("settings", [{}, EXIT], ids=["open", "exit"])
def test_a_vehicle_that_the_tariff_exempts_pays_nothing(play, settings):
    """By the user type its tag tells."""
    car = Car(1, station=entry_record(station="0202"))
    told = car.user_report()
    exempt = vehicle_file_new(plate=car.plate, plate_colour=0, vehicle_class=1, user_type=EXEMPT)
    car.user_report = lambda: replace(told, vehicle_file=exempt)

    async def story(plaza):
        (version,) = plaza.tariffs.versions
        plaza.tariffs = TariffSet((replace(version, exempt_user_types=frozenset({EXEMPT})),))
        lane = plaza.lane(**settings)
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.decisions() == [("lane-1", "paid", "go", None, 0, 0)]
        assert [order.amount_fen for order in lane.road.of(Debit)] == [0]

    play(story)


def test_no_tariff_in_force_refuses(play):
    def later(plaza):
        plaza.clock.shift = timedelta(days=300)

    plaza, _ = drive(play, Car(1), prepare=later)
    assert [reason for _, _, reason in plaza.outcomes()] == ["no_tariff"]


@pytest.mark.parametrize(
    "car",
    [
        Car(1, card_dates=PAST),
        Car(1, card_dates=FUTURE),
        Car(1, tag_dates=("20200101", "20261122")),
        Car(1, tag_dates=("20261124", "20300101")),
    ],
)
def test_dates_judge_nobody_while_the_clock_is_not_trusted(play, car):
    plaza, _ = drive(play, replace(car), prepare=lambda plaza: plaza.time.passed(AT + timedelta(hours=1)))
    assert plaza.outcomes() == [PAID]
    assert plaza.rows("select clock_quality from passage") == [("suspect",)]


def test_a_card_that_takes_nothing_is_tried_three_times_and_then_left_alone(play):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(1, script=bench.deque([Purchase(takes=False, error=0x06)] * 9))
        for _ in range(5):
            lane.road.meet(car)
            await plaza.settle(1)
        assert plaza.outcomes() == [("refused", "stop", "mac1_failed")] * 3
        assert len(lane.road.of(Debit)) == 3
        assert plaza.rows("select distinct state from debit") == [("voided",)]
        assert lane.board.lifts == 0
        await plaza.settle(10)
        lane.road.meet(car)
        await plaza.settle(1)
        assert len(lane.road.of(Debit)) == 4

    play(story)


# --- bank -----------------------------------------------------------------------------------------------------------

BANK_WORDS = [
    ("approved", bench.GOOD, DeclinePolicy.RELEASE_AS_DEBT, PAID, "funded"),
    ("declined", bench.GOOD, DeclinePolicy.RELEASE_AS_DEBT, ("debt", "go", "bank_declined"), "debt"),
    ("declined", bench.GOOD, DeclinePolicy.HOLD_FOR_ATTENDANT, ("debt", "attendant", "bank_declined"), "debt"),
    ("silent", bench.GOOD, DeclinePolicy.RELEASE_AS_DEBT, ("owed", "go", "bank_silent"), "owed"),
    ("silent", bench.NO_STAND_IN, DeclinePolicy.RELEASE_AS_DEBT, ("owed", "attendant", "stand_in_limit"), "owed"),
]
WORDS = {"approved": bench.APPROVED, "declined": bench.DECLINED, "silent": bench.SILENT}


@pytest.mark.parametrize("case", BANK_WORDS, ids=lambda case: f"{case[0]} {case[2]}")
def test_the_bank_decides_within_the_deadline_and_the_antenna_does_not_wait(play, case):
    word, number, policy, outcome, state = case
    acknowledged = []

    def prepare(plaza):
        plaza.bank.answers.append(WORDS[word])
        plaza.bank.delay_s = 1.0
        noted = plaza.look_at_answer

        def note(report, order):
            if isinstance(report.message, DebitResult):
                acknowledged.append((plaza.clock.monotonic(), len(plaza.bank.heard)))
            noted(report, order)

        plaza.look_at_answer = note

    plaza, lane = drive(play, Car(number, card_type=CHARGE), settings={"bank_declines": policy}, prepare=prepare)
    assert plaza.outcomes() == [outcome]
    assert plaza.rows("select state from debit") == [(state,)]
    assert len(plaza.bank.heard) == 1
    ((when, _),) = acknowledged
    assert when == pytest.approx(2 * bench.RADIO_S, abs=1e-3)
    (timing,) = lane.timings
    assert timing.total_us <= 2_000_000
    expected = 2.0 - (shipped_rules().deadline.kept_back_ms / 1000) - 2 * bench.RADIO_S if word == "silent" else 1.0
    assert timing.bank_us == pytest.approx(expected * 1e6, abs=1000)
    assert lane.board.lifts == (outcome[1] == "go")


@pytest.mark.parametrize(
    ("word", "stand_in_fen", "outcome"),
    [
        ("approved", 5_000, PAID),
        ("silent", 5_000, ("owed", "go", "bank_silent")),
        ("silent", 0, ("owed", "attendant", "stand_in_limit")),
    ],
)
def test_a_claim_brought_in_later_asks_its_bank_and_is_bound_by_the_limits_of_now(play, word, stand_in_fen, outcome):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(bench.GOOD, card_type=CHARGE, script=bench.deque([LOST]))
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [UNKNOWN]
        limits = {"stand_in_limit_fen": stand_in_fen}
        await plaza.writer.submit(lambda tx: tx.update(tables.mandate, {"id": f"m{bench.GOOD}"}, **limits))
        plaza.bank.answers.append(WORDS[word])
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes()[1:] == [outcome]
        assert plaza.bank.heard == [f"sale T0000011 000001 {FARE} 621799010101"]

    play(story)


def test_a_radio_that_leaves_no_time_for_the_bank_owes_instead_of_asking(play, monkeypatch):
    monkeypatch.setattr(bench, "RADIO_S", 0.9)
    plaza, lane = drive(play, Car(bench.GOOD, card_type=CHARGE))
    assert plaza.outcomes() == [("owed", "go", "bank_silent")]
    assert plaza.bank.heard == []
    assert lane.timings[0].total_us <= 2_000_000


# --- an answer that was lost ----------------------------------------------------------------------------------------


def again(play, car, *, then=lambda car: None, wait=5.0, settings=None, times=1):
    """The car's first B5 is lost; it is changed by `then`, and seen again."""
    seen = {}

    async def story(plaza):
        lane = plaza.lane(**(settings or {}))
        lane.road.meet(car)
        await plaza.settle(wait)
        assert plaza.outcomes() == [UNKNOWN]
        assert lane.board.done == ["stop"]
        then(car)
        for _ in range(times):
            lane.road.meet(car)
            await plaza.settle(wait)
        seen.update(plaza=plaza, lane=lane)

    play(story)
    return seen["plaza"], seen["lane"]


@pytest.mark.parametrize("known", [True, False])
def test_taken_and_lost_is_proved_at_the_next_reading(play, known):
    """Lost B5, taken: file 0019 says so. The TAC is fetched where the card's serial can be told."""
    car = Car(1)

    async def story(plaza):
        lane = plaza.lane()
        if known:
            lane.road.meet(car)
            await plaza.settle(400)
        car.script.append(LOST)
        lane.road.meet(car)
        await plaza.settle()
        lane.road.meet(car)
        await plaza.settle()
        before = [PAID] if known else []
        assert plaza.outcomes() == [*before, UNKNOWN, PAID]
        assert plaza.decisions()[-1][-1] == Occasion.READING
        assert len(car.paid) == len(before) + 1
        assert len(lane.road.of(FetchTac)) == known
        tacs = plaza.rows("select tac_source, tac from purchase order by created_at")
        assert tacs[-1] == (("b8", car.tac().hex()) if known else (None, None))
        items = plaza.rows("select kind from item")
        assert items == ([] if known else [("charged_without_tac",)])
        assert lane.board.lifts == len(before) + 1

    play(story)


@pytest.mark.parametrize("error", [3, None])
def test_a_tac_that_cannot_be_fetched_leaves_an_item_and_an_open_barrier(play, error):
    car = Car(1)

    async def story(plaza):
        lane = plaza.lane()
        lane.road.meet(car)
        await plaza.settle(400)
        car.script.append(LOST)
        car.tac_error = error
        lane.road.meet(car)
        await plaza.settle()
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [PAID, UNKNOWN, PAID]
        assert plaza.rows("select kind from item") == [("charged_without_tac",)]
        assert plaza.rows("select error from purchase order by created_at")[-1] == (error,), "why not"
        # Wrong is wrong; not answered is still the likeliest serial: the card has paid once more since 41.
        assert plaza.rows("select serial from card_serial") == [(41 if error else 42,)]
        assert len(lane.road.of(FetchTac)) == 1

    play(story)


@pytest.mark.parametrize("error", [0, 3, None])
def test_a_dialect_that_is_asked_by_content_tells_a_lost_result_once_more(play, error):
    """Twice: without a PSAM serial it is no repetition. The file has proved the purchase, whatever is told of it."""
    car = Car(1, tac_error=error)

    async def story(plaza):
        lane = plaza.lane(antenna=antenna_of("legacy-serial-bj"))
        for _ in range(2):
            car.script.append(LOST)
            lane.road.meet(car)
            await plaza.settle()
            lane.road.meet(car)
            await plaza.settle(400)
        assert plaza.outcomes() == [UNKNOWN, PAID] * 2
        known = ("c7", car.tac().hex()) if error == 0 else (None, None)
        proofs = plaza.rows("select error, tac_source, tac, psam_serial from purchase order by created_at")
        assert proofs[-1] == (error, *known, None)
        asked, made = lane.road.of(RecoverTac), lane.road.of(Debit)
        assert [order.purchase_time_bcd for order in asked] == [order.purchase_time_bcd for order in made]
        assert [order.station for order in asked] == [order.station[7:] for order in made]
        assert lane.board.lifts == 2

    play(story)
    assert len(car.paid) == 2


def test_not_taken_and_lost_is_asked_again_on_the_same_hold(play):
    car = Car(1, script=bench.deque([LOST_NOT_TAKEN]))
    plaza, lane = again(play, car)
    assert plaza.outcomes() == [UNKNOWN, PAID]
    assert plaza.rows("select attempt_no, state from purchase order by attempt_no") == [(1, "not_taken"), (2, "taken")]
    assert plaza.rows("select count(*), sum(amount) from debit") == [(1, FARE)]
    first, second = lane.road.of(Debit)
    assert first.station != second.station
    assert first.purchase_time_bcd < second.purchase_time_bcd
    assert len(car.paid) == 1


@pytest.mark.parametrize("station", [None, "0303"], ids=["as it was", "as nobody wrote it"])
def test_a_reading_that_crossed_the_purchase_order_proves_nothing(play, station):
    """The order is still on its way to the antenna, whatever was read of the card before."""

    async def story(plaza):
        lane = plaza.lane()
        car = Car(1, script=bench.deque([LOST_NOT_TAKEN]))
        lane.road.meet(car)
        await plaza.settle()
        lane.road.crossed = 2
        truth, car.station = car.station, entry_record(station=station) if station else car.station
        for _ in range(2):
            lane.road.meet(car)
            await plaza.settle()
            assert lane.road.of(Stop)[-1].stop_type == StopType.SEARCH_AGAIN
        assert plaza.outcomes() == [UNKNOWN]
        assert plaza.rows("select state from purchase") == [("unknown",)]
        # Now it has arrived after all.
        car.station = truth
        car.pay(lane.road.of(Debit)[0])
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [UNKNOWN, PAID]
        assert len(lane.road.of(Debit)) == 1

    play(story)


def test_a_reading_that_crossed_the_purchase_order_may_prove_it_done(play):
    """What the order was to write can only have come with it."""

    async def story(plaza):
        lane = plaza.lane()
        car = Car(1, script=bench.deque([LOST]))
        lane.road.meet(car)
        await plaza.settle()
        lane.road.crossed = 1
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [UNKNOWN, PAID]

    play(story)


def test_a_purse_emptied_elsewhere_ends_the_hold(play):
    car = Car(1, script=bench.deque([LOST_NOT_TAKEN]))
    plaza, lane = again(play, car, then=lambda car: setattr(car, "balance", 1))
    assert plaza.outcomes() == [UNKNOWN, ("refused", "stop", "purse_too_low")]
    assert plaza.rows("select state from debit") == [("voided",)]
    assert len(lane.road.of(Debit)) == 1


def test_a_file_that_nobody_wrote_is_the_attendants_until_the_window_is_over(play):
    car = Car(1, script=bench.deque([LOST]))
    elsewhere = entry_record(station="0303")
    plaza, lane = again(play, car, then=lambda car: setattr(car, "station", elsewhere), wait=11, times=3)
    assert plaza.outcomes()[1] == DISPUTED
    assert {reason for _, _, reason in plaza.outcomes()[2:]} == {"purchase_disputed"}
    assert len(lane.road.of(Debit)) == 1
    assert plaza.rows("select kind, state from item") == [("disputed_purchase", "open")]
    assert lane.board.lifts == 0


def test_a_disputed_card_may_pay_again_after_the_window(play):
    car = Car(1, script=bench.deque([LOST]))
    plaza, _ = again(
        play, car, then=lambda car: setattr(car, "station", entry_record(station="0303")), wait=301, times=2
    )
    assert [o[0] for o in plaza.outcomes()] == ["unknown", "unknown", "paid"]
    assert plaza.rows("select state from debit order by hold_id") == [("held",), ("funded",)]


@pytest.mark.parametrize(("takes", "error"), [(True, 0x11), (False, 0x11), (True, 0x77), (False, 0xFF)])
def test_an_error_that_says_nothing_about_the_money_waits_for_file_0019(play, takes, error):
    car = Car(1, script=bench.deque([Purchase(takes, error)]))

    async def story(plaza):
        lane = plaza.lane()
        lane.road.meet(car)
        await plaza.settle()
        ((outcome, release, _),) = plaza.outcomes()
        assert (outcome, release) == ("unknown", "stop")
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes()[-1] == PAID
        assert len(car.paid) == 1

    play(story)


def test_a_proof_that_does_not_hold_is_disputed(play):
    car = Car(1, script=bench.deque([Purchase(True, 0x07)]))
    plaza, lane = drive(play, car)
    assert plaza.outcomes() == [("unknown", "attendant", "mac2_failed")]
    assert lane.board.lifts == 0


def test_a_late_result_proves_what_was_decided_as_unknown(play):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(1, script=bench.deque([LOST]))
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [UNKNOWN]
        (order,) = lane.road.of(Debit)
        report = lane.road.say(car.result(order, 0))
        await plaza.settle()
        assert plaza.outcomes() == [UNKNOWN, PAID]
        assert [type(order) for order in report.orders] == [Continue]
        assert plaza.rows("select tac_source from purchase") == [("b5",)]
        assert plaza.rows("select serial from card_serial") == [(car.serial,)], "for its next purchase to be above"
        assert lane.board.lifts == 1
        twice = lane.road.say(car.result(order, 0))
        await plaza.settle()
        assert len(plaza.decisions()) == 2
        assert [type(order) for order in twice.orders] == [Continue]

    play(story)


def test_a_late_refusal_frees_the_hold(play):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(1, script=bench.deque([LOST_NOT_TAKEN]))
        lane.road.meet(car)
        await plaza.settle()
        (order,) = lane.road.of(Debit)
        lane.road.say(car.result(order, 0x06))
        await plaza.settle()
        assert plaza.outcomes() == [UNKNOWN, ("refused", "stop", "mac1_failed")]
        assert plaza.rows("select state from debit") == [("voided",)]

    play(story)


@pytest.mark.parametrize("takes", [True, False])
def test_a_tag_that_starts_over_while_its_result_is_awaited_is_recovered_at_once(play, takes):
    """B2 again instead of B5: the antenna has lost the exchange."""
    car = Car(1)
    car.script.append(Purchase(takes, None, then=lambda road: road.later(car.tag_report)))
    plaza, lane = drive(play, car)
    assert plaza.outcomes() == [UNKNOWN, PAID]
    assert len(car.paid) == 1
    assert len(lane.road.of(Debit)) == (1 if takes else 2)
    assert lane.board.done == ["stop", "lift", "go"]


@pytest.mark.parametrize("takes", [True, False])
def test_a_crash_between_c6_and_b5_is_settled_at_the_next_reading(play, takes):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(1, script=bench.deque([Purchase(takes, None)]))
        lane.road.meet(car)
        await plaza.settle(2 * bench.RADIO_S)
        assert lane.road.of(Debit)
        assert plaza.decisions() == []
        await plaza.crash()
        lane = plaza.lanes["lane-1"]
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [PAID]
        assert plaza.rows("select recovered from decision") == [(Occasion.READING,)]
        assert len(car.paid) == 1

    play(story)


def test_a_crash_between_the_banks_answer_and_the_decision_asks_the_bank_once(play):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(bench.GOOD, card_type=CHARGE)
        lane.road.meet(car)
        await plaza.settle(0.5)
        assert len(plaza.bank.heard) == 1
        assert plaza.decisions() == []
        await plaza.crash()
        lane = plaza.lanes["lane-1"]
        assert plaza.outcomes() == [("owed", "go", "bank_silent")]
        assert lane.board.lifts == 0
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes()[1:] == [REPEAT]
        assert lane.board.lifts == 1
        assert len(plaza.bank.heard) == 1
        assert len(car.paid) == 1

    play(story)


# --- two antennas ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, 60, -60])
def test_a_purchase_under_way_at_another_lane_is_left_to_it_however_the_clock_is_set(play, seconds):
    async def story(plaza):
        one, two = plaza.lane("lane-1", neighbours=["lane-2"]), plaza.lane("lane-2", neighbours=["lane-1"])
        car = Car(1, script=bench.deque([LOST]))
        await plaza.settle(60)
        one.road.meet(car)
        await plaza.settle(0.2)
        assert one.road.of(Debit)
        plaza.clock.shift = timedelta(seconds=seconds)
        two.road.meet(car)
        await plaza.settle(1)
        assert two.road.of(Debit) == []
        assert [type(order) for order in two.road.orders] == [Continue, Stop]
        assert plaza.decisions() == []
        await plaza.settle(PURCHASE_UNDER_WAY_S)
        two.road.meet(car)
        await plaza.settle()
        assert [d[:4] for d in plaza.decisions()] == [("lane-1", *UNKNOWN), ("lane-2", *PAID)]
        assert (one.board.lifts, two.board.lifts) == (0, 1)
        assert len(car.paid) == 1

    play(story)


def test_what_was_paid_at_another_station_is_settled_there_and_the_road_to_here_is_sold(play):
    async def story(plaza):
        one = plaza.lane("lane-1")
        two = plaza.lane("lane-2", lane_no=2, gantry="990102", station="99010103")
        car = Car(1, script=bench.deque([LOST]))
        one.road.meet(car)
        await plaza.settle(60)
        two.road.meet(car)
        await plaza.settle()
        assert two.board.lifts == 0
        two.road.meet(car)
        await plaza.settle()
        assert [d[:4] for d in plaza.decisions()] == [("lane-1", *UNKNOWN), ("lane-2", *PAID), ("lane-2", *PAID)]
        assert (one.board.lifts, two.board.lifts) == (0, 1)
        assert len(car.paid) == 2
        assert plaza.rows("select charge_point, state from debit d join passage g on g.id = d.passage_id") == [
            ("lane-1", "funded"),
            ("lane-2", "funded"),
        ]

    play(story)


def test_not_taken_at_the_other_lane_is_void_there_and_sold_here(play):
    async def story(plaza):
        one, two = plaza.lane("lane-1"), plaza.lane("lane-2")
        car = Car(1, script=bench.deque([LOST_NOT_TAKEN]))
        one.road.meet(car)
        await plaza.settle(PURCHASE_UNDER_WAY_S + 1)
        two.road.meet(car)
        await plaza.settle()
        assert [d[:4] for d in plaza.decisions()] == [
            ("lane-1", *UNKNOWN),
            ("lane-2", "refused", "stop", "purchase_refused"),
            ("lane-2", *PAID),
        ]
        assert plaza.rows("select state from debit order by hold_id") == [("voided",), ("funded",)]
        assert len(car.paid) == 1

    play(story)


def test_a_passage_paid_at_one_lane_is_none_at_another(play):
    async def story(plaza):
        one, two = plaza.lane("lane-1"), plaza.lane("lane-2", lane_no=2, gantry="990102", station="99010103")
        car = Car(1)
        one.road.meet(car)
        await plaza.settle()
        two.road.meet(car)
        await plaza.settle()
        assert [d[:4] for d in plaza.decisions()] == [("lane-1", *PAID), ("lane-2", *PAID)]

    play(story)


def test_a_car_that_paid_and_changed_to_the_next_lane_of_the_station_keeps_its_right(play):
    async def story(plaza):
        one = plaza.lane("lane-1", neighbours=["lane-2"])
        two = plaza.lane("lane-2", lane_no=2, gantry="990102", neighbours=["lane-1"])
        car = Car(1)
        one.road.meet(car)
        await plaza.settle()
        two.road.meet(car)
        await plaza.settle()
        assert [d[:4] for d in plaza.decisions()] == [("lane-1", *PAID), ("lane-2", *REPEAT)]
        assert len(car.paid) == 1
        assert two.board.lifts == 1
        assert plaza.rows("select distinct day from debit") != [("",)]

    play(story)


# --- the same car again ---------------------------------------------------------------------------------------------


def test_the_same_car_still_here_is_let_through_and_not_charged(play):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(1)
        for _ in range(2):
            lane.road.meet(car)
            await plaza.settle()
        assert plaza.outcomes() == [PAID, REPEAT]
        assert plaza.decisions()[1][4] == 0
        assert len(car.paid) == 1

    play(story)


@pytest.mark.parametrize("shift", [timedelta(), timedelta(days=-3)])
def test_the_right_to_pass_ends_with_the_window_whatever_the_clock_says(play, shift):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(1)
        lane.road.meet(car)
        await plaza.settle(301)
        plaza.clock.shift = shift
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [PAID, PAID]
        first, second = lane.road.of(Debit)
        assert second.purchase_time_bcd > first.purchase_time_bcd

    play(story)


@pytest.mark.parametrize(("shift", "seconds"), [(timedelta(), 301), (timedelta(hours=-1), 1)])
def test_a_purchase_is_dated_now_but_behind_the_one_before(play, shift, seconds):
    """Also where the clock was set back meanwhile: of two purchases the later one is told by its time."""

    async def story(plaza):
        lane = plaza.lane()
        car = Car(1)
        lane.road.meet(car)
        await plaza.settle(301)
        plaza.clock.shift = shift
        lane.road.meet(car)
        await plaza.settle()
        local = AT + timedelta(seconds=bench.LOCAL_OFFSET_S)
        expected = [(local + timedelta(seconds=after)).strftime("%Y%m%d%H%M%S") for after in (0, seconds)]
        assert [order.purchase_time_bcd for order in lane.road.of(Debit)] == expected

    play(story)


STEPS = [timedelta(seconds=-320), timedelta(seconds=320), timedelta(days=-3), timedelta(days=3)]
"""Of the wall clock, beyond the window."""


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("card", [True, False], ids=["card", "one-piece tag"])
@pytest.mark.parametrize("other", ["lane-1", "lane-2"])
def test_a_car_that_stands_still_keeps_its_right_however_the_clock_is_set(play, step, card, other):
    async def story(plaza):
        plaza.lane("lane-1", neighbours=["lane-2"], **CONTRACT)
        plaza.lane("lane-2", lane_no=2, neighbours=["lane-1"], **CONTRACT)
        plaza.bank.answers.append(bench.APPROVED)
        car = Car(bench.GOOD) if card else Car(bench.GOOD, device_type=2)
        plaza.lanes["lane-1"].road.meet(car)
        await plaza.settle()
        plaza.clock.shift += step
        plaza.lanes[other].road.meet(car)
        await plaza.settle(100)
        plaza.clock.shift += step
        plaza.lanes[other].road.meet(car)
        await plaza.settle(299)
        plaza.lanes[other].road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [PAID, REPEAT, REPEAT, REPEAT]
        assert plaza.rows("select count(*) from debit") == [(1,)]

    play(story)


@pytest.mark.parametrize("step", [timedelta(seconds=-400), timedelta(seconds=-301), timedelta(seconds=-100)])
def test_the_right_to_pass_is_not_longer_than_the_window_when_the_clock_is_set_back(play, step):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(1)
        lane.road.meet(car)
        await plaza.settle(5)
        plaza.clock.shift = step
        await plaza.settle(296)
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [PAID, PAID]

    play(story)


@pytest.mark.parametrize("step", STEPS)
def test_a_disputed_card_waits_for_the_attendant_however_the_clock_is_set(play, step):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(1, script=bench.deque([LOST]))
        lane.road.meet(car)
        await plaza.settle()
        car.station = entry_record(station="0303")
        lane.road.meet(car)
        await plaza.settle(11)
        plaza.clock.shift = step
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [UNKNOWN, DISPUTED, ("refused", "attendant", "purchase_disputed")]
        assert len(lane.road.of(Debit)) == 1

    play(story)


@pytest.mark.parametrize("step", [timedelta(seconds=-400), timedelta(days=-3)])
def test_after_a_restart_of_the_box_a_payment_of_the_future_was_made_just_before_it(play, step):
    async def story(plaza):
        plaza.lane()
        car = Car(1)
        plaza.lanes["lane-1"].road.meet(car)
        await plaza.settle()
        plaza.clock.shift = step
        plaza.clock.boot = "second boot"
        await plaza.crash()
        plaza.lanes["lane-1"].road.meet(car)
        await plaza.settle(301)
        plaza.lanes["lane-1"].road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [PAID, REPEAT, PAID]

    play(story)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("set_when", ["before the restart", "after it"])
def test_a_payment_before_a_restart_ages_by_no_clock_that_is_set(play, step, set_when):
    async def story(plaza):
        plaza.lane()
        early, late = Car(1), Car(2)
        plaza.lanes["lane-1"].road.meet(early)
        plaza.lanes["lane-1"].road.meet(late)
        await plaza.settle(100)
        if set_when == "before the restart":
            plaza.clock.shift = step
        await plaza.crash()
        plaza.clock.shift = step
        plaza.lanes["lane-1"].road.meet(early)
        await plaza.settle(202)
        plaza.lanes["lane-1"].road.meet(late)
        await plaza.settle()
        assert plaza.outcomes() == [PAID, PAID, REPEAT, PAID]

    play(story)


def test_after_a_restart_of_the_box_the_time_of_day_tells_how_long_ago_a_car_paid(play):
    async def story(plaza):
        plaza.lane()
        car = Car(1)
        plaza.lanes["lane-1"].road.meet(car)
        await plaza.settle(301)
        plaza.clock.boot = "second boot"
        await plaza.crash()
        plaza.lanes["lane-1"].road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [PAID, PAID]

    play(story)


def test_a_car_that_has_been_elsewhere_pays_again(play):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(1)
        lane.road.meet(car)
        await plaza.settle()
        car.station = entry_record(at=AT)
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [PAID, PAID]

    play(story)


# --- one-piece tags -------------------------------------------------------------------------------------------------

CONTRACT = {"one_piece_tags": OnePiecePolicy.CONTRACT}


def test_a_one_piece_tag_pays_by_its_contract_once(play):
    async def story(plaza):
        lane = plaza.lane(**CONTRACT)
        car = Car(bench.GOOD, device_type=2)
        plaza.bank.answers += [bench.APPROVED, bench.APPROVED]
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [PAID]
        assert lane.road.of(Stop)[-1].stop_type == StopType.FREEZE
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [PAID, REPEAT]
        assert len(plaza.bank.heard) == 1
        await plaza.settle(301)
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [PAID, REPEAT, PAID]
        assert len(plaza.bank.heard) == 2
        assert not lane.road.of(Debit)
        assert plaza.rows("select count(*) from purchase") == [(0,)]

    play(story)


def test_a_one_piece_tag_costs_two_commits(play):
    """The claim with its bank's request, then the decision."""

    async def story(plaza):
        lane = plaza.lane(**CONTRACT)
        plaza.bank.answers.append(bench.APPROVED)
        before = plaza.rows("select count(*) from journal where event = 'sealed'")[0][0]
        lane.road.meet(Car(bench.GOOD, device_type=2))
        await plaza.settle()
        assert plaza.outcomes() == [PAID]
        assert plaza.rows("select count(*) from journal where event = 'sealed'") == [(before + 2,)]

    play(story)


ONE_PIECE_REFUSED = {
    "no_mandate": Car(500, device_type=2),
    "no_mandate, it collects after clearing": Car(bench.CLEARING, device_type=2),
    "mandate_paused": Car(bench.PAUSED, device_type=2),
    "mandate_plate_mismatch": Car(bench.OTHER_PLATE, device_type=2),
    "limit_exceeded": Car(bench.TIGHT, device_type=2),
    "bank_unavailable": Car(bench.NO_BANK, device_type=2),
    "plate_recovery": Car(bench.LISTED_PLATE, device_type=2),
    "obu_listed": Car(bench.LISTED_TAG, device_type=2),
    "fare_missing": Car(bench.GOOD, device_type=2, vehicle_class=bench.CLASS_WITHOUT_FARE),
    "one_piece_refused, no vehicle file": Car(bench.GOOD, device_type=2, files=False),
}


@pytest.mark.parametrize("case", ONE_PIECE_REFUSED)
def test_a_one_piece_tag_nobody_pays_for_is_refused(play, case):
    plaza, lane = drive(play, replace(ONE_PIECE_REFUSED[case]), settings=CONTRACT)
    assert [o[::2] for o in plaza.outcomes()] == [("refused", case.split(",")[0])]
    assert lane.board.lifts == 0
    assert plaza.bank.heard == []


def test_a_one_piece_claim_whose_bank_was_under_way_at_a_crash_is_not_asked_twice(play):
    async def story(plaza):
        lane = plaza.lane(**CONTRACT)
        car = Car(bench.GOOD, device_type=2)
        lane.road.meet(car)
        await plaza.settle(0.5)
        assert len(plaza.bank.heard) == 1
        await plaza.crash()
        lane = plaza.lanes["lane-1"]
        assert plaza.outcomes() == [("owed", "go", "bank_silent")]
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes()[1:] == [REPEAT]
        assert len(plaza.bank.heard) == 1

    play(story)
