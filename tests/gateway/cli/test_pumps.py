"""`etcgw pumps`, `pump show`, `watch` and `authorise`: how sides stand, and what people order there."""

import asyncio
import json
from functools import partial

import pytest

from gateway.acts.actor import Actor
from gateway.acts.doing import change_of, terms_of
from gateway.cli import acting
from gateway.cli import pump as command
from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.options import now_utc
from gateway.cli.sales import litres
from gateway.health import HealthFile
from gateway.points.assemble import Point, live
from gateway.views import pumps as view
from tests.gateway.cli.test_json_shapes import compare, merged, shape
from tests.gateway.debit.conftest import Box, FakeClock
from tests.gateway.points.fuel.conftest import POINT, Forecourt
from tests.gateway.points.fuel.test_orders import order

ML, FEN = 10_000, 7850
ISLAND = """
[[charge_points]]
name = "lane-1"
kind = "fuel"
station = "99010101"
lane_no = 1
gantry = "990101"
antenna = { address = "127.0.0.1:9" }
terminals = { bank-1 = ["T0000001", "T0000002"] }
order_waits_s = 120
pumps = [{ name = "dart", address = "127.0.0.1:10", dialect = "dart" }]
[[charge_points.sides]]
number = 1
pump = "dart"
address = 80
nozzles = [{ number = 1, grade = "92" }, { number = 2, grade = "95" }]
"""
IDLE = {
    "lane": POINT, "side": 1, "pump": "dart", "address": 80, "online": True, "state": "idle", "nozzle": 1, "out": False,
    "grade": "92", "unit_price_milli": 7850, "volume_ml": ML, "amount_fen": FEN, "sale_id": None, "sale_state": None,
    "order": None, "since_us": 1_700_000_000_000_000,
}  # fmt: skip
CALLING = IDLE | {"state": "calling", "out": True}
FLOWING = IDLE | {"state": "fuelling", "out": True, "volume_ml": 5_000, "sale_id": "a" * 32, "sale_state": "open"}
WAITING = IDLE | {"order": {"order_id": "b" * 32, "cash": True, "limit_fen": 5_000}}
AUTHORISE = ("pump", "authorise", POINT, 1, "--reason", "asked at the counter")


@pytest.fixture
def station(site):
    """A site whose only charge point is a fuel island."""
    text = site.read_text("utf-8")
    site.write_text(text[: text.index("[[charge_points]]")] + ISLAND, encoding="utf-8")
    return site


@pytest.fixture
def state(station, monkeypatch):
    """Write the state file as a gateway does whose sides stand so."""
    now = now_utc()
    monkeypatch.setattr("gateway.cli.running.now_utc", lambda: now)

    def write(*sides, running=True, age_s=0.0):
        clock = FakeClock()
        clock.now = now.timestamp() - age_s
        points = [Point(POINT, None, {}, {"pumps": lambda: sides})]
        board = HealthFile(station.parent / "state.json", clock, lambda: live(points))
        board.report(f"{POINT}/dart", True, "works")
        board.report(f"{POINT}/pump-1", False, "does not answer", "pump_unavailable")
        board.report("ledger", True, "storage is writing")
        board.write(running=running)

    return write


@pytest.fixture
def life(station):
    """Let an island live with the ledger of the site."""

    def call(scenario):
        box = Box(station.parent / "ledger.db")

        async def inside():
            async with box, Forecourt(box) as court:
                await scenario(court)

        asyncio.run(inside())
        box.keep_mark()
        box.open()
        box.check()
        box.database.dispose()
        box.reader.dispose()

    return call


@pytest.fixture
def sold(life, sql):
    """Two sales: one that a person ordered and that was paid at the till, then one of a known vehicle."""

    async def scenario(court):
        await order(court.box, court)
        for number in (1, 2):
            court.pump.lift()
            await court.authorised()
            court.pump.flow(ML)
            court.pump.hang_up()
            await court.until(lambda: sum(sale[0] == "billed" for sale in court.sales()) == number)  # noqa: B023
            court.box.clock.now += 60
            if number == 1:
                court.approve()
                court.car()

    life(scenario)
    return [row[0] for row in sql("select id from sale order by created_at")]


# --- how they stand ---------------------------------------------------------------------------------------------------


def test_one_line_a_side_in_both_languages(run, ask, station, state):
    state(IDLE, FLOWING | {"side": 2, "grade": "95"}, WAITING | {"side": 3})
    found = ask("pumps", "--config", station)
    assert found["running"]
    assert [side["state"] for side in found["pumps"]] == ["idle", "fuelling", "idle"]
    compare("pumps", shape(found))
    english = run("pumps", "--config", station).stdout
    assert "delivering" in english
    assert "5.00" in english
    assert "78.50" in english
    assert "pays at the till <= 50.00 CNY" in english
    chinese = run("pumps", POINT, "--config", station, "--lang", "zh").stdout
    assert "加油中" in chinese
    assert "收银台付款" in chinese


def test_a_side_that_does_not_say_how_it_stands_is_not_called_idle(run, station, state):
    state(IDLE | {"online": False}, IDLE | {"side": 2, "state": None}, IDLE | {"side": 3, "out": True})
    shown = run("pumps", "--config", station).stdout
    assert "does not answer" in shown
    assert "has not said yet" in shown
    assert "nozzle out" in shown  # some pumps have no state of their own for it
    assert " idle" not in shown


@pytest.mark.parametrize("facts", [{"running": False}, {"age_s": 60.0}])
def test_without_a_gateway_nobody_knows_how_they_stand(run, ask, station, state, facts):
    state(FLOWING, **facts)
    found = ask("pumps", "--config", station, code=3)
    assert (found["error"]["code"], found["running"]) == ("gateway_not_running", False)
    assert [(side["online"], side["state"]) for side in found["pumps"]] == [(None, "fuelling")]
    shown = run("pumps", "--config", station, code=3)
    assert "not known" in shown.stdout
    assert "delivering" not in shown.stdout
    assert "not running" in shown.stderr


def test_islands_and_sides_are_those_of_the_site(run, ask, station, state):
    state(IDLE)
    assert "lane-1" in run("pumps", "island-9", "--config", station, code=2).stderr
    assert "1" in ask("pump", "show", POINT, 9, "--config", station, code=2)["error"]["text"]
    run("pump", "watch", POINT, 9, "--config", station, code=2)
    run("pump", "authorise", POINT, 9, "--cash", "--reason", "x", "--config", station, code=2)


def test_a_site_without_pumps_says_so(run, site, station, state):
    state()
    assert "no fuel island" in run("pumps", "--config", station).stderr


# --- one side ---------------------------------------------------------------------------------------------------------


def test_everything_about_one_side(run, ask, station, state, sold):
    state(FLOWING)
    found = ask("pump", "show", POINT, 1, "--config", station)
    compare("pump-show", shape(found))
    assert (found["line"]["dialect"], found["line"]["volume_decimals"], found["address"]) == ("dart", 2, 80)
    assert [sale["sale_id"] for sale in found["sales"]] == sold[::-1]
    assert [one["totaliser_ml"] for one in found["nozzles"]] == [1_209_090 + 2 * ML, None]
    assert [(one["state"], one["sale_id"], one["actor"]) for one in found["orders"]] == [("taken", sold[0], "li")]
    assert {part["name"]: part["works"] for part in found["parts"]} == {"lane-1/dart": True, "lane-1/pump-1": False}
    shown = run("pump", "show", POINT, 1, "--last", 1, "--config", station, "--lang", "zh").stdout
    assert "加油中" in shown
    assert "1229.09" in shown
    assert sold[1] in shown
    assert f"{sold[0]} " not in shown.split("li")[0]


def test_a_side_that_the_gateway_does_not_know_yet_is_shown_by_its_ledger(ask, station, state, sold):
    state()
    found = ask("pump", "show", POINT, 1, "--config", station)
    assert (found["state"], found["online"], len(found["sales"])) == (None, None, 2)
    state(IDLE, running=False)
    assert len(ask("pump", "show", POINT, 1, "--config", station, code=3)["sales"]) == 2


def test_what_is_not_at_its_end_is_shown_however_old(ask, station, state, sql, sold):
    state(IDLE)
    newest = ("pump", "show", POINT, 1, "--last", 1, "--config", station)
    sql("update sale set nozzle = 2 where id = ?", sold[0])
    assert [sale["sale_id"] for sale in ask(*newest)["sales"]] == [sold[1]]
    sql("update sale set state = 'grey' where id = ?", sold[0])
    assert [sale["sale_id"] for sale in ask(*newest)["sales"]] == [sold[1], sold[0]]


@pytest.mark.usefixtures("sold")
def test_who_gave_an_order_is_found_where_its_time_is_in_the_journal(run, ask, station, state, monkeypatch):
    run(*AUTHORISE, "--cash", "--even-stopped", "--config", station)
    monkeypatch.setattr(view, "NEAR", 0)
    state(IDLE)
    newest = ask("pump", "show", POINT, 1, "--config", station)["orders"][0]
    assert (newest["state"], newest["actor"], newest["cash"]) == ("given", "wang", True)


# --- watching ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def while_watched(monkeypatch):
    """Do one thing after the other between two looks of a watcher, then Ctrl-C."""

    def plan(*changes):
        waiting = iter(changes)

        def sleep(_):
            change = next(waiting, None)
            if change is None:
                raise KeyboardInterrupt
            change()

        monkeypatch.setattr(command.time, "sleep", sleep)

    return plan


def test_changes_are_told_and_nothing_twice(run, station, state, while_watched):
    other = IDLE | {"side": 2}
    state(IDLE, other)
    looks = [(CALLING, other), (CALLING, other), (FLOWING, other)]
    while_watched(*(partial(state, *sides) for sides in looks), partial(state, FLOWING, age_s=60))
    lines = run("pump", "watch", POINT, "--config", station).stdout.splitlines()
    assert [line.split("  ")[1:3] for line in lines] == [
        ["side 1 92", "idle"],
        ["side 2 92", "idle"],
        ["side 1 92", "nozzle out, waiting for authorisation"],
        ["side 1 92", "delivering"],
        ["side 1 92", "not known"],
    ]
    assert "5.00 L" in lines[3]


def test_programs_get_a_line_of_json_for_each(run, station, state, while_watched):
    state(IDLE, IDLE | {"side": 2})
    while_watched(lambda: state(WAITING, CALLING | {"side": 2}))
    lines = run("pump", "watch", POINT, 1, "--json", "--config", station).stdout.splitlines()
    told = [json.loads(line) for line in lines]
    assert [one["order"] is None for one in told] == [True, False]
    assert {one["side"] for one in told} == {1}
    compare("pump-watch", merged(*map(shape, told)))


# --- what people order ------------------------------------------------------------------------------------------------


def test_an_order_is_stored_with_who_gave_it_and_why(run, ask, station, sql):
    run("ledger", "create", "--config", station)
    found = ask(*AUTHORISE, "--cash", "--limit", 5000, "--even-stopped", "--config", station)
    assert (found["state"], found["sale_id"], found["reason"]) == ("given", None, None)
    (stored,) = sql("select charge_point, side, vehicle, limit_fen, state from pump_order")
    assert stored == (POINT, 1, None, 5000, "given")
    assert sql("select actor, detail from journal where kind = 'pump_order'") == [("wang", "asked at the counter")]
    compare("pump-authorise", shape(found))
    again = ask(*AUTHORISE, "--cash", "--even-stopped", "--config", station, code=1)
    assert again["error"]["code"] == "pump_order_waits"


def test_without_a_gateway_nothing_is_ordered(run, ask, station, sql):
    run("ledger", "create", "--config", station)
    assert ask(*AUTHORISE, "--cash", "--config", station, code=3)["error"]["code"] == "gateway_not_running"
    assert sql("select count(*) from pump_order") == [(0,)]


def test_who_may_not_see_what_becomes_of_an_order_does_not_give_one_to_wait_for(ask, station, monkeypatch, desk):
    def closed(path):
        raise CliFault(ExitCode.UNAVAILABLE, "not_permitted", path.name)

    monkeypatch.setattr(command, "need_right", closed)
    desk("given")  # fails should it be asked: there is no ledger
    found = ask(*AUTHORISE, "--cash", "--wait", 1, "--config", station, code=3)
    assert found["error"] == {"code": "not_permitted", "text": "ledger.db", "next": None}


@pytest.mark.parametrize(
    "whom",
    [
        (),
        ("--cash", "--plate", "测A00001", "--colour", "0"),
        ("--plate", "测A00001"),
        ("--cash", "--colour", "0"),
        ("--plate", "测A00001", "--colour", "9"),
        ("--plate", "测A00001", "--colour", "99"),
        ("--plate", "测A?0001", "--colour", "0"),
        ("--plate", "·", "--colour", "0"),
    ],
)
def test_whom_it_is_for_is_said_by_one_word_that_names_a_vehicle(run, station, whom):
    run(*AUTHORISE, *whom, "--even-stopped", "--config", station, code=2)


def test_a_plate_is_what_the_tag_says_however_it_is_typed(run, station, life):
    """A person types full-width letters and dots; the vehicle at the antenna is found all the same."""

    async def nothing(court):
        """Make the ledger."""

    life(nothing)
    run(*AUTHORISE, "--plate", "测a·00002", "--colour", "0", "--even-stopped", "--config", station)

    async def scenario(court):
        court.box.clock.now = now_utc().timestamp()
        court.car(1)
        court.car(2)
        await court.point.follow_orders()
        court.pump.lift()
        court.approve()
        await court.authorised()
        assert court.box.rows("select state from pump_order") == [("taken",)]
        assert court.box.rows("select mandate_id from debit") == [("m2",)]

    life(scenario)


@pytest.fixture
def desk(station, monkeypatch, sql):
    """A gateway that takes the order at its desk, and does this to it before the command looks the first time."""

    def plan(state, **values):
        def asked(site, act):
            done = acting.change_ledger(site, change_of(act, Actor(0, "li", frozenset()), terms_of(site), {}))
            sets = ", ".join(f"{name} = ?" for name in ("state", *values))
            sql(f"update pump_order set {sets}", state, *values.values())
            return {"done": done}

        monkeypatch.setattr(acting, "_ask", asked)

    return plan


def test_a_waiter_hears_that_it_was_taken(run, ask, station, desk):
    run("ledger", "create", "--config", station)
    desk("taken", sale_id="a" * 32)
    found = ask(*AUTHORISE, "--cash", "--wait", 30, "--config", station)
    assert (found["state"], found["sale_id"]) == ("taken", "a" * 32)


ENDS = [("refused", "pump_vehicle_not_seen"), ("lapsed", "pump_order_lapsed"), ("refused", "no_mandate")]


@pytest.mark.parametrize("end", ENDS)
def test_an_order_that_came_to_nothing_is_1_with_its_reason(run, ask, station, desk, end):
    run("ledger", "create", "--config", station)
    state, reason = end
    desk(state, reason=reason)
    found = ask(*AUTHORISE, "--cash", "--wait", 30, "--config", station, code=1)
    assert (found["error"]["code"], found["state"]) == (reason, state)
    assert "was not authorised" in run(*AUTHORISE, "--cash", "--wait", 30, "--config", station, code=1).stderr


def test_who_waits_no_longer_hears_that_it_still_waits(run, station, desk):
    run("ledger", "create", "--config", station)
    desk("given")
    result = run(*AUTHORISE, "--cash", "--wait", 0.1, "--config", station)
    assert "waits for the nozzle" in result.stdout
    assert "120 s" in result.stderr


# --- sales and receipts -----------------------------------------------------------------------------------------------


def test_a_sale_names_the_person_who_ordered_it(run, ask, station, sold):
    ordered, proved = (ask("sales", "show", sale, "--config", station) for sale in sold)
    assert proved["order"] is None
    assert (ordered["order"]["actor"], ordered["order"]["why"]) == ("li", "asked at the counter")
    assert "li: asked at the counter" in run("sales", "show", sold[0], "--config", station).stdout
    compare("sales-show", merged(shape(ordered), shape(proved)))


def test_a_receipt_says_how_it_was_paid(run, ask, station, sold):
    cash, bank = (ask("sales", "receipt", sale, "--config", station) for sale in sold)
    assert (cash["funding"], cash["payer"], cash["debit_state"]) == ("cash", POINT, "funded")
    assert (bank["funding"], bank["payer"]) == ("bank_online", "bank-1")
    wanted = ("merchant", "paid_at", "grade", "volume_ml", "unit_price_milli", "amount_fen", "sale_id", "record_no")
    assert [name for name in wanted if cash[name] is None] == []
    assert "现金" in run("sales", "receipt", sold[0], "--config", station, "--lang", "zh").stdout
    compare("sales-receipt", merged(shape(cash), shape(bank)))


def test_what_somebody_else_was_paid_for_has_no_receipt_of_ours(ask, station, sql, sold):
    sql("update sale set debit_id = null where id = ?", sold[0])
    assert ask("sales", "receipt", sold[0], "--config", station, code=1)["error"]["code"] == "sale_not_billed"


def test_a_third_digit_after_the_point_is_shown_where_there_is_one():
    assert [litres(None, value) for value in (10_000, 1_234, 7_850, None)] == ["10.00", "1.234", "7.85", ""]
