"""Cars fill up at an island of real processes: gateway, antenna, pumps, bank. Litres and money agree."""

import asyncio
from dataclasses import replace

import pytest

from hardware.bench.forecourt import FILLINGS, drive

pytestmark = pytest.mark.slow


def test_every_litre_and_fen_is_accounted_for(tmp_path):
    told = []
    good = asyncio.run(drive(tmp_path, told.append))
    assert good, "\n".join(told)
    assert len([line for line in told if line.startswith("ok")]) == len(FILLINGS) + 6


def test_a_wrong_expectation_is_told(tmp_path):
    told = []
    wrong = [replace(FILLINGS[4], sale="billed", debit="funded")]
    assert not asyncio.run(drive(tmp_path, told.append, wrong))
    assert [line for line in told if line.startswith("WRONG") and "nozzle hung up" in line]
