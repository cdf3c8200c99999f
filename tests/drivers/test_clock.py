"""The machine's clocks."""

import subprocess
import sys

import pytest

from drivers import clock
from drivers.clock import SystemClock

ASK = "from drivers.clock import SystemClock as C; print(C().boot, C().monotonic())"


@pytest.mark.skipif(not clock._BOOT_ID.exists(), reason="this kernel does not name its starts")
def test_all_processes_of_one_start_of_the_machine_share_its_monotonic_clock():
    before = SystemClock().monotonic()
    told = subprocess.run([sys.executable, "-c", ASK], check=True, capture_output=True, text=True).stdout.split()
    assert told[0] == SystemClock().boot
    assert before < float(told[1]) < SystemClock().monotonic()


def test_where_starts_have_no_name_no_two_processes_share_one(monkeypatch, tmp_path):
    monkeypatch.setattr(clock, "_BOOT_ID", tmp_path / "none")
    mine = SystemClock().boot
    assert mine == SystemClock().boot
    ask = (
        f"import drivers.clock as c, pathlib; c._BOOT_ID = pathlib.Path('{tmp_path}/none'); print(c.SystemClock().boot)"
    )
    other = subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
    assert len(other) == 32
    assert other != mine
