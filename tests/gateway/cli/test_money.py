"""`etcgw debits` and `etcgw ledger` on a ledger that the debit engine wrote."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest

from gateway.ledger.batches import Committer
from gateway.ledger.verify import FINDINGS_MAX


@pytest.fixture
def damage(sql, ledger):
    """Change rows behind the ledger's back."""

    def do(*statements):
        for statement in statements:
            sql(statement)

    return do


def test_debits_with_attempts_and_sums(ask, site, ledger):
    found = ask("debits", "--config", site)
    assert [(d["record_no"], d["state"], d["funding"], d["payer"]) for d in found["debits"]] == [
        (6, "funded", "purse", "issuer-9901"),
        (4, "owed", "bank_online", "bank-1"),
        (3, "debt", "bank_online", "bank-1"),
        (2, "funded", "bank_online", "bank-1"),
        (1, "funded", "purse", "issuer-9901"),
    ]
    assert found["sums"] == {
        "owed": {"count": 1, "amount_fen": 1500},
        "funded": {"count": 3, "amount_fen": 4500},
        "debt": {"count": 1, "amount_fen": 1500},
    }
    assert found["outbox"]["waiting"] == 1
    (declined,) = found["debits"][2]["attempts"]
    assert (declined["kind"], declined["state"], declined["stan"]) == ("sale", "declined", "000002")
    assert declined["response"]["code"] == "51"
    assert declined["outbox_waiting"] == []
    assert found["debits"][1]["attempts"][0]["outbox_waiting"] == ["reversal"]


@pytest.mark.parametrize(
    ("options", "records"),
    [
        (["--state", "funded"], [6, 2, 1]),
        (["--state", "voided"], []),
        (["--open"], [4]),
        (["--last", "2"], [6, 4]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_choosing_debits(ask, site, ledger, options, records):
    found = ask("debits", "--config", site, *options)
    assert [d["record_no"] for d in found["debits"]] == records


def test_sums_count_what_is_not_shown_too(ask, site, ledger):
    found = ask("debits", "--config", site, "--state", "funded", "--last", "1")
    assert len(found["debits"]) == 1
    assert found["sums"] == {"funded": {"count": 3, "amount_fen": 4500}}


def test_what_a_bank_has_heard_does_not_wait(ask, site, damage):
    damage("update outbox set done_at = 1")
    found = ask("debits", "--config", site)
    assert found["outbox"] == {"waiting": 0, "oldest_at": None, "oldest_us": None}
    assert [attempt["outbox_waiting"] for debit in found["debits"] for attempt in debit["attempts"]] == [[], [], []]


def test_debits_as_text(run, site, ledger):
    text = run("debits", "--config", site).stdout
    assert "sale 000003 unknown, reversal waiting" in text
    assert "sale 000002 declined 51" in text
    assert "45.00" in text
    assert "Outbox: 1 waiting" in text
    assert run("debits", "--config", site, "--state", "voided").stderr


def test_two_ways_to_choose_are_one_too_many(run, site, ledger):
    run("debits", "--config", site, "--state", "owed", "--open", code=2)


def test_a_good_ledger_verifies(ask, run, site, ledger):
    found = ask("ledger", "verify", "--config", site)
    assert found["ok"] is True
    assert all(check["ok"] and check["bad"] == 0 for check in found["checks"])
    assert len(found["checks"]) > 5
    result = run("ledger", "verify", "--config", site)
    assert "BAD" not in result.stdout
    assert result.stderr == ""
    assert "checking: " in run("ledger", "verify", "--config", site, TTY_COMPATIBLE="1").stderr


def test_a_bad_ledger_is_1_and_names_the_rows(ask, run, site, damage):
    damage("update account set balance = balance + 1 where kind = 'merchant'")
    found = ask("ledger", "verify", "--config", site, code=1)
    assert found["ok"] is False
    bad = {check["name"]: check for check in found["checks"] if not check["ok"]}
    assert set(bad) == {"accounts agree with their transfers", "the books sum to zero"}
    assert bad["accounts agree with their transfers"]["findings"][0]["row"] == "merchant:road-1"
    result = run("ledger", "verify", "--config", site, code=1)
    assert "merchant:road-1" in result.stdout
    assert "7501" in result.stdout
    assert "keep a copy" in result.stderr


def test_a_changed_row_is_named_by_table_row_and_column(ask, run, site, damage):
    damage("update debit set merchant = 'another' where id = (select min(id) from debit)")
    found = ask("ledger", "verify", "--config", site, code=1)
    (finding,) = (finding for check in found["checks"] for finding in check["findings"] if finding["column"])
    assert (finding["table"], finding["column"]) == ("debit", "merchant")
    assert finding["row"].startswith("debit ")
    result = run("ledger", "verify", "--config", site, code=1)
    assert finding["row"] in result.stdout
    assert "merchant is not what was sealed" in result.stdout


def test_a_key_is_made_once_and_then_used(ask, run, site, ledger):
    key = site.parent / "own.key"
    made = ask("ledger", "key", key)
    assert made["file"] == str(key)
    assert key.read_text().strip() not in json.dumps(made)
    refused = run("ledger", "key", key, code=2)
    assert "never overwritten" in refused.stderr
    text = site.read_text(encoding="utf-8")
    site.write_text(text.replace("[lists]", '[storage]\nchain_key = "own.key"\n[lists]', 1), encoding="utf-8")
    found = ask("ledger", "verify", "--config", site, code=1)
    assert any("not named by the site" in f["problem"] for check in found["checks"] for f in check["findings"])
    storage = '[storage]\nchain_key = "own.key"\nretired_chain_keys = ["chain.key"]\n[lists]'
    site.write_text(text.replace("[lists]", storage, 1), encoding="utf-8")
    found = ask("ledger", "verify", "--config", site, code=1)
    assert any("the gateway notes it when it starts" in f["problem"] for c in found["checks"] for f in c["findings"])
    checked = ask("check-config", "--config", site)
    assert checked["facts"]["chain_key"]["id"] == made["id"]
    assert len(checked["facts"]["chain_key"]["retired"]) == 1


@pytest.mark.parametrize("command", [("ledger", "verify"), ("mandates", "import", "MANDATES")])
def test_without_its_key_nothing_is_verified_or_written(run, site, ledger, command):
    (site.parent / "chain.key").unlink()
    arguments = [site.parent / "mandates.csv" if part == "MANDATES" else part for part in command]
    before = ledger.read_bytes()
    assert "etcgw ledger key FILE" in run(*arguments, "--config", site, code=2).stderr
    assert ledger.read_bytes() == before


def test_production_takes_no_published_key(run, ask, site, ledger):
    text = site.read_text(encoding="utf-8")
    site.write_text(text.replace('mode = "bench"', 'mode = "production"'), encoding="utf-8")
    assert "published" in run("ledger", "verify", "--config", site, code=2).stderr
    problems = ask("check-config", "--config", site, code=2)["problems"]
    assert "storage.chain_key" in [problem["key"] for problem in problems]
    assert "published" in run("run", "--config", site, code=2).stderr


def test_heads_of_the_chains_are_shown_and_asked_for_again(ask, run, site, damage):
    heads = ask("ledger", "verify", "--config", site)["heads"]
    assert set(heads) == {"transfer", "decision", "journal"}
    assert heads["decision"]["number"] == 8
    digest = heads["decision"]["digest"]
    assert digest in run("ledger", "verify", "--config", site).stdout
    assert ask("ledger", "verify", "--config", site, "--head", digest, "--head", heads["transfer"]["digest"])["ok"]
    other = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    bad = ask("ledger", "verify", "--config", site, "--head", other, code=1)
    assert [check["findings"][0]["row"] for check in bad["checks"] if not check["ok"]] == [other]
    run("ledger", "verify", "--config", site, "--head", "abc", code=2)
    damage("update decision set amount = 0 where record_no = 2")
    result = run("ledger", "verify", "--config", site, code=1)
    assert "decision 2" in result.stdout


def test_many_bad_rows_are_counted_and_the_first_are_named(ask, run, site, damage):
    row = "insert into account (kind, owner, balance, held, version) values ('fee', 'f{}', 1, 0, 1)"
    damage(*(row.format(n) for n in range(FINDINGS_MAX + 5)))
    found = ask("ledger", "verify", "--config", site, code=1)
    (accounts,) = (c for c in found["checks"] if c["name"] == "accounts agree with their transfers")
    assert accounts["bad"] == FINDINGS_MAX + 5
    assert len(accounts["findings"]) == FINDINGS_MAX
    assert "and 5 more" in run("ledger", "verify", "--config", site, code=1).stdout


def test_accounts_sum_payers_up_and_come_to_zero(ask, run, site, ledger):
    found = ask("ledger", "accounts", "--config", site)
    assert [(a["kind"], a["owner"], a["owners"], a["balance_fen"]) for a in found["accounts"]] == [
        ("open", None, 4, -1500),
        ("debt", None, 1, -1500),
        ("merchant", "road-1", 1, 7500),
        ("issuer", "issuer-9901", 1, -3000),
        ("bank", "bank-1", 1, -1500),
    ]
    assert found["sum_fen"] == 0
    apart = ask("ledger", "accounts", "--config", site, "--obligors")
    assert len([a for a in apart["accounts"] if a["kind"] == "open"]) == 4
    assert "payers: 4" in run("ledger", "accounts", "--config", site).stdout


def test_a_backup_is_told_with_the_head_it_ends_at(ask, run, site, ledger, tmp_path):
    head = ask("ledger", "verify", "--config", site)["heads"]["journal"]
    copied = ask("ledger", "backup", tmp_path / "copy.db", "--config", site)
    assert copied == {
        "path": str(tmp_path / "copy.db"),
        "bytes": (tmp_path / "copy.db").stat().st_size,
        "journal_number": head["number"],
        "journal_head": head["digest"],
    }
    shown = run("--lang", "zh", "ledger", "backup", tmp_path / "second.db", "--config", site)
    assert f"链首:    {head['digest']}" in shown.stdout
    assert shown.stderr == ""
    refused = run("ledger", "backup", tmp_path / "copy.db", "--config", site, code=3)
    assert "never overwrites" in refused.stderr


def test_without_a_ledger_there_is_nothing_to_back_up(run, site, tmp_path):
    assert "there is no ledger" in run("ledger", "backup", tmp_path / "copy.db", "--config", site, code=3).stderr
    assert not (tmp_path / "copy.db").exists()


def test_what_a_command_stored_stands_in_the_ledgers_own_file(run, site, tmp_path):
    """Also while another program has the ledger open, so that SQLite itself does not take its log over."""
    run("ledger", "create", "--config", site)
    path = site.parent / "ledger.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("select count(*) from sqlite_master").fetchone()
        run("mandates", "import", site.parent / "mandates.csv", "--config", site)
        alone = shutil.copy(path, tmp_path / "alone.db")
        with closing(sqlite3.connect(f"file:{alone}?immutable=1", uri=True)) as connection:
            assert connection.execute("select count(*) from mandate").fetchone() == (3,)


def test_a_ledger_replaced_under_a_command_is_said(run, site, ledger, monkeypatch):
    """Its change went into a file that is gone: nobody is told that it was made."""
    real = Committer.commit

    def commit(self, changes):
        results = real(self, changes)
        shutil.copy(ledger, site.parent / "other")
        (site.parent / "other").replace(ledger)
        return results

    monkeypatch.setattr(Committer, "commit", commit)
    refused = run("mandates", "import", site.parent / "mandates.csv", "--config", site, code=3)
    assert "was replaced while it was being changed" in refused.stderr
