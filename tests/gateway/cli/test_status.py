"""`etcgw status` reads the file a gateway keeps."""

import json

import pytest

from gateway.cli.options import now_utc
from gateway.health import HealthFile
from gateway.model.clock import to_us
from tests.gateway.debit.conftest import FakeClock


@pytest.fixture
def state(site, monkeypatch):
    """Write a state file as a gateway does, so many seconds before the commands look at it."""
    now = now_utc()
    monkeypatch.setattr("gateway.cli.running.now_utc", lambda: now)

    def write(*, age_s=0.0, running=True, **reports):
        clock = FakeClock()
        clock.now = now.timestamp() - age_s
        facts = {
            "site": "测试收费站",
            "mode": "bench",
            "recovered_at_start": {"open_debits": 2, "voided": 0},
            "outbox": {"bank-1": {"waiting": 3, "oldest_us": to_us(clock.utcnow()) - 90_000_000}},
            "restarts": {"lane/lane-1": 1},
        }
        board = HealthFile(site.parent / "state.json", clock, lambda: facts)
        board.report("ledger", True, "storage is writing")
        for part, (cause, code) in reports.items():
            board.report(part, False, cause, code)
        board.write(running=running)

    return write


def test_all_well(ask, run, site, state):
    state()
    found = ask("status", "--config", site)
    assert (found["running"], found["works"]) == (True, True)
    assert found["parts"]["ledger"]["works"] is True
    text = run("status", "--config", site).stdout
    assert "all 1 work" in text
    assert "3 waiting, the oldest for 90.0 s" in text
    assert "2 open debits" in text
    assert "lane/lane-1 1" in text


def test_what_does_not_work_comes_with_reason_and_next_step(ask, run, site, state):
    state(antenna=("no heartbeat", "rsu_silent"), task=("it raised", None))
    part = ask("status", "--config", site)["parts"]["antenna"]
    assert (part["code"], part["works"]) == ("rsu_silent", False)
    assert part["zh"]
    assert part["next_step_en"]
    english = run("status", "--config", site).stdout
    assert "2 of 3 do not work" in english
    assert f"{part['en']}: no heartbeat" in english
    assert part["next_step_en"] in english
    assert english.index("antenna") < english.index("storage is writing")
    chinese = run("--lang", "zh", "status", "--config", site).stdout
    assert part["zh"] in chinese
    assert part["next_step_zh"] in chinese


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"running": False}, "it was stopped"),
        ({"age_s": 60.0}, "killed, or hangs"),
        ({"age_s": -3600.0}, "killed, or hangs"),
    ],
    ids=["stopped", "old", "from the future"],
)
def test_not_running_is_3(run, site, state, facts, why):
    state(**facts)
    found = json.loads(run("status", "--config", site, "--json", code=3).stdout)
    assert (found["running"], found["works"], found["parts"]["ledger"]["works"]) == (False, False, None)
    result = run("status", "--config", site, code=3)
    assert "NOT RUNNING" in result.stdout
    assert "none of 1 works" in result.stdout
    assert "stopped" in result.stdout
    assert why in result.stderr
    assert "etcgw run" in result.stderr


def test_never_run_is_3(run, site):
    result = run("status", "--config", site, code=3)
    assert result.stdout == ""
    assert "state.json" in result.stderr


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", json.dumps({"written_us": "x", "parts": {}, "running": 1})])
def test_a_foreign_file_is_3(run, site, text):
    (site.parent / "state.json").write_text(text, encoding="utf-8")
    assert "no state file" in run("status", "--config", site, code=3).stderr


def test_a_fault_of_a_stopped_gateway_is_still_told(ask, run, site, state):
    state(running=False, antenna=("no heartbeat", "rsu_silent"))
    assert ask("status", "--config", site, code=3)["parts"]["antenna"]["works"] is False
    assert "none of 2 works, 1 with a fault" in run("status", "--config", site, code=3).stdout
