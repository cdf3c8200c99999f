"""What people do at a running gateway: it does it itself, in the name of the account that gave the command."""

import shutil
import signal

import pytest

from tests import accounts
from tests.programs import program

pytestmark = pytest.mark.slow


@pytest.fixture
def desk(site, ledger, open_folder):
    """A site whose clerks are another account's group, and its gateway's start."""
    text = site.read_text(encoding="utf-8")
    roles = '[people]\nsocket = "people.sock"\n[people.roles]\nclerk = ["nogroup"]\n[lists]'
    there = shutil.copytree(site.parent, open_folder / "site")
    there.chmod(0o755)
    (there / "site.toml").write_text(text.replace("[lists]", roles), encoding="utf-8")
    (there / "site.toml").chmod(0o644)
    return there / "site.toml"


@accounts.needed
@pytest.mark.usefixtures("ledger")
def test_two_accounts_write_off_at_a_running_gateway(run, ask, desk, monkeypatch):
    monkeypatch.undo()  # real accounts from here on
    give_up = ("debts", "write-off", "3", "--reason", "car scrapped", "--config", desk)
    pay = ("debts", "pay", "3", "--till", "t1", "--config", desk)
    with program("gateway.cli.main", "run", "--config", str(desk), stderr=-3) as gateway:
        assert gateway.stdout.readline() == "ready\n"
        assert "somebody else" in run(*give_up).stderr
        assert "two different people" in run(*give_up, code=1).stderr
        assert "未作任何处理" in run(*give_up, "--lang", "zh", code=1).stderr
        with accounts.as_another():
            assert "may not do that" in run(*pay, code=1).stderr
            assert ask(*give_up)["state"] == "written_off"
        gateway.send_signal(signal.SIGTERM)
        gateway.communicate()
    items = ask("clearing", "items", "--config", desk, "--state", "written_off")["items"]
    assert [(item["actor"], item["second_actor"]) for item in items] == [("root", "nobody")]
    with accounts.as_another():
        told = run(*give_up, code=3).stderr
    assert "is for root alone" in told
    run("ledger", "verify", "--config", desk)
