"""Whatever a running site writes is its user's alone, and another account is told so."""

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import time
from contextlib import closing

import pytest
from typer.testing import CliRunner

from gateway.cli.main import app
from hardware.bench.waiting import STUCK_S
from tests import accounts
from tests.programs import program

pytestmark = pytest.mark.bench


def decisions(ledger):
    try:
        with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:
            return connection.execute("select count(*) from decision").fetchone()[0]
    except sqlite3.Error:
        return 0


def test_what_a_running_site_writes_is_its_users_alone(open_folder):
    """Started by somebody whose own files are open to all."""
    site = open_folder / "site"
    with program(
        "hardware.bench.cli", "serve", "--folder", str(site), umask=0o022, stderr=subprocess.STDOUT
    ) as serving:
        begun = time.monotonic()
        while not decisions(site / "ledger.db"):
            assert serving.poll() is None
            assert time.monotonic() - begun < STUCK_S, "no vehicle was decided about"
            time.sleep(0.1)
        if os.geteuid() == 0:
            another_account_is_told(site)
        serving.send_signal(signal.SIGINT)
        serving.communicate()
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in (site, *site.rglob("*")) if not path.is_symlink()}
    assert {path for path, mode in modes.items() if mode & 0o077} == set()
    assert site / "ledger.db" in modes
    assert any(path.suffix == ".capture" for path in modes)


def another_account_is_told(site):
    """Of files that are open in a running gateway as of those of a stopped one."""
    shutil.copy(site / "site.toml", site.parent / "site.toml")
    text = (site / "site.toml").read_text(encoding="utf-8")
    other = site.parent / "site.toml"
    other.write_text(text.replace('"ledger.db"', '"site/ledger.db"'), encoding="utf-8")
    other.chmod(0o644)
    ask = ["passages", "--config", str(other)]
    assert CliRunner().invoke(app, ask).exit_code == 0  # also: all it needs is imported now
    with accounts.as_another():
        told = CliRunner().invoke(app, ask)
    assert (told.exit_code, told.stdout) == (3, "")
    assert "sudo -u root etcgw" in told.stderr
