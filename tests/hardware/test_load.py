"""The load tells what happened: what the road saw, the ledger has, and the null gateway is under the same vehicles."""

import asyncio
import json
import sqlite3
from contextlib import AsyncExitStack, closing
from itertools import cycle
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from gateway.config import load as load_site
from hardware.bench.cli import app
from hardware.bench.load import report, run
from hardware.bench.load.plot import plot
from hardware.bench.load.roadside import Car, Roadside
from hardware.bench.load.run import Wanted, good, rows_of
from hardware.bench.load.site import LANES_MAX, LoadSite
from hardware.bench.load.usage import Usage
from hardware.bench.processes import PATIENT_MS
from hardware.emulators.rsu_antenna import PRESENT_MAX

FEW = Wanted(lanes=2, every_s=1.0, seconds=6.0, bank_every=2, radio_ms=40, deadline_ms=PATIENT_MS, idle_s=0.8)


def rows(ledger, query):
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.bench
def test_what_the_load_reports_the_ledger_has(tmp_path):
    found = asyncio.run(run.run_both(tmp_path, FEW))
    ours, null = found["gateway"], found["null"]
    assert good(found)
    assert ours["offered"] == null["offered"] >= 4
    (paid,) = rows(
        tmp_path / "2-gateway" / "ledger.db",
        "select count(*), sum(funding = 'bank_online'), count(distinct passage_id) from decision"
        " where outcome = 'paid' and release = 'go'",
    )
    assert paid[0] == paid[2] == ours["served"] == ours["charged_once"]
    assert paid[0] > paid[1] > 0
    assert rows(tmp_path / "2-null" / "ledger.db", "select count(*) from decision") == [(null["served"],)]
    # Two processes on a busy machine: what each calls the gateway's share may differ by a time slice either way, but
    # either is a part of the whole, which the radio's time is in as well.
    assert 0 < ours["own_share_p50_ms"] < ours["whole_p50_ms"]
    assert 0 < ours["share_p50_ms"] < ours["whole_p50_ms"]
    assert ours["whole_p50_ms"] > ours["share_p50_ms"] + FEW.radio_ms * 0.9
    assert null["commits_per_passage"] == pytest.approx(1, abs=0.01)
    assert ours["commits_per_passage"] > 1
    assert all(figures["kb_written_per_passage"] > 1 for figures in found.values())
    assert all(figures["resident_mb"] > 10 for figures in found.values())
    ratios = {row["figure"]: row["ratio"] for row in rows_of(found)}
    assert ratios["kb_written_per_passage"] == ours["kb_written_per_passage"] / null["kb_written_per_passage"]
    assert ratios["offered"] is None


@pytest.mark.parametrize("lanes", [1, 17, LANES_MAX])
def test_a_site_of_any_number_of_lanes_is_one_the_gateway_takes(tmp_path, lanes):
    site = LoadSite(tmp_path, lanes, null=False)
    site.addresses |= {f"lane-{n}": f"127.0.0.1:{1000 + n}" for n in range(1, lanes + 1)}
    site.addresses |= {f"board-{n}": f"127.0.0.1:{500 + n}" for n in range(1, 20)} | {"bank": "127.0.0.1:9"}
    site.write_site_file()
    points = load_site(site.site_file).charge_points
    assert [point.lane_no for point in points] == list(range(1, lanes + 1))


def test_a_seed_decides_when_vehicles_come(tmp_path):
    site = LoadSite(tmp_path, 3, null=True)
    first, same, other = (run.Load(site, Wanted(lanes=3, seed=seed))._moments(1.0, 60.0) for seed in (1, 1, 2))
    assert first == same != other
    assert 55 <= len(first) <= 65
    assert {lane for _, lane in first} == set(site.lanes)


def test_a_car_that_finds_no_room_drives_on_unserved(tmp_path):
    async def crowded():
        async with AsyncExitStack() as stack:
            roadside = Roadside(radio_ms=280, seed=1)
            stack.push_async_callback(roadside.close)
            await roadside.start_board(tmp_path / "ledger.db", {"lane-1": {"barrier": 0, "green": 1, "red": 2}})
            await roadside.start_antenna(1, "lane-1")
            load = run.Load(LoadSite(tmp_path, 1, null=True), Wanted(lanes=1))
            cars = [Car(load._vehicle(number, "lane-1")) for number in range(1000, 1000 + PRESENT_MAX + 1)]
            for car in cars:
                roadside.arrive(car, car.described.on_the_road(0))
            return [car.on_road is not None for car in cars]

    assert asyncio.run(crowded()) == [True] * PRESENT_MAX + [False]


def test_use_is_net_of_what_an_idle_gateway_does():
    idle, busy = Usage(2.0, 0.1, 100, 200, 2), Usage(10.0, 1.5, 10_500, 21_000, 110)
    assert busy.net_of(idle) == Usage(10.0, 1.0, 10_000, 20_000, 100)


@pytest.mark.parametrize(("purchases", "rows_of_it", "once"), [(1, 1, 1), (2, 1, 0), (1, 2, 0), (1, 0, 0), (0, 1, 0)])
def test_charged_once_is_once_on_the_card_and_once_in_the_ledger(tmp_path, purchases, rows_of_it, once):
    site = LoadSite(tmp_path, 1, null=True)
    load = run.Load(site, Wanted(lanes=1))
    car = Car(load._vehicle(1001, "lane-1"), SimpleNamespace(purse=SimpleNamespace(decrements=[None] * purchases)))
    with closing(sqlite3.connect(site.ledger)) as connection:
        connection.execute("create table decision (passage_id text)")
        connection.executemany("insert into decision values (?)", [(car.described.obu_id,)] * rows_of_it)
        connection.commit()
    assert load._charged_once([car]) == once


class Curve(run.Load):
    """A gateway whose p99 is the square of the rate in ms, at every other try: at the others a neighbour is busy."""

    def __init__(self, lanes):
        self._wanted = Wanted(lanes=lanes, find=True)
        self._busy = cycle((True, False))

    async def drive(self, rate, _seconds):
        return [SimpleNamespace(lifted_at=1.0, share_s=1.0 if next(self._busy) else rate**2 / 1e3)]

    def _shares_s(self, cars):
        return [car.share_s for car in cars]


@pytest.mark.parametrize(("lanes", "at_50", "at_200"), [(16, 7.07, 14.14), (4, 7.07, None), (1, None, None)])
def test_the_rate_that_passes_a_limit_is_found(lanes, at_50, at_200):
    found = asyncio.run(Curve(lanes)._find())
    for limit, wanted in ((50, at_50), (200, at_200)):
        value = found[f"cars_per_s_at_{limit}_ms"]
        assert value == (None if wanted is None else pytest.approx(wanted, rel=0.1))


FIGURES = {"offered": 3, "served": 3, "charged_once": 3, "share_p50_ms": 4.0, "share_p99_ms": 8.0}
FIGURES |= {"cpu_ms_per_passage": 10.0, "kb_stored_per_passage": 0.0}


@pytest.mark.parametrize(("charged", "status"), [(3, 0), (2, 1)])
def test_a_vehicle_not_charged_once_is_told_to_people_and_programs(monkeypatch, tmp_path, charged, status):
    async def short(_folder, wanted, *, null_only):
        assert (wanted.seed, wanted.find, null_only) == (7, False, False)
        half = {name: value / 2 for name, value in FIGURES.items()} | {"offered": 3, "served": 3, "charged_once": 3}
        return {"gateway": FIGURES | {"charged_once": charged}, "null": half}

    monkeypatch.setattr(report, "run_both", short)
    wanted = ["load", "--lanes", "1,4", "--seed", "7", "--folder", str(tmp_path)]
    picture = tmp_path / "load.svg"
    people = CliRunner().invoke(app, [*wanted, "--picture", str(picture)])
    assert people.exit_code == status
    assert "share p50 ms" in people.stdout.replace("_", " ")
    assert "4 lanes" in picture.read_text().replace("&#160;", " ")
    programs = CliRunner().invoke(app, [*wanted, "--json"])
    assert programs.exit_code == status
    told = json.loads(programs.stdout)
    assert [one["lanes"] for one in told] == [1, 4]
    assert next(row for row in told[0]["figures"] if row["figure"] == "share_p50_ms")["ratio"] == 2.0


def test_a_plot_shows_nothing_written_as_no_bar():
    assert plot({1: {"null": FIGURES | {"share_p50_ms": None}}}) is not None
