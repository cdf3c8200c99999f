"""First screen of the demo: it fits, says what each vehicle paid and why not, and never drops the barrier."""

import asyncio
import html
import io
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.cells import cell_len
from rich.console import Console

from hardware.bench import live, show
from hardware.bench.demo import Run
from hardware.bench.demo_site import FILLINGS
from hardware.bench.fillings import Filled
from hardware.bench.ledger_view import DecisionRow
from hardware.bench.newcomer import faults_of_screen
from hardware.bench.reckoning import Line, Result
from hardware.bench.scenario import VEHICLES

LINES_MAX = 40 - 3
"""Lines of the summary: a screen less those that say where to look further."""


def decisions(vehicle):
    return tuple(
        DecisionRow(
            record_no=1,
            passage_id="p",
            obu_id=vehicle.obu_id,
            charge_point=vehicle.lane,
            outcome=outcome,
            release=release,
            reason=reason,
            amount=vehicle.fare_fen if vehicle.expected.charged else 0,
            funding="purse" if vehicle.expected.charged else None,
            recovered=False,
            total_us=400_000,
            radio_us=300_000,
            bank_us=0,
            commit_us=8_000,
        )
        for outcome, release, reason in vehicle.expected.decisions
    )


@pytest.fixture(params=["C", "zh_CN.UTF-8"])
def language(request, monkeypatch):
    monkeypatch.setenv("LC_ALL", request.param)
    return "zh" if request.param.startswith("zh") else "en"


@pytest.fixture
def run():
    return good_run()


def good_run():
    results = [Result(vehicle, decisions(vehicle), ()) for vehicle in VEHICLES]
    filled = [
        Filled(filling, filling.sale, filling.debit, filling.debit and "bank_online", filling.ml, 100 * filling.ml)
        for filling in FILLINGS
    ]
    return Run(
        results=results,
        filled=filled,
        at_pumps=len(filled),
        lines=[Line("merchant", 5, 5, "fares priced by hand")],
        slower=2.0,
        deadline_ms=4000,
    )


def shown(what, columns):
    console = Console(file=io.StringIO(), width=columns)
    console.print(what)
    return console.file.getvalue().splitlines()


def test_the_summary_fits_one_screen_and_names_every_vehicle_with_fare_or_reason(run, language):
    lines = shown(show.summary(run, 80), 80)
    assert len(lines) <= LINES_MAX, lines
    assert faults_of_screen(lines, 80, language) == []


def test_a_wrong_vehicle_and_a_wrong_account_are_told_and_the_run_has_failed(run):
    run.results[3] = replace(run.results[3], problems=("2 debits, expected one",))
    run.lines.append(Line("bank", 1, 2, "the bank's own book"))
    text = "\n".join(shown(show.summary(run, 200), 200))
    assert "WRONG v04 charge card, bank asked: 2 debits, expected one" in text
    assert "WRONG bank: ours 1, outside 2" in text
    assert "FAILED" in text
    assert "67 of 68" in text


def test_a_wrong_filling_is_told_and_the_run_has_failed(run):
    assert run.good
    run.filled[3].problems.append("2 sales")
    text = "\n".join(shown(show.summary(run, 200), 200))
    assert f"WRONG v{FILLINGS[3].vehicle.number} fuel, stored-value card: 2 sales" in text
    assert "FAILED" in text
    assert not run.good


def test_the_cars_at_the_pumps_are_told_in_one_line_of_the_summary(run, language):
    lines = shown(show.summary(run, 80), 80)
    told = {
        "en": "pumps: 15 billed, 2 refused, 1 nothing delivered; 254.65 L for ",
        "zh": "加油: 15 已结, 2 拒绝, 1 未加油",
    }[language]
    assert [told in line for line in lines].count(True) == 1
    assert "fuel, fleet limit of 20 litres" in "\n".join(shown(show.details(run), 132))


def test_how_far_a_run_is_is_told_in_the_language_of_the_person(run, language, capsys):
    async def follow_to_the_end():
        await live._tell(SimpleNamespace(run=run), asyncio.create_task(asyncio.sleep(0)))

    asyncio.run(follow_to_the_end())
    told = {"en": ["starting", "  68 of 68 vehicles"], "zh": ["启动中", "  68 辆中 68 辆"]}[language]
    assert capsys.readouterr().err.splitlines() == told
    assert shown(show.live(run, 80), 80)[0].startswith(f"{told[0]}: ")


@pytest.mark.parametrize("columns", [60, 80, 132])
def test_the_live_table_never_drops_barrier_and_event(run, columns):
    run.on_the_road["lane-1"] = VEHICLES[0]
    lines = shown(show.live(run, columns), columns)
    assert "Barrier" in lines[1]
    assert "Event" in lines[1]
    assert ("ms" in lines[1]) == (columns >= 80)
    assert max(map(cell_len, lines)) <= columns
    assert "on the road" in lines[-1]


def test_wide_characters_have_their_own_room_in_the_picture(run, tmp_path):
    path = tmp_path / "summary.svg"
    show.save_picture(show.summary(run, 80), path, title="t", columns=80)
    runs = re.findall(r'<text [^>]*x="([^"]*)"[^>]*textLength="([^"]*)"[^>]*>([^<]*)</text>', path.read_text())
    assert any("测" in text for *_, text in runs)
    for x, length, text in runs:
        assert float(length) == pytest.approx(show.CHAR_WIDTH * cell_len(html.unescape(text)))
        assert float(x) / show.CHAR_WIDTH == pytest.approx(round(float(x) / show.CHAR_WIDTH), abs=0.001)
