"""kill -9 of the real gateway process at five places of a passage, under traffic."""

import asyncio

import pytest

from hardware.bench.storm import Place, run_storm

KILLS = 5


@pytest.mark.bench
@pytest.mark.parametrize(("lane", "entry"), [("lane-1", None), ("lane-4", "99010103")], ids=["network", "serial"])
def test_no_kill_charges_twice_or_loses_a_passage(tmp_path, capsys, lane, entry):
    result = asyncio.run(run_storm(tmp_path, wanted=KILLS, lane=lane, entry=entry))
    with capsys.disabled():
        print(f"\n{lane}\n{result.text()}")
    assert not result.problems
    assert [line for line in result.lines if not line.agrees] == []
    assert all(result.histogram[place] >= KILLS for place in Place)
