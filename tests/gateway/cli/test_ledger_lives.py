"""`etcgw ledger create`, `adopt`, `restore`: lives of a ledger, as a person begins them."""

import json
import shutil
from pathlib import Path

WHY = ("--reason", "disk replaced")


def mark_of(site):
    return Path(f"{site.parent / 'ledger.db'}.mark")


def test_create_says_what_it_made_and_never_makes_a_second(ask, run, site):
    made = ask("ledger", "create", "--config", site)
    assert made["life"] == 1
    assert json.loads(mark_of(site).read_text())["incarnation"] == made["id"]
    told = run("ledger", "create", "--config", site, code=3).stderr
    assert "there is a ledger at" in told
    assert "etcgw ledger adopt" in told
    assert "已有账本" in run("--lang", "zh", "ledger", "create", "--config", site, code=3).stderr
    (site.parent / "ledger.db").unlink()
    assert "there is a mark at" in run("ledger", "create", "--config", site, code=3).stderr


def test_a_ledger_that_is_known_is_not_adopted(run, begun):
    assert "nothing to adopt" in run("ledger", "adopt", *WHY, "--config", begun, code=3).stderr


def test_an_adoption_says_why(run, begun):
    run("ledger", "adopt", "--config", begun, code=2)
    run("ledger", "adopt", "--reason", " ", "--config", begun, code=2)


def test_restore_then_adopt(ask, run, site, ledger, sql):
    backup = site.parent / "backup.db"
    run("ledger", "backup", backup, "--config", site)
    restored = ask("ledger", "restore", backup, "--config", site)
    assert Path(restored["replaced"]).exists()
    for arguments in (["run"], ["mandates", "import", site.parent / "mandates.csv"]):
        assert "etcgw ledger adopt" in run(*arguments, "--config", site, code=3).stderr
    found = ask("ledger", "adopt", *WHY, "--config", site)
    assert (found["why"], found["life"], found["disputed"]) == ("ledger_restored", 2, 1)
    assert sql("select reason, actor from incarnation where number = 2") == [("disk replaced", "wang")]
    run("mandates", "import", site.parent / "mandates.csv", "--config", site)
    run("ledger", "verify", "--config", site)
    shown = run("--lang", "zh", "clearing", "items", "--config", site).stdout
    assert "丢失部分" in shown


def test_verify_wants_what_the_mark_knows(ask, run, site, ledger):
    assert ask("ledger", "verify", "--config", site)["ok"]
    older = site.parent / "older.db"
    shutil.copy(site.parent / "ledger.db", older)
    run("mandates", "import", site.parent / "mandates.csv", "--config", site)
    run("mandates", "limit", "m1", "--per-day", "500", "--config", site)
    shutil.copy(older, site.parent / "ledger.db")
    found = ask("ledger", "verify", "--config", site, code=1)
    bad = [check["name"] for check in found["checks"] if not check["ok"]]
    assert bad == ["heads noted elsewhere stand in their chains"]
    mark_of(site).unlink()
    assert "without the mark" in run("ledger", "verify", "--config", site).stderr


def test_what_is_no_ledger_is_not_restored(run, begun):
    other = begun.parent / "other"
    other.write_bytes(b"nothing" * 100)
    assert "nothing was restored" in run("ledger", "restore", other, "--config", begun, code=1).stderr
