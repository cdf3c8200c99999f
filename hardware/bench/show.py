"""Display of the demo: a live table while vehicles drive, and the summary at its end."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.model.money import format_fen
from gateway.model.plate import mask
from gateway.model.reasons import REASONS
from hardware.bench.demo import Run
from hardware.bench.ledger_view import DecisionRow
from hardware.bench.processes import DEADLINE_MS
from hardware.bench.reckoning import Line, Result

LIVE_ROWS = 14
"""Rows of the live table: with its frame it fits a terminal of 24 lines."""

BARRIERS = {"go": ("抬杆", "green"), "stop": ("关闭", "red"), "attendant": ("人工", "yellow")}


def live(run: Run) -> RenderableType:
    """Live table: the newest vehicles, and those on the road."""
    table = Table(title=f"{run.phase}: {len(run.results)} vehicles dealt with", expand=False)
    for name in ("lane", "plate", "vehicle", "fare", "barrier", "outcome", "ms"):
        table.add_column(name, justify="right" if name in ("fare", "ms") else "left", no_wrap=name != "vehicle")
    for result in run.results[-LIVE_ROWS:]:
        table.add_row(*_live_cells(result))
    for lane, vehicle in sorted(run.on_the_road.items()):
        table.add_row(lane, mask(vehicle.plate_text), vehicle.story, "", "", Text("on the road", style="dim"), "")
    return table


def summary(run: Run) -> RenderableType:
    """Summary: vehicles, time, accounts, verdict."""
    parts: list[RenderableType] = [_vehicles(run.results), _totals(run.results), "", _times(run), ""]
    parts.append(_accounts(run.lines))
    wrong = [r for r in run.results if not r.right]
    for result in wrong:
        for problem in result.problems:
            parts.append(Text(f"WRONG {result.vehicle.id} {result.vehicle.story}: {problem}", style="bold red"))
    parts += [Text(f"WRONG {fault}", style="bold red") for fault in run.faults]
    parts += [
        Text(f"WRONG {line.name}: ours {line.ours}, outside {line.outside} ({line.outside_source})", style="bold red")
        for line in run.lines
        if not line.agrees
    ]
    right = len(run.results) - len(wrong)
    agreeing = sum(line.agrees for line in run.lines)
    text = f"{right} of {len(run.results)} vehicles as expected, {agreeing} of {len(run.lines)} comparisons agree"
    parts += ["", Text(("OK  " if run.good else "FAILED  ") + text, style="bold green" if run.good else "bold red")]
    return Group(*parts)


def console(*, wide: int | None = None) -> Console:
    """Standard output; a fixed width where there is no terminal, so that tables do not fall apart."""
    found = Console()
    return found if found.is_terminal else Console(width=wide or 132)


PICTURE_COLUMNS = 128

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


def save_picture(shown: RenderableType, path: Path, *, title: str) -> None:
    """Save what is shown as an SVG file."""
    recording = Console(record=True, width=PICTURE_COLUMNS, file=io.StringIO(), force_terminal=True)
    recording.print(shown)
    recording.save_svg(str(path), title=title, code_format=PICTURE, unique_id="summary")


def _live_cells(result: Result) -> Sequence[RenderableType]:
    vehicle = result.vehicle
    if not result.decisions:
        return (
            vehicle.lane,
            mask(vehicle.plate_text),
            vehicle.story,
            "",
            "",
            Text("no decision", style="bold red"),
            "",
        )
    last = result.decisions[-1]
    return (
        vehicle.lane,
        mask(vehicle.plate_text),
        vehicle.story,
        format_fen(last.amount) if last.amount else "",
        _barrier(last),
        Text(last.outcome + ("" if result.right else " WRONG"), style="" if result.right else "bold red"),
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


def _totals(results: Sequence[Result]) -> str:
    """Vehicles by outcome and money by funding, in yuan; a repeat counts with the decision it repeats."""
    outcomes: Counter[str] = Counter()
    money: Counter[str] = Counter()
    for result in results:
        settled = [d for d in result.decisions if d.outcome != "repeat"]
        if settled:
            outcomes[settled[-1].outcome] += 1
            if settled[-1].funding is not None and settled[-1].outcome in ("paid", "owed", "debt"):
                money[settled[-1].funding] += settled[-1].amount
    vehicles = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    charged = ", ".join(f"{funding} {format_fen(fen)}" for funding, fen in sorted(money.items()))
    return f"{len(results)} vehicles: {vehicles}; charged {format_fen(sum(money.values()))} yuan: {charged}"


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
    decisions = [d for r in run.results for d in r.decisions if d.total_us is not None]
    straight = [d for d in decisions if not d.recovered and d.outcome in ("paid", "owed", "debt")]
    refused = [d for d in decisions if not d.recovered and d.outcome == "refused"]
    recovered = [d for d in decisions if d.recovered]
    _quantiles(table, "whole passage, paid or owed", [d.total_us for d in straight])
    _quantiles(table, "our own share of it", [d.own_us for d in straight])
    _quantiles(table, "whole passage, refused", [d.total_us for d in refused])
    _quantiles(table, "whole passage, recovered or repeated", [d.total_us for d in recovered])
    _quantiles(table, "commit of a decision", [d.commit_us for d in decisions if d.commit_us])
    # From the first accepted report to the committed decision, where the purchase was answered at the first try.
    within = sum(d.total_us is not None and d.total_us <= run.deadline_ms * 1000 for d in straight)
    table.add_row(f"decided within {run.deadline_ms} ms of trade start", f"{within} of {len(straight)}", "", "", "")
    if run.deadline_ms != DEADLINE_MS:
        table.add_row(f"  and not {DEADLINE_MS}: on this busy machine work takes {run.slower:.1f} times its own time")
    lag = run.condition.get("loop_lag_ms", {})
    table.add_row("event loop lag", "", *(f"{lag.get(k)}" for k in ("p50", "p99", "max")))
    return table


def _quantiles(table: Table, name: str, values: Sequence[int | None]) -> None:
    known = sorted(v for v in values if v is not None)
    if not known:
        table.add_row(name, "0", "", "", "")
        return
    cells = (known[min(len(known) - 1, int(share * len(known)))] for share in (0.5, 0.99, 1.0))
    table.add_row(name, str(len(known)), *(f"{value / 1000:.1f}" for value in cells))


def _accounts(lines: Sequence[Line]) -> Table:
    table = Table(title="Accounts against the outside (fen, or a count where it says so)", expand=False)
    for name, right in (("account", False), ("ours", True), ("outside", True), ("", False), ("outside source", False)):
        table.add_column(name, justify="right" if right else "left")
    for line in lines:
        mark = Text("✓", style="green") if line.agrees else Text("✗", style="bold red")
        table.add_row(line.name, str(line.ours), str(line.outside), mark, line.outside_source)
    return table


def _barrier(decision: DecisionRow) -> Text:
    zh, style = BARRIERS[decision.release]
    return Text(zh, style=style)


def _ms(us: int | None) -> str:
    return "" if us is None else f"{us / 1000:.0f}"
