"""Both ends of a DART bus against each other: quiet first, then on a line that spoils what it carries."""

from __future__ import annotations

import os
import random

import pytest

from protocols.errors import LocalProtocolError
from protocols.pump import bus, types
from protocols.pump.dart import framing, layout
from protocols.pump.dart.framing import Control
from protocols.pump.dart.master import Master, Timing
from protocols.pump.dart.meanings import OrderCode, Status
from protocols.pump.dart.side import BLOCKS_MAX, Ordered, Refused, SideEnd
from protocols.pump.lanfeng import LANFENG
from protocols.pump.two_wire import TWO_WIRE
from protocols.pump.types import Decimals, Outcome, SideId, SideState
from tests.protocols.pump.dart_line import Faults, Line
from tests.protocols.pump.samples import dart_frame

SEEDS = int(os.environ.get("PUMP_SEEDS", "60"))
"""Seeded rounds of the property; 10000 for a night."""
ADDRESS = SideId(0x50)
POLL = b"\x50\x20\xfa"
EOT = b"\x50\x70\xfa"
SYNC = dart_frame(0x50, 0, b"\x01\x01\x00")


# --- one side, byte for byte ------------------------------------------------------------------------------------------


class Desk:
    """A master whose other end is the test."""

    def __init__(self, timing: Timing | None = None, sides: int = 1) -> None:
        self.now = 0.0
        self.master = Master({SideId(0x50 + at): Decimals() for at in range(sides)}, timing, now=0.0)
        self.events: list[bus.Event] = []

    def next(self) -> bytes:
        """The next frame it sends, however long that takes."""
        for _ in range(50):
            self.now = max(self.now, self.master.next_tick(self.now))
            output = self.master.tick(self.now)
            self.events += output.events
            if output.to_write:
                return output.to_write
        raise AssertionError("nothing is sent")

    def hears(self, data: bytes) -> bytes:
        self.now += 0.01
        output = self.master.receive(data, self.now)
        self.events += output.events
        return output.to_write

    def expect(self, sent: bytes, answer: bytes | None = None) -> None:
        """The next frame, and its answer."""
        assert self.next() == sent
        if answer is not None:
            self.hears(answer)

    def of(self, kind: type) -> list[bus.Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def outcome(self, ticket: int) -> Outcome | None:
        return next((event.outcome for event in self.of(bus.Done) if event.ticket == ticket), None)


@pytest.fixture
def desk() -> Desk:
    """A master that has found its side and started its numbers."""
    found = Desk()
    found.expect(POLL, EOT)
    found.expect(SYNC, b"\x50\xc0\xfa")
    found.expect(POLL, EOT)
    assert found.of(bus.Online) == [bus.Online(ADDRESS, pytest.approx(0.01))]
    return found


def block(number: int, *transactions: layout.Transaction) -> bytes:
    return dart_frame(0x50, number, layout.write(*transactions))


def answer_all(desk: Desk, ticket: int, frame: bytes | None = None) -> list[bytes]:
    """Frames until the command has ended, each answered as it should be, and `frame` before them."""
    frames = []
    if frame is None:
        frame = desk.next()
        frames.append(frame)
    while True:
        read = framing.unwrap(frame)
        desk.hears(EOT if read.control is Control.POLL else bytes((0x50, 0xC0 | read.number, 0xFA)))
        if desk.outcome(ticket) is not None:
            return frames
        frame = desk.next()
        frames.append(frame)


def test_authorisation_goes_last_and_each_step_waits_for_ack_and_poll(desk: Desk) -> None:
    ticket = desk.master.ask(ADDRESS, types.Authorise(types.AmountLimit(200_00)), desk.now)
    desk.expect(block(1, layout.AllowNozzles((1,))), b"\x50\xc1\xfa")
    desk.expect(POLL, EOT)
    desk.expect(block(2, layout.PresetAmount(20000)), b"\x50\xc2\xfa")
    desk.expect(POLL, EOT)
    assert desk.outcome(ticket) is None
    desk.expect(block(3, layout.Order(OrderCode.AUTHORIZE)), b"\x50\xc3\xfa")
    assert desk.outcome(ticket) is Outcome.ACCEPTED


def test_lost_answer_repeats_the_block_with_its_number_and_then_gives_up(desk: Desk) -> None:
    ticket = desk.master.ask(ADDRESS, types.Clear(), desk.now)
    reset = block(1, layout.Order(OrderCode.RESET))
    sent = []
    while desk.outcome(ticket) is None:
        frame = desk.next()
        sent.append(frame)
        if frame == POLL:
            desk.hears(EOT)
    assert sent.count(reset) == 3
    assert set(sent) <= {reset, POLL, SYNC}
    assert desk.outcome(ticket) is Outcome.UNKNOWN
    assert SYNC in (desk.next(), desk.next())


def test_step_before_the_acting_one_without_an_answer_was_never_sent_as_an_authorisation(desk: Desk) -> None:
    ticket = desk.master.ask(ADDRESS, types.Authorise(types.VolumeLimit(10_000)), desk.now)
    while desk.outcome(ticket) is None:
        frame = desk.next()
        desk.hears(EOT if frame == POLL else b"\x50\xc1\xfa" if frame[1] == 0x31 else b"")
        assert frame != block(3, layout.Order(OrderCode.AUTHORIZE))
    assert desk.outcome(ticket) is Outcome.NOT_SENT


def test_nak_starts_the_numbers_anew_with_a_question_and_never_with_a_command(desk: Desk) -> None:
    ticket = desk.master.ask(ADDRESS, types.Clear(), desk.now)
    desk.expect(block(1, layout.Order(OrderCode.RESET)), b"\x50\x51\xfa")
    frames = answer_all(desk, ticket)
    assert [frame for frame in frames if frame != POLL] == [SYNC, block(1, layout.Order(OrderCode.RESET))]
    assert desk.outcome(ticket) is Outcome.ACCEPTED


def test_refused_again_and_again_is_refused(desk: Desk) -> None:
    ticket = desk.master.ask(ADDRESS, types.Clear(), desk.now)
    while desk.outcome(ticket) is None:
        frame = desk.next()
        desk.hears(EOT if frame == POLL else b"\x50\xc0\xfa" if frame == SYNC else b"\x50\x51\xfa")
    assert desk.outcome(ticket) is Outcome.REFUSED


def test_acting_step_refused_after_a_lost_answer_is_not_sent_under_another_number(desk: Desk) -> None:
    ticket = desk.master.ask(ADDRESS, types.Clear(), desk.now)
    reset = block(1, layout.Order(OrderCode.RESET))
    desk.expect(reset)
    frame = desk.next()
    while frame == POLL:
        desk.hears(EOT)
        frame = desk.next()
    assert frame == reset
    desk.hears(b"\x50\x51\xfa")
    assert desk.outcome(ticket) is Outcome.UNKNOWN


def test_ack_of_another_number_side_or_time_is_stray(desk: Desk) -> None:
    ticket = desk.master.ask(ADDRESS, types.Clear(), desk.now)
    desk.expect(block(1, layout.Order(OrderCode.RESET)))
    for wrong in (b"\x50\xc2\xfa", b"\x51\xc1\xfa", block(1, layout.Order(OrderCode.RESET)), POLL, EOT):
        desk.hears(wrong)
    assert desk.outcome(ticket) is None
    assert len(desk.of(bus.Stray)) == 5
    desk.hears(b"\x50\xc1\xfa")
    assert desk.outcome(ticket) is Outcome.ACCEPTED
    desk.hears(b"\x50\xc1\xfa")
    assert len(desk.of(bus.Stray)) == 6


def test_block_of_the_side_is_acknowledged_once_read_and_its_repetition_only_acknowledged(desk: Desk) -> None:
    sale = dart_frame(0x50, 4, bytes.fromhex("030400078501020800002547000199940101" + "05"))
    desk.expect(POLL)
    assert desk.hears(sale) == b"\x50\xc4\xfa"
    desk.expect(POLL)
    assert desk.hears(sale) == b"\x50\xc4\xfa"
    (told,) = desk.of(bus.Told)
    assert isinstance(told, bus.Told)
    assert told.readings == (
        types.NozzleSeen(1, out=False, unit_price_milli=7850),
        types.Delivered(25_470, 199_94),
        types.StateSeen(SideState.COMPLETED),
    )
    assert desk.of(bus.Repeated) == [bus.Repeated(ADDRESS, sale)]


def test_both_ways_of_counting_are_understood(desk: Desk) -> None:
    for numbers in ((14, 15, 1), (14, 15, 0)):
        for number in numbers:
            desk.expect(POLL)
            desk.hears(dart_frame(0x50, number, b"\x01\x01\x05"))
    assert len(desk.of(bus.Told)) == 6
    assert not desk.of(bus.Restarted)


def test_side_that_starts_anew_is_told_and_a_command_half_said_ends(desk: Desk) -> None:
    desk.expect(POLL, dart_frame(0x50, 7, b"\x01\x01\x01"))
    desk.expect(POLL, EOT)
    ticket = desk.master.ask(ADDRESS, types.Authorise(types.AmountLimit(200_00)), desk.now)
    desk.expect(block(1, layout.AllowNozzles((1,))), b"\x50\xc1\xfa")
    desk.expect(POLL, EOT)
    desk.expect(block(2, layout.PresetAmount(20000)), b"\x50\xc2\xfa")
    desk.expect(POLL, dart_frame(0x50, 0, b"\x01\x01\x01"))
    assert desk.outcome(ticket) is Outcome.NOT_SENT
    assert desk.of(bus.Restarted) == [bus.Restarted(ADDRESS)]
    assert SYNC in (desk.next(), desk.next())


def test_side_that_starts_anew_with_the_very_block_it_began_with_ends_a_command_half_said(desk: Desk) -> None:
    first = dart_frame(0x50, 0, b"\x01\x01\x01")
    desk.expect(POLL, first)
    desk.expect(POLL, EOT)
    ticket = desk.master.ask(ADDRESS, types.Authorise(types.AmountLimit(200_00)), desk.now)
    desk.expect(block(1, layout.AllowNozzles((1,))), b"\x50\xc1\xfa")
    desk.expect(POLL, first)
    assert desk.of(bus.Repeated) == [bus.Repeated(ADDRESS, first)]
    assert desk.outcome(ticket) is Outcome.NOT_SENT
    assert SYNC in (desk.next(), desk.next())


def test_bad_check_is_refused_by_its_number_and_the_repetition_taken(desk: Desk) -> None:
    good = dart_frame(0x50, 4, b"\x01\x01\x05")
    desk.expect(POLL)
    assert desk.hears(good[:4] + b"\x04" + good[5:]) == b"\x50\x54\xfa"
    assert desk.hears(good) == b"\x50\xc4\xfa"
    assert len(desk.of(bus.Told)) == 1


def test_side_that_only_ever_sends_bad_checks_is_refused_so_often_and_no_more(desk: Desk) -> None:
    good = dart_frame(0x50, 4, b"\x01\x01\x05")
    desk.expect(POLL)
    answers = [desk.hears(good[:4] + b"\x04" + good[5:]) for _ in range(5)]
    assert answers == [b"\x50\x54\xfa"] * 3 + [b""] * 2


def test_unreadable_block_is_told_and_acknowledged(desk: Desk) -> None:
    desk.expect(POLL)
    assert desk.hears(dart_frame(0x50, 4, b"\x02\x07" + bytes(7))) == b"\x50\xc4\xfa"
    (event,) = desk.of(bus.Unreadable)
    assert isinstance(event, bus.Unreadable)
    assert (event.error.field, event.error.offset) == ("LNG", 1)


def test_echo_of_an_ack_is_not_taken_for_the_sides(desk: Desk) -> None:
    """The pump's block has the number that ours will have; the adapter hears our ACK with delay."""
    desk.expect(POLL)
    desk.hears(dart_frame(0x50, 1, b"\x01\x01\x05"))
    acked = desk.now
    desk.expect(POLL, EOT)
    ticket = desk.master.ask(ADDRESS, types.Clear(), desk.now)
    frame = desk.next()
    while frame == POLL:
        desk.hears(EOT)
        frame = desk.next()
    assert frame == block(1, layout.Order(OrderCode.RESET))
    assert desk.now - acked > 0.1
    assert desk.outcome(ticket) is None


def test_echo_of_a_block_is_not_read_as_the_sides(desk: Desk) -> None:
    """The same bytes mean *reset* from us and *filling completed* from a pump."""
    ticket = desk.master.ask(ADDRESS, types.Clear(), desk.now)
    reset = block(1, layout.Order(OrderCode.RESET))
    desk.expect(reset, b"\x50\xc1\xfa")
    assert desk.outcome(ticket) is Outcome.ACCEPTED
    desk.expect(POLL)
    assert desk.hears(reset) == b""
    assert desk.of(bus.Told) == []
    assert [event.reason for event in desk.of(bus.Stray)] == ["as we said it just now: an echo"]


def test_next_step_waits_until_a_poll_is_answered(desk: Desk) -> None:
    desk.master.ask(ADDRESS, types.Authorise(types.AmountLimit(200_00)), desk.now)
    desk.expect(block(1, layout.AllowNozzles((1,))), b"\x50\xc1\xfa")
    desk.expect(POLL)
    desk.expect(POLL)
    desk.expect(POLL, EOT)
    desk.expect(block(2, layout.PresetAmount(20000)))


def test_our_numbers_go_from_f_to_1(desk: Desk) -> None:
    numbers = []
    for _ in range(17):
        ticket = desk.master.ask(ADDRESS, types.AskState(), desk.now)
        numbers += [framing.unwrap(frame).number for frame in answer_all(desk, ticket) if frame != POLL]
    assert numbers == [*range(1, 16), 1, 2]


def test_silent_side_goes_offline_is_polled_less_and_its_commands_are_not_kept_for_later() -> None:
    desk = Desk()
    ticket = desk.master.ask(ADDRESS, types.Authorise(types.AmountLimit(200_00)), 0.0)
    times = []
    while desk.outcome(ticket) is None:
        assert desk.next() == POLL
        times.append(desk.now)
        desk.now = desk.master.next_tick(desk.now)
        desk.events += desk.master.tick(desk.now).events
    assert desk.of(bus.Offline) == [bus.Offline(ADDRESS, None)]
    assert times[-1] - times[-2] >= 0.5
    assert desk.outcome(ticket) is Outcome.NOT_SENT
    assert desk.now == pytest.approx(3.0, abs=1.2)


def test_stop_ends_what_waits_and_goes_first(desk: Desk) -> None:
    waiting = desk.master.ask(ADDRESS, types.Authorise(types.AmountLimit(200_00)), desk.now)
    desk.expect(block(1, layout.AllowNozzles((1,))))
    stop = desk.master.ask(ADDRESS, types.Stop(), desk.now)
    desk.hears(b"\x50\xc1\xfa")
    assert desk.outcome(waiting) is Outcome.NOT_SENT
    assert desk.outcome(stop) is None
    frames = answer_all(desk, stop)
    assert [frame for frame in frames if frame != POLL] == [SYNC, block(1, layout.Order(OrderCode.STOP))]
    assert desk.outcome(stop) is Outcome.ACCEPTED


def test_number_of_a_block_without_an_answer_is_not_used_for_the_next_one(desk: Desk) -> None:
    """The side may have taken the first: it would acknowledge the second unread."""
    first = desk.master.ask(ADDRESS, types.Authorise(types.AmountLimit(100_00)), desk.now)
    frame = desk.next()
    while desk.outcome(first) is None:
        desk.hears(EOT if frame == POLL else b"")
        frame = desk.next()
    second = desk.master.ask(ADDRESS, types.Authorise(types.AmountLimit(200_00), nozzles=(2,)), desk.now)
    frames = [frame, *answer_all(desk, second, frame)]
    assert [one for one in frames if one != POLL][:2] == [SYNC, block(1, layout.AllowNozzles((2,)))]


def test_stop_after_the_permission_was_sent_leaves_it_unknown(desk: Desk) -> None:
    waiting = desk.master.ask(ADDRESS, types.Clear(), desk.now)
    desk.expect(block(1, layout.Order(OrderCode.RESET)))
    desk.master.ask(ADDRESS, types.Stop(), desk.now)
    desk.hears(b"\x50\xc1\xfa")
    assert desk.outcome(waiting) is Outcome.UNKNOWN


def test_withdrawn_command_is_not_sent_on_and_says_what_is_known(desk: Desk) -> None:
    ticket = desk.master.ask(ADDRESS, types.Authorise(types.AmountLimit(200_00)), desk.now)
    desk.expect(block(1, layout.AllowNozzles((1,))), b"\x50\xc1\xfa")
    desk.master.withdraw(ticket)
    desk.master.withdraw(ticket)
    desk.expect(POLL, EOT)
    assert desk.outcome(ticket) is Outcome.NOT_SENT
    stop = desk.master.ask(ADDRESS, types.Stop(), desk.now)
    assert desk.next() == block(2, layout.Order(OrderCode.STOP))
    desk.master.withdraw(stop)
    desk.hears(b"\x50\xc2\xfa")
    assert desk.outcome(stop) is Outcome.UNKNOWN
    assert len(desk.of(bus.Done)) == 2


def test_lines_have_their_usual_format() -> None:
    lines = (Timing().line, TWO_WIRE.timing.line, LANFENG.timing.line)
    assert [(line.baud, line.parity.value) for line in lines] == [(9600, "O"), (5760, "E"), (9600, "N")]
    assert [round(line.seconds(bytes(96)) * line.baud / 96) for line in lines] == [11, 11, 10]


def test_what_cannot_be_asked(desk: Desk) -> None:
    with pytest.raises(LocalProtocolError, match="not on this bus"):
        desk.master.ask(SideId(0x51), types.Stop(), desk.now)
    with pytest.raises(LocalProtocolError, match="limit"):
        desk.master.ask(ADDRESS, types.Authorise(types.AmountLimit(0)), desk.now)
    for _ in range(bus.COMMANDS_MAX):
        desk.master.ask(ADDRESS, types.AskState(), desk.now)
    with pytest.raises(LocalProtocolError, match="already"):
        desk.master.ask(ADDRESS, types.AskState(), desk.now)
    desk.master.ask(ADDRESS, types.Stop(), desk.now)
    for odd in ({}, {SideId(0x70): Decimals()}):
        with pytest.raises(LocalProtocolError):
            Master(odd, now=0.0)


def test_slow_answer_is_waited_for_as_long_as_bytes_come(desk: Desk) -> None:
    sale = dart_frame(0x50, 4, layout.write(*[layout.Filled(1, 2)] * 12))
    desk.expect(POLL)
    begun = desk.now
    for byte in sale[:-1]:
        desk.hears(bytes((byte,)))
        assert desk.master.tick(desk.now).to_write == b"" or desk.now - begun > 0.5
    assert desk.now - begun > 0.1


# --- the pump's end -----------------------------------------------------------------------------------------------


def test_side_answers_as_the_rules_say() -> None:
    side = SideEnd(ADDRESS)
    assert side.receive(POLL).to_write == EOT
    assert side.receive(b"\x51\x20\xfa").to_write == b""
    side.say(layout.PumpStatus(1))
    first = dart_frame(0x50, 0, b"\x01\x01\x01")
    assert side.receive(POLL).to_write == first
    assert side.receive(b"\x50\x50\xfa").to_write == first
    assert side.receive(b"\x50\xc5\xfa" + POLL).to_write == first
    assert side.receive(b"\x50\xc0\xfa" + POLL).to_write == EOT
    seen = []
    for _ in range(16):
        side.say(layout.PumpStatus(5))
        frame = framing.unwrap(side.receive(POLL).to_write)
        seen.append(frame.number)
        side.receive(bytes((0x50, 0xC0 | frame.number, 0xFA)))
    assert seen == [*range(1, 16), 1]
    order = dart_frame(0x50, 3, b"\x01\x01\x06")
    assert side.receive(order + order).to_write == b"\x50\xc3\xfa" * 2
    assert [type(event).__name__ for event in side.receive(order).events] == ["OrderedAgain"]
    assert (
        side.receive(dart_frame(0x50, 0, b"\x01\x01\x06") * 2).events
        == side.receive(dart_frame(0x50, 0, b"\x01\x01\x06") * 2).events
    )
    assert side.receive(dart_frame(0x50, 4, b"\x01\x02\x06\x06")).to_write == b"\x50\x54\xfa"
    assert side.receive(order[:4] + b"\x05" + order[5:]).to_write == b"\x50\x53\xfa"
    side.say(layout.PumpStatus(5))
    assert side.receive(b"\x50\xe7\xfa").to_write == dart_frame(0x50, 2, b"\x01\x01\x05")
    for _ in range(BLOCKS_MAX):
        side.say(layout.PumpStatus(5))
    with pytest.raises(LocalProtocolError, match="already"):
        side.say(layout.PumpStatus(5))
    quirky = SideEnd(ADDRESS, quirk=True)
    assert quirky.receive(POLL).to_write == b"\xd0\x70\xfa"


# --- a whole bus ------------------------------------------------------------------------------------------------------


def test_side_refuses_what_its_pump_does_not_want_and_takes_it_later() -> None:
    wanted = False
    end = SideEnd(ADDRESS, accepts=lambda _: wanted)
    order = (layout.Order(OrderCode.RESET),)
    refused = end.receive(block(3, *order))
    assert (refused.events, refused.to_write) == ((Refused(3),), b"\x50\x53\xfa")
    wanted = True
    taken = end.receive(block(3, *order))
    assert (taken.events, taken.to_write) == ((Ordered(3, order),), b"\x50\xc3\xfa")


def test_quiet_bus_of_32_sides_serves_a_command_at_once_and_polls_everyone() -> None:
    line = Line(random.Random(1), 32, Faults())
    line.run(5.0)
    assert {event.side for event in line.of(bus.Online)} == set(line.pumps)
    begun = line.now
    tickets = [line.master.ask(side, types.Authorise(types.AmountLimit(100_00)), line.now) for side in (0x50, 0x6F)]
    line.run(begun + 1.0)
    assert [line.done.get(ticket) for ticket in tickets] == [Outcome.ACCEPTED] * 2
    told = {event.side for at, event in line.events if isinstance(event, bus.Told) and at > begun}
    assert told == {0x50, 0x6F}
    assert line.noise == []
    assert line.of(bus.Stray) == []
    polls = line.frames / line.now
    assert polls > 40, "a round of 32 sides takes too long"


def test_of_many_commands_at_once_the_oldest_are_served_in_time_and_a_stop_before_all() -> None:
    line = Line(random.Random(1), 32, Faults())
    line.run(6.0)
    begun = line.now
    tickets = [line.master.ask(side, types.Authorise(types.AmountLimit(100_00)), line.now) for side in line.pumps]
    stop = line.master.ask(SideId(0x6F), types.Stop(), line.now)
    while stop not in line.done:
        line.run(line.now + 0.01)
    assert line.now - begun < 0.3
    line.run(begun + 4.0)
    outcomes = [line.done[ticket] for ticket in tickets]
    served = outcomes.count(Outcome.ACCEPTED)
    assert served >= 10
    assert outcomes == [Outcome.ACCEPTED] * served + [Outcome.NOT_SENT] * (32 - served)


def test_dead_sides_do_not_slow_the_others() -> None:
    line = Line(random.Random(1), 32, Faults())
    for pump in line.pumps.values():
        pump.off_until = 0.0 if pump.side == 0x50 else 1_000.0
    line.run(10.0)
    told = [at for at, event in line.events if isinstance(event, bus.Told) and event.side == 0x50]
    assert told[0] < 0.1
    begun = line.now
    ticket = line.master.ask(SideId(0x50), types.Authorise(types.AmountLimit(100_00)), line.now)
    while ticket not in line.done:
        line.run(line.now + 0.01)
    assert line.done[ticket] is Outcome.ACCEPTED
    assert line.now - begun < 0.7
    line.pumps[SideId(0x6F)].off_until = line.now
    line.run(line.now + 0.5 * 34)
    assert bus.Online(SideId(0x6F), line.of(bus.Online)[-1].at) == line.of(bus.Online)[-1]


def ask_of(rng: random.Random, number: int) -> types.Command:
    """A command; each authorisation has a limit of its own."""
    kinds = (
        types.Authorise(types.AmountLimit(1_000 + number), nozzles=(1 + number % 3,)),
        types.Clear(),
        types.Stop(),
        types.AskDelivered(),
        types.AskTotals(1),
        types.SetPrices((7850,)),
        types.AskState(),
    )
    return rng.choices(kinds, weights=(6, 5, 1, 1, 1, 1, 1))[0]


def play(seed: int) -> Line:
    """One round: commands at random times on a line of its own badness, power cuts among them."""
    rng = random.Random(seed)
    harm = rng.choice((0.0, 0.002, 0.01, 0.03))
    faults = Faults(
        lost=harm * rng.random(),
        wrong=harm * rng.random(),
        stray=harm * rng.random(),
        late=5 * harm * rng.random(),
        mute=5 * harm * rng.random(),
        crowd=3 * harm * rng.random(),
        echo=rng.random() < 0.2,
    )
    line = Line(rng, rng.choice((1, 2, 2, 5)), faults)
    asked: dict[int, tuple[SideId, types.Command, float]] = {}
    for number in range(rng.randrange(5, 25)):
        side = rng.choice(list(line.pumps))
        if rng.random() < 0.1:
            line.pumps[side].off_until = line.now + rng.uniform(0.15, 2.0)
        try:
            command = ask_of(rng, number)
            asked[line.master.ask(side, command, line.now)] = (side, command, line.now)
        except LocalProtocolError as error:
            assert "already" in str(error)  # noqa: PT017 - too many wait
        line.run(line.now + rng.choice((0.01, 0.1, 0.5, 2.0)))
    line.run(line.now + 5.0)
    check(line, asked)
    return line


def check(line: Line, asked: dict[int, tuple[SideId, types.Command, float]]) -> None:
    """The promises of the master, read from what the pumps did."""
    assert line.done.keys() == asked.keys(), "a command has no end"
    by_limit = {
        command.limit.amount_minor: (ticket, side, command.nozzles, at)
        for ticket, (side, command, at) in asked.items()
        if isinstance(command, types.Authorise) and isinstance(command.limit, types.AmountLimit)
    }
    used = []
    for pump in line.pumps.values():
        for one in pump.authorised:
            assert isinstance(one.limit, layout.PresetAmount), "authorised without a limit"
            ticket, side, nozzles, at = by_limit[one.limit.preset_amount_raw]
            assert side == one.side, "another side was meant"
            assert nozzles == one.nozzles, f"other nozzles were meant: {one}"
            assert line.done[ticket] in (Outcome.ACCEPTED, Outcome.UNKNOWN), "authorised, and told that it is not"
            assert at <= one.at <= at + 3.5, "authorised long after it was asked"
            used.append(ticket)
        limits = [one.preset_amount_raw for one in pump.taken if isinstance(one, layout.PresetAmount)]
        for ticket, (side, command, _) in asked.items():
            if side == pump.side and isinstance(command, types.Authorise) and line.done[ticket] is Outcome.ACCEPTED:
                assert command.limit.amount_minor in limits, "accepted, and never heard"
    assert len(used) == len(set(used)), "authorised twice by one command"


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_side_is_ever_authorised_that_was_not_meant(seed: int) -> None:
    play(seed)


def test_the_rounds_reach_what_they_are_for() -> None:
    """Every outcome, repetition, loss and restart occurs in the rounds; else they prove nothing."""
    lines = [play(seed) for seed in range(40)]
    outcomes = {outcome for line in lines for outcome in line.done.values()}
    assert outcomes >= {Outcome.ACCEPTED, Outcome.NOT_SENT, Outcome.UNKNOWN}
    kinds = {type(event) for line in lines for _, event in line.events}
    assert kinds >= {bus.Told, bus.Repeated, bus.Offline, bus.Restarted, bus.Stray}
    assert sum(pump.again for line in lines for pump in line.pumps.values()) > 20
    assert sum(len(pump.authorised) for line in lines for pump in line.pumps.values()) > 40
    assert any(pump.status is Status.FILLING_COMPLETED for line in lines for pump in line.pumps.values())
