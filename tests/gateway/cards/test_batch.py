"""Record of a batch: durable card by card, taken up where it stopped, and honest about cards pulled too early."""

import asyncio
import csv
import re
from datetime import datetime

import pytest

from drivers.errors import DeviceTimeout
from gateway.cards.batch import Batch, RecordWrong, Result, work_off
from gateway.cards.compare import golden_of
from gateway.cards.report_page import page
from gateway.texts.catalogue import Language
from hardware.bench.chip_slot import ChipSlot, Pull
from protocols.card import commands
from protocols.codings import CHINA_TIME
from tests.gateway.cards.conftest import feed, laid
from tests.gateway.cards.odd_cards import Refusing, with_file
from tests.gateway.cards.sixty import GOLDEN, good

NOW = datetime(2026, 1, 15, 9, tzinfo=CHINA_TIME)


@pytest.fixture
def work(tmp_path, golden):
    def call(chips, count, *, language=Language.EN, unmask=False, slots=None):
        batch = Batch(tmp_path / "record.csv", golden, language=language, unmask=unmask)
        try:
            asyncio.run(work_off(batch, slots or feed(chips), count=count, now=lambda: NOW, tell=lambda _: None))
        finally:
            batch.close()
        return batch.tested

    return call


def rows(folder):
    with (folder / "record.csv").open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def test_each_card_stands_in_the_record_before_the_next_is_asked_for(work, tmp_path):
    seen = []

    def chips():
        for number in (1, 2, 3):
            seen.append(len(rows(tmp_path)))
            yield good(number)

    work(chips(), 3)
    assert seen == [0, 1, 2]
    assert [row["result"] for row in rows(tmp_path)] == ["accepted"] * 3


def test_each_line_is_on_the_disk_before_the_next(work, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", synced.append)
    work([good(1), good(2)], 2)
    assert len(synced) == 3


def test_key_that_is_missing_is_told_from_one_that_is_refused(work):
    missing = Refusing(good(1), lambda c: c.ins == 0x50, 0x9403)
    refused = Refusing(good(2), lambda c: c.ins == 0x50, 0x6985)
    assert [one.text for one in work([missing, refused], 2)] == ["has no key 01", "refuses key 01 with 6985"]


def test_what_a_card_says_is_no_formula_of_a_table(work, tmp_path):
    bad = with_file(good(1), commands.SFI_CARD_FILE, lambda data: data[:28] + b"=1+1".ljust(12, b"\0") + data[40:])
    work([bad], 1, unmask=True)
    assert rows(tmp_path)[0]["plate"] == "'=1+1"


def test_numbers_and_plates_are_masked_unless_asked_for(work, tmp_path):
    work([good(1)], 1)
    text = (tmp_path / "record.csv").read_text("utf-8")
    assert "测A00001" not in text
    assert "2301220100000001" not in text
    work([good(2)], 2, unmask=True)
    assert "测A00002" in (tmp_path / "record.csv").read_text("utf-8")


def test_card_pulled_too_early_is_tried_again(work):
    slots = [ChipSlot("desk", good(1), pull=Pull(at=9, after=True)), ChipSlot("desk", good(1))]
    tested = work([], 1, slots=laid(slots))
    assert [one.result for one in tested] == [Result.TRY_AGAIN, Result.ACCEPTED]


def test_silent_card_is_rejected(work):
    class Silent(ChipSlot):
        async def raw(self, command, **how):
            raise DeviceTimeout("no answer", device=self.name)

    (one,) = work([], 1, slots=laid([Silent("desk", good(1))]))
    assert (one.result, one.defects) == (Result.REJECTED, ("silent",))


def test_a_line_cut_off_by_a_power_cut_is_taken_away(work, tmp_path):
    work([good(1), good(2)], 2)
    file = tmp_path / "record.csv"
    whole = file.read_bytes()
    for cut in range(1, 60):
        file.write_bytes(whole[:-cut])
        tested = work([good(2)], 2)
        assert [(one.no, one.result) for one in tested] == [(1, Result.ACCEPTED), (2, Result.ACCEPTED)], cut
        assert file.read_bytes() == whole


def test_a_record_cut_off_in_its_first_line_begins_anew(work, tmp_path):
    work([good(1)], 1)
    file = tmp_path / "record.csv"
    file.write_bytes(file.read_bytes()[:10])
    assert len(work([good(1)], 1)) == 1
    assert len(rows(tmp_path)) == 1


def test_doubles_are_found_across_runs_but_not_among_blank_cards(work):
    def blank():
        return with_file(good(1), commands.SFI_CARD_FILE, lambda data: b"\xff" * len(data))

    work([good(1), blank()], 2)
    tested = work([good(1), blank()], 4)
    assert [one.defects for one in tested] == [(), ("card_blank",), ("double",), ("card_blank",)]


def test_another_golden_card_or_another_file_is_refused(tmp_path, work):
    work([good(1)], 1)
    other = tmp_path / "other.toml"
    other.write_text(GOLDEN + "# changed", encoding="utf-8")
    with pytest.raises(RecordWrong):
        Batch(tmp_path / "record.csv", golden_of(other), language=Language.EN, unmask=False)
    for text in ("no,record\n", "hello", "a,b\n1,2\n"):
        (tmp_path / "record.csv").write_text(text, encoding="utf-8")
        with pytest.raises(RecordWrong):
            Batch(tmp_path / "record.csv", golden_of(other), language=Language.EN, unmask=False)
        assert (tmp_path / "record.csv").read_text("utf-8") == text


@pytest.mark.parametrize("language", Language)
def test_the_page_needs_nothing_else_and_names_its_golden_card(work, golden, language):
    bad = with_file(good(3), commands.SFI_CARD_FILE, lambda data: data[:28] + b"<script>".ljust(12, b"\0") + data[40:])
    html = page(work([good(1), bad], 2, unmask=True), golden, language)
    assert not re.search(r"(src|href)=|url\(|@import|https?:", html)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert golden.digest in html
    assert "<svg" in html
    assert ("卡片批量检测报告" in html) is (language is Language.ZH)
