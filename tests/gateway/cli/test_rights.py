"""Nobody but the gateway's user reads its files, and whoever may not is told so."""

import shutil
import stat
import subprocess
import sys

import pytest

from gateway import private_files
from gateway.health import HealthFile
from tests import accounts
from tests.gateway.debit.conftest import FakeClock

pytestmark = pytest.mark.slow


def test_files_that_were_opened_are_found_and_closed(tmp_path):
    ledger, other = tmp_path / "ledger.db", tmp_path / "state.json"
    for path, mode in ((ledger, 0o644), (other, 0o600)):
        path.touch()
        path.chmod(mode)
    files = [*private_files.of_ledger(ledger), other]
    assert [(found.path, found.cure) for found in private_files.open_to_others(files)] == [
        (ledger, f"chmod 600 {ledger}")
    ]
    assert private_files.close(files) == []
    assert stat.S_IMODE(ledger.stat().st_mode) == 0o600


def test_a_folder_is_looked_at_and_left_alone(tmp_path):
    """Much else may stand in it."""
    ledger = tmp_path / "ledger.db"
    ledger.touch()
    tmp_path.chmod(0o755)
    still = private_files.close([ledger])
    assert [(found.path, found.folder, found.cure) for found in still] == [(tmp_path, True, f"chmod 700 {tmp_path}")]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_check_config_names_each_open_file(ask, begun, site):
    ledger = site.parent / "ledger.db"
    ledger.chmod(0o640)
    site.parent.chmod(0o750)
    found = ask("check-config", "--config", site, code=2)["problems"]
    assert [(problem["value"], problem["cure"]) for problem in found] == [
        (str(ledger), f"chmod 600 {ledger}"),
        (str(site.parent), f"chmod 700 {site.parent}"),
    ]


def test_what_commands_write_is_their_users_alone(site):
    """As processes, started by somebody whose own files are open to all."""
    folder = site.parent
    before = set(folder.rglob("*"))
    for command in (
        ("ledger", "key", folder / "new.key"),
        ("ledger", "create"),
        ("lists", "build", folder / "delivery.csv", "--version", "L2"),
        ("mandates", "import", folder / "mandates.csv"),
        ("ledger", "backup", folder / "backup.db"),
        ("clearing", "report", "20260101", "--out", folder / "reports"),
    ):
        config = () if command[:2] == ("ledger", "key") else ("--config", site)
        order = [sys.executable, "-m", "gateway.cli.main", *map(str, (*command, *config))]
        done = subprocess.run(order, capture_output=True, text=True, check=False, umask=0o022)
        assert done.returncode == 0, done.stderr
    written = set(folder.rglob("*")) - before
    assert {path.name for path in written} >= {"new.key", "ledger.db", "ledger.db.mark", "backup.db", "reports"}
    assert {path for path in written if stat.S_IMODE(path.stat().st_mode) & 0o077} == set()


@accounts.needed
@pytest.mark.parametrize("command", [("passages",), ("status",), ("ledger", "verify"), ("debts",)])
def test_another_user_is_told_whose_files_they_are(run, begun, open_folder, command):
    state = begun.parent / "state.json"
    HealthFile(state, FakeClock(), dict).write(running=False)
    state.chmod(0o600)
    site = copied(begun, open_folder)
    run(*command, "--config", site, code=3 if command == ("status",) else 0)  # also: all it needs is imported now
    with accounts.as_another():
        told = run(*command, "--config", site, code=3)
    assert told.stdout == ""
    assert "is for root alone" in told.stderr
    assert "sudo -u root etcgw" in told.stderr


@accounts.needed
def test_a_folder_that_may_not_be_entered_is_told_as_the_file_is(run, begun, open_folder):
    site = copied(begun, open_folder)
    (site.parent / "data").mkdir()
    shutil.move(site.parent / "ledger.db", site.parent / "data")
    text = site.read_text(encoding="utf-8")
    site.write_text(text.replace("[lists]", '[storage]\nledger = "data/ledger.db"\n[lists]'), encoding="utf-8")
    site.chmod(0o644)
    (site.parent / "data" / "ledger.db").chmod(0o644)
    with accounts.as_another():
        assert "is for root alone" in run("passages", "--config", site, code=3).stderr


def copied(site, folder):
    """A site where every account may look for it."""
    there = shutil.copytree(site.parent, folder / "site")
    there.chmod(0o755)
    (there / "site.toml").chmod(0o644)
    return there / "site.toml"
