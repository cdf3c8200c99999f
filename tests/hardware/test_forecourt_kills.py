"""The gateway is killed at steps of a sale of fuel, and makes good; what is wrong is told."""

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from hardware.bench.commits import WriteLock, freeze_when
from hardware.bench.forecourt_kills import Killed, Round, Step, run_kills
from hardware.bench.processes import Program
from hardware.bench.reckoning import Line

FEW = (Step.BEGUN, Step.DELIVERED, Step.ASKED)

WRITER = """
import sqlite3, sys, time
writer = sqlite3.connect(sys.argv[1], isolation_level=None)
print("ready", flush=True)
for number in range(10_000):
    writer.execute("insert into t values (?)", (number,))
    time.sleep(0.01)
"""


@pytest.mark.slow
def test_a_gateway_that_is_killed_at_a_step_of_a_sale_makes_good(tmp_path):
    told = []
    killed = asyncio.run(run_kills(tmp_path, told.append, wanted=1, steps=FEW))
    assert killed.good, killed.text()
    assert len(told) == len(killed.rounds) >= len(FEW)
    report = json.loads(json.dumps(killed.as_dict()))
    assert set(report["steps"]) == {"begun", "delivered", "asked"}
    assert all(sum(outcomes.values()) >= 1 for outcomes in report["steps"].values())
    assert report["steps"]["begun"] == {"nothing": 1}


RIGHT = Killed(
    [Round(Step.BEGUN, Step.BEGUN, 1, "nothing", ()), Round(Step.ASKED, None, 3, "billed", ())],
    [Line("bank", 7850, 7850, "the bank's own book")],
    [],
    wanted=1,
    steps=(Step.BEGUN,),
)


def test_a_table_has_steps_kills_and_outcomes():
    rows = [line.split() for line in RIGHT.text().splitlines()]
    assert RIGHT.good
    assert rows[0] == ["step", "kills", "billed", "nothing"]
    assert rows[1] == [*Step.BEGUN.value.split(), "1", "0", "1"]
    assert rows[2] == ["landed", "elsewhere", "1", "1", "0"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"wanted": 2},
        {"problems": ["the ledger is not whole"]},
        {"lines": [Line("bank", 7850, 0, "the bank's own book")]},
        {"lines": []},
        {"rounds": [Round(Step.BEGUN, Step.BEGUN, 1, "billed", ("charged twice",))]},
    ],
)
def test_a_run_with_anything_wrong_is_not_good(wrong):
    killed = replace(RIGHT, **wrong)
    assert not killed.good
    told = [line for line in killed.text().splitlines() if line.startswith("WRONG")]
    assert bool(told) == (wrong not in ({"wanted": 2}, {"lines": []}))


def test_a_program_is_frozen_after_the_commit_that_was_waited_for(tmp_path):
    ledger, script = tmp_path / "ledger.db", tmp_path / "writer.py"
    script.write_text(WRITER)
    with closing(sqlite3.connect(ledger, isolation_level=None)) as reader:
        reader.execute("pragma journal_mode = wal")
        reader.execute("create table t (number integer)")

        def count():
            return reader.execute("select count(*) from t").fetchone()[0]

        async def scenario():
            program = Program("writer", [str(script), str(ledger)], tmp_path)
            await program.start()
            try:
                assert await freeze_when(program, ledger, lambda: count() >= 5)
                frozen = count()
                assert frozen >= 5
                lock = WriteLock(ledger)
                lock.take()  # it is not in the middle of a commit
                lock.let_go()
                lock.let_go()
                assert count() == frozen
                program.thaw()
                assert await freeze_when(program, ledger, lambda: count() > frozen)
            finally:
                await program.kill()

        asyncio.run(scenario())
