"""The session: tables, repetition, duplicates, heartbeats and silence, and both ends joined over a hostile wire.

Time is a number that the tests move; nothing sleeps.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError
from protocols.rsu import session as machine
from protocols.rsu.dialect import Dialect
from protocols.rsu.dialect_bj import TIMING_REPEATING
from protocols.rsu.framing_legacy import LegacyFraming
from protocols.rsu.messages import (
    Acknowledge,
    Continue,
    Debit,
    DebitResult,
    DeviceStatus,
    FetchTac,
    Heartbeat,
    HeartbeatAck,
    Initialise,
    Message,
    ObuReport,
    PsamStatus,
    Stop,
    StopType,
    SwitchAntenna,
    TacResult,
    Unmodelled,
    UserReport,
    VehicleReport,
)
from protocols.rsu.registry import DIALECTS, dialect_named
from protocols.rsu.session import (
    OUTSTANDING_MAX,
    REPORTS_MAX,
    BadBytes,
    Duplicate,
    Output,
    Peer,
    PeerBack,
    PeerRestarted,
    Received,
    Session,
    Side,
    Silent,
    Timing,
    Unanswered,
)
from tests.protocols.rsu.samples import GOOD, legacy, v3, vector

V3 = dialect_named("pcrsu-v3")
OBU = bytes.fromhex("0a0b0c01")
OTHER = bytes.fromhex("0a0b0c02")
FACTOR = bytes.fromhex("b2e2cad4b2e2cad4")

INITIALISE = Initialise(
    unix_seconds=1709263815,
    datetime_bcd="20240301113015",
    lane_mode=4,
    bst_interval_ms=10,
    tx_power=20,
    pll_channel=1,
    trans_mode=1,
    flag_id=bytes(3),
)
STATUS = DeviceStatus(
    rsu_status=0,
    psam_count_declared=None,
    psams=(PsamStatus(channel=1, auth=0, version=1, terminal=bytes.fromhex("019900000001")),),
    algorithm_id=0,
    manufacturer_id=0x77,
    rsu_id=bytes.fromhex("9a0001"),
    rsu_version=bytes.fromhex("2001"),
    work_status=0,
    flag_id=bytes(3),
)


def beat() -> Heartbeat:
    return Heartbeat(
        control_status=(0, 0x10, 0),
        psam1_count_declared=0,
        psams1=(),
        psam2_count_declared=0,
        psams2=(),
        antennas=(),
        antenna_count_declared=0,
        antenna_ok_declared=0,
    )


def found(obu: bytes = OBU) -> ObuReport:
    return replace(V3.decode(vector("v3-b2-37").data), obu_id=obu)


def user(obu: bytes = OBU, error: int = 0) -> UserReport:
    return replace(V3.decode(vector("v3-b4-183").data), obu_id=obu, error=error)


def result(obu: bytes = OBU) -> DebitResult:
    return replace(V3.decode(vector("v3-b5-36").data), obu_id=obu)


def debit(obu: bytes = OBU, amount_fen: int = 3000) -> Debit:
    return Debit(
        obu_id=obu,
        div_factor=FACTOR,
        amount_fen=amount_fen,
        purchase_time_bcd="20240301113015",
        station=bytes.fromhex("aa2900") + bytes(40),
    )


def lane(timing: Timing = machine.DEFAULT_TIMING) -> Session:
    return Session(V3, Side.LANE, timing)


def rsu(timing: Timing = machine.DEFAULT_TIMING) -> Session:
    return Session(V3, Side.RSU, timing)


def only_received(output: Output) -> Received:
    (event,) = output.events
    assert isinstance(event, Received)
    return event


def kinds(output: Output) -> list[type]:
    return [type(event) for event in output.events]


# --- the tables ---------------------------------------------------------------------------------------------------


def test_every_state_that_is_no_end_has_an_answer_to_every_input() -> None:
    assert set(machine.PEER_TABLE) == {(s, i) for s in machine.Peer for i in machine.PeerInput}
    assert set(machine.REQUEST_TABLE) == {(machine.RequestState.WAITING, i) for i in machine.RequestInput}
    alive = (machine.ReportState.OPEN, machine.ReportState.ANSWERED)
    assert set(machine.REPORT_TABLE) == {(s, i) for s in alive for i in machine.ReportInput}


def test_every_state_can_be_reached() -> None:
    assert {state for state, _ in machine.PEER_TABLE.values()} | {Peer.UNHEARD} == set(Peer)
    assert set(machine.REQUEST_TABLE.values()) == set(machine.RequestState)
    assert set(machine.REPORT_TABLE.values()) | {machine.ReportState.OPEN} == set(machine.ReportState)


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda d: d.name)
@pytest.mark.parametrize("side", Side)
def test_rules_of_a_side_only_speak_of_what_the_two_sides_send(dialect, side) -> None:
    rules, peer = dialect.rules[side], dialect.rules[side.peer]
    assert set(rules.requests) <= rules.sends
    assert {code for request in rules.requests.values() for code in request.answers if code is not None} <= peer.sends
    assert set(rules.automatic) <= peer.sends
    said = {dialect.code_of(message) for message in rules.automatic.values()}
    assert said - {None} <= rules.sends
    assert None not in said or dialect.empty_frames


# --- numbers ------------------------------------------------------------------------------------------------------


def test_antenna_counts_one_to_nine_and_starts_again() -> None:
    session = rsu()
    seqs = [session.send(beat(), 0.0).to_write[3] for _ in range(11)]
    assert seqs == [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2]


def test_lane_counts_in_tens_and_answers_with_swapped_nibbles() -> None:
    session = lane()
    assert [session.send(SwitchAntenna(1), 0.0).to_write[3] for _ in range(10)] == [*range(0x10, 0xA0, 0x10), 0x10]
    received = only_received(session.receive(v3(7, V3.encode(found())), 0.0))
    assert session.send(Continue(OBU, FACTOR), 0.1, answering=received).to_write[3] == 0x70
    assert session.send(SwitchAntenna(0), 0.2).to_write[3] == 0x20  # the own counter did not move


def test_antenna_answers_with_its_own_counter() -> None:
    session = rsu()
    received = only_received(session.receive(v3(0x10, V3.encode(INITIALISE)), 0.0))
    assert session.send(STATUS, 0.0, answering=received).to_write[3] == 1


def test_a_message_that_cannot_be_said_uses_no_number() -> None:
    session = lane()
    with pytest.raises(LocalProtocolError):
        session.send(Continue(OBU), 0.0)
    assert session.send(SwitchAntenna(1), 0.0).to_write[3] == 0x10


@pytest.mark.parametrize(("side", "message"), [(Side.LANE, found()), (Side.RSU, SwitchAntenna(1))])
def test_a_side_cannot_say_what_the_other_says(side: Side, message: Message) -> None:
    with pytest.raises(LocalProtocolError, match=f"not sent by the {side.value} side"):
        Session(V3, side).send(message, 0.0)


# --- requests and their repetition --------------------------------------------------------------------------------


@pytest.mark.parametrize("report", [found(), user(), result(), TacResult(OBU, 0, bytes(4), bytes(4), 0)])
def test_unanswered_report_is_repeated_three_times_by_the_clock_and_given_up(report: Message) -> None:
    session = rsu()
    raw = session.send(report, 10.0).to_write
    now, times = 10.0, []
    for _ in range(3):
        due = session.next_tick(now)
        assert due is not None
        assert session.tick(due - 0.001) == Output()
        now = due
        assert session.tick(now) == Output(to_write=raw)
        times.append(round(now - 10.0, 3))
    assert times == [0.12, 0.24, 0.36]
    last = session.next_tick(now)
    assert last == pytest.approx(10.48)
    assert session.tick(last) == Output(events=(Unanswered(report, 4),))
    assert session.next_tick(last) is None
    assert session.outstanding == ()


def test_retry_times_come_from_the_timing() -> None:
    session = rsu(Timing(retry_ms=50, retries_max=1))
    raw = session.send(found(), 0.0).to_write
    assert session.tick(0.05).to_write == raw
    assert kinds(session.tick(0.1)) == [Unanswered]


def test_late_tick_repeats_once_and_not_for_every_time_missed() -> None:
    session = rsu()
    raw = session.send(found(), 0.0).to_write
    assert session.tick(5.0).to_write == raw
    assert session.next_tick(5.0) == pytest.approx(5.12)


@pytest.mark.parametrize(
    ("report", "answers"),
    [
        (found(), [Continue(OBU, FACTOR), Stop(OBU, 1, 0), FetchTac(OBU, 1)]),
        (
            user(),
            [debit(), FetchTac(OBU, 1), Unmodelled(0xC3, OBU + bytes(55)), Continue(OBU, FACTOR), Stop(OBU, 3, 0)],
        ),
        (result(), [Continue(OBU, FACTOR), Stop(OBU, 1, 0), FetchTac(OBU, 1)]),
        (TacResult(OBU, 0, bytes(4), bytes(4), 0), [Continue(OBU, FACTOR), Stop(OBU, 1)]),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("own_counter", [False, True], ids=["swapped", "own counter"])
def test_matching_command_answers_a_report(report: Message, answers: list[Message], own_counter: bool) -> None:
    for answer in answers:
        session = rsu()
        session.send(beat(), 0.0)
        session.send(beat(), 0.0)
        seq = session.send(report, 0.0).to_write[3]
        number = 0x10 if own_counter else (seq << 4)
        received = only_received(session.receive(v3(number, V3.encode(answer)), 0.05))
        assert received.answers == report
        assert session.outstanding == ()
        assert session.next_tick(0.05) is None


@pytest.mark.parametrize(
    "command",
    [debit(), Continue(OTHER, FACTOR), SwitchAntenna(1), HeartbeatAck(), Acknowledge()],
    ids=lambda value: type(value).__name__,
)
def test_other_command_does_not_answer_a_report(command: Message) -> None:
    session = rsu()
    seq = session.send(found(), 0.0).to_write[3]
    received = only_received(session.receive(v3(seq << 4, V3.encode(command)), 0.05))
    assert received.answers is None
    assert session.outstanding == (found(),)


def test_command_about_no_obu_answers_by_number_only() -> None:
    session = rsu()
    session.send(found(), 0.0)
    seq = session.send(found(OTHER), 0.0).to_write[3]
    wrong = only_received(session.receive(v3(0x90, V3.encode(Stop(bytes(4), 1, 0))), 0.05))
    assert wrong.answers is None
    right = only_received(session.receive(v3(seq << 4, V3.encode(Stop(bytes(4), 1, 0))), 0.05))
    assert right.answers == found(OTHER)
    assert session.outstanding == (found(),)


def test_interleaved_obus_wait_each_for_its_own_answer() -> None:
    session = rsu()
    session.send(found(OBU), 0.0)
    session.send(found(OTHER), 0.05)
    assert only_received(session.receive(v3(0x10, V3.encode(Continue(OBU, FACTOR))), 0.06)).answers == found(OBU)
    session.send(user(OBU), 0.06)
    assert session.outstanding == (found(OTHER), user(OBU))
    assert session.tick(0.17).to_write[9:13] == OTHER
    assert session.tick(0.18).to_write[8:13] == b"\xb4" + OBU


def test_newer_request_for_the_same_obu_replaces_the_older() -> None:
    session = rsu()
    session.send(found(), 0.0)
    raw = session.send(user(), 0.01).to_write
    assert session.outstanding == (user(),)
    assert session.tick(0.13).to_write == raw


def test_requests_that_wait_are_bounded() -> None:
    session = rsu()
    for number in range(OUTSTANDING_MAX):
        session.send(found(number.to_bytes(4, "big")), 0.0)
    with pytest.raises(LocalProtocolError, match=str(OUTSTANDING_MAX)):
        session.send(found(b"\xaa\xaa\xaa\xaa"), 0.0)
    session.send(user((3).to_bytes(4, "big")), 0.0)  # one that replaces needs no room
    assert len(session.outstanding) == OUTSTANDING_MAX


def test_initialise_is_repeated_until_the_device_status_comes() -> None:
    session = lane()
    raw = session.send(INITIALISE, 0.0).to_write
    assert session.tick(0.5) == Output()
    assert session.tick(1.0).to_write == raw
    assert session.tick(2.0).to_write == raw
    received = only_received(session.receive(v3(1, V3.encode(STATUS)), 2.5))
    assert received.answers == INITIALISE
    assert session.tick(3.5) == Output()


def test_initialise_is_given_up_in_the_end() -> None:
    session = lane()
    session.send(INITIALISE, 0.0)
    outputs = [session.tick(float(second)) for second in range(1, 8)]
    assert [bool(output.to_write) for output in outputs] == [True] * 5 + [False] * 2
    assert outputs[5].events == (Unanswered(INITIALISE, 6),)


@pytest.mark.parametrize("message", [SwitchAntenna(1), debit(), Continue(OBU, FACTOR), FetchTac(OBU, 2)])
def test_other_commands_are_never_repeated_by_themselves(message: Message) -> None:
    session = lane(Timing(silence_ms=100_000_000))
    session.send(message, 0.0)
    assert [session.tick(second / 10) for second in range(100)] == [Output()] * 100


# --- duplicates ---------------------------------------------------------------------------------------------------


def test_repeated_user_report_is_answered_by_the_same_purchase_and_the_caller_is_not_asked() -> None:
    session = lane()
    raw = v3(5, V3.encode(user()))
    received = only_received(session.receive(raw, 0.0))
    purchase = session.send(debit(), 0.05, answering=received).to_write
    for now in (0.12, 0.24, 0.36):
        assert session.receive(raw, now) == Output((Duplicate(user(), 5, raw, purchase, debit()),), purchase)


def test_copy_before_the_answer_is_silent_and_after_it_repeats_it() -> None:
    session = lane()
    raw = v3(5, V3.encode(user()))
    received = only_received(session.receive(raw, 0.0))
    assert session.receive(raw, 0.12) == Output((Duplicate(user(), 5, raw, None, None),))
    purchase = session.send(debit(), 0.2, answering=received).to_write
    assert session.receive(raw, 0.24).to_write == purchase


def test_later_answer_replaces_the_cached_one() -> None:
    session = lane()
    raw = v3(5, V3.encode(user()))
    received = only_received(session.receive(raw, 0.0))
    session.send(Stop(OBU, StopType.SEARCH_AGAIN, 0), 0.05, answering=received)
    last = session.send(debit(), 0.06, answering=received).to_write
    assert session.receive(raw, 0.12).to_write == last


@pytest.mark.parametrize(
    "other",
    [
        v3(6, V3.encode(user())),
        v3(5, V3.encode(user(OTHER))),
        v3(5, V3.encode(found())),
        v3(5, V3.encode(user(error=1))),
    ],
    ids=["other SEQ", "other OBU", "other type", "other content"],
)
def test_a_frame_that_differs_is_news(other: bytes) -> None:
    session = lane()
    session.receive(v3(5, V3.encode(user())), 0.0)
    assert kinds(session.receive(other, 0.12)) == [Received]


def test_the_window_is_kept_from_the_first_copy() -> None:
    session = lane()
    raw = v3(5, V3.encode(user()))
    for now, kind in ((0.0, Received), (0.6, Duplicate), (0.999, Duplicate), (1.0, Received), (1.9, Duplicate)):
        assert kinds(session.receive(raw, now)) == [kind]


def test_nine_other_frames_later_the_same_number_is_news() -> None:
    """A two-piece OBU that is refused and found again and again: B2 with numbers 1 to 9, then 1 again."""
    session = lane()
    for turn in range(3):
        for seq in range(1, 10):
            now = 0.02 * (9 * turn + seq)
            assert kinds(session.receive(v3(seq, V3.encode(found())), now)) == [Received]


def test_after_asking_for_the_frame_again_its_copy_is_news() -> None:
    session = lane()
    raw = v3(5, V3.encode(user()))
    received = only_received(session.receive(raw, 0.0))
    session.send(Stop(OBU, StopType.RESEND, 0), 0.05, answering=received)
    assert kinds(session.receive(raw, 0.1)) == [Received]


def test_an_answer_to_something_long_forgotten_is_sent_and_not_kept() -> None:
    session = lane()
    received = only_received(session.receive(v3(5, V3.encode(user())), 0.0))
    for number in range(REPORTS_MAX):
        session.receive(v3(5, V3.encode(found(number.to_bytes(4, "big")))), 0.01)
    assert session.send(debit(), 0.02, answering=received).to_write[3] == 0x50
    assert kinds(session.receive(v3(5, V3.encode(user())), 0.03)) == [Received]


def test_remembered_frames_are_bounded() -> None:
    session = lane()
    for number in range(3 * REPORTS_MAX):
        session.receive(v3(number % 9 + 1, V3.encode(found(number.to_bytes(4, "big")))), 0.0)
    assert len(session._reports) == REPORTS_MAX


def test_an_empty_frame_can_be_answered_and_is_never_a_duplicate() -> None:
    session = rsu()
    for now in (0.0, 0.01):
        received = only_received(session.receive(v3(0x10, b""), now))
        assert received.message == Acknowledge()
    assert session.send(beat(), 0.02, answering=received).to_write


def test_antenna_repeats_its_answer_to_a_repeated_command() -> None:
    session = rsu()
    raw = v3(0x10, V3.encode(INITIALISE))
    answer = session.send(STATUS, 0.0, answering=only_received(session.receive(raw, 0.0))).to_write
    assert session.receive(raw, 0.5).to_write == answer


def test_repeated_purchase_command_is_not_a_second_purchase() -> None:
    session = rsu()
    session.send(user(), 0.0)
    raw = v3(0x10, V3.encode(debit()))
    received = only_received(session.receive(raw, 0.05))
    assert received.answers == user()
    assert kinds(session.receive(raw, 0.06)) == [Duplicate]  # while the purchase is on the air: nothing to say yet
    answer = session.send(result(), 0.3, answering=received).to_write
    assert session.receive(raw, 0.31) == Output((Duplicate(debit(), 0x10, raw, answer, result()),), answer)


# --- heartbeats and silence ---------------------------------------------------------------------------------------


def test_lane_answers_a_heartbeat_at_once_and_a_copy_alike() -> None:
    session = lane()
    raw = v3(3, V3.encode(beat()))
    output = session.receive(raw, 0.0)
    assert kinds(output) == [Received]
    assert output.to_write == v3(0x30, b"\xcf\x00")
    assert session.receive(raw, 0.1) == Output(
        (Duplicate(beat(), 3, raw, output.to_write, HeartbeatAck()),), output.to_write
    )


def test_antenna_sends_heartbeats_by_the_clock() -> None:
    session = Session(V3, Side.RSU, Timing(heartbeat_ms=10_000), heartbeat=beat)
    assert session.next_tick(100.0) == 110.0
    assert session.tick(109.9) == Output()
    assert session.tick(110.0).to_write == v3(1, V3.encode(beat()))
    assert session.next_tick(110.0) == 120.0
    assert session.tick(135.0).to_write == v3(2, V3.encode(beat()))  # one, not one for each missed
    assert session.next_tick(135.0) == 145.0


def test_silence_is_told_once_and_its_end_too() -> None:
    session = lane()
    assert session.next_tick(0.0) == 30.0
    session.receive(v3(1, V3.encode(beat())), 5.0)
    assert session.peer is Peer.HEARD
    assert session.tick(34.9) == Output()
    assert session.tick(35.0) == Output((Silent(5.0),))
    assert session.peer is Peer.SILENT
    assert session.tick(99.0) == Output()
    assert session.next_tick(99.0) is None
    output = session.receive(v3(2, V3.encode(beat())), 100.0)
    assert kinds(output) == [PeerBack, Received]
    assert output.events[0] == PeerBack(100.0)
    assert session.next_tick(100.0) == 130.0


def test_a_peer_never_heard_is_silent_since_the_first_call() -> None:
    session = lane()
    session.send(SwitchAntenna(1), 7.0)
    assert session.tick(37.0) == Output((Silent(7.0),))


def test_antenna_does_not_miss_a_lane_that_has_nothing_to_say() -> None:
    session = rsu()
    session.receive(v3(0x10, b"\xc4\x01"), 0.0)
    assert session.next_tick(0.0) is None
    assert session.tick(1_000_000.0) == Output()


# --- bad bytes ----------------------------------------------------------------------------------------------------


def test_bad_crc_is_an_event_that_names_field_and_values() -> None:
    (event,) = rsu().receive(vector("v3-c0-badcrc").raw, 0.0).events
    assert isinstance(event, BadBytes)
    assert (event.field, event.offset) == ("CRC", 30)
    assert "FFFF" in event.reason
    assert "FC82" in event.reason
    assert event.hint
    assert len(event.data) <= 16


@pytest.mark.parametrize(
    ("data", "field", "reason"),
    [
        (b"\x77\x01", "type", "unknown"),
        (b"\xb2" + bytes(10), "DATA", "of 11 bytes"),
        (b"\xc4\x01", "type", "not sent by the rsu side"),
    ],
)
def test_good_frame_without_a_message_of_the_peer_is_bad_bytes_and_the_next_is_read(data, field, reason) -> None:
    session = lane()
    output = session.receive(v3(1, data) + v3(2, V3.encode(found())), 0.0)
    assert kinds(output) == [BadBytes, Received]
    event = output.events[0]
    assert isinstance(event, BadBytes)
    assert (event.field, event.offset) == (field, 8)
    assert reason in event.reason
    assert session.peer is Peer.HEARD


def test_frame_hidden_behind_the_header_of_a_message_is_read_when_the_line_is_quiet() -> None:
    session = lane()
    stream = bytes.fromhex("ffff000100000400b4") + v3(2, V3.encode(found()))
    assert session.receive(stream, 1.0) == Output()
    assert session.next_tick(1.0) == pytest.approx(1.06)
    output = session.tick(1.06)
    assert kinds(output) == [BadBytes, Received]
    assert session.next_tick(1.06) == pytest.approx(31.06)


def test_frame_hidden_behind_the_header_of_a_message_is_read_when_more_comes_late() -> None:
    session = lane()
    session.receive(bytes.fromhex("ffff000100000400b4") + v3(2, V3.encode(found())), 1.0)
    assert kinds(session.receive(v3(3, V3.encode(user())), 1.07)) == [BadBytes, Received, Received]


def test_frame_behind_a_false_header_is_read_at_once() -> None:
    stream = bytes.fromhex("ffff000100000400") + v3(2, V3.encode(found()))
    assert kinds(lane().receive(stream, 1.0)) == [BadBytes, Received]


def test_frame_in_two_halves_with_a_pause_is_whole() -> None:
    session = lane()
    raw = v3(2, V3.encode(found()))
    assert session.receive(raw[:20], 0.0) == Output()
    assert session.tick(0.06) == Output()
    assert kinds(session.receive(raw[20:], 0.5)) == [Received]


def test_noise_is_told_when_the_line_is_quiet() -> None:
    session = lane()
    assert session.receive(b"\x55" * 7, 0.0) == Output()
    assert kinds(session.tick(0.06)) == [BadBytes]


@settings(deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([v.raw for v in GOOD])), max_size=20))
def test_no_bytes_make_either_end_fail(pieces: list[bytes]) -> None:
    for side in Side:
        session = Session(V3, side, heartbeat=beat if side is Side.RSU else None)
        now = 0.0
        for piece in pieces:
            session.receive(piece, now)
            now += 0.05
            session.tick(now)


# --- both ends over a wire ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kit:
    """What the two ends of a scenario say in one dialect."""

    dialect: Dialect
    initialise: Initialise
    status: DeviceStatus
    heartbeat: Callable[[], Heartbeat]
    found: Callable[[bytes], ObuReport]
    user: Callable[[bytes], UserReport]
    result: Callable[[bytes], DebitResult]
    vehicle: Callable[[bytes], VehicleReport] | None
    """None where B4 brings the vehicle."""
    noise: tuple[bytes, ...]


def sampled(name: str) -> Callable[[bytes], Message]:
    """Makes the message of a vector for another OBU."""
    sample = vector(name)
    message = dialect_named(sample.dialect).decode(sample.data)
    return lambda obu: replace(message, obu_id=obu)


def serial_kit(dialect: Dialect) -> Kit:
    return Kit(
        dialect=dialect,
        initialise=replace(INITIALISE, bst_interval_ms=None, flag_id=None, wait_time_s=2),
        status=DeviceStatus(
            rsu_status=0,
            psam_count_declared=None,
            psams=(PsamStatus(terminal=bytes.fromhex("019900000001")),),
            algorithm_id=0,
            manufacturer_id=0x77,
            rsu_id=bytes.fromhex("9a0001"),
            rsu_version=bytes.fromhex("2001"),
        ),
        heartbeat=Heartbeat,
        found=sampled("bj-b2"),
        user=sampled("bj-b4"),
        result=sampled("bj-b5"),
        vehicle=sampled("bj-b3"),
        noise=(b"\xff\xff\x18", b"\xff", b"\xfe", b"noise", b"\xff\xff\x18\xb2\xff"),
    )


KITS = (
    Kit(
        dialect=V3,
        initialise=INITIALISE,
        status=STATUS,
        heartbeat=beat,
        found=found,
        user=user,
        result=result,
        vehicle=None,
        noise=(b"\xff\xff\x00", bytes.fromhex("ffff000100000300"), b"\xff", b"noise"),
    ),
    *(serial_kit(dialect) for dialect in DIALECTS.values() if isinstance(dialect.framing, LegacyFraming)),
)
every_dialect = pytest.mark.parametrize("kit", KITS, ids=lambda kit: kit.dialect.name)


def test_every_dialect_has_its_scenarios() -> None:
    assert [kit.dialect for kit in KITS] == list(DIALECTS.values())


class Wire:
    """Carries writes both ways in virtual time. Faults come from one seed: loss, copies, delay, damage, chopping."""

    def __init__(
        self, kit: Kit, seed: int, *, loss: float, copy: float, damage: float, chop: bool, noise: float
    ) -> None:
        self.kinds_of_noise = kit.noise
        self.random = random.Random(seed)
        self.loss, self.copy, self.damage, self.chop, self.noise = loss, copy, damage, chop, noise
        self.queue: list[tuple[float, int, Side, bytes]] = []
        self.count = 0
        self.free_at = {Side.LANE: 0.0, Side.RSU: 0.0}

    def write(self, to: Side, data: bytes, now: float) -> None:
        if self.random.random() < self.loss:
            return
        if self.random.random() < self.damage:
            place = self.random.randrange(len(data))
            data = data[:place] + bytes((data[place] ^ 1 << self.random.randrange(8),)) + data[place + 1 :]
        if self.random.random() < self.noise:
            data = self.random.choice(self.kinds_of_noise) + data
        for _ in range(2 if self.random.random() < self.copy else 1):
            # A stream keeps its order: nothing overtakes what was written before it.
            at = max(self.free_at[to], now + 0.002 + 0.01 * self.random.random())
            step = self.random.randrange(1, len(data) + 1) if self.chop else len(data)
            for start in range(0, len(data), step):
                self.count += 1
                heapq.heappush(self.queue, (at, self.count, to, data[start : start + step]))
                at += 0.001
            self.free_at[to] = at


class Lane:
    """Answers every OBU: C1, one C6 for each B4 that is news, C1."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.session = Session(kit.dialect, Side.LANE)
        self.opened = False
        self.decided: list[bytes] = []
        self.done: list[bytes] = []

    def act(self, event: Received, now: float) -> bytes:
        message = event.message
        match message:
            case DeviceStatus():
                self.opened = True
                return self.session.send(SwitchAntenna(1), now).to_write
            case ObuReport() | VehicleReport():
                return self.session.send(Continue(message.obu_id, FACTOR), now, answering=event).to_write
            case UserReport():
                self.decided.append(message.obu_id)
                purchase = debit(message.obu_id, amount_fen=len(self.decided))
                return self.session.send(purchase, now, answering=event).to_write
            case DebitResult():
                self.done.append(message.obu_id)
                return self.session.send(Continue(message.obu_id, FACTOR), now, answering=event).to_write
        return b""


class Antenna:
    """Runs each OBU through B2, B3 where there is one, B4, B5; searches again when the lane does not answer."""

    def __init__(self, kit: Kit, obus: list[bytes]) -> None:
        self.kit = kit
        self.session = Session(kit.dialect, Side.RSU, heartbeat=kit.heartbeat, powered_up=True)
        self.waiting = list(obus)
        self.purchases: list[tuple[bytes, int]] = []
        self.finished: list[bytes] = []
        self.given_up = 0

    def act(self, event: Received, now: float) -> bytes:
        message, answered = event.message, event.answers
        match message:
            case Initialise():
                return self.session.send(self.kit.status, now, answering=event).to_write
            case SwitchAntenna():
                starts, self.waiting = self.waiting, []
                return b"".join(self.session.send(self.kit.found(obu), now).to_write for obu in starts)
            case Continue() if isinstance(answered, ObuReport) and self.kit.vehicle is not None:
                return self.session.send(self.kit.vehicle(message.obu_id), now, answering=event).to_write
            case Continue() if isinstance(answered, ObuReport | VehicleReport):
                return self.session.send(self.kit.user(message.obu_id), now, answering=event).to_write
            case Debit() if isinstance(answered, UserReport):
                self.purchases.append((message.obu_id, message.amount_fen))
                return self.session.send(self.kit.result(message.obu_id), now, answering=event).to_write
            case Continue() if isinstance(answered, DebitResult):
                self.finished.append(message.obu_id)
        return b""

    def search_again(self, event: Unanswered, now: float) -> bytes:
        self.given_up += 1
        message = event.message
        if isinstance(message, ObuReport | VehicleReport | UserReport):
            return self.session.send(self.kit.found(message.obu_id), now).to_write
        if isinstance(message, DebitResult):  # the result is still owed to the lane
            return self.session.send(message, now).to_write
        return b""


def drive(wire: Wire, a_lane: Lane, antenna: Antenna, until: float) -> float:
    ends = {Side.LANE: a_lane, Side.RSU: antenna}
    wire.write(Side.RSU, a_lane.session.send(a_lane.kit.initialise, 0.0).to_write, 0.0)
    now = 0.0
    while now < until and not (a_lane.opened and not antenna.waiting and not antenna.session.outstanding):
        ticks = [(at, side) for side, end in ends.items() if (at := end.session.next_tick(now)) is not None]
        arrival = wire.queue[0][0] if wire.queue else until
        tick_at, side = min(ticks, key=lambda tick: tick[0], default=(until, Side.LANE))
        if arrival <= tick_at:
            now, _, side, data = heapq.heappop(wire.queue)
            output = ends[side].session.receive(data, now)
        else:
            now = tick_at
            output = ends[side].session.tick(now)
        if output.to_write:
            wire.write(side.peer, output.to_write, now)
        for event in output.events:
            answer = b""
            if isinstance(event, Received):
                answer = ends[side].act(event, now)
            elif isinstance(event, Unanswered) and side is Side.RSU:
                answer = antenna.search_again(event, now)
            elif isinstance(event, Unanswered) or (isinstance(event, PeerRestarted) and not event.repeated):
                answer = a_lane.session.send(a_lane.kit.initialise, now).to_write
            if answer:
                wire.write(side.peer, answer, now)
        # C4 is neither answered nor repeated: a lane that hears nothing opens the radio once more.
        if a_lane.opened and antenna.waiting and not wire.queue:
            wire.write(Side.RSU, a_lane.session.send(SwitchAntenna(1), now).to_write, now)
    return now


OBUS = [bytes.fromhex(f"0a0b0c{number:02x}") for number in range(1, 4)]


@every_dialect
def test_both_ends_over_a_good_wire(kit: Kit) -> None:
    a_lane, antenna = Lane(kit), Antenna(kit, OBUS)
    drive(Wire(kit, 1, loss=0, copy=0, damage=0, chop=False, noise=0), a_lane, antenna, until=5.0)
    assert sorted(antenna.finished) == OBUS
    assert sorted(a_lane.decided) == OBUS
    assert sorted(a_lane.done) == OBUS
    assert [obu for obu, _ in sorted(antenna.purchases)] == OBUS
    assert antenna.given_up == 0


@every_dialect
@pytest.mark.parametrize("seed", range(40))
def test_both_ends_over_a_hostile_wire(kit: Kit, seed: int) -> None:
    """The same scenario with loss, copies, damage, noise and chopping: it ends, and no copy buys twice."""
    a_lane, antenna = Lane(kit), Antenna(kit, OBUS)
    wire = Wire(kit, seed, loss=0.15, copy=0.2, damage=0.1, chop=True, noise=0.15)
    ended = drive(wire, a_lane, antenna, until=120.0)
    assert ended < 120.0, f"seed {seed}"
    assert set(antenna.finished) == set(OBUS)
    assert set(a_lane.done) == set(OBUS)
    # Each purchase carries the number of the lane's decision: every one was decided, none carried out twice.
    amounts = [amount for _, amount in antenna.purchases]
    assert len(set(amounts)) == len(amounts)
    assert all(a_lane.decided[amount - 1] == obu for obu, amount in antenna.purchases)


@every_dialect
@pytest.mark.parametrize("seed", range(10))
def test_copies_alone_change_nothing(kit: Kit, seed: int) -> None:
    """Every frame twice and in pieces: exactly one decision and one purchase for each OBU."""
    a_lane, antenna = Lane(kit), Antenna(kit, OBUS)
    drive(Wire(kit, seed, loss=0, copy=1.0, damage=0, chop=True, noise=0), a_lane, antenna, until=30.0)
    assert sorted(a_lane.decided) == OBUS
    assert [obu for obu, _ in sorted(antenna.purchases)] == OBUS
    assert sorted(antenna.finished) == OBUS


# --- the serial dialects' own manners -----------------------------------------------------------------------------

BJ = dialect_named("legacy-serial-bj")
BJ_KIT = serial_kit(BJ)


def bj_lane() -> Session:
    return Session(BJ, Side.LANE)


def bj_rsu(**options) -> Session:
    return Session(BJ, Side.RSU, **options)


def test_serial_numbers_of_both_sides() -> None:
    session = bj_rsu()
    rsctls = [session.send(BJ_KIT.found(bytes((0, 0, 0, n))), 0.0).to_write[2] for n in range(9)]
    assert rsctls == [0x08, 0x18, 0x28, 0x38, 0x48, 0x58, 0x68, 0x78, 0x08]
    session = bj_lane()
    assert session.send(BJ_KIT.initialise, 0.0).to_write[2] == 0x89
    assert session.send(SwitchAntenna(1), 0.0).to_write == bytes.fromhex("ffff804c01cdff")


@pytest.mark.parametrize("name", ["bj-b2", "bj-b3", "bj-b4", "bj-b5"])
@pytest.mark.parametrize("rsctl", range(0x08, 0x88, 0x10))
def test_serial_answer_swaps_the_nibbles(name: str, rsctl: int) -> None:
    session = bj_lane()
    received = only_received(session.receive(legacy(rsctl, vector(name).data), 0.0))
    for answer in (Continue(OBU, FACTOR), Stop(OBU, 1, 0), Acknowledge()):
        raw = session.send(answer, 0.1, answering=received).to_write
        assert raw[2] == 0x80 | rsctl >> 4


@pytest.mark.parametrize("code", [0xB0, 0xB1, 0xB6, 0xB7, 0xB8, 0xB9, 0xBD, 0xBF, 0xD0])
def test_what_the_owner_has_no_answer_to_gets_an_empty_frame(code: int) -> None:
    data = vector("bj-b0-power-up").data if code == 0xB0 else bytes((code,)) + OBU
    output = bj_lane().receive(legacy(0x38, data), 0.0)
    assert kinds(output) == [Received]
    assert output.to_write == legacy(0x83, b"")


@pytest.mark.parametrize("name", ["bj-hb-ex", "bj-hb-soulin", "bj-hb-33"])
def test_serial_heartbeat_is_heard_and_not_answered(name: str) -> None:
    session = bj_lane()
    output = session.receive(vector(name).raw, 5.0)
    assert isinstance(only_received(output).message, Heartbeat)
    assert output.to_write == b""
    assert session.next_tick(5.0) == 95.0


def test_serial_heartbeat_waits_for_no_answer() -> None:
    session = bj_rsu(heartbeat=Heartbeat)
    session.next_tick(0.0)
    assert session.tick(10.0).to_write == legacy(0x08, bytes.fromhex("b20000000080"))
    assert session.outstanding == ()


def test_serial_antenna_that_hears_nothing_searches_after_one_second() -> None:
    session = bj_rsu()
    session.send(BJ_KIT.user(OBU), 0.0)
    assert session.tick(0.99) == Output()
    assert session.tick(1.0) == Output((Unanswered(BJ_KIT.user(OBU), 1),))


def test_serial_antenna_may_repeat_a_report_three_times() -> None:
    session = bj_rsu(timing=TIMING_REPEATING)
    raw = session.send(BJ_KIT.user(OBU), 0.0).to_write
    assert [session.tick(now).to_write for now in (0.12, 0.24, 0.36)] == [raw] * 3
    assert kinds(session.tick(0.48)) == [Unanswered]


@pytest.mark.parametrize("name", ["bj-b2", "bj-b3", "bj-b4", "bj-b5"])
def test_empty_frame_with_the_swapped_number_answers_a_report(name: str) -> None:
    session = bj_rsu()
    report = BJ.decode(vector(name).data)
    session.send(report, 0.0)
    assert only_received(session.receive(legacy(0x81, b""), 0.1)).answers is None
    assert only_received(session.receive(legacy(0x80, b""), 0.1)).answers == report


def test_power_up_wants_initialise_again_and_only_the_next_status_answers_it() -> None:
    a_lane, antenna = bj_lane(), bj_rsu(powered_up=True)
    status = BJ.decode(BJ.encode(BJ_KIT.status))
    opened = a_lane.send(BJ_KIT.initialise, 0.0).to_write
    first = antenna.send(BJ_KIT.status, 0.01, answering=only_received(antenna.receive(opened, 0.01))).to_write
    assert first[2] == 0x98
    output = a_lane.receive(first, 0.02)
    (event,) = output.events
    assert isinstance(event, PeerRestarted)
    assert event.repeated
    assert event.received.seq == 0x98
    assert output.to_write == opened  # RSCTL 89 is 98 with its nibbles swapped
    assert a_lane.outstanding == (BJ_KIT.initialise,)
    assert a_lane.receive(first, 0.025) == Output((Duplicate(status, 0x98, first, opened, BJ_KIT.initialise),), opened)
    # Said again it is news to the antenna, which goes on with an ordinary number.
    again = only_received(antenna.receive(output.to_write, 0.03))
    second = antenna.send(BJ_KIT.status, 0.03, answering=again).to_write
    assert second[2] == 0x08
    assert only_received(a_lane.receive(second, 0.04)).answers == BJ_KIT.initialise
    assert a_lane.outstanding == ()


def test_antenna_that_restarts_in_the_middle_asks_the_owner() -> None:
    session = bj_lane()
    raw = vector("bj-b0-power-up").raw
    output = session.receive(raw, 50.0)
    (event,) = output.events
    assert isinstance(event, PeerRestarted)
    assert not event.repeated
    assert output.to_write == b""
    answer = session.send(BJ_KIT.initialise, 50.1, answering=event.received).to_write
    assert answer[2] == 0x89
    assert session.receive(raw, 50.2).to_write == answer


def test_lane_that_gives_every_dialect_the_same_is_understood() -> None:
    """What a lane sets for v3 and this dialect has no place for is left out; the clock goes as local time."""
    session = bj_lane()
    raw = session.send(INITIALISE, 0.0).to_write
    sent = BJ.decode(BJ.framing.unwrap(raw).data)
    assert sent == replace(INITIALISE, bst_interval_ms=None, flag_id=None, wait_time_s=2)
    assert int.from_bytes(BJ.framing.unwrap(raw).data[1:5], "big") == INITIALISE.unix_seconds + 8 * 3600
    assert session.send(Stop(OBU, 1, 1_709_263_815), 0.0).to_write == legacy(0x80, b"\xc2" + OBU + b"\x01")
    (debited,) = {BJ.decode(BJ.encode(debit()))}
    assert debited == replace(debit(), trans_serial=bytes(4))
