"""kill -9 of the real gateway process at five places of a passage, under traffic; then freezes and floods as well."""

import asyncio
import json
from itertools import islice

import pytest
from typer.testing import CliRunner

from hardware.bench import chaos
from hardware.bench.chaos import Kind, run_chaos, troubles
from hardware.bench.cli import app
from hardware.bench.reckoning import Line
from hardware.bench.storm import Place, run_storm

KILLS = 3
"""At each place: every commit is cut in the simulation; here it is real processes that die."""


@pytest.mark.bench
@pytest.mark.parametrize(("lane", "entry"), [("lane-1", None), ("lane-4", "99010103")], ids=["network", "serial"])
def test_no_kill_charges_twice_or_loses_a_passage(tmp_path, capsys, lane, entry):
    result = asyncio.run(run_storm(tmp_path, wanted=KILLS, lane=lane, entry=entry))
    with capsys.disabled():
        print(f"\n{lane}\n{result.text()}")
    assert not result.problems
    assert [line for line in result.lines if not line.agrees] == []
    assert all(result.histogram[place] >= KILLS for place in Place)


@pytest.mark.bench
def test_no_kill_freeze_or_flood_costs_a_fen(tmp_path, capsys):
    said = []
    result = asyncio.run(run_chaos(tmp_path, freezes=True, floods=True, seconds=30, seed=3, say=said.append))
    with capsys.disabled():
        print(f"\n{result.text()}")
    assert result.problems == []
    assert [line for line in result.lines if not line.agrees] == []
    assert all(result.happened[kind] for kind in Kind)
    assert len(said) == result.happened.total()
    assert result.through == len(result.vehicles) > 0
    flooded = [json.loads(line) for line in (tmp_path / "bank.capture").read_text().splitlines()]
    assert sum(len(line["hex"]) for line in flooded if line["dir"] == "out") > 100_000


def test_a_seed_decides_what_happens_and_every_kind_comes_in_each_round():
    kinds = tuple(Kind)
    first = list(islice(troubles(5, kinds), 2 * len(kinds)))
    assert first == list(islice(troubles(5, kinds), 2 * len(kinds)))
    assert first != list(islice(troubles(6, kinds), 2 * len(kinds)))
    for half in (first[: len(kinds)], first[len(kinds) :]):
        assert {trouble.kind for trouble in half} == set(kinds)
    assert all(trouble.seconds <= 7 for trouble in first)


@pytest.mark.parametrize(("ours", "status"), [(100, 0), (99, 1)])
def test_a_wrong_fen_is_told_to_people_and_programs(monkeypatch, tmp_path, ours, status):
    async def short(_folder, **wanted):
        assert wanted.pop("say")
        assert wanted == {"freezes": True, "floods": False, "seconds": 12, "seed": 4}
        return chaos.Survived(4, lines=[Line("merchant", ours, 100, "fares priced by hand")])

    monkeypatch.setattr(chaos, "run_chaos", short)
    wanted = ["storm", "--freezes", "--seconds", "12", "--seed", "4", "--folder", str(tmp_path)]
    people = CliRunner().invoke(app, wanted)
    assert (people.exit_code, "WRONG merchant" in people.stdout) == (status, status == 1)
    programs = CliRunner().invoke(app, [*wanted, "--json"])
    assert programs.exit_code == status
    assert json.loads(programs.stdout)["good"] is (status == 0)
