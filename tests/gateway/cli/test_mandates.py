"""`etcgw mandates`: all of a file or nothing, counted against what is there."""

import pytest

from tests.gateway.cli.conftest import MANDATES, with_fuel
from tests.gateway.test_config import ISLAND


@pytest.fixture(autouse=True)
def ledger_there(begun):
    """An import makes no ledger."""


@pytest.fixture
def bring(ask, site):
    """Import these lines."""

    def call(text, *more, code=0):
        file = site.parent / "new.csv"
        file.write_text(text, encoding="utf-8")
        return ask("mandates", "import", file, "--config", site, *more, code=code)

    return call


def counts(found):
    return tuple(found[name] for name in ("added", "changed", "removed", "unchanged"))


HEAD, M1, M2, M3 = MANDATES.splitlines(keepends=True)


def test_first_import(bring, ask, site):
    found = bring(MANDATES)
    assert counts(found) == (3, 0, 0, 0)
    assert (found["mandates"], found["credentials"]) == (3, 5)
    listed = ask("mandates", "list", "--config", site)
    assert listed["counts"] == {"active": 2, "paused": 1}
    assert [m["mandate_id"] for m in listed["mandates"]] == ["m1", "m2", "m3"]


def test_changes_are_counted_against_what_is_there(bring, ask, site):
    bring(MANDATES)
    assert counts(bring(MANDATES)) == (0, 0, 0, 3)
    resumed = M2.replace("paused", "active")
    other_card = M3.replace("0000003", "0000033")
    assert counts(bring(HEAD + M1 + resumed + other_card)) == (0, 2, 0, 1)
    assert counts(bring(HEAD + M1 + M1.replace("m1", "m9").replace("00001", "00009"))) == (1, 0, 2, 1)
    assert [m["mandate_id"] for m in ask("mandates", "list", "--config", site)["mandates"]] == ["m9", "m1"]


def test_an_equal_file_writes_nothing(bring, sql):
    imported = "select id, imported_at from mandate order by id"
    bring(MANDATES)
    before = sql(imported)
    bring(MANDATES)
    assert sql(imported) == before
    bring(HEAD + M1)
    assert sql(imported) != before


def test_what_comes_and_goes_is_told_and_a_half_import_is_named(bring, run, sql, site):
    bring(MANDATES)
    file = site.parent / "less.csv"
    file.write_text(HEAD + M1 + M2.replace("paused", "active"), encoding="utf-8")
    assert "0 come, 1 change, 1 go" in run("mandates", "import", file, "--config", site).stderr
    assert "cut short" not in run("mandates", "list", "--config", site).stderr
    sql("update counter set value = value + 1 where name = 'mandate_import'")
    assert "was cut short" in run("mandates", "list", "--config", site).stderr
    assert "was cut short" in run("mandates", "import", file, "--config", site).stderr
    assert "cut short" not in run("mandates", "list", "--config", site).stderr


def test_dry_run_changes_nothing(bring, ask, run, site):
    assert counts(bring(MANDATES, "--dry-run")) == (3, 0, 0, 0)
    assert ask("mandates", "list", "--config", site)["mandates"] == []
    bring(MANDATES)
    assert counts(bring(HEAD + M1, "--dry-run")) == (0, 0, 2, 1)
    assert len(ask("mandates", "list", "--config", site)["mandates"]) == 3
    result = run("mandates", "import", site.parent / "mandates.csv", "--config", site, "--dry-run")
    assert "nothing was changed" in result.stderr


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (HEAD + M1 + M2.replace("paused", "sleeping"), "line 3, column status"),
        (HEAD.replace("plate_colour", "colour") + M1, "column plate_colour is missing"),
        (HEAD + M1 + "测".encode("gbk").decode("latin1"), "line 3"),
    ],
)
def test_one_bad_line_and_the_old_ones_stay(run, ask, site, text, named):
    run("mandates", "import", site.parent / "mandates.csv", "--config", site)
    file = site.parent / "bad.csv"
    file.write_text(text, encoding="utf-8")
    result = run("mandates", "import", file, "--config", site, code=1)
    assert named in result.stderr
    assert "--dry-run" in result.stderr
    assert len(ask("mandates", "list", "--config", site)["mandates"]) == 3


def test_a_file_in_another_encoding(run, site):
    file = site.parent / "gbk.csv"
    file.write_bytes(MANDATES.encode("gbk"))
    assert "UTF-8" in run("mandates", "import", file, "--config", site, code=1).stderr


def test_a_file_with_a_byte_order_mark(bring):
    assert counts(bring("\ufeff" + MANDATES)) == (3, 0, 0, 0)


def test_an_empty_file_ends_no_mandates_by_accident(bring, run, ask, site):
    bring(MANDATES)
    file = site.parent / "empty.csv"
    file.write_text(HEAD, encoding="utf-8")
    assert "--allow-empty" in run("mandates", "import", file, "--config", site, code=1).stderr
    assert counts(bring(HEAD, "--allow-empty")) == (0, 0, 3, 0)
    assert run("mandates", "list", "--config", site).stdout == ""


def test_a_file_that_is_not_there_is_wrong_usage(run, site):
    run("mandates", "import", site.parent / "nowhere.csv", "--config", site, code=2)


def test_banks_that_are_not_in_the_site_file_are_told(run, site):
    file = site.parent / "other.csv"
    file.write_text(MANDATES.replace("bank-1", "bank-9"), encoding="utf-8")
    assert "bank-9" in run("mandates", "import", file, "--config", site).stderr


def test_a_ledger_in_use_is_waited_for_then_given_up(bring, run, site, ledger_in_use):
    bring(MANDATES)
    with ledger_in_use():
        result = run("mandates", "import", site.parent / "mandates.csv", "--config", site, code=3)
    assert "another process" in result.stderr
    run("mandates", "import", site.parent / "mandates.csv", "--config", site)


def test_list_filters_and_counts(bring, ask, run, site):
    bring(MANDATES)
    found = ask("mandates", "list", "--config", site, "--status", "paused")
    assert [m["mandate_id"] for m in found["mandates"]] == ["m2"]
    assert found["counts"] == {"active": 2, "paused": 1}
    assert len(ask("mandates", "list", "--config", site, "--last", "1")["mandates"]) == 1
    assert "In all: active 2, paused 1" in run("mandates", "list", "--config", site).stdout


def test_show_tells_what_the_payer_owes(bring, ask, run, site, ledger):
    bring(MANDATES + M1.replace("m1", "m4").replace("00001", "00004"))
    paid = ask("mandates", "show", "m1", "--config", site)
    assert (paid["held_fen"], paid["open_fen"], paid["debt_fen"]) == (0, 0, 0)
    assert [d["state"] for d in paid["debits"]] == ["funded"]
    assert [(c["kind"], c["key"]) for c in paid["credentials"]] == [("card", "***0001"), ("plate", "测A***01|0")]
    assert ask("mandates", "show", "m2", "--config", site)["debt_fen"] == 1500
    assert ask("mandates", "show", "m4", "--config", site)["open_fen"] == 1500
    assert "15.00 CNY" in run("mandates", "show", "m4", "--config", site).stdout


def test_show_of_an_unknown_mandate_is_1(bring, run, site):
    bring(MANDATES)
    assert "m99" in run("mandates", "show", "m99", "--config", site, code=1).stderr


# --- fuel terms -----------------------------------------------------------------------------------------------------

TERMS = {
    "grades": ["0", "92"],
    "per_sale_fen": 20_000,
    "per_sale_ml": 60_500,
    "per_day_fen": None,
    "per_day_ml": None,
    "per_month_fen": 500_000,
    "per_month_ml": None,
}


def test_fuel_terms_come_change_and_go_with_the_file(bring, ask, sql, site):
    bring(MANDATES)
    assert counts(bring(with_fuel(MANDATES))) == (0, 1, 0, 2)
    listed = ask("mandates", "list", "--config", site)["mandates"]
    assert {found["mandate_id"]: found["fuel"] for found in listed} == {"m1": TERMS, "m2": None, "m3": None}
    assert counts(bring(with_fuel(MANDATES))) == (0, 0, 0, 3)
    assert counts(bring(with_fuel(MANDATES).replace("60.5", "60.125"))) == (0, 1, 0, 2)
    assert ask("mandates", "show", "m1", "--config", site)["fuel"] == TERMS | {"per_sale_ml": 60_125}
    assert counts(bring(HEAD + M2 + M3)) == (0, 0, 1, 2)
    assert sql("select count(*) from mandate_fuel") == [(0,)]
    assert counts(bring(with_fuel(MANDATES))) == (1, 0, 0, 2)
    assert counts(bring(MANDATES)) == (0, 1, 0, 2)
    assert ask("mandates", "show", "m1", "--config", site)["fuel"] is None


def test_fuel_terms_are_shown_in_both_languages(bring, run, site):
    bring(with_fuel(MANDATES))
    shown = run("mandates", "show", "m1", "--config", site).stdout
    lines = {label.strip(): text.strip() for label, _, text in (line.partition(":") for line in shown.splitlines())}
    assert lines["Fuel grades"] == "0, 92"
    assert lines["Fuel a sale"] == "200.00 CNY, 60.5 L"
    assert lines["Fuel a month"] == "5000.00 CNY"
    assert "Fuel a day" not in lines
    assert "允许油品" in run("mandates", "show", "m1", "--config", site, "--lang", "zh").stdout
    assert "Fuel" not in run("mandates", "show", "m2", "--config", site).stdout


def test_a_mandate_whose_grades_no_nozzle_has_is_told(run, site):
    file = site.parent / "fuel.csv"
    file.write_text(with_fuel(MANDATES), "utf-8")
    assert "no grade" not in run("mandates", "import", file, "--config", site).stderr  # no fuel is sold here
    text = site.read_text("utf-8")
    site.write_text(text + ISLAND, "utf-8")
    assert "no grade" not in run("mandates", "import", file, "--config", site, "--dry-run").stderr
    site.write_text(text + ISLAND.replace('"92"', '"95"'), "utf-8")
    assert "1 mandates allow no grade" in run("mandates", "import", file, "--config", site, "--dry-run").stderr


# --- limits at run time ---------------------------------------------------------------------------------------------


@pytest.fixture
def limit(bring, ask, run, site):
    """`mandates limit m1`, or the words of its refusal."""
    bring(MANDATES)

    def call(*arguments, code=0, mandate="m1"):
        line = ("mandates", "limit", mandate, *arguments, "--config", site)
        return run(*line, code=code).stderr if code else ask(*line)

    return call


def test_a_limit_states_what_is_named_and_keeps_the_rest(limit, ask, run, site):
    found = limit("--service", "fuel", "--per-debit", "30000")
    (fuel,) = found["limits"]
    assert (fuel["service"], fuel["per_debit_fen"]) == ("fuel", 30000)
    found = limit("--service", "fuel", "--per-debit", "none", "--count", "3")
    assert (found["limits"][0]["per_debit_fen"], found["limits"][0]["per_day_count"]) == (None, 3)
    found = limit("--per-day", "50000", "--exposure", "80000")
    assert [stated["service"] for stated in found["limits"]] == ["*", "fuel"]
    assert found["limit_fen"] == 80000
    shown = ask("mandates", "show", "m1", "--config", site)
    assert (shown["limits"], shown["limit_fen"]) == (found["limits"], 80000)
    text = run("mandates", "show", "m1", "--config", site).stdout
    assert "a day 500.00" in text
    assert "800.00 CNY" in text
    assert [stated["service"] for stated in limit("--service", "fuel", "--clear")["limits"]] == ["*"]
    assert limit("--exposure", "none")["limit_fen"] is None


def test_who_changed_a_limit_stands_in_the_journal(limit, sql):
    limit("--service", "counter", "--count", "2")
    limit("--service", "counter", "--clear")
    rows = sql("select ref, event, actor from journal where kind = 'limit' order by number")
    stated = sql("select count(*) from mandate_limit")
    assert rows == [("m1", "changed", "wang"), ("m1", "cleared", "wang")]
    assert stated == [(0,)]


def test_limits_of_services_outlive_an_import_and_the_exposure_does_not(limit, bring, ask, site):
    limit("--service", "toll", "--per-day", "50000", "--exposure", "1")
    bring(MANDATES)
    shown = ask("mandates", "show", "m1", "--config", site)
    assert shown["limit_fen"] == 100000
    assert [stated["per_day_fen"] for stated in shown["limits"]] == [50000]


def test_a_limit_that_says_nothing_or_too_much(limit):
    limit(code=2)
    limit("--clear", "--count", "3", code=2)
    limit("--count", "many", code=2)
    limit("--count", "-1", code=2)
    assert "there is no such mandate" in limit("--count", "3", mandate="m99", code=1)


def test_an_import_makes_no_ledger(run, site):
    (site.parent / "ledger.db").unlink()
    (site.parent / "ledger.db.mark").unlink()
    told = run("mandates", "import", site.parent / "mandates.csv", "--config", site, code=3).stderr
    assert "there is no ledger" in told
    assert "etcgw ledger create" in told
    assert not (site.parent / "ledger.db").exists()
