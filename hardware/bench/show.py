"""Display of the demo: a live table while vehicles drive, the summary that fits one screen, and every detail of it."""

from __future__ import annotations

import html
import io
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.cli import labels, sales, words
from gateway.cli.screen import Cell, Heading, Screen, laid_out, lines_cell
from gateway.model.money import format_fen
from gateway.model.plate import mask
from gateway.model.reasons import REASONS
from gateway.texts.catalogue import Language
from hardware.bench.demo import Run
from hardware.bench.fillings import Filled
from hardware.bench.ledger_view import DecisionRow
from hardware.bench.processes import DEADLINE_MS
from hardware.bench.reckoning import Line, Result
from hardware.bench.scenario import Vehicle
from hardware.bench.texts import Words, say

LIVE_ROWS = 10
"""Rows of the live table: with those on the road, and some texts of two lines, it fits a terminal of 24."""

EVENT: Final = Words("show.event")
CHARGED: Final = ("paid", "owed", "debt")
"""Outcomes that charge somebody."""

BESIDE_LAST: Final = len("attendant") + len("entered") + 4
"""Terminal columns of the summary beside its last one."""


def live(run: Run, room: int) -> RenderableType:
    """Live table: the newest vehicles, and those on the road; the less important columns only where they fit."""
    screen = screen_of_person()
    columns = [
        Heading(screen.word(labels.LANE), rank=1),
        Heading(screen.word(labels.PLATE)),
        Heading(say(screen, "show.vehicle"), wrap_at=16),
        Heading(say(screen, "show.fare"), rank=2, right=True),
        Heading(screen.word(labels.BARRIER)),
        Heading(screen.word(EVENT)),
        Heading(say(screen, "show.ms"), rank=3, right=True),
    ]
    rows = [_live_cells(screen, result) for result in run.results[-LIVE_ROWS:]]
    for lane, vehicle in sorted(run.on_the_road.items()):
        on_the_road = Cell(say(screen, "show.on-road"), "dim")
        rows.append((lane, mask(vehicle.plate_text), vehicle.story, "", "", on_the_road, ""))
    dealt_with = say(screen, "show.vehicles-dealt", results=len(run.results) + run.at_pumps)
    return Group(f"{screen.word(run.phase.value)}: {dealt_with}", laid_out(columns, rows, room)[0])


def summary(run: Run, room: int) -> RenderableType:
    """First screen of a run: what became of the vehicles, what each paid or why not, the sums and the verdict."""
    screen = screen_of_person()
    title = say(screen, "show.each-vehicle-paid-or-why")
    columns = [Heading(screen.word(labels.BARRIER)), Heading(screen.word(EVENT)), Heading(title, wrap_at=40)]
    parts: list[RenderableType] = [laid_out(columns, list(_groups(screen, run.results, room)), room)[0]]
    parts += [_totals(screen, run.results), *_at_pumps(screen, run.filled), *_in_time(screen, run)]
    return Group(*parts, *_verdict(run))


def details(run: Run) -> RenderableType:
    """Details of a run: each vehicle with its decisions and times, each account, the verdict."""
    return Group(
        _vehicles(run.results), "", _fillings(run.filled), "", _times(run), "", _accounts(run.lines), "", *_verdict(run)
    )


def _verdict(run: Run) -> Iterator[RenderableType]:
    found = [(r.vehicle, r.problems) for r in run.results] + [(f.filling.vehicle, f.problems) for f in run.filled]
    for vehicle, problems in found:
        for problem in problems:
            yield Text(f"WRONG {vehicle.id} {vehicle.story}: {problem}", style="bold red")
    yield from (Text(f"WRONG {fault}", style="bold red") for fault in run.faults)
    for line in run.lines:
        if not line.agrees:
            text = f"WRONG {line.name}: ours {line.ours}, outside {line.outside} ({line.outside_source})"
            yield Text(text, style="bold red")
    right, agreeing = sum(not problems for _, problems in found), sum(line.agrees for line in run.lines)
    text = say(
        screen_of_person(),
        "show.vehicles-as-expected-comparisons-agree",
        right=right,
        results=len(found),
        agreeing=agreeing,
        lines=len(run.lines),
    )
    yield Text(("OK  " if run.good else "FAILED  ") + text, style="bold green" if run.good else "bold red")


def screen_of_person() -> Screen:
    """Screen in the language of the environment."""
    return Screen(Language.of_environment())


def _groups(screen: Screen, results: Sequence[Result], room: int) -> Iterator[Sequence[str | Cell]]:
    """Rows of the summary: the vehicles about which the same was decided for the same reason."""
    groups: dict[tuple[str, str, str], list[tuple[Vehicle, int]]] = {}
    for result in results:
        decision = _settled(result.decisions)
        key = ("", "none", "") if decision is None else (decision.release, decision.outcome, decision.reason or "")
        groups.setdefault(key, []).append((result.vehicle, 0 if decision is None else decision.amount))
    releases = [*words.BARRIERS, ""]
    # Who was let go first, and of these who needs no word.
    in_order = sorted(groups, key=lambda key: (releases.index(key[0]), bool(key[2]), key))
    for release, outcome, reason in in_order:
        members = groups[release, outcome, reason]
        charged = outcome in CHARGED
        shown = [mask(vehicle.plate_text) + (f" {format_fen(fen):>5}" if charged else "") for vehicle, fen in members]
        yield (
            words.named(screen, words.BARRIERS, release or None),
            words.named(screen, words.OUTCOMES, outcome),
            lines_cell(_filled(words.reason_text(screen, reason or None), shown, room - BESIDE_LAST)),
        )


def _settled(decisions: Sequence[DecisionRow]) -> DecisionRow | None:
    """The decision that stands: a repeat changes nothing about the one it repeats."""
    return next((d for d in reversed(decisions) if d.outcome != "repeat"), None)


def _filled(before: str, items: Sequence[str], room: int) -> Iterator[str]:
    """Lines with a text and then as many whole items as fit."""
    line = f"{before}:" if before else ""
    for item in items:
        longer = f"{line}  {item}" if line else item
        if line and cell_len(longer) > room:
            yield line
            longer = item
        line = longer
    yield line


def _in_time(screen: Screen, run: Run) -> Iterator[str]:
    """Time of passages that were paid or owed at the first try."""
    straight = [d for d in _decisions(run) if not d.recovered and d.outcome in CHARGED]
    if not straight:
        return
    own = [d.own_us for d in straight]
    within = _within(run, straight)
    p50, p99 = _ms(_quantile(own, 0.5)), _ms(_quantile(own, 0.99))
    yield say(
        screen,
        "show.decided-within-ms-our-own",
        within=within,
        straight=len(straight),
        deadline_ms=run.deadline_ms,
        p50=p50,
        p99=p99,
    )
    if run.deadline_ms != DEADLINE_MS:
        yield say(screen, "show.not-on-this-busy-machine", deadline_ms=DEADLINE_MS, slower=run.slower)


def console(*, wide: int | None = None) -> Console:
    """Standard output; a fixed width where neither terminal nor COLUMNS gives one, so that tables do not fall apart."""
    found = Console()
    return found if found.is_terminal or "COLUMNS" in os.environ else Console(width=wide or 132)


PICTURE_COLUMNS = 128
SUMMARY_COLUMNS = 80
"""Columns of the picture of the summary: a browser shows it whole."""

PICTURE = """<svg class="{unique_id}" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: "DejaVu Sans Mono", "Noto Sans Mono CJK SC", monospace; font-size: {char_height}px;
line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""An SVG that fetches nothing from anywhere: the fonts are those of whoever looks."""


CHAR_WIDTH: Final = 12.2
"""Width of a narrow character in the picture, in its own units."""

_RUN: Final = re.compile(r'<text class="([^"]*)" x="([^"]*)" y="([^"]*)" textLength="[^"]*" (clip[^>]*)>([^<]*)</text>')


def save_picture(shown: RenderableType, path: Path, *, title: str, columns: int = PICTURE_COLUMNS) -> None:
    """Save what is shown as an SVG file."""
    recording = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True)
    recording.print(shown)
    path.write_text(_with_wide_characters(recording.export_svg(title=title, code_format=PICTURE, unique_id="summary")))


def _with_wide_characters(picture: str) -> str:
    """Picture in which a run of wide characters has the room of two narrow ones each: rich gives it that of one."""

    def split(found: re.Match[str]) -> str:
        style, start, y, clip, text = found.groups()
        x, runs = float(start), []
        for _, run in groupby(html.unescape(text), key=cell_len):
            shown = "".join(run)
            width = CHAR_WIDTH * cell_len(shown)
            escaped = html.escape(shown).replace("\xa0", "&#160;")
            runs.append(f'<text class="{style}" x="{x:g}" y="{y}" textLength="{width:g}" {clip}>{escaped}</text>')
            x += width
        return "".join(runs)

    return _RUN.sub(split, picture)


def _live_cells(screen: Screen, result: Result) -> Sequence[str | Cell]:
    vehicle = result.vehicle
    shown = (vehicle.lane, mask(vehicle.plate_text), vehicle.story)
    if not result.decisions:
        return (*shown, "", "", Cell(say(screen, "show.no-decision"), "bold red"), "")
    last = result.decisions[-1]
    event = words.named(screen, words.OUTCOMES, last.outcome)
    return (
        *shown,
        format_fen(last.amount) if last.amount else "",
        words.named(screen, words.BARRIERS, last.release),
        event if result.right else Cell(f"{last.outcome} WRONG", "bold red"),
        _ms(last.total_us),
    )


def _vehicles(results: Sequence[Result]) -> Table:
    table = Table(title="Vehicles (plates masked; times in ms of the last decision; R = recovered)", expand=False)
    for name, right in (
        ("", False),
        ("lane", False),
        ("plate", False),
        ("class", True),
        ("fare", True),
        ("decision", False),
        ("reason", False),
        ("all", True),
        ("ours", True),
        ("radio", True),
        ("bank", True),
    ):
        table.add_column(name, justify="right" if right else "left", no_wrap=name not in ("reason", "decision"))
    for result in results:
        vehicle = result.vehicle
        last = result.decisions[-1] if result.decisions else None
        if last is None:
            table.add_row("✗", vehicle.lane, mask(vehicle.plate_text), str(vehicle.vehicle_class), "", "none")
            continue
        table.add_row(
            Text("✓", style="green") if result.right else Text("✗", style="bold red"),
            vehicle.lane,
            mask(vehicle.plate_text),
            str(vehicle.vehicle_class),
            format_fen(vehicle.fare_fen) if vehicle.expected.charged else "-",
            Text.assemble(_barrier(last), f" {' → '.join(d.outcome for d in result.decisions)}", " R" * last.recovered),
            _reason(result.decisions),
            _ms(last.total_us),
            _ms(last.own_us),
            _ms(last.radio_us),
            _ms(last.bank_us),
        )
    return table


def _totals(screen: Screen, results: Sequence[Result]) -> str:
    """Vehicles by outcome and money by funding, in yuan; a repeat counts with the decision it repeats."""
    outcomes: Counter[str] = Counter()
    money: Counter[str] = Counter()
    for decision in filter(None, (_settled(result.decisions) for result in results)):
        outcomes[decision.outcome] += 1
        if decision.funding is not None and decision.outcome in CHARGED:
            money[decision.funding] += decision.amount
    vehicles = ", ".join(
        f"{count} {screen.word(words.OUTCOMES[outcome][0])}" for outcome, count in sorted(outcomes.items())
    )
    charged = ", ".join(
        f"{screen.word(words.FUNDINGS[funding][0])} {format_fen(fen)}" for funding, fen in sorted(money.items())
    )
    total = format_fen(sum(money.values()))
    return say(
        screen, "show.vehicles-charged-yuan", results=len(results), vehicles=vehicles, total=total, charged=charged
    )


def _at_pumps(screen: Screen, filled: Sequence[Filled]) -> Iterator[str]:
    """Cars at the pumps by what became of their sales, with their litres and yuan: one line."""
    if not filled:
        return
    ends = Counter(sales.STATES[one.sale][0] if one.sale else words.OUTCOMES["refused"][0] for one in filled)
    yield say(
        screen,
        "show.cars-at-pumps",
        ends=", ".join(f"{count} {screen.word(end)}" for end, count in ends.items()),
        litres=f"{sum(one.volume_ml for one in filled) / 1000:.2f}",
        total=format_fen(sum(one.amount_fen for one in filled)),
    )


def _fillings(filled: Sequence[Filled]) -> Table:
    table = Table(title="Cars at the pumps (plates masked)", expand=False)
    for name in ("", "side", "plate", "litres", "yuan", "sale", "debit", "reason", "story"):
        table.add_column(name, justify="right" if name in ("side", "litres", "yuan") else "left")
    for one in filled:
        vehicle = one.filling.vehicle
        table.add_row(
            Text("✗", style="bold red") if one.problems else Text("✓", style="green"),
            str(one.filling.side),
            mask(vehicle.plate_text),
            f"{one.volume_ml / 1000:.2f}" if one.sale else "-",
            format_fen(one.amount_fen) if one.sale else "-",
            one.sale or "-",
            one.debit or "-",
            one.reason or "",
            vehicle.story,
        )
    return table


def _reason(decisions: Sequence[DecisionRow]) -> str:
    """Reason of the last decision that has one, in both languages."""
    code = next((d.reason for d in reversed(decisions) if d.reason is not None), None)
    if code is None:
        return ""
    reason = REASONS[code]
    return f"{reason.zh} {reason.en}"


def _times(run: Run) -> Table:
    """Percentiles over passages that needed no recovery; recovered ones apart."""
    table = Table(title="Time (ms)", expand=False)
    for name in ("", "passages", "p50", "p99", "max"):
        table.add_column(name, justify="left" if not name else "right")
    decisions = _decisions(run)
    straight = [d for d in decisions if not d.recovered and d.outcome in CHARGED]
    refused = [d for d in decisions if not d.recovered and d.outcome == "refused"]
    recovered = [d for d in decisions if d.recovered]
    _quantiles(table, "whole passage, paid or owed", [d.total_us for d in straight])
    _quantiles(table, "our own share of it", [d.own_us for d in straight])
    _quantiles(table, "whole passage, refused", [d.total_us for d in refused])
    _quantiles(table, "whole passage, recovered or repeated", [d.total_us for d in recovered])
    _quantiles(table, "commit of a decision", [d.commit_us for d in decisions if d.commit_us])
    within = _within(run, straight)
    table.add_row(f"decided within {run.deadline_ms} ms of trade start", f"{within} of {len(straight)}", "", "", "")
    if run.deadline_ms != DEADLINE_MS:
        table.add_row(f"  and not {DEADLINE_MS}: on this busy machine work takes {run.slower:.1f} times its own time")
    lag = run.condition.get("loop_lag_ms", {})
    table.add_row("event loop lag", "", *(f"{lag.get(k)}" for k in ("p50", "p99", "max")))
    return table


def _decisions(run: Run) -> list[DecisionRow]:
    return [d for r in run.results for d in r.decisions if d.total_us is not None]


def _within(run: Run, straight: Sequence[DecisionRow]) -> int:
    """Count those decided in time, from the first accepted report to the committed decision."""
    return sum(d.total_us is not None and d.total_us <= run.deadline_ms * 1000 for d in straight)


def _quantiles(table: Table, name: str, values: Sequence[int | None]) -> None:
    cells = (_quantile(values, share) for share in (0.5, 0.99, 1.0))
    count = sum(value is not None for value in values)
    table.add_row(name, str(count), *("" if value is None else f"{value / 1000:.1f}" for value in cells))


def _quantile(values: Sequence[int | None], share: float) -> int | None:
    known = sorted(v for v in values if v is not None)
    return known[min(len(known) - 1, int(share * len(known)))] if known else None


def _accounts(lines: Sequence[Line]) -> Table:
    table = Table(title="Accounts against the outside (fen, or a count where it says so)", expand=False)
    for name, right in (("account", False), ("ours", True), ("outside", True), ("", False), ("outside source", False)):
        table.add_column(name, justify="right" if right else "left")
    for line in lines:
        mark = Text("✓", style="green") if line.agrees else Text("✗", style="bold red")
        table.add_row(line.name, str(line.ours), str(line.outside), mark, line.outside_source)
    return table


def _barrier(decision: DecisionRow) -> Text:
    barrier, style = words.BARRIERS[decision.release]
    return Text(barrier.told(Language.ZH), style=style)


def _ms(us: int | None) -> str:
    return "" if us is None else f"{us / 1000:.0f}"
