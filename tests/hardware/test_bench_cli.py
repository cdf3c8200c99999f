"""`etcbench` as a program: help, version, what it says of a wrong lane or folder, the folders it keeps, day files."""

import fcntl
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from hardware.bench import cli
from hardware.bench.scenario import VEHICLES, vehicles_of
from hardware.emulators.bank_day_file import COLUMNS, settlement_day
from hardware.emulators.bank_host import Book


def etcbench(*arguments, code=0):
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments], prog_name=cli.PROGRAM)
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
    return result


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["demo", "-h"], ["day-file", "-h"]])
def test_help_has_a_short_name(arguments):
    assert "Usage: etcbench" in etcbench(*arguments).stdout


def test_the_version_is_that_of_the_product():
    assert etcbench("--version").stdout.startswith("etcbench ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["storm", "--lane", "lane-9"], "lane-9"),
        (["load", "--lanes", "0"], "from 1 to 255"),
        (["load", "--lanes", "1,,2"], "from 1 to 255"),
        (["demo", "--picture", "/nowhere/at/all.svg"], "is no folder"),
        (["load", "--picture", "/nowhere/at/all.svg"], "is no folder"),
        (["day-file", "--folder", ".", "--day", "2026-11"], "is no day"),
    ],
)
def test_a_wrong_option_is_told_and_nothing_runs(arguments, said):
    assert said in " ".join(etcbench(*arguments, code=2).stderr.split())


@pytest.mark.parametrize("command", ["demo", "serve", "storm", "endure", "load"])
def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path, command):
    (tmp_path / "file").write_text("")
    result = etcbench(command, "--folder", tmp_path / "file" / "site", code=3)
    assert result.stderr.startswith("etcbench: ")
    assert str(tmp_path) in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_folder_that_is_no_site_has_no_day_file(tmp_path):
    assert "no book of an emulated bank" in etcbench("day-file", "--folder", tmp_path, code=3).stderr


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Folder var/ with five runs, the oldest first."""
    monkeypatch.chdir(tmp_path)
    folders = [tmp_path / "var" / f"site-run0000{number}" for number in range(5)]
    for age, folder in enumerate(reversed(folders)):
        folder.mkdir(parents=True)
        (folder / "ledger.db").write_text("")
        os.utime(folder, (1_000_000 - age, 1_000_000 - age))
    return folders


def test_the_newest_runs_stay_and_so_does_one_that_is_in_use(runs):
    in_use = os.open(runs[0], os.O_RDONLY)
    fcntl.flock(in_use, fcntl.LOCK_SH)
    named = runs[0].with_name("site-of-mine")
    named.mkdir()
    new = cli._folder(None)
    assert new.parent == named.parent
    assert [folder for folder in runs if folder.exists()] == [runs[0], *runs[-cli.KEPT + 1 :]]
    assert named.exists()
    os.close(in_use)


def test_a_folder_that_a_run_was_given_is_in_use(runs):
    assert cli._folder(runs[0]) == runs[0]
    cli._folder(None)
    assert runs[0].exists()
    assert not runs[1].exists()


def test_the_day_file_holds_what_the_book_has_of_that_day(runs, monkeypatch):
    yesterday = settlement_day(datetime.now(UTC) - timedelta(days=1))
    with closing(Book(runs[-1] / "bank.db")):
        pass
    told = etcbench("day-file").stdout
    path = runs[-1] / f"bank-a-{yesterday}.csv"
    assert path.read_text().splitlines() == [",".join(COLUMNS), f"total,{yesterday},,,,,0,,0"]
    site = "var/site-run00004"
    assert f"clearing run {yesterday} --config {site}/site.toml --bank-file bank-a={site}/{path.name}\n" in told


def test_a_book_that_is_none_is_told(runs):
    with closing(sqlite3.connect(runs[-1] / "bank.db")) as other:
        other.execute("create table posting (id)")
        other.execute("drop table posting")
    assert "no such table" in etcbench("day-file", code=3).stderr


def test_each_round_has_cards_tags_and_plates_of_its_own():
    seen = [v for number in range(4) for v in vehicles_of(number)]
    for what in ("id", "obu_id", "obu_serial", "card_number", "mandate_id", "contract_ref"):
        assert len({getattr(v, what) for v in seen}) == len(seen)
    assert vehicles_of(0) == VEHICLES
    same_plate = [v.plate_text for v in vehicles_of(3) if v.number % 100 in (31, 32)]
    assert same_plate == ["测B00331", "测B00331"]
    assert len({v.plate_text for v in seen}) == len(seen) - 4
