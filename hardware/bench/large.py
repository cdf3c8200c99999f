"""Large ledgers: as many debits as a site has in a month, and what its commands and a start take on them.

The ledger is filled by the engine's own changes (`measure_start.fill`), under a clock on which the month passes in
minutes. Every command runs as a person runs it, beside a gateway that has just started; the reference is a process that
asks the same file for the same rows in one plain SQL statement. What does not depend on the ledger's size takes as long
on a ledger of a few debits, which is measured, too.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, Final

from drivers.clock import SystemClock
from gateway.banks.channel import BankAnswer
from gateway.ledger import engines, incarnation
from gateway.ledger.incarnation import Birth, Place
from gateway.ledger.marks import MarkFile
from gateway.ledger.writer import Committer
from gateway.model.answers import AnswerClass
from gateway.model.clock import to_us
from gateway.model.delivery import Delivery
from gateway.model.passage import Funding, Service
from gateway.payers import status_list_build
from hardware.bench.chain_key import KEYS
from hardware.bench.clocks import SteppingClock
from hardware.bench.ledgers import ID
from hardware.bench.load import usage
from hardware.bench.load.site import plan_of, site_text
from hardware.bench.measure_debits import progress
from hardware.bench.measure_start import BANK, COUNT, TAKEN, Left, fill
from hardware.bench.measure_start import KINDS as OPEN_KINDS
from hardware.bench.processes import EmulatedSite

DEBITS: Final = 20_000
"""Debits of the ledger that `make bench` measures: half a minute to fill. A million are asked for."""
FEW: Final = 100
"""Debits of the ledger that it is compared with."""
VEHICLES: Final = 50_000
DAY_US: Final = 86_400 * 1_000_000
MONTH_US: Final = 30 * DAY_US
LOOKS_A_DEBIT: Final = 2
"""Looks at the clock that a debit costs. A commit costs a few more, for which the month begins a day earlier."""
NOWHERE: Final = "127.0.0.1:9"
"""Address where nobody listens: a start waits for no device."""

_PURSE = Left(Funding.PURSE, Service.TOLL, True, TAKEN, decided=True)
_CLEARED = Left(Funding.ISSUER_CLEARING, Service.TOLL, True, TAKEN, decided=True)
_BANK = Left(
    Funding.BANK_ONLINE,
    Service.PARKING,
    False,
    asked=True,
    decided=True,
    answer=BankAnswer(Delivery.ANSWERED, AnswerClass.APPROVED, "00"),
)
_MONTH: Final = ([_PURSE] * 12 + [_CLEARED] * 5 + [_BANK] * 3) * 50
KINDS: Final = (*_MONTH[:-1], OPEN_KINDS["owed, advice waiting"])
"""Kinds of a thousand debits: one of them is still open at the bank."""

REFERENCE: Final = """
import json, sqlite3, sys
connection = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
print(json.dumps([row[0] for row in connection.execute(sys.argv[2])]))
"""
"""Program of the reference: the first column of one statement."""

BARE: Final = """
import typer
app = typer.Typer()
@app.command()
def nothing(name: str = "nobody") -> None:
    print("[]")
app()
"""
"""Program of commands that does nothing: no command of ours can start sooner."""

MEASURING: Final = """
import json, os, subprocess, sys, time
begun = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)
output = process.stdout.read()
_, status, used = os.wait4(process.pid, 0)
seconds = time.perf_counter() - begun
print(json.dumps([status, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, output]))
"""
"""Program that measures another one. A small one: the memory of whoever starts a program counts as its first."""

TAKES: Final = 3
"""Takes of each time, of which the shortest counts: neighbours on the machine only ever add to it."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    """Command to be measured, and the statement whose first column its rows must have."""

    name: str
    arguments: tuple[str, ...]
    rows: Callable[[dict[str, Any]], list[Any]]
    sql: str


def commands(debits: int) -> tuple[Command, ...]:
    """Commands on a ledger of so many debits."""
    middle = f"key-{debits // 2}"
    decisions = """
        select d.record_no, d.decided_at, d.charge_point, d.amount, d.outcome, d.release, s.plate, c.state
        from decision d join passage p on p.id = d.passage_id join subject s on s.id = p.id
             left join debit c on c.id = d.debit_id
    """
    sums = "select state, count(*), sum(amount) from debit group by state order by state"

    def states(found: dict[str, Any]) -> list[Any]:
        return sorted(found["sums"])

    return (
        Command("passages", ("passages",), _records, f"{decisions} order by d.record_no desc limit 20"),
        Command(
            "passages of a lane since a day ago",
            ("passages", "--lane", "lane-1", "--since", "1d"),
            _records,
            f"{decisions} where d.charge_point = 'lane-1' and d.decided_at >= 1e6 * unixepoch('now', '-1 day')"
            " order by d.record_no desc limit 20",
        ),
        Command("debits", ("debits",), states, sums),
        Command(
            "debits owed", ("debits", "--state", "owed"), states, sums.replace("group", "where state = 'owed' group")
        ),
        Command("debits open", ("debits", "--open"), states, sums.replace("group", "where state <> 'funded' group")),
        Command(
            "debits show",
            ("debits", "show", middle),
            lambda found: [found["idempotency_key"]],
            f"select idempotency_key, state, amount from debit where idempotency_key = '{middle}'",  # noqa: S608 - a number
        ),
        Command(
            "ledger accounts",
            ("ledger", "accounts"),
            lambda found: [account["balance_fen"] for account in found["accounts"]],
            "select sum(balance), sum(held) from account group by kind order by min(id)",
        ),
        Command("status", ("status",), lambda _: [1], "select 1"),
    )


def _records(found: dict[str, Any]) -> list[Any]:
    return [passage["record_no"] for passage in found["passages"]]


def measure(folder: Path, debits: int = DEBITS) -> list[Row]:
    """Rows for a start and for each command: seconds, CPU time against plain SQL, a program that
    does nothing and a small ledger, and memory."""
    small, large = (asyncio.run(measure_site(grow(folder / str(size), size), size)) for size in (FEW, debits))
    return [
        {
            f"on {debits} debits": name,
            "s": taken.seconds,
            "cpu_s": taken.cpu_s,
            "plain_sql_cpu_s": taken.plain_cpu_s,
            "ratio": taken.cpu_s / taken.plain_cpu_s,
            "ratio_to_bare_program": taken.cpu_s / taken.bare_cpu_s,
            f"ratio_to_{FEW}_debits": taken.cpu_s / small[name].cpu_s,
            "resident_mb": taken.resident_mb,
            f"mb_on_{FEW}_debits": small[name].resident_mb,
        }
        for name, taken in large.items()
    ]


@dataclass(frozen=True, slots=True)
class Taken:
    """Time and memory that a command took, and time of its two references; the least of some takes."""

    seconds: float
    cpu_s: float
    plain_cpu_s: float
    """CPU time of the plain statement."""
    bare_cpu_s: float
    """CPU time of a program of commands that does nothing."""
    resident_mb: float
    """Most memory that it had."""


async def measure_site(site: EmulatedSite, debits: int) -> dict[str, Taken]:
    """Measure a start and every command at a site whose ledger stands."""
    taken = {"start": await _start(site)}
    await site.gateway.start()
    try:
        for command in commands(debits):
            taken[command.name] = await asyncio.to_thread(_take, site, command)
    finally:
        await site.gateway.stop()
    return taken


async def _start(site: EmulatedSite) -> Taken:
    """Start the gateway until it is ready, against a look at all that is open."""
    taken = []
    for _ in range(TAKES):
        begun = time.perf_counter()
        await site.gateway.start()
        seconds, pid = time.perf_counter() - begun, site.gateway.pid or 0
        ours = Taken(seconds, usage.cpu_s(pid), 0.0, 0.0, usage.resident_mb(pid))
        await site.gateway.stop()
        taken.append((await asyncio.to_thread(_beside, ours, _plain(site, COUNT)))[0])
    return _least(taken)


def _take(site: EmulatedSite, command: Command) -> Taken:
    """Measure a command and its reference in turns. Raises ValueError where they have other rows."""
    ours = [sys.executable, "-m", "gateway.cli.main", *command.arguments, "--json", "--config", str(site.site_file)]
    taken = []
    for _ in range(TAKES):
        mine, found = _run(ours)
        beside, expected = _beside(mine, _plain(site, command.sql))
        if command.rows(found) != expected:
            raise ValueError(f"{command.name} shows {command.rows(found)}, plain SQL {expected}")
        taken.append(beside)
    return _least(taken)


def _beside(ours: Taken, plain: Sequence[str]) -> tuple[Taken, Any]:
    """Our take with the references beside it, and what the plain statement found."""
    (by_sql, found), (bare, _) = _run(plain), _run([sys.executable, "-c", BARE])
    return replace(ours, plain_cpu_s=by_sql.cpu_s, bare_cpu_s=bare.cpu_s), found


def _least(taken: Sequence[Taken]) -> Taken:
    return Taken(*map(min, zip(*map(astuple, taken), strict=True)))


def _plain(site: EmulatedSite, sql: str) -> list[str]:
    return [sys.executable, "-c", REFERENCE, str(site.ledger), sql]


def _run(command: Sequence[str]) -> tuple[Taken, Any]:
    """Run a command: what it took, and the JSON it printed."""
    measuring = [sys.executable, "-c", MEASURING, *command]
    told = subprocess.run(measuring, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)  # noqa: S603 - our own
    status, seconds, cpu_s, resident_mb, output = json.loads(told.stdout)
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with status {status}")
    return Taken(seconds, cpu_s, 0.0, 0.0, resident_mb), json.loads(output)


def site_at(folder: Path) -> EmulatedSite:
    """Site in a folder, with the addresses of its devices."""
    site = EmulatedSite(folder, plan=plan_of(1), site_text=site_text(1).replace("bank-a", BANK.name))
    site.addresses |= dict.fromkeys(("bank", "board-1", "lane-1"), NOWHERE)
    return site


def _publish_list(folder: Path) -> None:
    """Publish a status list, without which no gateway starts; none of the vehicles is on it."""
    delivery, now = folder / "delivery.csv", SystemClock().utcnow()
    delivery.write_text("kind,key,list_type,sign\ncard,99019999999999999999,4,1\n", encoding="ascii")
    (folder / "lists").mkdir()
    status_list_build.build(delivery, folder / "lists", version="L1", created_at=now, effective_at=now)


def grow(folder: Path, debits: int) -> EmulatedSite:
    """Make a site of one lane, none of its devices there, with a ledger of so many debits over a month.

    Raises `LedgerRefused` where there is one.
    """
    site = site_at(folder)
    begun = time.perf_counter()

    def tell(done: int) -> None:
        progress("large ledger", done, debits, time.perf_counter() - begun)

    place = Place(site.ledger, Path(f"{site.ledger}.mark"))
    begun_us = to_us(SystemClock().utcnow()) - MONTH_US - DAY_US
    clock = SteppingClock(begun_us, MONTH_US // (LOOKS_A_DEBIT * max(debits, FEW)))
    incarnation.create(place, clock, KEYS, Birth(ID, "for a bench", "bench"))
    site.write_site_file()
    _publish_list(folder)
    engine = engines.open_writer(site.ledger)
    try:
        committer = Committer(engine, clock, keys=KEYS, mark=MarkFile(place.mark, ID))
        fill(committer, debits, clock, KINDS, vehicles=VEHICLES, progress=tell)
        committer.follow()
        engines.take_over_log(engine)
    finally:
        engine.dispose()
    return site
