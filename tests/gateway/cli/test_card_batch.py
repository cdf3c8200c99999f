"""`etcgw card batch`: a line for each card, a record that is gone on with, and a report."""

import json
from contextlib import asynccontextmanager

import pytest

from drivers.errors import DeviceUnavailable
from tests.gateway.cards.conftest import feed
from tests.gateway.cards.sixty import GOLDEN, good


@pytest.fixture
def pile(monkeypatch):
    """Lay a pile of cards beside the reader; when it is used up, the reader is unplugged."""

    def put(*chips):
        def then_gone():
            yield from chips
            raise DeviceUnavailable("reader was unplugged", device="desk")

        @asynccontextmanager
        async def cards(_):
            yield feed(then_gone())

        monkeypatch.setattr("gateway.cli.card_reader.cards", cards)

    return put


@pytest.fixture
def command(tmp_path):
    golden = tmp_path / "golden.toml"
    golden.write_text(GOLDEN, encoding="utf-8")
    return ("card", "batch", "--golden", golden, "--csv", tmp_path / "r.csv", "--html", tmp_path / "r.html")


def test_good_cards_are_accepted_one_line_each(run, pile, command, tmp_path):
    pile(good(1), good(2))
    told = run(*command, "--count", 2)
    assert [line.split()[:3] for line in told.stdout.splitlines()] == [
        ["1", "accepted", "***0001"],
        ["2", "accepted", "***0002"],
    ]
    assert "accepted" in (tmp_path / "r.html").read_text("utf-8")


def test_a_rejected_card_is_exit_1_and_the_batch_goes_on_with_its_record(run, pile, command, tmp_path):
    pile(good(1))
    run(*command, "--count", 1)
    pile(good(2, vehicle_class=2), good(1))
    told = run(*command, "--count", 3, "--lang", "zh", code=1)
    assert "不合格" in told.stdout
    assert "与第1张卡号重复" in told.stdout
    assert "3" in (tmp_path / "r.html").read_text("utf-8")


def test_programs_get_a_line_for_each_card(run, pile, command):
    pile(good(1, balance_raw=5), good(2))
    lines = run(*command, "--count", 2, "--json", code=1).stdout
    cards = [json.loads(line) for line in lines.splitlines()[:2]]
    assert [(one["no"], one["result"], one["defects"]) for one in cards] == [
        (1, "rejected", ["balance"]),
        (2, "accepted", []),
    ]


def test_a_reader_that_goes_away_leaves_record_and_report(run, pile, command, tmp_path):
    pile(good(1))
    run(*command, code=3)
    assert "***0001" in (tmp_path / "r.html").read_text("utf-8")
    pile(good(2))
    run(*command, "--count", 2)


def test_a_foreign_file_is_no_record(ask, pile, command, tmp_path):
    pile(good(1))
    (tmp_path / "r.csv").write_text("something else\n", encoding="utf-8")
    assert ask(*command, code=1)["error"]["code"] == "record_wrong"
    assert not (tmp_path / "r.html").exists()
