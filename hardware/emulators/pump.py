"""Fuel pumps for the bench: several sides on one TCP port or serial line, that speak DART, two-wire or Lanfeng.

Run as a program:

    python -m hardware.emulators.pump --dialect dart --sides 0x50,0x51 --listen 127.0.0.1:0 --control 127.0.0.1:0

It prints `ready ADDRESS control HOST:PORT` once both can be reached, and runs until SIGTERM or SIGINT. What a side does
is in `dispenser`, what it says in `pump_dart`, `pump_two_wire` and `pump_lanfeng`. The line has one user: a new
connection takes the place of the one before, as on a serial server.

Control commands (JSON lines, see `hardware.emulators.control`); volumes in ml, amounts in minor units:

    state                               sides: state, nozzle, display, totalisers, faults to come; listening
    book {since}                        deliveries as the meters counted them, of all sides, from number `since` on
    lift {side, nozzle: 1}              take a nozzle out
    return {side}                       put it back; a delivery is over then
    flow {side, ml_per_s}               squeeze the lever more or less; 0 lets it go
    fault {side, what, times: 1}        `deaf`, `mute`, `lose_ack`, `nak`, `noise`, `garble`, see `pump_line.Fault`
    wrong_amount {side, by}             the next delivery shows an amount that is wrong by so much
    price {side, nozzle: 1, unit_price_milli}  a price is changed at the pump itself, before fuel flows
    jump {side, nozzle: 1, volume_ml}   a totaliser says more than was delivered
    sell_alone {side, nozzle: 1, volume_ml}  a delivery by the pump's own keys
    power {side, on, prices_lost: false}  take power away, and what is remembered with it, or give it back; `on` for one
                                        that has power: it loses it for a moment
    wait {side, state, timeout_ms}      answers once the side is in this state
    wait {side, sales, timeout_ms}      answers once its book has so many deliveries
    down / up                           close the socket or pull the cable out / the same address again
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from hardware.emulators.control import WAIT_MS_DEFAULT, Capture, Command, ControlServer, Handler, parse_address
from hardware.emulators.dispenser import Dispenser, Nozzle, Sale
from hardware.emulators.line import Line, TcpLine
from hardware.emulators.program import argument, run, say_ready
from hardware.emulators.pty_port import ListenAddress, PtyAddress, PtyPort, parse_listen
from hardware.emulators.pump_dart import DartElectronics
from hardware.emulators.pump_lanfeng import LanfengElectronics
from hardware.emulators.pump_line import Electronics, Fault, Place, Pumps
from hardware.emulators.pump_two_wire import TwoWireElectronics
from protocols.pump import names
from protocols.pump.registry import DIALECTS, dialect_named
from protocols.pump.types import Decimals, SideId, SideState

READ_BYTES_MAX: Final = 1024
TOTAL_ML, TOTAL_MINOR = 1_234_560, 969_130
"""Totalisers of a new pump: it has been at work before."""
NOZZLES_MAX: Final = 8
ELECTRONICS: Final[dict[str, Callable[[Dispenser], Electronics]]] = {
    names.DART: DartElectronics,
    names.TWO_WIRE: TwoWireElectronics,
    names.LANFENG: LanfengElectronics,
}
STATES: Final = {state.name.lower(): state for state in SideState}


@dataclass(frozen=True, slots=True)
class PumpConfig:
    """Settings pumps are started with."""

    dialect: str
    sides: tuple[SideId, ...]
    listen: ListenAddress = ("127.0.0.1", 0)
    control: tuple[str, int] = ("127.0.0.1", 0)
    prices: tuple[int, ...] = (7850,)
    """Unit prices of nozzle 1, 2, ... of each side, thousandths."""
    flow_ml_s: int = 700
    """Usual flow: 42 litres a minute."""
    answer_ms: int = 5
    """Time from a message to its answer."""
    baud: int | None = None
    """Speed of a serial line; None: the dialect's."""
    seed: int = 1
    capture: Path | None = None
    decimals: Decimals = field(default_factory=Decimals)

    def __post_init__(self) -> None:
        """Refuse sides and nozzles that there cannot be."""
        dialect = dialect_named(self.dialect)
        if not self.sides or len(set(self.sides)) != len(self.sides) or not set(self.sides) <= set(dialect.sides):
            known = f"{dialect.sides[0]} to {dialect.sides[-1]}"
            raise ValueError(f"sides {self.sides} are not different numbers from {known}, as {self.dialect} has them")
        most = 1 if self.dialect == names.LANFENG else NOZZLES_MAX
        if not 1 <= len(self.prices) <= most or min(self.prices) <= 0:
            raise ValueError(f"prices {self.prices} are not 1 to {most} prices above 0, one a nozzle")


def pumps_of(config: PumpConfig) -> Pumps:
    """Pumps as they are when they are switched on for the first time."""
    places = {}
    for side in config.sides:
        nozzles = {at + 1: Nozzle(price, TOTAL_ML, TOTAL_MINOR) for at, price in enumerate(config.prices)}
        dispenser = Dispenser(side, config.decimals, nozzles, config.flow_ml_s)
        chance = random.Random(f"{config.seed}:{side}")  # noqa: S311 - repeatable on purpose
        places[side] = Place(dispenser, ELECTRONICS[config.dialect](dispenser), chance)
    return Pumps(places)


@dataclass(slots=True, eq=False)
class _Waiter:
    holds: Callable[[], bool]
    done: asyncio.Future[None]


class PumpEmulator:
    """Pumps with their line and their control socket. Made inside a running event loop."""

    def __init__(self, config: PumpConfig) -> None:
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._pumps = pumps_of(config)
        self._capture = Capture(config.capture)
        self._control = ControlServer(_Commands(self).handlers())
        self._control_port = 0
        self._tcp: tuple[str, int] | None = None
        self._pty: PtyPort | None = None
        if isinstance(config.listen, PtyAddress):
            self._pty = PtyPort(config.listen, config.baud or dialect_named(config.dialect).line.baud)
        else:
            self._tcp = config.listen
        self._server: asyncio.Server | None = None
        self._line: Line | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiters: list[_Waiter] = []
        self._timer: asyncio.TimerHandle | None = None
        self.failure: asyncio.Future[None] = self._loop.create_future()
        """Future that gets the exception of a bug of the emulator."""

    @property
    def listens_at(self) -> str:
        """Address as text: HOST:PORT, or pty:PATH."""
        return "{}:{}".format(*self._tcp) if self._tcp is not None else str(self._config.listen)

    @property
    def control_address(self) -> tuple[str, int]:
        """Address commands go to."""
        return self._config.control[0], self._control_port

    @property
    def listening(self) -> bool:
        """True when the controller can reach it now."""
        return self._server is not None or (self._pty is not None and self._pty.plugged)

    @property
    def pumps(self) -> Pumps:
        """Pumps on the line."""
        return self._pumps

    def now(self) -> float:
        """Time of the pumps, seconds."""
        return self._loop.time()

    async def start(self) -> None:
        """Open the control socket, then the line."""
        self._control_port = await self._control.start(*self._config.control)
        await self.listen()

    async def close(self) -> None:
        """Cut everything."""
        await self._control.close()
        await self.unlisten()
        if self._timer is not None:
            self._timer.cancel()
        for task in (tasks := tuple(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._capture.close()
        self.failure.cancel()

    async def listen(self) -> None:
        """Let the controller reach it, at the same address as before."""
        if self.listening:
            return
        if self._pty is not None:
            self._begin(self._pty.plug())
        elif self._tcp is not None:
            self._server = await asyncio.start_server(self._accept, *self._tcp)
            self._tcp = self._tcp[0], int(self._server.sockets[0].getsockname()[1])

    async def unlisten(self) -> None:
        """Close the socket and hang up, or pull the cable out."""
        if self._pty is not None:
            self._pty.unplug()
        server, self._server = self._server, None
        if server is not None:
            server.close()
        if self._line is not None:
            self._line.close()
            self._line = None
        if server is not None:
            await server.wait_closed()

    def look(self) -> None:
        """Let fuel flow until now, wake who waited for it, and look again when something ends by itself."""
        now = self.now()
        self._pumps.advance(now)
        for waiter in self._waiters:
            if not waiter.done.done() and waiter.holds():
                waiter.done.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
        at = self._pumps.next_at(now)
        self._timer = None if at is None else self._loop.call_at(at, self.look)

    async def until(self, holds: Callable[[], bool], timeout_s: float) -> None:
        """Return once it holds. Raises TimeoutError."""
        waiter = _Waiter(holds, self._loop.create_future())
        self._waiters.append(waiter)
        self.look()
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.done
        finally:
            self._waiters.remove(waiter)

    # --- the line -------------------------------------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.attach(TcpLine(reader, writer))

    def attach(self, line: Line) -> None:
        """Attach a controller that has connected, in the place of the one before."""
        if self._line is not None:
            self._line.close()
        self._begin(line)

    def _begin(self, line: Line) -> None:
        self._line = line
        task = self._loop.create_task(self._serve(line))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.failure.done():
            self.failure.set_exception(error)

    async def _serve(self, line: Line) -> None:
        try:
            while data := await line.read(READ_BYTES_MAX):
                self._capture.write("in", line.peer, data)
                answer = self._pumps.hear(data, self.now())
                self.look()
                if answer:
                    await asyncio.sleep(self._config.answer_ms / 1000)
                    self._capture.write("out", line.peer, answer)
                    line.send(answer)
                    await line.drain()
        except ConnectionError:
            return
        finally:
            line.close()


class _Commands:
    """Commands of the control socket."""

    def __init__(self, emulator: PumpEmulator) -> None:
        self._emulator = emulator

    def handlers(self) -> dict[str, Handler]:
        """Handlers by the name of their command."""
        return {
            name.removeprefix("_command_"): getattr(self, name) for name in dir(self) if name.startswith("_command_")
        }

    async def _command_state(self, command: Command) -> Command:
        _only(command)
        self._emulator.look()
        sides = [_shown(place) for place in self._emulator.pumps.places.values()]
        return {"sides": sides, "listening": self._emulator.listening, "address": self._emulator.listens_at}

    async def _command_book(self, command: Command) -> Command:
        _only(command, "since")
        self._emulator.look()
        since = _whole(command, "since", 1)
        sales: list[Sale] = [
            sale for place in self._emulator.pumps.places.values() for sale in place.dispenser.book[max(0, since - 1) :]
        ]
        return {"sales": [asdict(sale) for sale in sales]}

    async def _command_lift(self, command: Command) -> Command:
        _only(command, "side", "nozzle")
        place = self._place(command)
        place.dispenser.lift(_whole(command, "nozzle", 1), self._emulator.now())
        return self._done(place)

    async def _command_return(self, command: Command) -> Command:
        _only(command, "side")
        place = self._place(command)
        place.dispenser.put_back(self._emulator.now())
        return self._done(place)

    async def _command_flow(self, command: Command) -> Command:
        _only(command, "side", "ml_per_s")
        place = self._place(command)
        place.dispenser.squeeze(_whole(command, "ml_per_s"), self._emulator.now())
        return self._done(place)

    async def _command_fault(self, command: Command) -> Command:
        _only(command, "side", "what", "times")
        place = self._place(command)
        place.arm(Fault(command.get("what")), _whole(command, "times", 1))
        return self._done(place)

    async def _command_wrong_amount(self, command: Command) -> Command:
        _only(command, "side", "by")
        place = self._place(command)
        place.dispenser.amount_error = _whole(command, "by")
        return self._done(place)

    async def _command_price(self, command: Command) -> Command:
        _only(command, "side", "nozzle", "unit_price_milli")
        place = self._place(command)
        place.dispenser.change_price(_whole(command, "nozzle", 1), _whole(command, "unit_price_milli"))
        place.electronics.repriced()
        return self._done(place)

    async def _command_jump(self, command: Command) -> Command:
        _only(command, "side", "nozzle", "volume_ml")
        place = self._place(command)
        place.dispenser.jump(_whole(command, "nozzle", 1), _whole(command, "volume_ml"))
        return self._done(place)

    async def _command_sell_alone(self, command: Command) -> Command:
        _only(command, "side", "nozzle", "volume_ml")
        place = self._place(command)
        place.dispenser.sell_alone(_whole(command, "nozzle", 1), _whole(command, "volume_ml"))
        return self._done(place)

    async def _command_power(self, command: Command) -> Command:
        _only(command, "side", "on", "prices_lost")
        on, lost = command.get("on"), command.get("prices_lost", False)
        if not isinstance(on, bool) or not isinstance(lost, bool):
            raise TypeError("on and prices_lost are true or false")
        place = self._place(command)
        place.power(on=on, prices_lost=lost, now=self._emulator.now())
        return self._done(place)

    async def _command_wait(self, command: Command) -> Command:
        _only(command, "side", "state", "sales", "timeout_ms")
        place = self._place(command)
        dispenser, name = place.dispenser, command.get("state")
        if name is None:
            count = _whole(command, "sales")
            holds = lambda: len(dispenser.book) >= count  # noqa: E731 - one of two
        else:
            state = STATES[name]
            holds = lambda: dispenser.state is state  # noqa: E731 - one of two
        await self._emulator.until(holds, _whole(command, "timeout_ms", WAIT_MS_DEFAULT) / 1000)
        return _shown(place)

    async def _command_down(self, command: Command) -> Command:
        _only(command)
        await self._emulator.unlisten()
        return {"listening": False}

    async def _command_up(self, command: Command) -> Command:
        _only(command)
        await self._emulator.listen()
        return {"listening": True, "address": self._emulator.listens_at}

    def _place(self, command: Command) -> Place:
        side = SideId(_whole(command, "side"))
        if side not in self._emulator.pumps.places:
            raise LookupError(f"side {side} is not here")
        return self._emulator.pumps.places[side]

    def _done(self, place: Place) -> Command:
        self._emulator.look()
        return _shown(place)


def _shown(place: Place) -> Command:
    of = place.dispenser
    totals = [dict(zip(("volume_ml", "amount_minor"), of.totals(nozzle), strict=True)) for nozzle in of.nozzles]
    return {
        "side": of.side,
        "state": of.state.name.lower(),
        "powered": of.powered,
        "nozzle": of.nozzle,
        "out": of.out,
        "volume_ml": of.volume_ml,
        "amount_minor": of.amount_minor,
        "prices": [one.unit_price_milli for one in of.nozzles.values()],
        "totals": totals,
        "sales": len(of.book),
        "faults": place.faults,
    }


def _only(command: Command, *keys: str) -> None:
    unknown = set(command) - {"cmd", *keys}
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))}: {command['cmd']} takes {', '.join(keys) or 'nothing'}")


def _whole(command: Command, key: str, usual: int | None = None) -> int:
    value = command.get(key, usual)
    if type(value) is not int:
        raise ValueError(f"{key} {value!r} is no whole number")
    return value


async def serve(config: PumpConfig) -> None:
    """Run pumps until cancelled; say `ready ADDRESS control HOST:PORT` on stdout once both can be reached."""
    emulator = PumpEmulator(config)
    try:
        await emulator.start()
        say_ready(emulator.listens_at, emulator.control_address)
        await emulator.failure
    finally:
        await emulator.close()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part, 0) for part in text.split(","))


def _sides(text: str) -> tuple[SideId, ...]:
    return tuple(SideId(number) for number in _numbers(text))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(prog="pump", description="Emulated fuel pumps on one line.")
    parser.add_argument("--dialect", choices=sorted(DIALECTS), default=names.DART)
    parser.add_argument(
        "--sides", type=argument(_sides), default=(SideId(0x50),), metavar="N,N", help="such as 0x50,0x51; usual: 0x50"
    )
    parser.add_argument(
        "--listen",
        type=argument(parse_listen),
        default=("127.0.0.1", 0),
        metavar="ADDRESS",
        help="HOST:PORT, or pty:PATH",
    )
    parser.add_argument("--control", type=argument(parse_address), default=("127.0.0.1", 0), metavar="HOST:PORT")
    parser.add_argument(
        "--prices", type=argument(_numbers), default=(7850,), metavar="N,N", help="of nozzle 1, 2, ..., thousandths"
    )
    parser.add_argument("--flow-ml-s", type=int, default=700, help="millilitres a second")
    parser.add_argument("--answer-ms", type=int, default=5, help="time from a message to its answer")
    parser.add_argument("--baud", type=int, help="speed of the line with pty:PATH; usual: the dialect's")
    parser.add_argument("--seed", type=int, default=1, help="of noise")
    parser.add_argument("--capture", type=Path, metavar="PATH", help="append raw bytes as JSON lines")
    given = vars(parser.parse_args(argv))
    try:
        config = PumpConfig(**given)
    except ValueError as error:
        parser.error(str(error))
    return run("pump", serve(config))


if __name__ == "__main__":
    sys.exit(main())
