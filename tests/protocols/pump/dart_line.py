"""A DART bus in virtual time: one master, pumps that are as mean as the protocol allows, and a line that spoils bytes.

Every round is repeated byte for byte by its seed.
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field

from protocols.bad_frame import BadFrame
from protocols.pump import bus, types
from protocols.pump.dart import layout, master
from protocols.pump.dart.master import Master
from protocols.pump.dart.meanings import OrderCode, Status
from protocols.pump.dart.side import Ordered, OrderedAgain, SideEnd
from protocols.pump.types import Decimals, SideId

BYTE_S = 11 / 9600


@dataclass
class Authorised:
    """What a pump had when it let a delivery begin."""

    side: SideId
    limit: object
    nozzles: tuple[int, ...]
    at: float


@dataclass
class Pump:
    """The pump behind a side. It forgets nothing of its own accord, and authorises without a limit if it is told to."""

    side: SideId
    rng: random.Random
    quirk: bool = False
    end: SideEnd = field(init=False)
    status: Status = Status.RESET
    limit: object = None
    nozzles: tuple[int, ...] = ()
    taken: list[layout.Transaction] = field(default_factory=list)
    again: int = 0
    authorised: list[Authorised] = field(default_factory=list)
    off_until: float = 0.0
    volume: int = 0

    def __post_init__(self) -> None:
        self.power_up()

    def power_up(self) -> None:
        self.end = SideEnd(self.side, quirk=self.quirk)
        self.status, self.limit, self.nozzles = Status.RESET, None, ()
        self.end.say(layout.PumpStatus(self.status))

    def hear(self, data: bytes, now: float) -> bytes:
        if now < self.off_until:
            return b""
        if self.off_until:
            self.off_until = 0.0
            self.power_up()
        output = self.end.receive(data)
        for event in output.events:
            self.again += isinstance(event, OrderedAgain)
            if isinstance(event, Ordered):
                for one in event.transactions:
                    self.take(one, now)
        return output.to_write

    def take(self, one: layout.Transaction, now: float) -> None:
        self.taken.append(one)
        match one:
            case layout.AllowNozzles(nozzles):
                self.nozzles = nozzles
            case layout.PresetVolume() | layout.PresetAmount():
                self.limit = one
            case layout.Order(OrderCode.AUTHORIZE) if self.status is Status.RESET:
                self.authorised.append(Authorised(self.side, self.limit, self.nozzles, now))
                self.become(Status.AUTHORIZED)
            case layout.Order(OrderCode.RESET) if self.status is not Status.FILLING:
                self.become(Status.RESET)
            case layout.Order(OrderCode.STOP):
                self.become(Status.FILLING_COMPLETED)
            case layout.Order(OrderCode.RETURN_STATUS):
                self.end.say(layout.PumpStatus(self.status), layout.NozzlePrice(785, 0x11))
            case layout.Order(OrderCode.RETURN_FILLING_INFORMATION):
                self.end.say(layout.Filled(self.volume, self.volume * 785 // 100))
            case layout.AskTotal(counter):
                self.end.say(layout.MeteredTotal(counter, self.volume, self.volume, 0))

    def become(self, status: Status) -> None:
        self.status = status
        self.end.say(layout.PumpStatus(status))

    def live(self) -> None:
        """Go on by itself: flow, or its end."""
        if self.end.silent and self.status in (Status.AUTHORIZED, Status.FILLING):
            self.volume += self.rng.randrange(1, 300)
            ends = self.rng.random() < 0.3
            self.status = Status.FILLING_COMPLETED if ends else Status.FILLING
            self.end.say(layout.Filled(self.volume, self.volume * 785 // 100), layout.PumpStatus(self.status))


@dataclass(frozen=True)
class Faults:
    """Chances. `lost`, `wrong`, `stray` are of a byte, the others of an answer."""

    lost: float = 0.0
    wrong: float = 0.0
    stray: float = 0.0
    late: float = 0.0
    mute: float = 0.0
    crowd: float = 0.0
    """Another side talks into it."""
    echo: bool = False
    """The adapter hears what it says."""


class Line:
    """The bus."""

    def __init__(self, rng: random.Random, sides: int, faults: Faults, timing: master.Timing | None = None) -> None:
        self.rng, self.faults = rng, faults
        self.now = 0.0
        self.pumps = {
            SideId(0x50 + at): Pump(SideId(0x50 + at), rng, quirk=rng.random() < 0.2 and faults != Faults())
            for at in range(sides)
        }
        self.master = Master(dict.fromkeys(self.pumps, Decimals()), timing, now=self.now)
        self.events: list[tuple[float, bus.Event]] = []
        self.arrivals: list[tuple[float, int, bytes]] = []
        self.order = itertools.count()
        self.frames = 0
        self.done: dict[int, types.Outcome] = {}

    def run(self, until: float) -> None:
        """Play to this time."""
        while self.now < until:
            due = self.master.next_tick(self.now)
            assert due >= self.now
            arrival = self.arrivals[0][0] if self.arrivals else due + 1
            at = min(due, arrival, until)
            assert at > self.now or self.settles(), "time stands still"
            self.now = at
            if self.arrivals and self.arrivals[0][0] <= self.now:
                _, _, data = heapq.heappop(self.arrivals)
                self.give(self.master.receive(data, self.now))
            self.give(self.master.tick(self.now))

    def settles(self) -> bool:
        """True as long as not too many calls come at one instant."""
        self.calls = self.calls + 1 if getattr(self, "call_at", None) == self.now else 0
        self.call_at = self.now
        return self.calls < 200

    def give(self, output: bus.Output) -> None:
        for event in output.events:
            self.events.append((self.now, event))
            if isinstance(event, bus.Done):
                self.done[event.ticket] = event.outcome
        if not output.to_write:
            return
        self.frames += 1
        at = self.now + len(output.to_write) * BYTE_S
        if self.faults.echo:
            self.arrive(output.to_write, at + self.rng.uniform(0, 0.02))
        heard = self.spoil(output.to_write)
        answers = []
        for pump in self.pumps.values():
            if self.rng.random() < 0.2:
                pump.live()
            answer = pump.hear(heard, at)
            if answer:
                answers.append(answer)
        for answer in answers:
            self.answer(answer, at)

    def answer(self, answer: bytes, at: float) -> None:
        if self.rng.random() < self.faults.mute:
            return
        if self.rng.random() < self.faults.crowd:
            other = self.rng.choice(list(self.pumps))
            answer = bytes(a | b for a, b in zip(answer, bytes((other, 0x70, 0xFA)), strict=False)) + answer[3:]
        begins = at + self.rng.uniform(0.001, 0.02)
        if self.rng.random() < self.faults.late:
            begins += self.rng.uniform(0.05, 0.3)
        answer = self.spoil(answer)
        while answer:
            size = self.rng.randrange(1, len(answer) + 1)
            begins += size * BYTE_S
            self.arrive(answer[:size], begins)
            answer = answer[size:]

    def arrive(self, data: bytes, at: float) -> None:
        heapq.heappush(self.arrivals, (at, next(self.order), data))

    def spoil(self, data: bytes) -> bytes:
        """Bytes as the line hands them over. One wrong bit is seen by parity and loses the byte; two are not."""
        out = bytearray()
        for byte in data:
            if self.rng.random() < self.faults.stray:
                out.append(self.rng.randrange(256))
            if self.rng.random() < self.faults.lost:
                continue
            if self.rng.random() < self.faults.wrong:
                one, two = self.rng.sample(range(8), 2)
                wrong = byte ^ 1 << one ^ 1 << two
                # No check covers a NAK that becomes an ACK: the one thing no master can see.
                out.append(byte if byte >> 4 == 0x5 and wrong >> 4 == 0xC else wrong)
                continue
            out.append(byte)
        return bytes(out)

    def of(self, kind: type) -> list[bus.Event]:
        return [event for _, event in self.events if isinstance(event, kind)]

    @property
    def noise(self) -> list[BadFrame]:
        return [event for _, event in self.events if isinstance(event, BadFrame)]
