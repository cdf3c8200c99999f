"""The computed sessions of card-apdus.jsonl, replayed byte for byte against the emulated chips.

Randoms and the PSAM's serial are injected. A session that begins in the middle gets its missing start here: SELECT of
the application, and for debit-bad-mac1 the 8070 whose MAC1 the session names. One step has no answer to compare: step 2
of recovery-not-debited, where the card left. Published sessions cannot be replayed, as their keys are unknown; the jpki
ones belong to another kind of card.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest

from hardware.emulators.card import Fci, UserCard, make_card
from hardware.emulators.chip import Chip
from hardware.emulators.obu import make_obu
from hardware.emulators.psam import Psam
from protocols.card import commands
from protocols.card.psam import PSAM_APPLICATION
from protocols.crypto import Algorithm

VECTORS = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "vectors" / "card-apdus.jsonl").read_text("utf-8").splitlines()
]
SESSIONS: dict[str, list[dict]] = {}
for _vector in VECTORS:
    if _vector["origin"] == "computed" and not _vector.get("session", "jpki").startswith("jpki"):
        SESSIONS.setdefault(_vector["session"], []).append(_vector)

ENTRY_STATION = bytes.fromhex("AA2900990101011165E137CC010300000000000000B2E2413132333435000000000000000000FF00000000")
BOTH = frozenset(Algorithm)


class Randoms:
    """Gives the listed random numbers, in order, and nothing else."""

    def __init__(self, *values: str) -> None:
        self._values = [bytes.fromhex(value) for value in values]

    def __call__(self, length: int) -> bytes:
        value = self._values.pop(0)
        assert len(value) == length
        return value


@dataclass
class Replay:
    """Chips of one session, and which steps go to the PSAM."""

    chip: Chip
    psam: Psam | None = None
    psam_steps: set[int] = field(default_factory=set)


def select(chip: Chip, file_id: int) -> None:
    assert chip.process(commands.select_id(file_id).encode())[-2] in (0x90, 0x61)


def in_application(card: UserCard) -> UserCard:
    select(card, commands.ETC_APPLICATION)
    return card


def bench_psam(**facts) -> Psam:
    psam = Psam(mode="bench", **facts)
    select(psam, PSAM_APPLICATION)
    return psam


def exit_3des() -> Replay:
    card = make_card(plate="测A12345", balance_raw=50000, station=ENTRY_STATION, random=Randoms("89ABCDEF"))
    return Replay(card, Psam(mode="bench", terminal_serial=1), {6, 7, 8, 9, 10, 13, 15})


def entry_sm4() -> Replay:
    card = make_card(
        plate="测AD00001",
        plate_colour=4,
        balance_raw=0x7FFFFFFF,
        card_type=23,
        version=0x50,
        inner_number="2352230200004321",
        random=Randoms("1A2B3C4D"),
    )
    return Replay(card, Psam(mode="bench"), {6, 7, 8, 9, 10, 13, 15})


def old_card(**facts) -> UserCard:
    return make_card(
        plate="测E00017",
        version=0x10,
        inner_number="1909229900000017",
        starts=date(2019, 9, 1),
        expires=date(2029, 9, 1),
        vehicle_class=0,
        **facts,
    )


def plain_3des() -> Replay:
    card = old_card(balance_raw=20000, length=43, offline_sequence=0x0117, fci=Fci.MINIMAL, random=Randoms("7B31C0DE"))
    psam = bench_psam(terminal=bytes.fromhex("000000000509"), terminal_serial=0x00A10B2B, t0=True)
    return Replay(card, psam, {4, 5, 7})


def errors() -> Replay:
    return Replay(in_application(old_card(balance_raw=20000, random=Randoms())))


def bad_mac1() -> Replay:
    card = make_card(
        plate="测A12345",
        balance_raw=50000,
        offline_sequence=5,
        station=ENTRY_STATION,
        random=Randoms("0F0E0D0C"),
    )
    psam = bench_psam(terminal_serial=8)
    init = "8070000024" + "0F0E0D0C0005000009C409" + "20240302090000" + "0100" + "2301220100000001" + "B2E2CAD4" * 2
    correct = SESSIONS["debit-bad-mac1"][2]["decoded"]["correct_mac1"]
    assert psam.process(bytes.fromhex(init)) == bytes.fromhex("00000009" + correct + "9000")
    return Replay(in_application(card), psam, {6})


def not_debited() -> Replay:
    card = old_card(balance_raw=20000, length=43, offline_sequence=0x33, random=Randoms("12344321"))
    return Replay(in_application(card))


def load(algorithms: frozenset[Algorithm]) -> Replay:
    card = make_card(plate="测A12345", balance_raw=0, algorithms=algorithms, random=Randoms("11223344"))
    return Replay(in_application(card))


def external_auth() -> Replay:
    card = make_card(plate="测A12345", balance_raw=0, random=Randoms("0102030405060708"))
    return Replay(in_application(card), bench_psam(), {2, 3})


def issue(challenge: str, **facts) -> Replay:
    return Replay(in_application(make_card(plate="测Z99999", balance_raw=0, random=Randoms(challenge), **facts)))


def obu_car() -> Replay:
    vehicle = bytes.fromhex(SESSIONS["obu-3des-car"][6]["decoded"]["vehicle_info"])
    return Replay(make_obu(vehicle_file=vehicle, random=Randoms()).esam, bench_psam(), {6, 7})


def obu_car79() -> Replay:
    vehicle = bytes.fromhex(SESSIONS["obu-sm4-car79"][6]["decoded"]["vehicle_info"])
    obu = make_obu(
        vehicle_file=vehicle,
        obu_id="08411A03",
        contract_serial="9901230100000003",
        version=0x51,
        random=Randoms(),
    )
    return Replay(obu.esam, bench_psam(), {6, 7})


def tamper_set() -> Replay:
    return Replay(make_obu(plate="测A12345", mount_flag=0, random=Randoms("89ABCDEF")).esam)


REPLAYS: dict[str, Callable[[], Replay]] = {
    "user-3des-exit": exit_3des,
    "user-sm4-entry": entry_sm4,
    "user-3des-plain": plain_3des,
    "errors-1": errors,
    "debit-bad-mac1": bad_mac1,
    "recovery-not-debited": not_debited,
    "load-3des": lambda: load(frozenset({Algorithm.DES3})),
    "load-sm4": lambda: load(BOTH),
    "extauth-3des": external_auth,
    "issue-3des-0015": lambda: issue("A1B2C3D4"),
    "issue-sm4-0015": lambda: issue("0BADCAFE", version=0x50, inner_number="2352230200004321"),
    "obu-3des-car": obu_car,
    "obu-sm4-car79": obu_car79,
    "obu-tamper-set": tamper_set,
}


def test_every_computed_session_is_replayed():
    assert set(SESSIONS) == set(REPLAYS)


@pytest.mark.parametrize("name", REPLAYS)
def test_session(name):
    replay = REPLAYS[name]()
    for vector in SESSIONS[name]:
        chip = replay.psam if vector["step"] in replay.psam_steps else replay.chip
        if vector["response_hex"] is None:
            chip.reset()  # the card left the field before the command came through
            in_application(chip)
            continue
        answer = chip.process(bytes.fromhex(vector["command_hex"]))
        assert answer.hex().upper() == vector["response_hex"], f"step {vector['step']}: {vector['decoded'].get('op')}"


def test_not_debited_also_holds_when_the_lost_command_had_arrived():
    replay = not_debited()
    steps = SESSIONS["recovery-not-debited"]
    for vector in steps[:2]:
        assert replay.chip.process(bytes.fromhex(vector["command_hex"])).endswith(b"\x90\x00")
    replay.chip.reset()
    in_application(replay.chip)
    for vector in steps[2:]:
        assert replay.chip.process(bytes.fromhex(vector["command_hex"])).hex().upper() == vector["response_hex"]


@pytest.mark.parametrize("name", ["issue-3des-0015", "issue-sm4-0015"])
def test_an_issued_file_reads_back(name):
    replay = REPLAYS[name]()
    write = bytes.fromhex(SESSIONS[name][1]["command_hex"])
    for vector in SESSIONS[name]:
        replay.chip.process(bytes.fromhex(vector["command_hex"]))
    assert replay.chip.process(bytes.fromhex("00B0950032")) == write[5:-4] + b"\x90\x00"
