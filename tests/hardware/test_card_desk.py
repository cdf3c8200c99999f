"""`etcbench cards`: emulated cards in a card service of their own, moved and broken by lines of text.

Programs read the place of their card service once, so each thing that is done to a card here is done by a program.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from hardware.emulators.card_store import CardStore
from hardware.emulators.profiles import load
from tests.pcsc import ensure_possible, problem

ROOT = Path(__file__).parents[2]
USERS, PSAMS = ROOT / "hardware/sites/cards/user-cards.toml", ROOT / "hardware/sites/cards/psams.toml"

SPEND_A_TRY = """
import asyncio
from drivers.pcsc import Readers
from protocols.card import commands

async def spend():
    async with Readers() as readers, readers.open("Bench A 00 00", wait_s=5) as card:
        await card.transmit(commands.select_id(commands.ETC_APPLICATION))
        print(hex((await card.transmit(commands.verify_pin(bytes(3)))).sw))

asyncio.run(spend())
"""


pytestmark = pytest.mark.slow


AWAIT = """
import sys
from hardware.bench.pcsc_daemon import Slot
from tests.pcsc import STUCK_MS, VirtualSlot

slot = VirtualSlot(Slot(sys.argv[1], 0))
assert slot.await_state(present=sys.argv[2] == "in", within_ms=STUCK_MS)
"""


class Bench:
    """The program, spoken to in lines."""

    def __init__(self, process):
        self.process = process
        self.first = self.told()
        self.environment = os.environ | self.first["environment"]

    def told(self):
        return json.loads(self.process.stdout.readline())

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.told()

    def where(self):
        return {card["name"]: card["reader"] for card in self.say("list")["cards"]}

    def run(self, *arguments):
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def await_card(self, reader, state):
        """Return when the card service sees a card go in or out: it looks at a slot every 0.4 s."""
        done = self.run("-c", AWAIT, reader, state)
        assert done.returncode == 0, done.stderr

    def read(self, reader, code=0):
        done = self.run("-m", "gateway.cli.main", "card", "read", "--reader", reader, "--json")
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return json.loads(done.stdout)


@contextmanager
def bench(*arguments):
    ensure_possible(problem())
    command = [sys.executable, "-m", "hardware.bench.cli", "cards", *map(str, arguments), "--json"]
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield Bench(process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def test_a_card_is_read_pulled_laid_elsewhere_and_pulled_by_a_fault():
    with bench(USERS, PSAMS, "--card", "car", "--card", "psam", "--card", "old") as desk:
        assert desk.first["readers"] == [f"Bench {place}" for place in ("A 00 00", "A 00 01", "B 00 00", "B 00 01")]
        assert desk.where() == {"car": "Bench A 00 00", "psam": "Bench A 00 01", "old": "Bench B 00 00"}
        desk.await_card("Bench A 00 00", "in")
        first = desk.read("Bench A 00 00")
        assert "***0001" in json.dumps(first)
        assert desk.say("pull car") == {"done": "car pulled from Bench A 00 00"}
        desk.await_card("Bench A 00 00", "out")
        desk.read("Bench A 00 00", code=3)
        assert desk.say("insert car 4") == {"done": "car put into Bench B 00 01"}
        desk.await_card("Bench B 00 01", "in")
        assert desk.say("fault car pull-after balance") == {"done": "car: pull-after balance will happen"}
        desk.read("Bench B 00 01", code=4)
        fault = desk.told()
        assert (fault["card"], fault["fault"].endswith("(5C): pull-after balance")) == ("car", True)
        assert desk.where()["car"] is None
        assert desk.say("swap B 00 00 car") == {"done": "car put into Bench B 00 00"}
        assert desk.where() == {"car": "Bench B 00 00", "psam": "Bench A 00 01", "old": None}
        desk.await_card("Bench B 00 00", "in")
        assert "***0001" in json.dumps(desk.read("Bench B 00 00"))


def test_a_card_in_a_reader_buys_at_a_psam_of_the_laboratory():
    with bench(USERS, "--card", "car-t0", "--card", "poor") as desk:
        lab = ("-m", "hardware.bench.cli", "lab", "purchase", "--json", "--reader")
        desk.await_card("Bench A 00 00", "in")
        desk.await_card("Bench A 00 01", "in")
        bought = json.loads(desk.run(*lab, "A 00 00").stdout)
        assert (bought["good"], bought["balance_after"]) == (True, 49_000)
        poor = desk.run(*lab, "A 00 01")
        assert (poor.returncode, json.loads(poor.stdout)["refused"]) == (1, "9401")
        desk.say("fault car-t0 pull-after debit")
        pulled = desk.run(*lab, "A 00 00")
        assert (pulled.returncode, json.loads(pulled.stdout)["debited"]) == (4, False)
        assert "pull-after debit" in desk.told()["fault"]
        desk.await_card("Bench A 00 00", "out")
        nobody = desk.run(*lab, "A 00 00")
        assert (nobody.returncode, nobody.stderr.count("\n")) == (3, 1)


def test_what_cannot_be_done_is_told_and_nothing_moves():
    with bench(USERS, "--card", "car", "--card", "old", "--readers", 1) as desk:
        before = desk.where()
        mistakes = {
            "dance": "no command dance; commands: list; pull CARD",
            "pull nobody": "no card nobody here: car, old",
            "insert car": "car is in Bench A 00 00; pull it first",
            "swap 7 car": "no reader 7 here, or more than one: Bench A 00 00, Bench A 00 01",
            "swap Bench car": "no reader Bench here, or more than one",
            "swap 1 car": "car is in Bench A 00 00; pull it first",
            "fault car explode 1": "no such fault: no fault 'explode'",
        }
        for line, said in mistakes.items():
            assert desk.say(line)["error"].startswith(said), line
        assert desk.where() == before
        desk.say("fault car mute 900")
        assert desk.say("list")["cards"][0]["faults"] == ["mute 900"]
        desk.say("mend car")
        assert desk.say("list")["cards"][0]["faults"] == []
        desk.process.stdin.write("quit\n")
        desk.process.stdin.flush()
        assert desk.process.wait() == 0


def test_cards_outlive_a_bench_that_is_killed(tmp_path):
    with bench(USERS, "--card", "car", "--state", tmp_path) as desk:
        folder = Path(desk.first["environment"]["PCSCLITE_CSOCK_NAME"]).parent
        spent = desk.run("-c", SPEND_A_TRY)
        assert spent.stdout == "0x63c2\n", spent.stderr
        desk.process.kill()
        desk.process.wait()
    shutil.rmtree(folder)
    with CardStore(tmp_path) as store:
        assert store.insert(load(USERS)["car"]).stored.pin_tries == 2
    with bench(USERS, "--card", "car", "--state", tmp_path) as desk:
        assert desk.run("-c", SPEND_A_TRY).stdout == "0x63c1\n"


def test_a_folder_of_states_that_is_in_use_is_told(tmp_path):
    with CardStore(tmp_path):
        done = subprocess.run(
            [sys.executable, "-m", "hardware.bench.cli", "cards", str(USERS), "--state", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 3
    assert "used by another process" in done.stderr


@pytest.mark.parametrize("arguments", [["/nowhere.toml"], [USERS, "--card", "nobody"], [USERS, "--readers", 9]])
def test_wrong_options_are_usage(arguments):
    command = [sys.executable, "-m", "hardware.bench.cli", "cards", *map(str, arguments)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2
