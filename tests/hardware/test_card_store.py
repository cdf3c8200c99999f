"""Cards that outlive their process: what is stored is durable before the answer, what is volatile stays volatile."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from hardware.emulators import card_store
from hardware.emulators.card_store import CardStore, StateError, as_json, from_json
from hardware.emulators.profiles import load
from protocols.card import commands, purse
from protocols.card.apdu import Response
from tests.hardware import test_card_emulator_sessions as sessions

ROOT = Path(__file__).parents[2]
SAMPLES = sorted((ROOT / "hardware" / "sites" / "cards").glob("*.toml"))
SAMPLES_OF = {path.stem: path for path in SAMPLES}
PROFILES = {name: profile for path in SAMPLES for name, profile in load(path).items()}


def ask(chip, command):
    return Response.decode(chip.process(command.encode()))


def spoilt(chip):
    """Use up one PIN try: a change that every user card can make."""
    assert ask(chip, commands.select_id(commands.ETC_APPLICATION)).ok
    assert ask(chip, commands.verify_pin(b"\0\0\0")).sw == 0x63C2
    return chip


@pytest.mark.parametrize("name", PROFILES)
def test_a_card_comes_back_as_it_was_left(tmp_path, name):
    with CardStore(tmp_path) as store:
        made = store.insert(PROFILES[name])
        back = store.insert(PROFILES[name])
        assert back.stored == made.stored
        assert frozen(back.stored)


def frozen(value):
    """True for a value that nobody can change in place, mappings apart."""
    if is_dataclass(value):
        return value.__dataclass_params__.frozen and all(frozen(getattr(value, one.name)) for one in fields(value))
    if isinstance(value, Mapping):
        return all(map(frozen, value.values()))
    return not isinstance(value, list | set | bytearray)


def test_a_change_is_in_the_file_before_the_answer(tmp_path):
    with CardStore(tmp_path) as store:
        spoilt(store.insert(PROFILES["car"]))
        content = json.loads((tmp_path / "car.json").read_text())
        assert (content["name"], content["kind"], content["stored"]["pin_tries"]) == ("car", "user-card", 2)
        assert store.insert(PROFILES["car"]).stored.pin_tries == 2
        assert store.personalise(PROFILES["car"]).stored.pin_tries == 3
        assert store.insert(PROFILES["car"]).stored.pin_tries == 3


def test_a_change_that_cannot_be_kept_has_not_happened(tmp_path, monkeypatch):
    with CardStore(tmp_path) as store:
        chip = store.insert(PROFILES["car"])
        ask(chip, commands.select_id(commands.ETC_APPLICATION))
        before = (tmp_path / "car.json").read_bytes()

        def full(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(card_store.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            ask(chip, commands.verify_pin(b"\0\0\0"))
        assert chip.stored.pin_tries == 3
        assert (tmp_path / "car.json").read_bytes() == before


def test_a_folder_is_used_by_one_process_at_a_time(tmp_path):
    with CardStore(tmp_path), pytest.raises(OSError, match="used by another process"):
        CardStore(tmp_path)
    with CardStore(tmp_path):
        pass


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content | {"kind": "psam"}, "another profile"),
        (lambda content: content | {"profile": {}}, "another profile"),
        (lambda content: content | {"stored": {"balance_raw": 1}}, "is no state of card car"),
        (lambda content: [], "is no state of card car"),
    ],
)
def test_a_state_that_is_not_the_cards_is_refused_with_the_cure(tmp_path, change, said):
    with CardStore(tmp_path) as store:
        store.insert(PROFILES["car"])
        path = tmp_path / "car.json"
        path.write_text(json.dumps(change(json.loads(path.read_text()))))
        with pytest.raises(StateError, match=said) as error:
            store.insert(PROFILES["car"])
        assert "etcbench lab personalise --card car" in str(error.value)
        path.write_text("{")
        with pytest.raises(StateError, match="is no state"):
            store.insert(PROFILES["car"])


class Reloaded:
    """A chip that is put away and taken out again between any two commands, with the power on."""

    def __init__(self, chip):
        self.chip = chip

    def process(self, command):
        text = json.dumps(as_json(self.chip.stored))
        self.chip.restore(from_json(json.loads(text), type(self.chip.stored)))
        return self.chip.process(command)

    def reset(self):
        self.chip.reset()


@pytest.mark.parametrize("name", sessions.REPLAYS)
def test_no_session_tells_whether_its_chips_were_put_away_between_two_commands(name):
    replay = sessions.REPLAYS[name]()
    chip, sam = Reloaded(replay.chip), Reloaded(replay.psam) if replay.psam else None
    for vector in sessions.SESSIONS[name]:
        asked = sam if vector["step"] in replay.psam_steps else chip
        if vector["response_hex"] is None:
            asked.reset()
            sessions.in_application(asked)
            continue
        assert asked.process(bytes.fromhex(vector["command_hex"])).hex().upper() == vector["response_hex"]


def test_what_power_loss_clears_is_not_stored(tmp_path):
    with CardStore(tmp_path) as store:
        card = store.insert(PROFILES["car"])
        ask(card, commands.select_id(commands.ETC_APPLICATION))
        assert ask(card, purse.init_purchase(0x01, 1, bytes(6))).ok
        back = store.insert(PROFILES["car"])
        assert ask(back, purse.get_balance()).sw == 0x6985, "no directory is selected"
        ask(back, commands.select_id(commands.ETC_APPLICATION))
        assert ask(back, purse.debit(1, "20240301113015", bytes(4))).sw == 0x6985, "no purchase is open"


BUYS_ON = """
import asyncio, sys
from pathlib import Path
from hardware.bench.chip_slot import ChipSlot
from hardware.bench.lab import LabPurchase
from hardware.emulators.card_store import CardStore
from hardware.emulators.profiles import load

cards, psams, state = map(Path, sys.argv[1:])
with CardStore(state) as store:
    card, sam = store.insert(load(cards)["car"]), store.insert(load(psams)["psam"])
    while True:
        bought = LabPurchase(7, "20240301113015")
        asyncio.run(bought.run(ChipSlot("card", card), ChipSlot("PSAM", sam)))
        print(bought.balance_after, bought.checks[1].given.hex(), flush=True)
"""


@pytest.mark.parametrize("answers", [1, 2, 5, 13])
def test_a_debit_is_in_the_file_whole_or_not_at_all_when_the_process_is_killed(tmp_path, answers):
    """Kill a process amid purchases: what its card has stored is one purchase, the newest told or the one after it."""
    command = [
        sys.executable,
        "-c",
        BUYS_ON,
        *(str(SAMPLES_OF[name]) for name in ("user-cards", "psams")),
        str(tmp_path),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        told = [process.stdout.readline() for _ in range(answers)]
        process.kill()
        told += [line for line in process.stdout if line.endswith("\n")]
    balance, tac = told[-1].split()
    with CardStore(tmp_path) as store:
        card, sam = store.insert(PROFILES["car"]), store.insert(PROFILES["psam"])
    purchases = (50_000 - card.balance_raw) // 7
    assert purchases - len(told) in (0, 1)
    assert card.stored.balance_raw == 50_000 - 7 * purchases
    assert card.offline_sequence == PROFILES["car"].facts.offline_sequence + purchases
    assert card.transactions[0].sequence == card.stored.proofs[9].sequence == card.offline_sequence
    assert len(card.transactions) == min(purchases, 10)
    assert sam.terminal_serial - purchases in (0, 1)
    if purchases == len(told):
        assert (card.balance_raw, card.stored.proofs[9].proof.tac.hex()) == (int(balance), tac)
