"""`etcgw passages` on a ledger that the debit engine wrote."""

from datetime import datetime, timedelta, timezone

import pytest

from gateway.cli.options import moment
from gateway.cli.store import ledger_of
from gateway.config import load
from tests.gateway.cli.conftest import PLATE


@pytest.fixture
def listed(ask, site, ledger):
    return lambda *more: ask("passages", "--config", site, *more)["passages"]


def numbers(rows):
    return [row["record_no"] for row in rows]


def test_one_row_a_passage_newest_first_with_the_decision_that_stands(listed):
    rows = listed()
    assert numbers(rows) == [7, 6, 4, 3, 2, 1]
    assert [row["outcome"] for row in rows] == ["refused", "paid", "owed", "debt", "paid", "paid"]
    assert [row["fare_fen"] for row in rows] == [0, 1500, 1500, 1500, 1500, 1500]
    assert [row["release"] for row in rows] == ["stop", "go", "go", "go", "go", "go"]
    assert [row["funding"] for row in rows] == [None, "purse", "bank_online", "bank_online", "bank_online", "purse"]
    proved, repeated = rows[1], rows[-1]
    assert (proved["decisions"], proved["repeats"]) == (2, 0)
    assert (repeated["decisions"], repeated["repeats"]) == (2, 1)


def test_every_row_tells_all(listed):
    row = listed()[4]
    assert row["decided_at"] == "2023-11-15T06:14:20.000+08:00"
    assert row["lane"] == "lane-1"
    assert (row["plate"], row["plate_colour"], row["vehicle_class"]) == ("测A***01", 0, 1)
    assert row["timing_ms"] == {
        "total": 1000.0,
        "ours": 99.5,
        "radio": 500.5,
        "bank": 400.0,
        "commit": 2.0,
        "barrier": None,
    }
    assert (row["tariff_version"], row["list_version"], row["list_age_s"]) == ("t1", "l1", 3)
    assert row["recovered"] is False
    assert listed()[2]["timing_ms"] is None


def test_reason_and_special_event_come_in_both_languages(listed):
    row = listed()[0]
    assert row["reason"]["code"] == "card_listed_in_debt"
    assert row["reason"]["zh"]
    assert row["reason"]["next_step_en"]
    assert row["special_event"] == {"number": 24, "zh": "卡在状态名单", "en": "card on the status list"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--last", "2"], [7, 6]),
        (["--lane", "lane-1"], [7, 6, 4, 3, 2, 1]),
        (["--outcome", "paid"], [6, 2, 1]),
        (["--outcome", "debt"], [3]),
        (["--outcome", "unknown"], []),
        (["--outcome", "repeat"], [1]),
        (["--since", "2023-11-15T06:16:00"], [7, 6, 4]),
        (["--since", "2023-11-14T22:16:00+00:00"], [7, 6, 4]),
        (["--since", "2023-11-15", "--outcome", "paid", "--last", "1"], [6]),
        (["--since", "2h"], []),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_filters(listed, options, expected):
    assert numbers(listed(*options)) == expected


@pytest.mark.parametrize(("day", "hours"), [("today", 0), ("yesterday", 24)])
def test_a_day_begins_at_midnight_of_the_site(day, hours):
    zone = timezone(timedelta(hours=8))
    before = datetime.now(zone)
    found = moment(day, zone, "--since")
    after = datetime.now(zone)
    midnights = {now.replace(hour=0, minute=0, second=0, microsecond=0) for now in (before, after)}
    assert found + timedelta(hours=hours) in midnights


def test_a_lane_that_is_none_is_wrong_usage_and_the_lanes_are_named(run, site, ledger):
    refused = run("passages", "--config", site, "--lane", "Lane1", code=2).stderr
    assert "this site has lane-1" in refused
    assert "did you mean --lane lane-1?" in refused
    assert "did you mean" not in run("passages", "--config", site, "--lane", "x", code=2).stderr


def test_a_lane_that_was_taken_down_is_known_by_its_passages(ask, run, site, ledger):
    text = site.read_text(encoding="utf-8")
    site.write_text(text.replace('name = "lane-1"', 'name = "lane-2"'), encoding="utf-8")
    assert numbers(ask("passages", "--config", site, "--lane", "lane-1")["passages"]) == [7, 6, 4, 3, 2, 1]
    assert run("passages", "--config", site, "--lane", "lane-1", "--since", "2h").stdout == ""


def test_a_time_that_is_none_is_wrong_usage(run, site, ledger):
    for text in ("tomorrow", "999999d", "2026-13-01"):
        assert "2h" in run("passages", "--config", site, "--since", text, code=2).stderr


def test_text(run, site, ledger):
    lines = run("passages", "--config", site).stdout.splitlines()
    assert lines[0].split() == [
        "No", "Time", "Lane", "Plate", "Colour", "Class", "Fare", "Outcome", "Now", "Barrier", "Reason", "Event",
        "Funding", "Note", "ms", "ours/radio/bank", "Tariff", "Lists",
    ]  # fmt: skip
    assert len(lines) == 7
    assert lines[2].split()[:3] == ["6", "11-15", "06:18:21"]
    assert "2 decisions" in lines[2]
    assert "seen 1x again" in lines[6]
    assert "900        400/500/0" in lines[6]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_text_fits_the_terminal(run, site, ledger, width, language):
    from rich.cells import cell_len

    for arguments in (["passages"], ["debits"], ["passages", "show", "4"], ["ledger", "accounts"]):
        result = run("--lang", language, *arguments, "--config", site, COLUMNS=str(width))
        assert max(cell_len(line) for line in result.stdout.splitlines()) <= width
    assert "测A***01" in run("passages", "--config", site, COLUMNS=str(width)).stdout


def test_nothing_to_show_is_told_on_stderr(run, site, ledger):
    result = run("passages", "--config", site, "--since", "2h")
    assert result.stdout == ""
    assert result.stderr


# --- show -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(ask, site, ledger):
    return lambda which, *more: ask("passages", "show", which, "--config", site, *more)


def test_everything_about_a_stood_in_passage(shown):
    found = shown(4)
    assert found["debit"]["state"] == "owed"
    assert found["debit"]["stood_in"] is True
    assert [(t["phase"], t["event"], t["amount_fen"]) for t in found["transfers"]] == [
        ("pending", "hold", 1500),
        ("post", "released", 1500),
    ]
    assert found["transfers"][0]["to"] == "merchant:road-1"
    assert found["transfers"][1]["pending_id"] == found["transfers"][0]["transfer_id"]
    (attempt,) = found["attempts"]
    assert (attempt["kind"], attempt["state"], attempt["stan"]) == ("sale", "unknown", "000003")
    assert attempt["request"] is None
    assert [(m["kind"], m["done_at"]) for m in attempt["outbox"]] == [("reversal", None)]
    assert found["items"] == []


def test_the_same_passage_by_any_of_its_records_and_by_its_id(shown):
    found = shown(6)
    assert found == shown(5) == shown(found["passage_id"]) == shown(found["passage_id"].upper())
    assert [d["outcome"] for d in found["decisions"]] == ["unknown", "paid"]
    assert [i["kind"] for i in found["items"]] == ["charged_without_tac"]


def test_purchase_with_its_proof_and_file_0019_before_and_after(shown):
    (purchase,) = shown(1)["purchases"]
    assert (purchase["state"], purchase["tac"], purchase["tac_source"]) == ("taken", "aabbccdd", "b5")
    assert (purchase["terminal"], purchase["card_serial"], purchase["psam_serial"]) == ("019900000001", 7, 9)
    assert (purchase["balance_before_fen"], purchase["balance_after_fen"]) == (50_000, 48_500)
    values = {
        side: {field["name"]: field["value"] for field in purchase["file_0019"][side]["fields"]}
        for side in ("before", "after")
    }
    assert (values["before"]["status"], values["after"]["status"]) == ("1", "3")
    assert values["after"]["plate"] == "测A***01"
    assert purchase["file_0019"]["before"]["raw"] is None


def test_unmasked_it_has_raw_bytes_too(shown):
    found = shown(2, "--unmask")
    assert bytes.fromhex(found["attempts"][0]["request"]).startswith(b"sale T0000001")
    assert PLATE.encode("gbk").hex() in found["purchases"][0]["file_0019"]["after"]["raw"]
    assert found["attempts"][0]["response"] == {"code": "00", "zh": "交易成功", "en": "approved"}


def test_a_refused_passage_has_no_debit(shown):
    found = shown(7)
    assert found["debit"] is None
    assert (found["transfers"], found["attempts"], found["purchases"], found["items"]) == ([], [], [], [])


def test_show_as_text(run, site, ledger):
    text = run("passages", "show", 6, "--config", site).stdout
    for expected in ("Decision 5", "Decision 6", "Transfers", "Purchase on the card, attempt 1", "charged_without_tac"):
        assert expected in text
    assert "[purchase_unknown]" in text
    assert "release" in run("passages", "show", 4, "--config", site).stdout


def test_the_site_may_be_named_before_the_subcommand(run, site, ledger):
    assert "Decision 1" in run("passages", "--config", site, "show", 1).stdout


@pytest.mark.parametrize("which", ["99", "f" * 32, "nonsense", "9" * 40])
def test_what_is_not_there_is_1(run, site, ledger, which):
    assert which in run("passages", "show", which, "--config", site, code=1).stderr


def test_one_command_sees_one_state_of_the_ledger(site, ledger):
    from sqlalchemy import text

    from gateway.ledger import engines

    writer = engines.open_writer(site.parent / "ledger.db")
    with ledger_of(load(site)) as connection:
        before = connection.execute(text("select count(*) from debit")).scalar_one()
        with writer.begin() as other:
            other.execute(text("update debit set state = 'debt'"))
            other.execute(text("delete from timing"))
        assert connection.execute(text("select count(*) from timing")).scalar_one() == 2
        assert connection.execute(text("select count(*) from debit where state='debt'")).scalar_one() == 1
    writer.dispose()
    assert before == 5


def test_a_list_shows_the_lanes_word_and_where_the_claim_stands_now(ask, run, site, stored):
    """Listed as owed, because that is what the lane decided; and it is known by now that it was paid."""
    ((attempt,),) = stored("select id from attempt where state = 'unknown'")
    word = ("--attempt", attempt, "--posted", "--source", "call", "--reason", "asked the bank")
    run("debits", "resolve", "4", *word, "--config", site)
    (row,) = ask("passages", "--outcome", "owed", "--config", site)["passages"]
    assert (row["record_no"], row["outcome"], row["debit_state"]) == (4, "owed", "funded")
    assert ask("passages", "--config", site)["passages"][0]["debit_state"] is None, "refused: there is no claim"
