"""A whole site in a folder: site file, tariff, status list, and a ledger that the real debit engine wrote."""

import asyncio
import json
import os
import random
import shutil
import sqlite3
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from gateway.acts.actor import Actor
from gateway.cli import store
from gateway.cli.main import app
from gateway.debit.claims import PurchaseResult
from gateway.debit.engine import Timing
from gateway.ledger import engines
from gateway.ledger.hex_text import to_stored
from gateway.ledger.verify import verify
from gateway.model.passage import Funding, PurchaseOutcome, Release
from gateway.payers import fuel_terms, status_list_build
from hardware.bench.chain_key import KEYS, write_key_file
from hardware.bench.ledger_view import texts
from protocols.card import station_new
from tests.gateway.cards.odd_cards import in_slot
from tests.gateway.debit.conftest import (
    APPROVED,
    CONTEXT,
    DECLINED,
    SILENT,
    Box,
    charge,
    hold_request,
    payer_of,
)

SITE = """
mode = "bench"
[site]
name = "测试收费站"
merchant = "road-1"
[lists]
directory = "lists"
[tariffs]
directory = "tariffs"
[[issuers]]
region = "B2E2CAD4"
name = "issuer-9901"
[[banks]]
name = "bank-1"
address = "127.0.0.1:9"
merchant_no = "990100047840001"
[[relay_boards]]
name = "plaza"
address = "127.0.0.1:9"
[[charge_points]]
name = "lane-1"
kind = "toll-open"
station = "99010101"
lane_no = 1
gantry = "990101"
antenna = { address = "127.0.0.1:9" }
outputs = { board = "plaza", barrier = 0, green = 1, red = 2 }
terminals = { bank-1 = ["T0000001", "T0000002"] }
"""
TARIFF = """
version = "9920250101001"
valid_from = 2025-01-01T00:00:00+08:00
[ceiling_fen]
1 = 20000
[class_table.99010101]
1 = 1500
"""
LIST = """kind,key,list_type,sign
card,99010000000000000017,4,1
plate,测A00017|0,1,1
"""
MANDATES = """\
mandate_id,status,funding,channel,contract_ref,limit_fen,stand_in_limit_fen,card_number,contract,plate,plate_colour
m1,active,bank_online,bank-1,6217990100000001,100000,5000,99010000000000000001,,测A00001,0
m2,paused,bank_online,bank-1,6217990100000002,100000,0,99010000000000000002,,测A00002,0
m3,active,issuer_clearing,,,,0,99010000000000000003,,,
"""


def with_fuel(mandates, terms="92;0,20000,60.5,,,500000,"):
    """A file of mandates with fuel terms; the first mandate alone has some."""
    head, first, *others = mandates.splitlines()
    columns = ",".join(fuel_terms.COLUMNS)
    return "\n".join([f"{head},{columns}", f"{first},{terms}", *(line + 7 * "," for line in others), ""])


CARD, PLATE, CONTRACT = "99010000000000000001", "测A00001", "c" * 32


@pytest.fixture
def run(monkeypatch):
    """Call `etcgw` with arguments; asserts the exit code."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG", "ETCGW_CONFIG", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    # The command lowers its own process's priority for good; here that would be the test run's.
    lowered = []
    monkeypatch.setattr("os.nice", lowered.append)

    def call(*arguments, code=0, stdin=None, **environment):
        result = CliRunner(env=environment).invoke(app, [str(a) for a in arguments], input=stdin)
        assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
        return result

    call.lowered = lowered
    return call


@pytest.fixture(autouse=True)
def become(monkeypatch):
    """Give commands from the account `wang`, or from another one; `test_acts` has real accounts."""

    def account(name):
        actor = Actor(os.geteuid(), name, frozenset())
        monkeypatch.setattr("gateway.acts.actor.of_this_process", lambda: actor)

    account("wang")
    return account


@pytest.fixture
def ask(run):
    """Call `etcgw ... --json` and give the one object it printed."""

    def call(*arguments, code=0, **more):
        return json.loads(run(*arguments, "--json", code=code, **more).stdout)

    return call


@pytest.fixture(scope="session")
def site_made_once(tmp_path_factory):
    """Folder with the site file, a tariff and a list; copied for every test."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "tariffs").mkdir()
    (folder / "lists").mkdir()
    (folder / "tariffs" / "a.toml").write_text(TARIFF, encoding="utf-8")
    delivery = folder / "delivery.csv"
    delivery.write_text(LIST, encoding="utf-8")
    made = datetime.now(UTC)
    status_list_build.build(delivery, folder / "lists", version="L1", created_at=made, effective_at=made)
    (folder / "mandates.csv").write_text(MANDATES, encoding="utf-8")
    (folder / "site.toml").write_text(SITE, encoding="utf-8")
    write_key_file(folder)
    return folder


@pytest.fixture
def site(tmp_path, site_made_once):
    """The site file of a site with a tariff and a list, and no ledger yet."""
    return shutil.copytree(site_made_once, tmp_path / "site") / "site.toml"


def station(status):
    """File 0019 of the bench vehicle, 43 bytes."""
    return station_new(
        network="9901",
        station="0101",
        lane=1,
        unix_seconds=1_700_000_000,
        vehicle_class=1,
        status=status,
        plate=PLATE,
        plate_colour=0,
    )


def card_request(key, **more):
    """A hold whose purchase has true files 0019."""
    request = hold_request(key, **more)
    return replace(request, plan=replace(request.plan, file_before=station(1), file_after=station(3)))


@pytest.fixture(scope="session")
def ledger_made_once(tmp_path_factory):
    """A ledger with one passage of every kind; records 1 to 8.

    1 purse paid, seen again (8); 2 bank approved; 3 bank declined; 4 bank silent and stood in; 5 purchase unknown;
    6 the same as 5, proved at the next reading; 7 refused.
    """
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    box = Box(path)

    async def write():
        async with box:
            first = await charge(box, card_request("k1"))
            box.clock.now += 60
            box.bank.answers.append(APPROVED)
            await charge(box, bank_request("k2", "m1", 2))
            box.clock.now += 60
            box.bank.answers.append(DECLINED)
            await charge(box, bank_request("k3", "m2", 3))
            box.clock.now += 60
            box.bank.answers.append(SILENT)
            await charge(box, bank_request("k4", "m4", 4))
            box.clock.now += 60
            lost = PurchaseResult(PurchaseOutcome.UNKNOWN, error=1)
            request = card_request("k5", card="99010000000000000005")
            await charge(box, request, result=lost)
            box.clock.now += 60
            await charge(box, request, result=PurchaseResult(PurchaseOutcome.TAKEN))
            sight = hold_request("k7", card="99010000000000000017").sight
            await box.engine.refuse(sight, "card_listed_in_debt", Release.STOP, CONTEXT, timeout_s=5)
            await box.engine.repeat(first.passage_id, first.debit_id, Release.GO, CONTEXT)
            await box.engine.note_timings([Timing(1, 900_000, 500_000, 0, 3_000, 20_000)])
            await box.engine.note_timings([Timing(2, 1_000_000, 500_500, 400_000, 2_000, None)])

    asyncio.run(write())
    box.keep_mark()
    return path


@pytest.fixture
def ledger(site, ledger_made_once):
    """The same ledger at the test's own site."""
    shutil.copy(f"{ledger_made_once}.mark", site.parent / "ledger.db.mark")
    return shutil.copy(ledger_made_once, site.parent / "ledger.db")


@pytest.fixture
def begun(run, site):
    """The site of a test with a new ledger."""
    run("ledger", "create", "--config", site)
    return site


@pytest.fixture
def sql(site):
    """Read or change the ledger behind the command's back."""

    def call(statement, *values):
        with closing(sqlite3.connect(site.parent / "ledger.db")) as connection, connection:
            return [
                texts(row)
                for row in connection.execute(statement, [to_stored(v) if isinstance(v, str) else v for v in values])
            ]

    return call


@pytest.fixture
def stored(sql, site, ledger):
    """Read the ledger behind the command's back; it must hold together at the end."""
    yield sql
    reader = engines.open_reader(site.parent / "ledger.db")
    assert [finding for check in verify(reader, KEYS) for finding in check.findings] == []
    reader.dispose()


@pytest.fixture
def ledger_in_use(site, monkeypatch):
    """Another process writes to the ledger, and commands do not wait long for it."""
    monkeypatch.setattr(store, "BUSY_TRIES_MAX", 2)

    @contextmanager
    def held():
        with closing(sqlite3.connect(site.parent / "ledger.db", isolation_level=None)) as other:
            other.execute("begin immediate")
            yield
            other.execute("rollback")

    return held


@pytest.fixture
def drive(site, ledger):
    """Let the engine work on the same ledger."""

    def call(scenario):
        async def inside():
            box = Box(site.parent / "ledger.db")
            box.random, box.clock.now = random.Random(99), box.clock.now + 3600
            async with box:
                result = await scenario(box)
            box.keep_mark()
            return result

        return asyncio.run(inside())

    return call


def bank_request(key, mandate, number, **more):
    """A hold on a bank mandate of its own card."""
    payer = payer_of(Funding.BANK_ONLINE, mandate=mandate)
    return card_request(key, payer=payer, card=f"990100000000000000{number:02d}", **more)


@pytest.fixture
def desk(monkeypatch):
    """Put chips into the readers that commands find: one into the only reader, others by the names of theirs."""

    def put(chip, **others):
        @asynccontextmanager
        async def slot_of(reader, _):
            yield in_slot(others.get(reader, chip))

        monkeypatch.setattr("gateway.cli.card_reader.slot_of", slot_of)

    return put


@pytest.fixture
def dump(ask, desk, tmp_path):
    """Dump of a card as a file."""

    def make(chip, name="card.json"):
        desk(chip)
        file = tmp_path / name
        file.write_text(json.dumps(ask("card", "read", "--unmask")), encoding="utf-8")
        return file

    return make
