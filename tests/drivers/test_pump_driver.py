"""The driver of a line with pumps, in virtual time: pace, ends of commands, what it keeps and what it leaves."""

import asyncio
import itertools

import pytest

from drivers.addresses import SerialAddress, TcpAddress
from drivers.errors import DeviceUnavailable
from drivers.link import memory_pair
from drivers.pump import WRITE_TIMEOUT_S, PumpBus, PumpBusConfig, link_address
from drivers.pump_side import EVENTS_MAX
from hardware.bench.simulation.loop import SimClock, VirtualLoop
from hardware.emulators.pump import PumpConfig, pumps_of
from hardware.emulators.pump_line import Fault
from protocols.errors import LocalProtocolError
from protocols.pump import names
from protocols.pump.bus import Offline, Online
from protocols.pump.registry import DIALECTS
from protocols.pump.types import (
    AmountLimit,
    AskState,
    AskTotals,
    Authorise,
    Clear,
    Decimals,
    Delivered,
    NozzleSeen,
    Outcome,
    SetPrices,
    SideId,
    SideState,
    StateSeen,
    Stop,
    Suspend,
    TotalsSeen,
)

LIMIT = Authorise(AmountLimit(5_000))


class World:
    """A driver and pumps on a line of its dialect's speed, both ways."""

    def __init__(self, dialect=names.DART, count=1, answer_s=0.010):
        self.loop = asyncio.get_running_loop()
        first = max(1, DIALECTS[dialect].sides[0])
        self.sides = [SideId(first + at) for at in range(count)]
        self.pumps = pumps_of(PumpConfig(dialect, tuple(self.sides), flow_ml_s=2_000))
        self.byte_s = DIALECTS[dialect].line.seconds(bytes(1))
        self.answer_s = answer_s
        self.heard = []
        self.connects = 0
        self.refuses = False
        self.conditions, self.traced = [], []
        self.far = None
        self.bus = PumpBus(
            PumpBusConfig("pumps", dialect, dict.fromkeys(self.sides, Decimals())),
            connect=self.connect,
            clock=SimClock(self.loop),
            on_condition=lambda works, cause: self.conditions.append((works, cause)),
            on_trace=lambda direction, data: self.traced.append((self.loop.time(), direction, data)),
        )
        self.tasks = [asyncio.create_task(self.bus.run())]

    async def connect(self):
        self.connects += 1
        if self.refuses:
            raise DeviceUnavailable("nobody is there", device="pumps")
        near, self.far = memory_pair()
        self.tasks.append(asyncio.create_task(self.serve(self.far)))
        return near

    async def serve(self, far):
        while data := await far.read(1024):
            await asyncio.sleep(len(data) * self.byte_s)
            self.heard.append((self.loop.time(), data))
            answer = self.pumps.hear(data, self.loop.time())
            if answer:
                await asyncio.sleep(self.answer_s + len(answer) * self.byte_s)
                await far.write(answer)

    def place(self, side=None):
        return self.pumps.places[self.sides[0] if side is None else side]

    def side(self):
        return self.bus.side(self.sides[0])

    async def sees(self, kind, events):
        async for event in events:
            if isinstance(event, kind):
                return event
        raise AssertionError("events end")

    async def close(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def played(play, *arguments, **changes):
    async def run():
        world = World(*arguments, **changes)
        try:
            await play(world)
        finally:
            await world.close()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


# --- pace -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "most_s"), [(1, 0.150), (4, 0.150), (16, 0.500)])
def test_a_round_of_polls_takes_its_time_and_no_more(count, most_s):
    """Each side is polled again in time, on a line of 9600 baud whose sides answer within 10 ms."""

    async def play(world):
        await asyncio.sleep(30)
        for side in world.sides:
            polls = [at for at, data in world.heard if data == bytes((side, 0x20, 0xFA)) and at > 5]
            pauses = [later - at for at, later in itertools.pairwise(polls)]
            assert len(pauses) > 25 / most_s - 2
            assert 0.150 - 1e-4 <= min(pauses) <= max(pauses) <= most_s + 1e-4

    played(play, names.DART, count)


@pytest.mark.parametrize("dialect", sorted(names.DIALECT_NAMES))
def test_nothing_is_said_while_the_line_is_taken(dialect):
    """A message has left the line before the next is written, and its answer has come or is given up."""

    async def play(world):
        await asyncio.sleep(30)
        assert len(world.traced) > 200
        for (at, direction, data), (later, _, _) in itertools.pairwise(world.traced):
            pause_s = later - at
            if direction == "out":
                assert pause_s >= len(data) * world.byte_s
                assert dialect != names.DART or data.count(0xFA) == 1  # one message, not two in one
            else:
                assert pause_s >= 0

    played(play, dialect, 3)


# --- commands ---------------------------------------------------------------------------------------------------------


def test_several_sides_are_asked_at_once():
    async def play(world):
        for side in world.sides:
            assert await world.sees(Online, world.bus.side(side).events())
        asked = [world.bus.side(side).do(command) for side in world.sides for command in (AskState(), AskTotals(1))]
        assert set(await asyncio.gather(*asked)) == {Outcome.ACCEPTED}
        for side in world.sides:
            totals = await world.sees(TotalsSeen, world.bus.side(side).events())
            assert (totals.nozzle, totals.volume_ml) == (1, 1_234_560)

    played(play, count=4)


def test_without_a_link_nothing_is_sent():
    async def play(world):
        world.refuses = True
        events = world.side().events()
        assert await world.sees(Offline, events) == Offline(world.sides[0], None)
        assert await world.side().do(Stop()) is Outcome.NOT_SENT
        world.refuses = False
        assert await world.sees(Online, events)

    played(play)


def test_a_line_whose_sides_are_all_silent_does_not_work():
    async def play(world):
        await asyncio.sleep(5)
        for number, side in enumerate(world.sides):
            assert world.conditions[-1][0], number
            world.place(side).arm(Fault.DEAF, 1)
            await asyncio.sleep(5)
        assert world.conditions[-1] == (False, "no side answers")
        world.place(world.sides[1]).arm(Fault.DEAF, 0)
        await asyncio.sleep(5)
        assert world.conditions[-1] == (True, f"side {world.sides[1]} answers")
        assert world.connects == 1

    played(play, names.LANFENG, 2)


def test_pauses_between_connections_grow_and_begin_anew_after_success():
    async def play(world):
        world.refuses = True
        await asyncio.sleep(100)
        assert 10 < world.connects < 18
        world.refuses = False
        await world.sees(Online, world.side().events())
        assert world.conditions[-1][0]
        world.refuses, world.connects = True, 0
        await world.far.close()
        await asyncio.sleep(1)
        assert world.connects == 2
        assert not world.conditions[-1][0]

    played(play)


@pytest.mark.parametrize(
    ("command", "outcome"), [(Stop(), Outcome.UNKNOWN), (LIMIT, Outcome.NOT_SENT), (AskState(), Outcome.UNKNOWN)]
)
def test_a_link_that_dies_ends_what_is_under_way(command, outcome):
    """What was sent is unknown; of an authorisation only its nozzles were."""

    async def play(world):
        events = world.side().events()
        await world.sees(Online, events)
        await asyncio.sleep(5)
        world.place().arm(Fault.DEAF, 1)
        doing = asyncio.create_task(world.side().do(command))
        waiting = asyncio.create_task(world.side().do(SetPrices((7000,))))
        said = len(world.heard)
        while not any(data[1] >> 4 == 3 for _, data in world.heard[said:]):
            await asyncio.sleep(0.01)
        await world.far.close()
        assert await doing is outcome
        assert await waiting is Outcome.NOT_SENT
        offline = await world.sees(Offline, events)
        assert offline.since == pytest.approx(world.loop.time())

    played(play)


def test_a_caller_that_is_cancelled_leaves_no_order_behind():
    async def play(world):
        await world.sees(Online, world.side().events())
        await asyncio.sleep(5)
        world.place().arm(Fault.DEAF, 1)
        doing = asyncio.create_task(world.side().do(LIMIT))
        await asyncio.sleep(0.05)
        doing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await doing
        world.place().arm(Fault.DEAF, 0)
        await asyncio.sleep(10)
        assert world.place().dispenser.state is SideState.IDLE
        assert await world.side().do(AskState()) is Outcome.ACCEPTED

    played(play)


@pytest.mark.parametrize("command", [Authorise(AmountLimit(0)), SetPrices((7851,))])
def test_what_cannot_be_said_is_not_sent(command):
    async def play(world):
        await world.sees(Online, world.side().events())
        assert await world.side().do(command) is Outcome.NOT_SENT

    played(play)


def test_more_orders_than_a_side_takes_are_not_sent():
    async def play(world):
        await world.sees(Online, world.side().events())
        outcomes = await asyncio.gather(*(world.side().do(Clear()) for _ in range(100)))
        assert set(outcomes) == {Outcome.ACCEPTED, Outcome.NOT_SENT}

    played(play)


def test_a_link_that_takes_nothing_is_given_up():
    async def play(world):
        events = world.side().events()
        await world.sees(Online, events)
        connection = world.bus._connection

        async def stuck(_data):
            await world.loop.create_future()

        connection._link.write = stuck
        doing = asyncio.create_task(world.side().do(Suspend()))
        began = world.loop.time()
        assert await doing in (Outcome.UNKNOWN, Outcome.NOT_SENT)
        assert world.loop.time() - began <= WRITE_TIMEOUT_S + 0.5
        await world.sees(Offline, events)
        await world.sees(Online, events)

    played(play)


def test_a_line_that_is_never_quiet_stops_no_poll():
    """Bytes that are always at hand, as from a socket: a read then never waits."""

    async def play(world):
        await world.sees(Online, world.side().events())
        in_a_row, most, said = 0, 0, len(world.heard)

        def others_had_their_turn():
            nonlocal in_a_row
            in_a_row = 0

        async def noise(_bytes_max):
            nonlocal in_a_row, most
            if in_a_row == 0:
                world.loop.call_soon(others_had_their_turn)
            in_a_row += 1
            most = max(most, in_a_row)
            return await asyncio.Future() if len(world.heard) > said + 3 or most > 100 else b"\0"

        world.bus._connection._link.read = noise
        await world.far.write(b"\0")  # ends the read under way
        while len(world.heard) <= said + 3:
            await asyncio.sleep(0.01)
        assert most == 1

    async def run():
        world = World()
        try:
            await play(world)
        finally:
            await world.close()

    asyncio.run(run())  # in virtual time nothing happens while there is something to do


# --- events -----------------------------------------------------------------------------------------------------------


def test_who_does_not_take_events_loses_the_old_ones_alone():
    async def play(world):
        side = world.sides[0]
        world.bus.heard(side, Offline(side, 3.0))
        world.bus.heard(side, NozzleSeen(1, out=True))
        for volume_ml in range(2 * EVENTS_MAX):
            state = SideState.FUELLING if volume_ml < 10 else SideState.COMPLETED
            world.bus.heard(side, StateSeen(state))
            world.bus.heard(side, Delivered(volume_ml, volume_ml))
        events = world.side().events()
        left = [await anext(events) for _ in range(EVENTS_MAX)]
        assert left[:2] == [Offline(side, 3.0), NozzleSeen(1, out=True)]
        assert StateSeen(SideState.FUELLING) in left
        assert left[-2:] == [StateSeen(SideState.COMPLETED), Delivered(2 * EVENTS_MAX - 1, 2 * EVENTS_MAX - 1)]

    played(play)


def test_offline_is_said_once():
    async def play(world):
        world.refuses = True
        await asyncio.sleep(100)
        world.refuses = False
        events = world.side().events()
        assert isinstance(await anext(events), Offline)
        assert isinstance(await anext(events), Online)

    played(play)


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dialect", "line"), [("dart", "9600 8O1"), ("two-wire", "5760 8E1"), ("lanfeng", "9600 8N1")])
def test_a_line_is_set_as_its_dialect_usually_is(dialect, line):
    address = link_address(dialect, "serial:/dev/ttyS0")
    assert isinstance(address, SerialAddress)
    assert str(address.settings) == line
    other = link_address(dialect, "serial:/dev/ttyS0?baud=19200&parity=N")
    assert str(other.settings) == "19200 8N1"
    assert link_address(dialect, "pumps:4001") == TcpAddress("pumps", 4001)


def test_names_are_those_of_the_dialects():
    assert set(DIALECTS) == names.DIALECT_NAMES
    assert all(name == dialect.name for name, dialect in DIALECTS.items())
    with pytest.raises(LocalProtocolError, match="no pump dialect 'dar'"):
        link_address("dar", "pumps:4001")


def test_sides_that_the_dialect_does_not_have():
    async def play(world):
        with pytest.raises(LocalProtocolError):
            PumpBus(
                PumpBusConfig("pumps", names.DART, {SideId(1): Decimals()}),
                connect=world.connect,
                clock=world.bus.clock,
            )
        with pytest.raises(KeyError):
            world.bus.side(SideId(1))

    played(play)
