"""`etcgw clearing`: a day from the bank's file to the report, and what people do about its differences."""

import csv

import pytest

from gateway.cli import clearing, words
from tests.gateway.clearing.conftest import DAY, Plaza
from tests.gateway.clearing.test_day import small_day

pytestmark = pytest.mark.slow


@pytest.fixture
def plaza(site):
    """The site's own ledger with a small day in it."""
    plaza = Plaza(site.parent)
    plaza.drive(small_day)
    yield plaza
    plaza.box.database.dispose()
    plaza.box.reader.dispose()


@pytest.fixture
def clear(ask, site, plaza):
    """`clearing run DAY`, with a file of these lines where there are any."""

    def call(lines=None, *more, code=0):
        files = () if lines is None else ("--bank-file", f"bank-1={plaza.file(lines)}")
        return ask("clearing", "run", DAY, "--config", site, *files, *more, code=code)

    call.plaza = plaza
    return call


def test_a_day_that_agrees_is_cleared_settled_and_shown(clear, ask, run, site, plaza):
    found = clear(plaza.lines())
    assert found["rows"] == {"cleared": {"count": 4, "amount_fen": 5500}}
    assert found["differences"] == {}
    assert found["findings"] == {"bank_says_posted": [], "bank_says_not": []}
    assert (found["day"], found["state"], found["changed"], found["open_items"]) == (DAY, "done", True, 0)
    assert [(line["payer"], line["count"], line["net_fen"]) for line in found["lines"]] == [
        ("bank-1", 2, 4000),
        ("issuer-9901", 2, 1500),
    ]
    shown = ask("clearing", "show", "2023-11-15", "--config", site)
    assert shown["lines"] == found["lines"]
    assert [(file["bank"], file["lines"], file["net_fen"]) for file in shown["files"]] == [("bank-1", 2, 4000)]
    text = run("clearing", "show", DAY, "--config", site).stdout
    assert "No difference." in text
    assert "40.00" in text
    assert "清算日" in run("--lang", "zh", "clearing", "show", DAY, "--config", site).stdout
    assert plaza.balances() == {}


def test_run_again_says_that_nothing_is_new(clear, run, site, plaza):
    clear(plaza.lines())
    assert clear()["changed"] is False
    assert "nothing new" in run("clearing", "run", DAY, "--config", site).stderr


def test_a_bank_without_its_file_is_waited_for(clear, run, site):
    assert clear(code=1)["banks_waited_for"] == ["bank-1"]
    assert "no file of bank-1 yet" in run("clearing", "run", DAY, "--config", site, code=1).stderr


def test_progress_is_for_terminals(run, site, plaza):
    arguments = ["clearing", "run", DAY, "--config", site, "--bank-file", f"bank-1={plaza.file(plaza.lines())}"]
    assert run(*arguments).stderr == ""
    told = run("clearing", "run", DAY, "--config", site, TTY_COMPATIBLE="1").stderr
    assert f"clearing {DAY}: " in told


def test_differences_become_items_that_people_close(clear, ask, run, site, become):
    first, second = clear.plaza.lines()
    found = clear([first, (*second[:4], 2400), ("sale", "T0000002", "000001", "000777", 990)], code=1)
    assert found["differences"] == {
        "amount_differs": {"count": 1, "amount_fen": 100},
        "missing_here": {"count": 1, "amount_fen": -990},
    }
    assert found["open_items"] == 2
    items = ask("clearing", "items", "--config", site, "--state", "open")["items"]
    numbers = {item["kind"]: item["item"] for item in items}
    assert numbers.keys() == {"amount_differs", "missing_here"}
    assert items[0]["kind_zh"]
    assert "amounts differ" in run("clearing", "items", "--config", site, "--day", DAY).stdout

    done = ask("clearing", "explain", numbers["missing_here"], "--reason", "a test of the bank's", "--config", site)
    assert done["state"] == "explained"
    assert done["actor"] == "wang"
    again = run("clearing", "explain", numbers["missing_here"], "--reason", "x", "--config", site, code=1)
    assert "closed already" in again.stderr

    give_up = ("clearing", "write-off", numbers["amount_differs"], "--reason", "not worth it", "--config", site)
    assert "somebody else" in run(*give_up).stderr
    assert "two different people" in run(*give_up, code=1).stderr
    become("li")
    agreed = ask(*give_up)
    assert (agreed["state"], agreed["actor"], agreed["second_actor"], agreed["lost_fen"]) == (
        "written_off",
        "wang",
        "li",
        100,
    )
    final = clear()
    assert final["rows"] == {"cleared": {"count": 4, "amount_fen": 5500}}
    assert {item["kind"]: item["state"] for item in final["items"]} == {
        "amount_differs": "written_off",
        "missing_here": "explained",
    }


def test_an_unknown_item_and_an_empty_reason(run, site, plaza):
    assert "no such item" in run("clearing", "explain", "9", "--reason", "x", "--config", site, code=1).stderr
    run("clearing", "explain", "9", "--reason", " ", "--config", site, code=2)
    run("clearing", "explain", "9", "--reason", "x" * 201, "--config", site, code=2)
    assert "no such item" in run("clearing", "write-off", "9", "--reason", "x", "--config", site, code=1).stderr
    assert "no such item" in run("clearing", "items", "--config", site).stderr


def test_a_bad_file_is_refused_with_line_and_column_and_stores_nothing(run, site, plaza):
    path = plaza.file(plaza.lines())
    path.write_text(path.read_text(encoding="utf-8").replace("T0000001", "T0000009"), encoding="utf-8")
    refused = run("clearing", "run", DAY, "--config", site, "--bank-file", f"bank-1={path}", code=1)
    assert "line 2, column terminal: 'T0000009'" in refused.stderr
    assert "not ours" in refused.stderr
    assert plaza.rows("select count(*) from bank_line") == [(0,)]
    chinese = run("--lang", "zh", "clearing", "run", DAY, "--config", site, "--bank-file", f"bank-1={path}", code=1)
    assert "非本站终端" in chinese.stderr


def test_the_same_file_a_second_one_and_a_supplement(clear, run, site, plaza):
    first, second = plaza.lines()
    clear([first], code=1)
    known = run("clearing", "run", DAY, "--config", site, "--bank-file", f"bank-1={site.parent / 'day-1.csv'}", code=1)
    assert "read before" in known.stderr
    other = run("clearing", "run", DAY, "--config", site, "--bank-file", f"bank-1={plaza.file([second])}", code=1)
    assert "--supplement" in other.stderr
    assert clear([second], "--supplement")["open_items"] == 0


@pytest.mark.parametrize("day", ["20231131", "tomorrow", "2023-11-1"])
def test_a_day_that_is_none_is_wrong_usage(run, site, plaza, day):
    run("clearing", "run", day, "--config", site, code=2)


def test_a_day_that_is_not_over(run, site, plaza):
    assert "not over" in run("clearing", "run", "20991231", "--config", site, code=1).stderr


def test_a_bank_or_file_that_is_not_there_is_wrong_usage(run, site, plaza):
    for given in ("bank-9=x.csv", f"bank-1={site.parent / 'nowhere.csv'}", str(plaza.file([]))):
        run("clearing", "run", DAY, "--config", site, "--bank-file", given, code=2)


def test_yesterday_has_not_been_cleared(run, site, plaza):
    assert "has not been cleared" in run("clearing", "show", "yesterday", "--config", site, code=1).stderr


def test_without_a_ledger_nothing_is_made(run, site):
    (site.parent / "ledger.db").unlink(missing_ok=True)
    run("clearing", "run", DAY, "--config", site, code=3)
    assert not (site.parent / "ledger.db").exists()


def test_a_ledger_in_use_is_waited_for_then_given_up(run, site, plaza, ledger_in_use):
    with ledger_in_use():
        assert "another process" in run("clearing", "run", DAY, "--config", site, code=3).stderr


def test_fees_come_from_the_sites_rules(clear, site, plaza):
    text = site.read_text(encoding="utf-8")
    site.write_text(text + '[clearing]\nrules = "clearing.toml"\n', encoding="utf-8")
    rules = site.parent / "clearing.toml"
    rules.write_text(
        'version = "v7"\n[fees.bank-1]\nbasis_points = 60\n[shifts]\nstarts = ["06:00"]\n', encoding="utf-8"
    )
    found = clear(plaza.lines())
    assert found["rules"] == "v7"
    assert [line["fee_fen"] for line in found["lines"]] == [24, 0]


def test_the_report_writes_csv_with_and_without_a_mark(clear, ask, run, site, plaza):
    clear([*plaza.lines(), ("sale", "T0000002", "000001", "000777", 990)], code=1)
    out = site.parent / "reports" / "november"
    facts = ask("clearing", "report", DAY, "--shift", "--out", out, "--config", site)
    assert (facts["vehicles"], facts["paid"], facts["records"]) == (4, 4, [1, 4])
    assert facts["lane_fen"] == facts["ledger_fen"] == facts["cleared_fen"] == 5500
    assert sorted(path.name for path in out.iterdir()) == [
        f"{name}-{DAY}.csv" for name in ("clearing", "day", "heads", "items", "owners", "shifts")
    ]
    with (out / f"shifts-{DAY}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["班次 shift"] for row in rows] == ["1", "1", "2", "3"]
    assert "Vehicles" in run("clearing", "report", DAY, "--out", out, "--bom", "--config", site).stdout
    assert (out / f"day-{DAY}.csv").read_bytes().startswith(b"\xef\xbb\xbf")


def test_a_report_with_missing_record_numbers_is_1(run, site, plaza, sql, tmp_path):
    sql("delete from decision where record_no = 2")
    result = run("clearing", "report", DAY, "--out", tmp_path / "r", "--config", site, code=1)
    assert "2 to 2" in result.stderr


def test_attempts_in_doubt_end_as_the_file_says_and_clear(clear, run, site, plaza):
    async def silent(plaza):
        await plaza.pass_bank()

    plaza.drive(silent)
    (attempt, *keys) = plaza.rows(
        "select id, terminal, batch, stan"
        " from attempt join pos_attempt on attempt_id = id where kind = 'sale' and state = 'unknown'"
    )[0]
    found = clear([*plaza.lines(), ("sale", *keys, 1500)])
    assert found["findings"] == {"bank_says_posted": [attempt], "bank_says_not": []}
    assert found["settled"] == {"settled": 1}
    assert found["changed"] is True
    assert found["rows"] == {"cleared": {"count": 5, "amount_fen": 7000}}
    assert plaza.rows("select state, settlement_day from attempt where id = :a", a=attempt) == [("approved", DAY)]
    again = clear()
    assert (again["changed"], again["settled"]) == (False, {})
    assert plaza.balances() == {}


def test_what_the_file_did_to_attempts_in_doubt_is_told(run, site, plaza):
    async def silent(plaza):
        await plaza.pass_bank()
        await plaza.box.drain(1)

    plaza.drive(silent)
    keys = plaza.rows(
        "select terminal, batch, stan"
        " from attempt join pos_attempt on attempt_id = id where kind = 'sale' and state = 'reversing'"
    )[0]
    file = plaza.file([*plaza.lines(), ("sale", *keys, 1500)])
    told = run("clearing", "run", DAY, "--config", site, "--bank-file", f"bank-1={file}", code=1).stderr
    assert "1 attempts in doubt: the bank's money is in suspense, its reversal is open again 1" in told


def test_an_import_cut_short_is_shown(ask, run, site, plaza, monkeypatch):
    monkeypatch.setattr("gateway.ledger.pace.FIRST_ROWS", 1)
    monkeypatch.setattr("gateway.clearing.imports._finish", lambda *_: 1 / 0)
    run("clearing", "run", DAY, "--config", site, "--bank-file", f"bank-1={plaza.file(plaza.lines())}", code=70)
    monkeypatch.undo()
    run("clearing", "run", DAY, "--config", site, code=1)
    assert ask("clearing", "show", DAY, "--config", site)["files"][0]["state"] == "loading"
    assert "cut off" in run("clearing", "show", DAY, "--config", site).stdout


def test_every_kind_and_state_has_words():
    from gateway.model.clearing import DifferenceKind, RowState

    assert {kind.value for kind in DifferenceKind} <= clearing.KINDS.keys()
    assert {state.value for state in RowState} == clearing.ROW_STATES.keys()
    assert {state.value for state in clearing.ItemState} == words.ITEM_STATES.keys()


def test_the_sites_own_debit_rules_say_what_becomes_of_a_refused_claim(site):
    from gateway.config import load

    (site.parent / "rules.toml").write_text('version = "own-1"\n[debt]\nmax_tries = 2\n', encoding="utf-8")
    site.write_text(site.read_text(encoding="utf-8") + '[rules]\nfile = "rules.toml"\n', encoding="utf-8")
    assert clearing.terms_of(load(site)).debit_rules.debt.max_tries == 2
