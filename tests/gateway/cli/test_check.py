"""`etcgw check-config`: every problem, in one go."""

import sqlite3
from contextlib import closing

import pytest

from tests.gateway.cli.conftest import MANDATES, TARIFF


@pytest.fixture
def problems(ask, site):
    """Keys of the problems found, after the site file was changed so."""

    def call(*changes):
        text = site.read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        site.write_text(text, encoding="utf-8")
        found = ask("check-config", "--config", site, code=2)
        assert found["ok"] is False
        for problem in found["problems"]:
            assert problem["problem"]
            assert problem["cure"]
        return {problem["key"]: problem for problem in found["problems"]}

    return call


def test_a_good_site(ask, run, site, ledger):
    found = ask("check-config", "--config", site)
    assert found["ok"] is True
    assert found["problems"] == []
    assert found["facts"]["lists"]["version"] == "L1"
    assert found["facts"]["tariffs"]["in_force"] == "9920250101001"
    assert found["facts"]["ledger"]["schema"] == found["facts"]["ledger"]["schema_here"]
    assert found["facts"]["ledger"]["open_debits"] == 1
    assert "in order" in run("check-config", "--config", site).stdout


@pytest.mark.parametrize(("schema", "cure"), [("0010", "create a new ledger"), ("9999", "Install the version")])
def test_a_ledger_of_another_schema_is_told_with_what_to_do(schema, cure, problems, site, ledger):
    with closing(sqlite3.connect(site.parent / "ledger.db", isolation_level=None)) as connection:
        connection.execute("update alembic_version set version_num = ?", (schema,))
    assert cure in problems()["storage.ledger"]["cure"]


def test_before_the_first_start_there_is_no_ledger_and_that_is_fine(ask, site):
    found = ask("check-config", "--config", site)
    assert found["facts"]["ledger"]["exists"] is False
    assert "etcgw ledger create" in found["notes"][0]["note"]


def test_a_file_that_breaks_the_schema_is_told_whole(problems, run, site):
    found = problems(('mode = "bench"', 'mode = "fast"'), ("lane_no = 1", "lane_no = 1\ncolour = 3"))
    assert set(found) == {"mode", "charge_points[0].colour"}
    text = run("check-config", "--config", site, code=2).stdout
    assert "charge_points[0].colour" in text
    assert "correct the file itself first" in text
    assert "2 wrong" in text


def test_dialects_and_error_tables_must_be_known(problems):
    found = problems(("antenna = {", 'antenna = { dialect = "x", errors = "y",'))
    assert set(found) == {"charge_points[0].antenna.dialect", "charge_points[0].antenna.errors"}
    assert "pcrsu-v3" in str(found["charge_points[0].antenna.dialect"])


def test_everything_it_names_is_opened_and_nothing_stops_at_the_first(problems, run, begun, site):
    run("mandates", "import", site.parent / "mandates.csv", "--config", site)
    (site.parent / "lists" / "CURRENT").write_text("{}", encoding="utf-8")
    (site.parent / "tariffs" / "a.toml").write_text("version = 1", encoding="utf-8")
    found = problems(('"bank-1"', '"bank-2"'), ("bank-1 =", "bank-2 ="))
    assert set(found) == {"lists.directory", "tariffs: valid_from", "banks"}
    assert "2 mandates" in found["banks"]["problem"]


def test_a_tariff_that_is_not_in_force(problems, site):
    (site.parent / "tariffs" / "a.toml").write_text(TARIFF.replace("2025-01-01", "2099-01-01"), encoding="utf-8")
    assert "no version is in force" in problems()["tariffs.directory"]["problem"]


@pytest.mark.parametrize("kind", ["toll-open", "toll-exit"])
def test_a_lane_that_could_price_nothing(problems, kind):
    found = problems(("99010101", "99010909"), ('kind = "toll-open"', f'kind = "{kind}"'))
    assert "9920250101001" in found["charge_points[0].station"]["problem"]


def test_a_ledger_of_a_later_version(problems, sql, ledger):
    sql("update alembic_version set version_num = '9999'")
    assert "9999" in problems()["storage.ledger"]["problem"]


def test_a_ledger_that_is_none(problems, site):
    (site.parent / "ledger.db").write_bytes(b"no database at all" * 100)
    assert "not a database" in problems()["storage.ledger"]["problem"]


def test_a_state_file_in_a_folder_that_is_not_there(problems):
    assert "storage.state" in problems(("[lists]", '[storage]\nstate = "no/where/state.json"\n[lists]'))


def test_a_damaged_newest_list_with_an_older_one_in_force(problems, site, run):
    delivery = site.parent / "delivery.csv"
    run("lists", "build", delivery, "--version", "L2", "--config", site)
    newest = next((site.parent / "lists").glob("L2-*"))
    newest.write_bytes(newest.read_bytes()[:-1])
    assert "newest publication" in problems()["lists.directory"]["problem"]


def test_notes_are_no_problems(ask, begun, site):
    (site.parent / "mandates.csv").write_text(MANDATES, encoding="utf-8")
    ask("mandates", "import", site.parent / "mandates.csv", "--config", site)
    text = site.read_text(encoding="utf-8")
    without = text.split("[[charge_points]]")[1].replace('terminals = { bank-1 = ["T0000001", "T0000002"] }', "")
    without = without.replace('name = "lane-1"', 'name = "lane-9"').replace("lane_no = 1", "lane_no = 9")
    without = without.replace("barrier = 0, green = 1, red = 2", "barrier = 90, green = 91, red = 92")
    without = without.replace('antenna = { address = "127.0.0.1:9" }', 'antenna = { address = "127.0.0.1:10" }')
    site.write_text(f"{text}\n[[charge_points]]{without}")
    delivery = site.parent / "delivery.csv"
    ask("lists", "build", delivery, "--version", "L2", "--created", "2026-01-01", "--config", site)
    found = ask("check-config", "--config", site)
    assert {note["key"] for note in found["notes"]} == {
        "lists",
        "charge_points.terminals",
        "charge_points.outputs.closed_limit",
    }


def test_parameters_need_no_site_file(ask, run):
    found = ask("check-config", "--parameters")
    keys = {row["key"]: row for row in found["parameters"]}
    assert keys["charge_points.deadline_ms"]["default"] == "2000"
    assert all(row["description"] for row in found["parameters"] if row["key"].count(".") > 0)
    assert "charge_points.deadline_ms" in run("check-config", "--parameters").stdout
    run("check-config", code=2)


def test_the_rules_of_clearing_are_checked_with_the_site(ask, site):
    text = site.read_text(encoding="utf-8")
    site.write_text(text + '[clearing]\nrules = "clearing.toml"\n', encoding="utf-8")
    rules = site.parent / "clearing.toml"
    rules.write_text("[fees.bank-9]\nbasis_points = 1\n[splits.lane-9]\nroad-1 = 1\n", encoding="utf-8")
    found = ask("check-config", "--config", site, code=2)
    assert [(p["key"], p["value"]) for p in found["problems"]] == [
        ("clearing.rules", "bank-9"),
        ("clearing.rules", "lane-9"),
    ]
    rules.write_text("[fees.bank-1]\nbasis_point = 1\n", encoding="utf-8")
    problems = ask("check-config", "--config", site, code=2)["problems"]
    assert "fees.bank-1.basis_point" in problems[0]["problem"]
    rules.write_text('version = "v1"\n', encoding="utf-8")
    assert ask("check-config", "--config", site)["facts"]["clearing"] == {"version": "v1"}


def test_the_desk_is_where_those_with_a_role_can_come(problems, ask, site):
    found = problems(
        ("[lists]", '[people]\nsocket = "no/where/desk"\n[people.roles]\nclerk = ["no-such-group"]\n[lists]')
    )
    assert "does not exist" in found["people.socket"]["problem"]
    assert "groupadd no-such-group" in found["people.roles.clerk"]["cure"]


def test_a_folder_that_clerks_may_not_enter_is_noted(ask, begun, site):
    text = site.read_text(encoding="utf-8")
    site.write_text(text.replace("[lists]", '[people.roles]\nclerk = ["root"]\n[lists]'), encoding="utf-8")
    notes = ask("check-config", "--config", site)["notes"]
    assert "may not be entered" in next(note["note"] for note in notes if note["key"] == "people.socket")


def test_files_of_the_server_are_there_and_its_key_is_closed(problems, site):
    (site.parent / "c.pem").touch()
    (site.parent / "open.pem").touch()
    (site.parent / "open.pem").chmod(0o644)
    http = '[http]\nlisten = "0.0.0.0:8430"\ncertificate = "c.pem"\nkey = "open.pem"\n[lists]'
    assert "chmod 600" in problems(("[lists]", http))["http.key"]["cure"]
    (site.parent / "open.pem").unlink()
    assert problems()["http.key"]["problem"] == "the file is not there"


ISLAND = """
[[charge_points]]
name = "island-1"
kind = "fuel"
station = "99010101"
lane_no = 99
gantry = "990199"
antenna = { address = "127.0.0.1:8" }
sides = [{ number = 1, pump = "pts", address = 1, nozzles = [{ number = 1, grade = "92" }] }]
[[charge_points.pumps]]
name = "pts"
dialect = "jsonpts"
pts_id = "003A003A3435510938393730"
address = "http://[::1]:80"
login = "in"
"""


def test_a_login_that_is_not_there_or_none_is_told(problems, site):
    with site.open("a", encoding="utf-8") as file:
        file.write(ISLAND)
    found = problems()
    (key,) = (key for key in found if key.endswith("pumps[0].login"))
    (site.parent / "in").touch(0o600)
    (site.parent / "in").write_text("secret")
    told = problems()[key]
    assert told["problem"] == "does not hold user:password"
    assert "secret" not in str(told)
