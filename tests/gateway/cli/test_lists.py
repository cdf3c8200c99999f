"""`etcgw lists`: publish, look, ask, go back."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from gateway.payers.status_list_build import LOWEST_PRIORITY
from tests.gateway.cli.conftest import LIST, SITE

LISTED = "99010000000000000017"


def moment():
    """Now, as an option takes it."""
    return datetime.now(UTC).isoformat()


@pytest.fixture
def build(ask, site):
    def call(text, version, *more, code=0):
        file = site.parent / f"{version}.csv"
        file.write_text(text, encoding="utf-8")
        return ask("lists", "build", file, "--version", version, "--config", site, *more, code=code)

    return call


def test_build_publishes_at_the_lowest_priority(build, ask, run, site):
    found = build(LIST + f"card,{LISTED},5,1\n", "L2")
    assert (found["version"], found["rows"], found["entries"], found["replaced"]) == ("L2", 3, 2, 1)
    assert run.lowered == [LOWEST_PRIORITY]
    assert ask("lists", "show", "--config", site)["in_force"] == "L2"
    assert ask("lists", "lookup", "card", LISTED, "--config", site)["list_type"] == 5


def test_an_increment_stands_on_its_base(build, ask, run, site):
    build(
        f"kind,key,list_type,sign\ncard,{LISTED},4,2\n",
        "L2",
        "--base",
        "L1",
        "--created",
        moment(),
        "--effective",
        moment(),
    )
    shown = ask("lists", "show", "--config", site)
    assert [(f["version"], f["kind"], f["base"], f["in_force"]) for f in shown["files"]][:2] == [
        ("L1", "full", None, True),
        ("L2", "increment", "L1", True),
    ]
    assert ask("lists", "lookup", "card", LISTED, "--config", site)["listed"] is False
    file = site.parent / "L2.csv"
    result = run("lists", "build", file, "--version", "L3", "--base", "L1", "--config", site, code=1)
    assert "based on L1" in result.stderr


def test_times_are_the_sites_own_unless_they_say_otherwise(build, ask, site):
    later = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0, tzinfo=None).isoformat()
    found = build(LIST, "L2", "--created", "2026-01-02T03:04:05", "--effective", later)
    assert found["created_at"] == "2026-01-02T03:04:05+08:00"
    assert found["effective_at"] == f"{later}+08:00"
    shown = ask("lists", "show", "--config", site)
    assert shown["in_force"] == "L1"
    assert [(f["version"], f["in_force"]) for f in shown["files"]] == [("L2", False), ("L1", True)]


def test_a_list_is_as_old_as_its_delivery(ask, site):
    file = site.parent / "L2.csv"
    file.write_text(LIST, encoding="utf-8")
    os.utime(file, (1_800_000_000, 1_700_000_000))
    found = ask("lists", "build", file, "--version", "L2", "--config", site)
    assert found["created_at"] == found["effective_at"] == "2023-11-14T22:13:20+00:00"


def test_a_bad_delivery_is_1_and_the_list_in_force_stays(build, run, ask, site):
    file = site.parent / "bad.csv"
    file.write_text("kind,key,list_type,sign\ncard,12x,4,1\n", encoding="utf-8")
    result = run("lists", "build", file, "--version", "L2", "--config", site, code=1)
    assert "line 2, column key" in result.stderr
    assert "12x" not in result.stderr
    assert ask("lists", "show", "--config", site)["in_force"] == "L1"
    run("lists", "build", file, "--version", "L2", "--created", "long ago", "--config", site, code=2)
    run("lists", "build", site.parent / "nowhere.csv", "--version", "L2", "--config", site, code=2)


def test_the_first_build_makes_the_folder(ask, run, tmp_path):
    site = tmp_path / "site.toml"
    site.write_text(SITE, encoding="utf-8")
    file = tmp_path / "d.csv"
    file.write_text(LIST, encoding="utf-8")
    result = run("lists", "build", file, "--version", "L1", "--config", site)
    assert str(tmp_path / "lists") in result.stderr
    assert "L1 (full)" in result.stdout
    assert ask("lists", "show", "--config", site)["entries"] == 2


def test_show_tells_age_and_staleness(run, ask, build, site):
    shown = ask("lists", "show", "--config", site)
    assert shown["stale"] is False
    assert shown["refusal"] is None
    build(LIST, "L2", "--created", "2026-01-01")
    assert ask("lists", "show", "--config", site)["stale"] is True
    assert "STALE" in run("lists", "show", "--config", site).stdout


def test_show_tells_why_a_newer_list_is_not_used(ask, build, run, site):
    build(LIST, "L2")
    newest = next((site.parent / "lists").glob("L2-*"))
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    shown = ask("lists", "show", "--config", site)
    assert shown["in_force"] == "L1"
    assert "checksum" in shown["refusal"]
    newest.write_bytes(b"short")
    shown = ask("lists", "show", "--config", site)
    assert "size: 5 bytes" in next(f for f in shown["files"] if f["version"] == "L2")["problem"]
    assert "Refused" in run("lists", "show", "--config", site).stdout


def test_no_list_at_all_is_1(run, site):
    for file in (site.parent / "lists").iterdir():
        file.unlink()
    assert "CURRENT" in run("lists", "show", "--config", site, code=1).stderr


def test_lookup(ask, run, site):
    hit = ask("lists", "lookup", "card", LISTED, "--config", site)
    assert hit["listed"] is True
    assert (hit["list_type"], hit["reason"]["code"], hit["entered_by"]) == (4, "card_listed_in_debt", "L1")
    assert hit["key"] == "***0017"
    plate = ask("lists", "lookup", "plate", "测a·00017|0", "--config", site)
    assert (plate["listed"], plate["key"]) == (True, "测A***17|0")
    assert ask("lists", "lookup", "psam", "990100000017", "--config", site)["listed"] is False
    assert "YES" in run("lists", "lookup", "card", LISTED, "--config", site).stdout
    assert "Reason" not in run("lists", "lookup", "card", "9" * 20, "--config", site).stdout


@pytest.mark.parametrize(
    ("kind", "key"), [("card", "9901"), ("plate", "测A00017"), ("obu", "xyz"), ("psam", "1"), ("ship", "1")]
)
def test_a_mistyped_key_is_not_taken_for_unlisted(run, site, kind, key):
    run("lists", "lookup", kind, key, "--config", site, code=2)


def test_roll_back(ask, build, run, site):
    build(LIST, "L2")
    assert ask("lists", "roll-back", "--config", site) == {"withdrawn": "L2", "in_force": "L1"}
    assert ask("lists", "show", "--config", site)["in_force"] == "L1"
    assert "no older publication" in run("lists", "roll-back", "--config", site, code=1).stderr


def test_a_delivery_that_frees_everybody_needs_their_number(run, ask, site):
    file = site.parent / "empty.csv"
    file.write_text(LIST.splitlines(keepends=True)[0], encoding="utf-8")
    command = ("lists", "build", file, "--version", "L2", "--config", site)
    told = run(*command, code=1).stderr
    assert "0 come, 0 change, 2 leave; 2 before, 0 after" in told
    assert "--confirm-drop 2" in told
    assert ask("lists", "show", "--config", site)["in_force"] == "L1"
    trial = ask(*command, "--dry-run")
    assert (trial["file"], trial["before"], trial["removed"]) == (None, 2, 2)
    run(*command, "--confirm-drop", "1", code=1)
    assert ask("lists", "show", "--config", site)["in_force"] == "L1"
    assert ask(*command, "--confirm-drop", "2")["removed"] == 2
    assert ask("lists", "show", "--config", site)["in_force"] == "L2"


def test_the_site_file_says_how_many_may_leave(run, ask, site):
    text = site.read_text(encoding="utf-8")
    site.write_text(
        text.replace("[lists]", "[lists]\ndrop_entries_max = 0\ndrop_percent_max = 10", 1), encoding="utf-8"
    )
    file = site.parent / "half.csv"
    file.write_text("".join(LIST.splitlines(keepends=True)[:2]), encoding="utf-8")
    assert "--confirm-drop 1" in run("lists", "build", file, "--version", "L2", "--config", site, code=1).stderr
