"""Byte links in memory with faults on purpose, each kind of harm counted by its name.

A *wire* is one connection with two ends. The gateway's end keeps the contract of `drivers.link`; the emulator's end is
a `hardware.emulators.line.Line`. What one side hands over in one call is a *message*: it arrives whole a little later,
unless chance has drawn one of `MESSAGE_FAULTS` for it.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from drivers.errors import DeviceUnavailable, LinkLost, RequestOutcome
from hardware.bench.simulation.loop import Crew
from hardware.bench.simulation.trace import Trace

LATENCY_S = (0.0005, 0.004)
"""Delay of one message on a good line."""
DUPLICATE_AFTER_S = (0.001, 0.3)
REORDER_S = (0.02, 0.5)
REFUSE_TIMEOUT_S = 3.0
"""Time after which a connection that nobody answers is given up, as by `drivers.link`."""
APART_S = 2e-6
"""Time between two messages that arrive one right after the other; more than the loop's clock can tell."""
SPARED = 0.03

MESSAGE_FAULTS = ("drop", "delay", "duplicate", "reorder", "cut", "half_frame", "corrupt")
CONNECT_FAULTS = ("connect_refused", "connect_timeout")


@dataclass(slots=True)
class Harm:
    """Chances of faults on one line: of one message, or of one connecting."""

    chances: Mapping[str, float] = field(default_factory=dict)
    delay_s: tuple[float, float] = (0.1, 3.0)
    corrupt: Callable[[bytes, random.Random], bytes] = lambda data, _: data
    """Function that makes of a message one that the receiver can tell is damaged."""
    spares: Callable[[bytes], bool] = lambda _: False
    """True for messages that are harmed `SPARED` times as often: else hardly a connection would come up."""
    orders_in_order: bool = False
    """True when the gateway's orders arrive in order, as on a byte stream. An antenna takes an order that comes after a
    later one for the answer to its newest report: no line does that, and no gateway could know of it."""

    def draw(self, chance: random.Random, faults: tuple[str, ...]) -> str | None:
        """Draw at most one fault."""
        roll = chance.random()
        for name in faults:
            share = self.chances.get(name, 0.0)
            if roll < share:
                return name
            roll -= share
        return None


class Network:
    """Network: listeners, chance, harm and trace that all lines share."""

    def __init__(self, loop: asyncio.AbstractEventLoop, chance: random.Random, trace: Trace) -> None:
        self.loop = loop
        self.chance = chance
        self.trace = trace
        self.counts: Counter[str] = Counter()
        self.calm = False
        """True while no harm is done."""
        self._listeners: dict[str, tuple[Callable[[LineEnd], None], Crew]] = {}
        self._harm: dict[str, Harm] = {}
        self._wires: dict[str, list[Wire]] = {}

    def listen(self, address: str, attach: Callable[[LineEnd], None], owner: Crew, harm: Harm) -> None:
        """`attach` is called, as `owner`, with the far end of every connection to `address`."""
        self._listeners[address] = (attach, owner)
        self._harm[address] = harm

    def ignore(self, address: str) -> None:
        """End listening at `address`; connections are cut."""
        self._listeners.pop(address, None)
        self.cut(address)

    def cut(self, address: str) -> None:
        """Break every connection to `address`."""
        for wire in self._wires.pop(address, []):
            wire.cut("cut from outside")

    async def connect(self, address: str, device: str) -> LinkEnd:
        """Connect; returns the near end of a new connection. Raises DeviceUnavailable."""
        harm = self._harm[address]
        fault = None if self.calm else harm.draw(self.chance, CONNECT_FAULTS)
        if fault is not None:
            self.note(address, fault)
        await asyncio.sleep(REFUSE_TIMEOUT_S if fault == "connect_timeout" else self.chance.uniform(*LATENCY_S))
        listener = self._listeners.get(address)
        if listener is None or fault is not None:
            raise DeviceUnavailable(f"cannot connect to {address}", device=device)
        wire = Wire(self, address, device, harm)
        living = [other for other in self._wires.get(address, ()) if other.whole]
        self._wires[address] = [*living, wire]
        attach, owner = listener
        self.loop.call_soon(attach, wire.far, context=owner.context.copy())
        return wire.near

    def note(self, address: str, fault: str) -> None:
        """Count a fault and write it down."""
        self.counts[f"{address.partition('/')[0]}.{fault}"] += 1
        self.trace.add(address, fault)


class Wire:
    """Wire of one connection."""

    def __init__(self, network: Network, address: str, device: str, harm: Harm) -> None:
        self.network = network
        self.address = address
        self.device = device
        self.harm = harm
        self.whole = True
        """True until it is cut, or one side has closed it."""
        self.broken = False
        self._to_far, self._to_near = _Pipe(network.loop), _Pipe(network.loop)
        self.near = LinkEnd(self, self._to_near, self._to_far)
        self.far = LineEnd(self, self._to_far, self._to_near)

    def send(self, pipe: _Pipe, data: bytes) -> None:
        """Put a message on its way, or do something else with it."""
        network, chance = self.network, self.network.chance
        fault = None if network.calm else self.harm.draw(chance, MESSAGE_FAULTS)
        if fault is not None and self.harm.spares(data) and chance.random() >= SPARED:
            fault = None
        if fault == "reorder" and self.harm.orders_in_order and pipe is self._to_far:
            fault = None
        due = network.loop.time() + chance.uniform(*LATENCY_S)
        if fault is not None:
            network.note(self.address, fault)
        if fault == "drop":
            return
        if fault == "reorder" and pipe.behind(due) == due:
            # Behind whatever is sent meanwhile, and never before what was sent earlier.
            self._arrive(pipe, data, due + chance.uniform(*REORDER_S))
            return
        if fault == "delay":
            due += chance.uniform(*self.harm.delay_s)
        elif fault == "corrupt":
            data = self.harm.corrupt(data, chance)
        elif fault == "half_frame":
            data = data[: chance.randrange(1, len(data))] if len(data) > 1 else b""
        due = pipe.behind(due)
        if fault == "half_frame":
            network.loop.call_at(due, self._end_with, pipe, data)
            return
        self._arrive(pipe, data, due)
        if fault == "duplicate":
            self._arrive(pipe, data, pipe.behind(due + chance.uniform(*DUPLICATE_AFTER_S)))
        elif fault == "cut":
            # Before or after the message has arrived.
            network.loop.call_at(due + chance.choice((-0.0004, 0.0004)), self.cut, "the line broke")

    def _end_with(self, pipe: _Pipe, data: bytes) -> None:
        pipe.deliver(data)
        self.cut("half a message came")

    def _arrive(self, pipe: _Pipe, data: bytes, due: float) -> None:
        self.network.loop.call_at(due, pipe.deliver, data)

    def close(self, pipe: _Pipe) -> None:
        """Hang up by the side that writes into `pipe`: the other one reads to the end first."""
        self.whole = False
        due = pipe.behind(self.network.loop.time() + LATENCY_S[0])
        self.network.loop.call_at(due, pipe.end)

    def cut(self, why: str) -> None:
        """Break the wire; what has not arrived is lost."""
        if self.broken:
            return
        self.broken = True
        self.whole = False
        self.network.trace.add(self.address, why)
        for pipe in (self._to_far, self._to_near):
            pipe.lost = True
            pipe.end()

    def abandon(self) -> None:
        """Leave the wire when the gateway has died: what it wrote still arrives, and nobody reads what comes back."""
        if not self.broken:
            self._to_near.lost = True
            self._to_near.end()
            self.close(self._to_far)


class _Pipe:
    """Pipe of one direction."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buffer = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._last_due = 0.0
        self.ended = False
        self.lost = False
        """True when broken, not closed: nothing arrives any more."""

    def behind(self, due: float) -> float:
        """Moment after what was sent earlier arrives: timers of one moment have no order among them."""
        self._last_due = max(self._last_due + APART_S, due)
        return self._last_due

    def deliver(self, data: bytes) -> None:
        if not self.lost and not self.ended:
            self._buffer += data
            self._wake()

    def end(self) -> None:
        self.ended = True
        self._wake()

    async def take(self, max_bytes: int) -> bytes:
        """Take at least one byte; b"" at the end."""
        while not self._buffer and not self.ended:
            self._waiter = self._loop.create_future()
            await self._waiter
        data = bytes(self._buffer[:max_bytes])
        del self._buffer[:max_bytes]
        return data

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class LinkEnd:
    """Gateway's end of a wire: a `drivers.link.Link`."""

    def __init__(self, wire: Wire, incoming: _Pipe, outgoing: _Pipe) -> None:
        self.wire = wire
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False

    async def read(self, max_bytes: int) -> bytes:
        """Read up to `max_bytes`; b"" when the peer closed. Raises LinkLost."""
        data = await self._incoming.take(max_bytes)
        if not data and self.wire.broken and not self._closed:
            raise LinkLost("connection broke while reading", device=self.wire.device)
        return data

    async def write(self, data: bytes) -> None:
        """Hand over all of `data`. Raises LinkLost."""
        if self._closed or self.wire.broken:
            raise LinkLost("connection is closed", device=self.wire.device, outcome=RequestOutcome.NOT_SENT)
        self.wire.send(self._outgoing, data)

    async def close(self) -> None:
        """Hang up. May be called twice."""
        if not self._closed:
            self._closed = True
            self._incoming.end()
            self.wire.close(self._outgoing)


class LineEnd:
    """Emulator's end of a wire: a `hardware.emulators.line.Line`."""

    def __init__(self, wire: Wire, incoming: _Pipe, outgoing: _Pipe) -> None:
        self.peer = wire.address
        self.overrun = 0
        self.unsent = 0
        self._wire = wire
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False

    def send(self, data: bytes) -> None:
        """Put bytes on the line; nothing happens on a closed one."""
        if data and not self._closed and not self._wire.broken:
            self._wire.send(self._outgoing, data)

    async def drain(self) -> None:
        """Do nothing: nothing piles up here."""

    async def read(self, max_bytes: int) -> bytes:
        """Read at least one byte; b"" at the end. Raises ConnectionResetError on a broken line."""
        data = await self._incoming.take(max_bytes)
        if not data and self._wire.broken and not self._closed:
            raise ConnectionResetError(f"{self.peer}: the line broke")
        return data

    def close(self) -> None:
        """Hang up. May be called twice."""
        if not self._closed:
            self._closed = True
            self._incoming.end()
            self._wire.close(self._outgoing)


def damage_bank(data: bytes, _: random.Random) -> bytes:
    """Damage a message: its type is no number any more. Any other byte could make a sound message of another meaning,
    which on a real link the MAC would tell."""
    at = BANK_TYPE_AT
    return data[:at] + b"\xff" + data[at + 1 :] if len(data) > at else data


def is_network_message(data: bytes) -> bool:
    """True for sign-in, echo or keep-alive of a bank link, or its answer."""
    return len(data) <= BANK_TYPE_AT or data[BANK_TYPE_AT] == NETWORK_MESSAGES


NETWORK_MESSAGES = 0x08
BANK_TYPE_AT = 2 + 5 + 6
"""Offset at which the message type begins: after length, TPDU and header."""


def damage_frame(data: bytes, chance: random.Random) -> bytes:
    """Turn one bit: check bytes tell."""
    at, bit = chance.randrange(len(data)), 1 << chance.randrange(8)
    return data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
