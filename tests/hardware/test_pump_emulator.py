"""The driver of pumps against emulated ones: real sockets, real pseudo terminals, all dialects."""

import asyncio
import signal

import pytest

from hardware.emulators.control import ControlError, SyncControlClient
from protocols.pump import names
from protocols.pump.bus import Offline, Online, Restarted
from protocols.pump.types import (
    AlarmSeen,
    AmountLimit,
    AskDelivered,
    AskState,
    AskTotals,
    Authorise,
    Clear,
    Delivered,
    NozzleSeen,
    Outcome,
    Resume,
    SetPrices,
    SideState,
    StateSeen,
    Stop,
    Suspend,
    TotalsSeen,
    VolumeLimit,
)
from tests.hardware.pump_station import FIRST, forecourt
from tests.hardware.samples import PATIENCE_S
from tests.programs import program

DIALECTS = (names.DART, names.TWO_WIRE, names.LANFENG)
SLOW, FAST = 300, 400_000
"""Flow in ml per second: a trickle that ends no delivery before the test has seen it, and one that ends any."""
OVER = (SideState.COMPLETED, SideState.LIMIT_REACHED, SideState.STOPPED, SideState.IDLE, SideState.CALLING)


def played(play, *arguments, **changes):
    async def run():
        async with forecourt(*arguments, flow_ml_s=SLOW, **changes) as (station, control):
            await play(station, control)

    asyncio.run(run())


def on_any_line(test):
    lines = pytest.mark.parametrize("line", ["tcp", "pty"])
    return lines(pytest.mark.parametrize("dialect", DIALECTS)(test))


def port(line, tmp_path):
    return tmp_path / "pump" if line == "pty" else None


async def calls(eyes, control, dialect, nozzle=1):
    """Lift a nozzle, and see it."""
    await control.request("lift", side=eyes.number, nozzle=nozzle)
    if dialect == names.TWO_WIRE:  # it tells which nozzle it is in words of its own, which nobody here asks for
        await eyes.state(SideState.CALLING)
    else:
        assert (await eyes.sees(lambda event: isinstance(event, NozzleSeen) and event.out)).nozzle == nozzle


async def flows(eyes, control, dialect, limit):
    """Authorise a lifted nozzle, and see fuel flow."""
    await calls(eyes, control, dialect)
    assert await eyes.side.do(Authorise(limit)) is Outcome.ACCEPTED
    while True:
        _, delivered = await eyes.asks(AskDelivered(), Delivered)
        if delivered.volume_ml or (delivered.volume_ml is None and delivered.amount_minor):
            return


async def book(control):
    return (await control.request("book"))["sales"]


async def agrees(eyes, sale):
    """The pump's last word and its totaliser are those of the book."""
    word = sale["volume_ml"], sale["shown_amount_minor"]
    for _ in range(10):
        outcome, delivered = await eyes.asks(AskDelivered(), Delivered)
        assert outcome is Outcome.ACCEPTED
        if (delivered.volume_ml, delivered.amount_minor) == word:
            break  # before that came what was told while fuel flowed
    assert (delivered.volume_ml, delivered.amount_minor) == word
    assert delivered.unit_price_milli in (None, sale["unit_price_milli"])
    outcome, totals = await eyes.asks(AskTotals(1), TotalsSeen)
    assert outcome is Outcome.ACCEPTED
    assert totals.volume_ml == sale["total_volume_ml"]


@on_any_line
def test_prices_limit_and_sale(dialect, line, tmp_path):
    """A price is set, a delivery ends at the most that the limit allows, and everybody agrees on it; then a second."""

    async def play(station, control):
        (eyes,) = station.eyes
        await eyes.sees(Online)
        assert await eyes.side.do(SetPrices((7210,))) is Outcome.ACCEPTED
        for amount, volume_ml, amount_minor in ((20_000, 27_730, 19_993), (5_003, 6_930, 4_997)):
            await flows(eyes, control, dialect, AmountLimit(amount))
            await control.request("flow", side=eyes.number, ml_per_s=FAST)
            shown = await control.request("wait", side=eyes.number, state="limit_reached")
            assert (shown["volume_ml"], shown["amount_minor"]) == (volume_ml, amount_minor)
            await eyes.state(*OVER)
            await control.request("return", side=eyes.number)
            sale = (await book(control))[-1]
            assert (sale["volume_ml"], sale["unit_price_milli"], sale["end"]) == (volume_ml, 7210, "limit")
            await agrees(eyes, sale)
            assert await eyes.side.do(Clear()) is Outcome.ACCEPTED
            await control.request("flow", side=eyes.number, ml_per_s=SLOW)
        assert len(await book(control)) == 2

    played(play, dialect, port(line, tmp_path))


@on_any_line
def test_power_cut_while_filling(dialect, line, tmp_path):
    """The side is gone and comes back with the delivery on its display; nothing that was ordered before is done."""

    async def play(station, control):
        (eyes,) = station.eyes
        await eyes.sees(Online)
        await flows(eyes, control, dialect, VolumeLimit(90_000))
        await control.request("power", side=eyes.number, on=False)
        offline = await eyes.sees(Offline)
        assert offline.since is not None
        await control.request("power", side=eyes.number, on=True)
        await eyes.sees(Online)
        await eyes.state(*OVER)
        (sale,) = await book(control)
        assert sale["end"] == "power"
        assert 0 < sale["volume_ml"] < 90_000
        await agrees(eyes, sale)

    played(play, dialect, port(line, tmp_path))


@on_any_line
def test_link_cut_and_back(dialect, line, tmp_path):
    """A link that is gone takes all sides with it; a delivery goes on meanwhile, and its end is read afterwards."""

    async def play(station, control):
        (eyes,) = station.eyes
        await eyes.sees(Online)
        await flows(eyes, control, dialect, AmountLimit(5_000))
        await control.request("down")
        assert (await eyes.sees(Offline)).since is not None
        assert await eyes.side.do(Stop()) is Outcome.NOT_SENT
        await control.request("flow", side=eyes.number, ml_per_s=FAST)
        await control.request("wait", side=eyes.number, sales=1)
        await control.request("return", side=eyes.number)
        await control.request("up")
        await eyes.sees(Online)
        (sale,) = await book(control)
        await agrees(eyes, sale)
        assert [works for works, _ in station.conditions][:4] == [False, True, False, False]
        assert station.conditions[-1][0]

    played(play, dialect, port(line, tmp_path))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_early_return_and_stop(dialect):
    async def play(station, control):
        (eyes,) = station.eyes
        await eyes.sees(Online)
        await flows(eyes, control, dialect, AmountLimit(20_000))
        await control.request("return", side=eyes.number)
        await eyes.state(*OVER)
        await agrees(eyes, (await book(control))[-1])
        assert await eyes.side.do(Clear()) is Outcome.ACCEPTED
        await flows(eyes, control, dialect, AmountLimit(20_000))
        assert await eyes.side.do(Stop()) is Outcome.ACCEPTED
        await control.request("wait", side=eyes.number, sales=2)
        await agrees(eyes, (await book(control))[-1])
        assert [sale["end"] for sale in await book(control)] == ["returned", "stopped"]

    played(play, dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("what", ["lose_ack", "noise", "garble"])
def test_faulty_answers(dialect, what):
    """A lost acknowledgement and noise delay, and change nothing: the limit holds, and what was sold is read."""

    async def play(station, control):
        (eyes,) = station.eyes
        await eyes.sees(Online)
        await calls(eyes, control, dialect)
        await control.request("fault", side=eyes.number, what=what, times=1)
        assert await eyes.side.do(Authorise(AmountLimit(5_000))) is Outcome.ACCEPTED
        await control.request("flow", side=eyes.number, ml_per_s=FAST)
        shown = await control.request("wait", side=eyes.number, state="limit_reached")
        assert shown["faults"] == {}
        await control.request("return", side=eyes.number)
        (sale,) = await book(control)
        assert sale["amount_minor"] == 5_000
        await control.request("fault", side=eyes.number, what=what, times=1)
        await agrees(eyes, sale)

    played(play, dialect)


def test_an_order_refused():
    async def play(station, control):
        (eyes,) = station.eyes
        await eyes.sees(Online)
        await calls(eyes, control, names.DART)
        await control.request("fault", side=0x50, what="nak", times=100)
        assert await eyes.side.do(Authorise(AmountLimit(5_000))) is Outcome.REFUSED
        await control.request("fault", side=0x50, what="nak", times=0)
        assert await eyes.side.do(Authorise(AmountLimit(5_000))) is Outcome.ACCEPTED

    played(play, names.DART)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_answer_to_an_order(dialect):
    """Orders that are obeyed and never answered have an unknown end, and none that was not sent has."""

    async def play(station, control):
        (eyes,) = station.eyes
        await eyes.sees(Online)
        await calls(eyes, control, dialect)
        await control.request("fault", side=eyes.number, what="mute", times=1_000)
        stopped = eyes.side.do(Stop())
        asked = eyes.side.do(SetPrices((7000,)))
        assert await asyncio.gather(stopped, asked) in (
            [Outcome.UNKNOWN, Outcome.NOT_SENT],
            [Outcome.NOT_SENT, Outcome.NOT_SENT],  # it was known to be away before anything was sent
        )
        await eyes.sees(Offline)

    played(play, dialect)


def test_a_side_restarts_and_loses_its_prices():
    """So short that no poll misses it: its numbers tell, and it wants prices and a reset before it sells again."""

    async def play(station, control):
        (eyes,) = station.eyes
        await eyes.sees(Online)
        await flows(eyes, control, names.DART, AmountLimit(5_000))
        await control.request("return", side=0x50)
        await eyes.state(SideState.COMPLETED)
        await control.request("power", side=0x50, on=True, prices_lost=True)
        await eyes.sees(Restarted)
        await eyes.sees(AlarmSeen)
        await eyes.state(SideState.NOT_PROGRAMMED)
        assert await eyes.side.do(Clear()) is Outcome.ACCEPTED
        assert (await eyes.asks(AskState(), StateSeen))[1].state is SideState.NOT_PROGRAMMED
        assert await eyes.side.do(SetPrices((8010,))) is Outcome.ACCEPTED
        assert await eyes.side.do(Clear()) is Outcome.ACCEPTED
        await eyes.state(SideState.IDLE)

    played(play, names.DART)


def test_suspend_and_resume():
    async def play(station, control):
        (eyes,) = station.eyes
        await eyes.sees(Online)
        await flows(eyes, control, names.DART, AmountLimit(5_000))
        assert await eyes.side.do(Suspend()) is Outcome.ACCEPTED
        await eyes.state(SideState.SUSPENDED)
        assert await eyes.side.do(Resume()) is Outcome.ACCEPTED
        await eyes.state(SideState.FUELLING)

    played(play, names.DART)


@pytest.mark.parametrize("dialect", [names.TWO_WIRE, names.LANFENG])
def test_an_order_that_the_dialect_does_not_know(dialect):
    async def play(station, _control):
        (eyes,) = station.eyes
        await eyes.sees(Online)
        assert await eyes.side.do(Suspend()) is Outcome.NOT_SENT

    played(play, dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_pumps_say_wrong(dialect):
    """A totaliser that jumps, an amount that is wrong, and a sale that nobody let begin are on the line as they are."""

    async def play(station, control):
        (eyes,) = station.eyes
        side = eyes.number
        await eyes.sees(Online)
        before = (await eyes.asks(AskTotals(1), TotalsSeen))[1].volume_ml
        await control.request("wrong_amount", side=side, by=300)
        await control.request("sell_alone", side=side, volume_ml=10_000)
        await control.request("jump", side=side, volume_ml=1_230)
        (sale,) = await book(control)
        assert (sale["amount_minor"], sale["shown_amount_minor"], sale["end"]) == (7_850, 8_150, "alone")
        assert (await eyes.asks(AskDelivered(), Delivered))[1].amount_minor == 8_150
        assert (await eyes.asks(AskTotals(1), TotalsSeen))[1].volume_ml == before + 10_000 + 1_230

    played(play, dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_sides_share_a_line(dialect):
    """Three sides are asked at once and sell at once; one of them is dead meanwhile."""

    async def play(station, control):
        dead = station.eyes.pop()
        await asyncio.gather(*(eyes.sees(Online) for eyes in station.eyes), dead.sees(Online))
        await control.request("fault", side=dead.number, what="deaf")
        await dead.sees(Offline)
        await asyncio.gather(*(flows(eyes, control, dialect, AmountLimit(5_000)) for eyes in station.eyes))
        for eyes in station.eyes:
            await control.request("flow", side=eyes.number, ml_per_s=FAST)
            await control.request("wait", side=eyes.number, sales=1)
            await control.request("return", side=eyes.number)
        sales = {sale["side"]: sale for sale in await book(control)}
        assert len(sales) == len(station.eyes)
        await asyncio.gather(*(agrees(eyes, sales[eyes.number]) for eyes in station.eyes))
        await control.request("fault", side=dead.number, what="deaf", times=0)
        await dead.sees(Online)

    played(play, dialect, count=3)


def test_a_nozzle_that_was_not_allowed_delivers_nothing():
    async def play(station, control):
        (eyes,) = station.eyes
        await eyes.sees(Online)
        await calls(eyes, control, names.DART, nozzle=2)
        assert await eyes.side.do(Authorise(AmountLimit(5_000), (1,))) is Outcome.ACCEPTED
        await eyes.state(SideState.AUTHORISED)
        await control.request("return", side=0x50)
        await eyes.state(SideState.COMPLETED)
        assert await book(control) == []

    played(play, names.DART, prices=(7850, 8120))


# --- the program ------------------------------------------------------------------------------------------------------


def test_as_a_program(tmp_path):
    path = tmp_path / "pump"
    arguments = ("--dialect", "two-wire", "--sides", "1,2", "--listen", f"pty:{path}", "--prices", "7850,8120")
    with program("hardware.emulators.pump", *arguments) as process:
        word, address, what, control = process.stdout.readline().split()
        assert (word, address, what) == ("ready", f"pty:{path}", "control")
        host, _, number = control.rpartition(":")
        with SyncControlClient(host, int(number)) as client:
            shown = client.request("lift", side=2, nozzle=2)
            assert (shown["nozzle"], shown["out"], shown["prices"]) == (2, True, [7850, 8120])
            with pytest.raises(ControlError, match="nozzle 2 of side 2 is out already"):
                client.request("lift", side=2)
            with pytest.raises(ControlError, match="side 3 is not here"):
                client.request("return", side=3)
            with pytest.raises(ControlError, match="volume: jump takes side, nozzle, volume_ml"):
                client.request("jump", side=1, volume=3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert not path.exists()


@pytest.mark.parametrize("wrong", [["--sides", "1"], ["--sides", "0x50,0x50"], ["--prices", "0"]])
def test_settings_that_there_cannot_be(wrong):
    with program("hardware.emulators.pump", *wrong, stderr=-1) as process:
        assert process.wait(PATIENCE_S) == 2
        assert "pump: error: " in process.stderr.read()


def test_first_sides_are_of_their_dialects():
    assert set(FIRST) == set(DIALECTS)


def test_a_price_changed_at_the_pump_is_told_and_not_once_fuel_flows():
    async def play(station, control):
        (eyes,) = station.eyes
        await eyes.sees(Online)
        await calls(eyes, control, names.DART)
        await control.request("flow", side=eyes.number, ml_per_s=0)
        assert await eyes.side.do(Authorise(VolumeLimit(900_000))) is Outcome.ACCEPTED
        await control.request("price", side=eyes.number, unit_price_milli=7210)
        await eyes.sees(lambda event: isinstance(event, NozzleSeen) and event.unit_price_milli == 7210)
        await control.request("flow", side=eyes.number, ml_per_s=SLOW)
        while not (await eyes.asks(AskDelivered(), Delivered))[1].volume_ml:
            pass
        with pytest.raises(ControlError, match="keeps its price"):
            await control.request("price", side=eyes.number, unit_price_milli=9990)
        await control.request("return", side=eyes.number)
        assert (await book(control))[0]["unit_price_milli"] == 7210

    played(play, names.DART)
