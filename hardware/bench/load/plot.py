"""Plot of the load over the number of lanes: bars of gateway and null gateway, one table a figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.bar import Bar
from rich.console import Group
from rich.table import Table

PLOTTED: Final = {
    "share_p50_ms": "our share of a passage, p50, ms",
    "share_p99_ms": "our share of a passage, p99, ms",
    "cpu_ms_per_passage": "CPU per passage, net of idle, ms",
    "kb_stored_per_passage": "written to disk per passage, kB",
}
BAR_COLUMNS: Final = 60
COLOURS: Final = {"gateway": "blue", "null": "green"}


def plot(runs: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> Group:
    """Bars of each plotted figure; `runs` has the figures by lanes and program."""
    return Group(*(_bars(name, title, runs) for name, title in PLOTTED.items()))


def _bars(name: str, title: str, runs: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1), show_header=False)
    bars = [(lanes, who, float(run[who][name] or 0)) for lanes, run in runs.items() for who in run]
    most = max(value for *_, value in bars) or 1.0
    for lanes, who, value in bars:
        bar = Bar(most, 0, max(0.0, value), width=BAR_COLUMNS, color=COLOURS[who])
        table.add_row(f"{lanes} lanes", who, bar, f"{value:.3g}")
    return table
