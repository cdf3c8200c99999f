"""A small day through the real engine and the bench's bank over a real socket, cleared against the bank's own book."""

import asyncio
import csv
import random

import pytest

from drivers.bank import BankLink, BankLinkConfig, BankState
from drivers.clock import SystemClock
from drivers.link import TcpLink
from gateway.banks.assemble import BankTransport
from gateway.banks.iso8583 import Iso8583Channel
from gateway.clearing.imports import import_file
from hardware.emulators.bank_host import BankHost, BankHostConfig
from hardware.emulators.control import ControlClient
from protocols.bank.transactions import Profile
from tests.gateway.clearing.conftest import DAY

PATIENCE_S = 300.0
"""Longest wait for an answer that must come; no passing test waits for it."""
CARS = 6


async def through_the_host(plaza, folder, drive):
    """Charge at the host, drain the outbox, and have the host write its day file."""
    box = plaza.box
    host = BankHost(BankHostConfig(book=folder / "book.db", latency_ms=0), utcnow=box.clock.utcnow)
    await host.start()
    profile = Profile(terminal="T0000001", merchant="990100047840001")
    up = asyncio.Event()
    transport = BankTransport(
        lambda late: BankLink(
            BankLinkConfig(device="bank", profile=profile, terminals=("T0000001", "T0000002")),
            connect=lambda: TcpLink.connect(*host.address, timeout_s=PATIENCE_S, device="bank"),
            clock=SystemClock(),
            chance=random.Random(1),
            on_state=lambda state: up.set() if state.state is BankState.UP else None,
            on_late=late,
        )
    )
    running = asyncio.create_task(transport.run())
    box.bank = Iso8583Channel("bank-1", profile, {"lane-1": ("T0000001", "T0000002")}, transport)
    assert not box.bank.up, "connecting"
    try:
        async with asyncio.timeout(PATIENCE_S), await ControlClient.connect(*host.control_address) as control, box:
            await up.wait()
            assert box.bank.up
            for number in range(1, CARS + 1):
                await control.request("account", contract=f"62179901{number:08d}", balance_fen=100_000)
            await drive(plaza, control)
            box.clock.now += 200  # older than a message can be
            await box.drain(6)
            path = folder / "host.csv"
            told = await control.request("day_file", day=DAY, path=str(path))
            return path, told["net_fen"]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await host.close()
        box.open()


async def mixed_day(plaza, control):
    """Paid, declined, silent and booked, silent and not booked; then both terminals wait, and the bank is not asked.

    What was let go on our own word ends in an advice.
    """
    await plaza.pass_bank(timeout=PATIENCE_S)
    await control.request("behave", mode="decline", next=1)
    await plaza.pass_bank(amount=900, timeout=PATIENCE_S)
    await control.request("behave", mode="silent-but-posted", next=1)
    await plaza.pass_bank(amount=2500, timeout=0.5)
    await control.request("behave", mode="silent-not-posted", next=1)
    await plaza.pass_bank(amount=700, timeout=0.5)
    await plaza.pass_bank(amount=1100)
    await plaza.pass_purse()


@pytest.fixture
def day(plaza, tmp_path):
    """The file as the host wrote it, as rows that a test may change before it is brought in."""
    path, net = asyncio.run(through_the_host(plaza, tmp_path, mixed_day))
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] != "total"]
    assert net == 1500 + 2500 + 700 + 1100
    return path, rows


def lines_of(rows):
    return [(r["kind"], r["terminal"], r["batch"], r["stan"], int(r["amount"])) for r in rows]


def test_the_hosts_file_and_the_ledger_agree_to_the_fen(plaza, day):
    path, rows = day
    assert sorted(row["kind"] for row in rows) == ["advice", "advice", "advice", "reversal", "sale", "sale"]
    import_file(path, "bank-1", DAY, plaza.commit, plaza.terms)
    result = plaza.run()
    assert result.differences == []
    assert result.findings == []
    assert dict(result.states) == {"cleared": 5}
    left = plaza.balances()
    # What is left is the declined car: its payer's debt, and the collector has not been paid for it.
    assert sorted(left.values()) == [-900, 900]
    assert left["merchant:road-1"] == 900


def planted(rows):
    """The same day with one fault of each kind that a bank's file can have."""
    by_kind = {kind: [line for line in lines_of(rows) if line[0] == kind] for kind in ("sale", "advice", "reversal")}
    reversed_keys = by_kind["reversal"][0][1:4]
    sales = [sale for sale in by_kind["sale"] if sale[1:4] != reversed_keys]
    first, second, *_ = by_kind["advice"]
    return {
        "missing_at_bank": [line for line in lines_of(rows) if line != sales[0]],
        "missing_here": [*lines_of(rows), ("sale", "T0000002", "000001", "000999", 5)],
        "amount_differs": [(*line[:4], line[4] - 1) if line == sales[0] else line for line in lines_of(rows)],
        "duplicate_at_bank": [*lines_of(rows), first],
        "reversed_at_bank": [*lines_of(rows), ("reversal", *second[1:])],
        "not_posted_here": [line for line in lines_of(rows) if line[0] != "reversal"],
    }


@pytest.mark.parametrize(
    "kind",
    ["missing_at_bank", "missing_here", "amount_differs", "duplicate_at_bank", "reversed_at_bank", "not_posted_here"],
)
def test_each_planted_difference_is_found_alone(plaza, day, kind):
    _, rows = day
    plaza.bring(planted(rows)[kind])
    result = plaza.run()
    assert [difference.kind.value for difference in result.differences] == [kind]
    assert [(name, state) for name, _, _, state in plaza.items()] == [(kind, "open")]
