"""The demo as `make run` drives it: every decision and every fen, and a run that goes wrong is seen to go wrong."""

import asyncio
import json
import shlex
from dataclasses import replace

import pytest

from hardware.bench import clearing_day
from hardware.bench.busy import lane_deadline_ms, slowdown
from hardware.bench.demo import Demo
from hardware.bench.demo_site import FILLINGS, DemoSite
from hardware.bench.processes import PATIENT_MS, EmulatedSite
from hardware.bench.report import as_dict
from hardware.bench.scenario import VEHICLES, vehicles_of


async def drive(folder, vehicles, kind=EmulatedSite):
    async with kind(folder, deadline_ms=PATIENT_MS) as site:
        demo = Demo(site, vehicles)
        await demo.prepare()
        await demo.drive()
        await demo.prove()
    return demo.run


@pytest.mark.bench
def test_the_whole_scenario_ends_as_written(tmp_path):
    run = asyncio.run(drive(tmp_path, VEHICLES, DemoSite))
    assert run.faults == []
    assert [(r.vehicle.id, r.problems) for r in run.results if not r.right] == []
    assert [(one.filling.vehicle.id, one.problems) for one in run.filled if one.problems] == []
    assert len(run.filled) == run.at_pumps == len(FILLINGS)
    assert [line for line in run.lines if not line.agrees] == []
    assert run.good
    assert as_dict(run)["good"] is True


@pytest.mark.parametrize(("slower", "deadline_ms"), [(1.0, 2000), (1.4, 2000), (2.0, 4000), (50.0, 10_000)])
def test_only_a_busy_machine_gives_its_lanes_more_time(slower, deadline_ms):
    assert lane_deadline_ms(slower) == deadline_ms


def test_work_never_takes_less_than_its_own_time():
    assert slowdown() > 0.99


@pytest.mark.bench
def test_a_second_round_is_known_and_a_day_of_a_bank_that_is_behind_can_be_cleared(tmp_path):
    cars = VEHICLES[3], vehicles_of(1)[3]
    assert all(car.funding == "bank_online" for car in cars)

    async def serve():
        async with EmulatedSite(tmp_path, deadline_ms=PATIENT_MS, bank_days_behind=1) as site:
            demo = Demo(site, cars[:1])
            await demo.prepare()
            assert (await demo.drive_in_turn(cars[0])).right
            await demo.make_known(cars[1:], cars[:1])
            assert (await demo.drive_in_turn(cars[1])).right
            _, command = clearing_day.write(tmp_path, "yesterday", None).splitlines()
            words = shlex.split(command)
            told = json.loads(await site.command(*words[1:4], *words[6:], "--json"))
            assert await site.gateway.stop() == 0
            return told

    told = asyncio.run(serve())
    assert told["differences"] == {}
    assert told["rows"] == {"cleared": {"count": 2, "amount_fen": sum(car.fare_fen for car in cars)}}


@pytest.mark.bench
def test_a_wrong_expectation_is_reported(tmp_path):
    wrong = replace(VEHICLES[0], expected=replace(VEHICLES[0].expected, ends="owed"))
    run = asyncio.run(drive(tmp_path, [wrong]))
    assert not run.good
    assert "funded" in run.results[0].problems[0]
