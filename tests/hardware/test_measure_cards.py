"""What is measured of cards: in a program of its own, which finds the service that it starts."""

import asyncio
import json
import subprocess
import sys
import time

from hardware.bench import measure_cards, pcsc_daemon
from hardware.bench.measure_cards import Running
from tests.programs import ROOT

MEASURE = """
import json, sys
from pathlib import Path
from hardware.bench import measure_cards
measure_cards.EXCHANGES, measure_cards.READS = 20, 3
print(json.dumps(measure_cards.measure(Path(sys.argv[1]))))
"""


def test_a_card_is_read_through_a_service_of_ones_own(tmp_path, pcsc_service):
    command = (sys.executable, "-c", MEASURE, str(tmp_path))
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    figures = {row["figure"]: row["value"] for row in json.loads(told)}
    assert len(figures) == 6
    assert all(value > 0 for value in figures.values())
    assert figures["share of the reading in which we run, not wait"] < 1
    assert figures["card read whole, times one exchange"] > 10  # it is as many commands and more


def test_a_machine_without_a_service_is_told_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(measure_cards, "library", lambda: None)
    monkeypatch.setattr(pcsc_daemon, "SERVICE", tmp_path / "none")
    (row,) = measure_cards.measure(tmp_path)
    assert row == {"figure": "left out", "value": f"{tmp_path}/none is missing: apt-get install pcscd"}


def test_only_what_runs_is_timed():
    async def work():
        time.sleep(0.02)  # noqa: ASYNC251 - this is the work
        await asyncio.sleep(0.2)
        return 7

    running = Running(work())

    async def awaited():
        return await running

    begun = time.perf_counter()
    assert asyncio.run(awaited()) == 7
    assert 0.02 <= running.seconds <= time.perf_counter() - begun - 0.2
