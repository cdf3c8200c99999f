"""`etcgw card purchase` over a real card service: cards pulled, service or gateway killed, at each command.

The card and its PSAM are emulated chips in this process; between them and the program are vpcd, pcscd and PC/SC.
Whatever happened, the customer comes back with the same bill, and the books and the card agree.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from hardware.bench.ledger_view import texts
from hardware.bench.processes import SITES
from hardware.bench.waiting import STUCK_S
from hardware.emulators.card import make_card
from hardware.emulators.psam import Psam
from tests.programs import ROOT

PRICE, PURSE, TERMINAL = 1250, 1_000_000, "019900000108"
EXIT_PAID, EXIT_REFUSED, EXIT_UNAVAILABLE, EXIT_UNKNOWN, EXIT_PROTOCOL = 0, 1, 3, 4, 5

PATIENCE_S = 60
"""For a card that is there: the service looks at its slots every 400 ms."""

EVERY = os.environ.get("CARD_KILLS") == "all"
"""All commands of a sale, and not only those that matter most; takes half an hour."""

pytestmark = pytest.mark.slow


def etcgw(*arguments, cwd):
    return [sys.executable, "-m", "gateway.cli.main", *arguments], {
        "cwd": cwd,
        "env": {**os.environ, "PYTHONPATH": str(ROOT)},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }


@pytest.fixture(scope="module")
def site_made_once(tmp_path_factory):
    """A counter with its ledger."""
    folder = tmp_path_factory.mktemp("counter") / "site"
    shutil.copytree(SITES / "counter", folder)
    for arguments in (
        ("ledger", "key", "chain.key"),
        ("lists", "build", "lists.csv", "--version", "1", "--config", "site.toml"),
        ("check-config", "--config", "site.toml"),
        ("ledger", "create", "--config", "site.toml"),
    ):
        command, more = etcgw(*arguments, cwd=folder)
        ran = subprocess.run(command, check=False, **more)
        assert ran.returncode == 0, (arguments, ran.stdout, ran.stderr)
    return folder


class Counter:
    """The counter, its customer's card, and its PSAM; and what befalls them at the n-th command of one session."""

    def __init__(self, folder, pcsc):
        self.folder, self.pcsc = folder, pcsc
        self.card = make_card(plate="测A12345", balance_raw=PURSE)
        self.psam = Psam(mode="bench", terminal=bytes.fromhex(TERMINAL))
        self.commands = []
        """(reader, command) of the session, in order."""
        self.at = None
        self.befall = None
        self.bill = 0
        self.process = None

    def insert(self):
        for slot, name, chip in zip(self.pcsc.slots, ("card", "psam"), (self.card, self.psam), strict=False):
            slot.insert(chip, answer=self._answer(name, chip))

    def _answer(self, name, chip):
        def answer(command):
            self.commands.append((name, command))
            before, after = self.at == (len(self.commands), False), self.at == (len(self.commands), True)
            if before:
                return self.befall(name)
            response = chip.process(command)
            return self.befall(name) if after else response

        return answer

    def pay(self, wait_s=PATIENCE_S):
        """Have the card pay the bill of this time: exit code, facts, and what was said."""
        self.commands.clear()
        sale = ("card", "purchase", "--amount", str(PRICE), "--bill", f"bill {self.bill}", "--config", "site.toml")
        command, more = etcgw(*sale, "--wait", str(wait_s), "--json", cwd=self.folder)
        with subprocess.Popen(command, **more) as self.process:
            out, err = self.process.communicate()
        return self.process.returncode, (json.loads(out) if out.strip() else None), err

    def run(self, *arguments):
        """Text that a command prints for people."""
        command, more = etcgw(*arguments, "--config", "site.toml", cwd=self.folder)
        return subprocess.run(command, check=True, **more).stdout

    def rows(self, sql):
        with closing(sqlite3.connect(f"file:{self.folder / 'ledger.db'}?mode=ro", uri=True)) as connection:
            return [texts(row) for row in connection.execute(sql)]

    def paid(self):
        """Purchases in the books and on the card: (fen, terminal, serial of the card)."""
        return self.rows(
            "select p.written_fen, p.terminal, p.card_serial from purchase p join debit d on d.id = p.debit_id"
            " where p.state = 'taken' and d.state = 'funded' order by p.card_serial"
        )

    def agree(self):
        """The books have just what the card did."""
        books = self.paid()
        assert len(books) == (PURSE - self.card.balance_raw) // PRICE == self.card.offline_sequence - 1
        assert [serial for _, _, serial in books] == list(range(2, self.card.offline_sequence + 1))
        assert {(fen, terminal) for fen, terminal, _ in books} <= {(PRICE, TERMINAL)}
        assert self.rows("select count(*) from debit where state = 'held'") == [(0,)]


@pytest.fixture
def counter(tmp_path, site_made_once, pcsc):
    folder = shutil.copytree(site_made_once, tmp_path / "site")
    counter = Counter(folder, pcsc)
    counter.insert()
    return counter


def test_a_card_pays_over_the_real_path(counter):
    code, told, err = counter.pay()
    assert code == EXIT_PAID, err
    assert (told["amount_fen"], told["outcome"], told["funding"], told["earlier"]) == (PRICE, "paid", "purse", False)
    counter.agree()
    code, told, err = counter.pay()
    assert (code, told["earlier"]) == (EXIT_PAID, True), "the same bill"
    shown = counter.run("card", "purchase", "--amount", str(PRICE), "--bill", "bill 0")
    assert "12.50" in shown
    assert "paid before" in shown
    counter.agree()


def pulled(counter):
    def befall(name):
        return None

    return befall


def service_killed(counter):
    def befall(name):
        counter.pcsc.daemon.kill()

    return befall


def gateway_killed(counter):
    def befall(name):
        counter.process.send_signal(signal.SIGKILL)
        counter.process.wait()

    return befall


@pytest.mark.parametrize("disaster", [pulled, service_killed, gateway_killed])
def test_at_each_command(counter, disaster):
    """After each disaster the customer comes back; the bill is paid once, and the next customer is served."""
    code, _, err = counter.pay()
    assert code == EXIT_PAID, err
    ends = set()
    for n in points_of(counter.commands):
        for after in (False, True):
            counter.bill += 1
            counter.at, counter.befall = (n, after), disaster(counter)
            code, *_ = counter.pay(wait_s=1)
            ends.add(code)
            counter.at = None
            if disaster is service_killed:
                counter.pcsc.kill()
                counter.pcsc.restart()
            counter.insert()
            code, told, err = counter.pay()
            assert code == EXIT_PAID, (n, after, told, err)
            counter.agree()
            assert len(counter.paid()) == counter.bill + 1, (n, after)
    assert -signal.SIGKILL in ends if disaster is gateway_killed else EXIT_UNKNOWN in ends


def points_of(commands):
    """Numbers of the commands at which something happens: all, or those of the purchase itself."""
    numbers = range(1, len(commands) + 1)
    return numbers if EVERY else [n for n in numbers if commands[n - 1][1][:2] in PURCHASE]


PURCHASE = {bytes.fromhex(head) for head in ("8070", "8054", "8072")}


def test_a_running_gateway_settles_a_pulled_card_that_is_laid_there_again(counter):
    """While it serves, nobody else sells: a command is told so. Told to stop, it stops while it waits for a card."""
    counter.at, counter.befall = debit_of(counter), pulled(counter)
    counter.bill += 1
    assert counter.pay()[0] == EXIT_UNKNOWN
    counter.at = None
    command, more = etcgw("run", "--config", "site.toml", cwd=counter.folder)
    with subprocess.Popen(command, **more) as gateway:
        try:
            assert gateway.stdout.readline().strip() == "ready"
            counter.insert()
            wait_for(lambda: counter.rows("select count(*) from purchase where state = 'unknown'") == [(0,)])
            counter.agree()
            code, told, _ = counter.pay()
            assert (code, told["error"]["code"]) == (EXIT_UNAVAILABLE, "already_running")
        finally:
            gateway.send_signal(signal.SIGTERM)
            gateway.communicate()
    assert gateway.returncode == 0
    counter.agree()


def debit_of(counter):
    """(number of the command that debits, after it) from a sale as it should be."""
    assert counter.pay()[0] == EXIT_PAID
    names = [(name, command[:2]) for name, command in counter.commands]
    return names.index(("card", b"\x80\x54")) + 1, True


def wait_for(holds):
    until = time.monotonic() + STUCK_S
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.1)
