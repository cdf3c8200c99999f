"""Measurements of `make bench`: speed as ratios to references measured in the same run on the same disk.

Absolute times of a shared machine say little; a ratio to hand-written code that does the same work says how much the
structure costs. Nothing here passes or fails.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from hardware.bench import large, measure_cards, measure_codec, measure_debits, measure_lists, measure_start, show
from hardware.bench.load import run as load

MEASUREMENTS: tuple[tuple[str, Callable[[Path, int], list[dict[str, Any]]]], ...] = (
    ("debits", lambda folder, _debits: measure_debits.measure(folder)),
    ("memory", measure_debits.measure_memory),
    ("start-up", lambda folder, _debits: measure_start.measure(folder)),
    ("large ledger", lambda folder, _debits: large.measure(folder)),
    ("load of 16 lanes", lambda folder, _debits: load.measure(folder)),
    ("codec", lambda folder, _debits: measure_codec.measure(folder)),
    ("cards", lambda folder, _debits: measure_cards.measure(folder)),
    ("status lists", lambda *_: [{"figure": k, "value": v} for k, v in measure_lists.measure().items()]),
)


def measure_all(*, as_json: bool, debits: int) -> None:
    """Run every measurement and print it; `debits` is how many the memory figure is taken after."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, measure in MEASUREMENTS:
        with tempfile.TemporaryDirectory(prefix="etcbench-") as folder:
            found[name] = measure(Path(folder), debits)
    console = show.console()
    if as_json:
        console.out(json.dumps(found, ensure_ascii=False))
        return
    for name, rows in found.items():
        console.print(table_of(name, rows))


def table_of(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Table of rows with the same keys."""
    table = Table(title=name, expand=False)
    for key in rows[0]:
        table.add_column(key.replace("_", " "), justify="right" if _number(rows[0][key]) else "left")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    return table


def _number(value: object) -> bool:
    return isinstance(value, int | float)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
