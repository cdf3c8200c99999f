"""Both ends of a DART bus against each other: quiet first, then on a line that spoils what it carries."""

from __future__ import annotations

import os
import random

import pytest

from protocols.errors import LocalProtocolError
from protocols.pump import types
from protocols.pump.dart import framing, layout, master
from protocols.pump.dart.framing import Control
from protocols.pump.dart.master import BITS_PER_BYTE, Master, Timing
from protocols.pump.dart.meanings import OrderCode, Status
from protocols.pump.dart.side import SideEnd
from protocols.pump.types import Decimals, Outcome, SideId, SideState
from tests.protocols.pump.dart_line import Faults, Line
from tests.protocols.pump.samples import dart_frame

ROUNDS = int(os.environ.get("PUMP_ROUNDS", "60"))
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
        self.events: list[master.Event] = []

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

    def of(self, kind: type) -> list[master.Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def outcome(self, ticket: int) -> Outcome | None:
        return next((event.outcome for event in self.of(master.Done) if event.ticket == ticket), None)


@pytest.fixture
def desk() -> Desk:
    """A master that has found its side and started its numbers."""
    found = Desk()
    found.expect(POLL, EOT)
    found.expect(SYNC, b"\x50\xc0\xfa")
    found.expect(POLL, EOT)
    assert found.of(master.Online) == [master.Online(ADDRESS, pytest.approx(0.01))]
    return found


def block(number: int, *transactions: layout.Transaction) -> bytes:
    return dart_frame(0x50, number, layout.write(*transactions))


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
    assert [frame for frame in sent if frame != POLL] == [reset] * 3 + sent[len(sent) :] or sent.count(reset) == 3
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
    frames = []
    while desk.outcome(ticket) is None:
        frame = desk.next()
        frames.append(frame)
        control = framing.unwrap(frame)
        desk.hears(EOT if control.control is Control.POLL else bytes((0x50, 0xC0 | control.number, 0xFA)))
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
    assert len(desk.of(master.Stray)) == 5
    desk.hears(b"\x50\xc1\xfa")
    assert desk.outcome(ticket) is Outcome.ACCEPTED
    desk.hears(b"\x50\xc1\xfa")
    assert len(desk.of(master.Stray)) == 6


def test_block_of_the_side_is_acknowledged_once_read_and_its_repetition_only_acknowledged(desk: Desk) -> None:
    sale = dart_frame(0x50, 4, bytes.fromhex("030400078501020800002547000199940101" + "05"))
    desk.expect(POLL)
    assert desk.hears(sale) == b"\x50\xc4\xfa"
    desk.expect(POLL)
    assert desk.hears(sale) == b"\x50\xc4\xfa"
    (told,) = desk.of(master.Told)
    assert isinstance(told, master.Told)
    assert told.readings == (
        types.NozzleSeen(1, out=False, unit_price_milli=7850),
        types.Delivered(25_470, 199_94),
        types.StateSeen(SideState.COMPLETED),
    )
    assert desk.of(master.Repeated) == [master.Repeated(ADDRESS, sale)]


def test_both_ways_of_counting_are_understood(desk: Desk) -> None:
    for numbers in ((14, 15, 1), (14, 15, 0)):
        for number in numbers:
            desk.expect(POLL)
            desk.hears(dart_frame(0x50, number, b"\x01\x01\x05"))
    assert len(desk.of(master.Told)) == 6
    assert not desk.of(master.Restarted)


def test_side_that_starts_anew_is_told_and_a_command_half_said_ends(desk: Desk) -> None:
    desk.expect(POLL, dart_frame(0x50, 7, b"\x01\x01\x01"))
    desk.expect(POLL, EOT)
    ticket = desk.master.ask(ADDRESS, types.Authorise(types.AmountLimit(200_00)), desk.now)
    desk.expect(block(1, layout.AllowNozzles((1,))), b"\x50\xc1\xfa")
    desk.expect(POLL, EOT)
    desk.expect(block(2, layout.PresetAmount(20000)), b"\x50\xc2\xfa")
    desk.expect(POLL, dart_frame(0x50, 0, b"\x01\x01\x01"))
    assert desk.outcome(ticket) is Outcome.NOT_SENT
    assert desk.of(master.Restarted) == [master.Restarted(ADDRESS)]
    assert SYNC in (desk.next(), desk.next())


def test_bad_check_is_refused_by_its_number_and_the_repetition_taken(desk: Desk) -> None:
    good = dart_frame(0x50, 4, b"\x01\x01\x05")
    desk.expect(POLL)
    assert desk.hears(good[:4] + b"\x04" + good[5:]) == b"\x50\x54\xfa"
    assert desk.hears(good) == b"\x50\xc4\xfa"
    assert len(desk.of(master.Told)) == 1


def test_side_that_only_ever_sends_bad_checks_is_refused_so_often_and_no_more(desk: Desk) -> None:
    good = dart_frame(0x50, 4, b"\x01\x01\x05")
    desk.expect(POLL)
    answers = [desk.hears(good[:4] + b"\x04" + good[5:]) for _ in range(5)]
    assert answers == [b"\x50\x54\xfa"] * 3 + [b""] * 2


def test_unreadable_block_is_told_and_acknowledged(desk: Desk) -> None:
    desk.expect(POLL)
    assert desk.hears(dart_frame(0x50, 4, b"\x02\x07" + bytes(7))) == b"\x50\xc4\xfa"
    (event,) = desk.of(master.Unreadable)
    assert isinstance(event, master.Unreadable)
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


def test_silent_side_goes_offline_is_polled_less_and_its_commands_are_not_kept_for_later() -> None:
    desk = Desk()
    ticket = desk.master.ask(ADDRESS, types.Authorise(types.AmountLimit(200_00)), 0.0)
    times = []
    while desk.outcome(ticket) is None:
        assert desk.next() == POLL
        times.append(desk.now)
        desk.now = desk.master.next_tick(desk.now)
        desk.events += desk.master.tick(desk.now).events
    assert desk.of(master.Offline) == [master.Offline(ADDRESS, None)]
    assert times[-1] - times[-2] >= 1.0 > times[1] - times[0]
    assert desk.outcome(ticket) is Outcome.NOT_SENT
    assert desk.now == pytest.approx(3.0, abs=1.2)


def test_stop_ends_what_waits_and_goes_first(desk: Desk) -> None:
    waiting = desk.master.ask(ADDRESS, types.Authorise(types.AmountLimit(200_00)), desk.now)
    desk.expect(block(1, layout.AllowNozzles((1,))))
    stop = desk.master.ask(ADDRESS, types.Stop(), desk.now)
    desk.hears(b"\x50\xc1\xfa")
    assert desk.outcome(waiting) is Outcome.NOT_SENT
    assert desk.outcome(stop) is None
    desk.expect(POLL, EOT)
    desk.expect(block(2, layout.Order(OrderCode.STOP)), b"\x50\xc2\xfa")
    assert desk.outcome(stop) is Outcome.ACCEPTED


def test_stop_after_the_permission_was_sent_leaves_it_unknown(desk: Desk) -> None:
    waiting = desk.master.ask(ADDRESS, types.Clear(), desk.now)
    desk.expect(block(1, layout.Order(OrderCode.RESET)))
    desk.master.ask(ADDRESS, types.Stop(), desk.now)
    desk.hears(b"\x50\xc1\xfa")
    assert desk.outcome(waiting) is Outcome.UNKNOWN


def test_what_cannot_be_asked(desk: Desk) -> None:
    with pytest.raises(LocalProtocolError, match="not on this bus"):
        desk.master.ask(SideId(0x51), types.Stop(), desk.now)
    with pytest.raises(LocalProtocolError, match="limit"):
        desk.master.ask(ADDRESS, types.Authorise(types.AmountLimit(0)), desk.now)
    for _ in range(master.COMMANDS_MAX):
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
    quirky = SideEnd(ADDRESS, quirk=True)
    assert quirky.receive(POLL).to_write == b"\xd0\x70\xfa"


# --- a whole bus ------------------------------------------------------------------------------------------------------


def test_quiet_bus_of_32_sides_serves_a_command_at_once_and_polls_everyone() -> None:
    line = Line(random.Random(1), 32, Faults())
    line.run(5.0)
    assert {event.side for event in line.of(master.Online)} == set(line.pumps)
    begun = line.now
    tickets = [line.master.ask(side, types.Authorise(types.AmountLimit(100_00)), line.now) for side in (0x50, 0x6F)]
    line.run(begun + 1.0)
    assert [line.done.get(ticket) for ticket in tickets] == [Outcome.ACCEPTED] * 2
    told = {event.side for at, event in line.events if isinstance(event, master.Told) and at > begun}
    assert told == {0x50, 0x6F}
    assert line.noise == []
    assert line.of(master.Stray) == []
    polls = line.frames / line.now
    assert polls > 40, "a round of 32 sides takes too long"


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
            line.pumps[side].off_until = line.now + rng.uniform(1.0, 2.0)
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


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_no_side_is_ever_authorised_that_was_not_meant(seed: int) -> None:
    play(seed)


def test_the_rounds_reach_what_they_are_for() -> None:
    """Every outcome, repetition, loss and restart occurs in the rounds; else they prove nothing."""
    lines = [play(seed) for seed in range(40)]
    outcomes = {outcome for line in lines for outcome in line.done.values()}
    assert outcomes >= {Outcome.ACCEPTED, Outcome.NOT_SENT, Outcome.UNKNOWN}
    kinds = {type(event) for line in lines for _, event in line.events}
    assert kinds >= {master.Told, master.Repeated, master.Offline, master.Restarted, master.Stray}
    assert sum(pump.again for line in lines for pump in line.pumps.values()) > 20
    assert sum(len(pump.authorised) for line in lines for pump in line.pumps.values()) > 40
    assert any(pump.status is Status.FILLING_COMPLETED for line in lines for pump in line.pumps.values())
    assert BITS_PER_BYTE == 11
