"""The file that says what works: two languages, never half of it, and kept on a full disk."""

import asyncio
import json
import logging
from datetime import UTC, datetime

import pytest

from gateway.health import SAMPLES_MAX, HealthFile

PATIENCE_S = 300.0


class Clock:
    """Sleeping takes no time."""

    def __init__(self):
        self.now = 1_000.0
        self.sleeps = 0

    def monotonic(self):
        return self.now

    def utcnow(self):
        return datetime.fromtimestamp(1_700_000_000 + self.now, UTC)

    async def sleep(self, seconds):
        self.sleeps += 1
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
def board(tmp_path):
    return HealthFile(tmp_path / "state.json", Clock(), lambda: {"site": "测试"})


def read(board):
    return json.loads(board._path.read_text(encoding="utf-8"))


def test_the_file_names_every_part_with_its_reason_in_two_languages(board):
    board.report("lane-1/antenna", False, "the antenna has gone silent", "rsu_silent")
    board.report("ledger", True, "storage is writing")
    board.write(running=True)
    state = read(board)
    assert (state["running"], state["works"], state["site"]) == (True, False, "测试")
    assert list(state["parts"]) == ["lane-1/antenna", "ledger"]
    antenna = state["parts"]["lane-1/antenna"]
    assert (antenna["works"], antenna["code"], antenna["cause"]) == (False, "rsu_silent", "the antenna has gone silent")
    assert all(antenna[key] for key in ("zh", "en", "next_step_zh", "next_step_en"))
    assert state["parts"]["ledger"]["zh"] is None


def test_everything_works_when_every_part_does(board):
    board.report("ledger", True, "fine")
    assert board.snapshot(running=True)["works"] is True


def test_only_changes_count_and_since_is_the_first_moment_of_a_state(board, caplog):
    caplog.set_level(logging.INFO)
    board.report("ledger", False, "disk full")
    since = board.snapshot(running=True)["parts"]["ledger"]["since_us"]
    board._clock.now += 100
    board.report("ledger", False, "disk full")
    assert board.snapshot(running=True)["parts"]["ledger"]["since_us"] == since
    assert len(caplog.records) == 1
    board.report("ledger", True, "fine")
    assert board.snapshot(running=True)["parts"]["ledger"]["since_us"] > since
    assert [r.levelname for r in caplog.records] == ["ERROR", "INFO"]


def test_a_code_nobody_knows_is_shown_as_it_is(board):
    board.report("x", False, "odd", "no_such_reason")
    part = board.snapshot(running=True)["parts"]["x"]
    assert (part["code"], part["zh"], part["en"]) == ("no_such_reason", None, None)


def test_a_reader_never_sees_half_a_file(board):
    board.write(running=True)
    with board._path.open(encoding="utf-8") as reader:
        board.report("ledger", False, "disk full")
        board.write(running=True)
        assert json.loads(reader.read())["parts"] == {}, "who had it open keeps the old one whole"
    assert [p.name for p in board._path.parent.iterdir()] == ["state.json"]
    assert "ledger" in read(board)["parts"]


def test_a_file_that_cannot_be_written_costs_a_warning(tmp_path, caplog):
    board = HealthFile(tmp_path / "no" / "such" / "folder" / "state.json", Clock(), dict)
    board.write(running=True)
    assert "not written" in caplog.text


def test_on_a_full_disk_the_file_is_overwritten_where_it_stands(board, monkeypatch):
    """A new file has no room, the old one still has its own."""
    board.report("ledger", True, "x" * 500)
    board.write(running=True)
    place = board._path.stat().st_ino

    def no_room(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(board._path), "write_text", no_room)
    board.report("ledger", True, "short")
    board.write(running=False)
    assert read(board)["running"] is False
    assert board._path.stat().st_ino == place


def test_a_disk_gone_read_only_does_not_end_the_task(board, monkeypatch, caplog):
    def refused(*_args, **_kwargs):
        raise OSError(30, "Read-only file system")

    for name in ("write_text", "unlink", "open"):
        monkeypatch.setattr(type(board._path), name, refused)
    board.write(running=True)
    assert "not written" in caplog.text


def test_loop_lag_is_measured_and_bounded(board):
    assert board.snapshot(running=True)["loop_lag_ms"] == {"p50": None, "p99": None, "max": None}

    async def scenario():
        task = asyncio.create_task(board.run())
        async with asyncio.timeout(PATIENCE_S):
            while board._clock.sleeps <= SAMPLES_MAX + 10:
                await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    assert len(board._lags) == SAMPLES_MAX
    assert board.snapshot(running=True)["loop_lag_ms"] == {"p50": 0.0, "p99": 0.0, "max": 0.0}
    assert read(board)["running"] is True
