"""Picture of the load: our share of a passage over the number of lanes, of gateway and null gateway, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

LEFT, RIGHT, TOP, BOTTOM = 55, 570, 70, 340
"""Edges of the plot in the picture; right of it the lines are named."""

PROGRAMS: Final = {"gateway": ("gateway 网关", "#12558f", -9), "null": ("null gateway 空网关", "#2d7d46", 18)}
"""Name and colour of a program's lines, and how far below its points their values stand: away from the other's."""

DASHES: Final = {"p50": "none", "p99": "5 4"}
"""Dashes of a quantile's line."""

TICKS_MS: Final = [tick * 10**power for power in range(6) for tick in (1, 2, 5)]

FRAME: Final = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 390" font-family="'Noto Sans CJK SC',\
'Microsoft YaHei','DejaVu Sans',sans-serif" font-size="12.5" text-anchor="middle" fill="#333">
<title>Our share of a passage over the lanes 每次通行网关自身用时与车道数</title>
<rect width="780" height="390" fill="#fff"/>
<text x="15" y="30" text-anchor="start" font-size="15">Our share of a passage, ms; solid p50, dashed p99\
 每次通行网关自身用时（毫秒）：实线 p50，虚线 p99</text>
{marks}
<text x="312" y="378">lanes 车道数</text>
</svg>
"""

Runs = Mapping[int, Mapping[str, Mapping[str, Any]]]
"""Figures by lanes and program."""

Points = list[tuple[int, str]]
"""Lanes, and our share in ms as it is written."""


def save_picture(runs: Runs, path: Path) -> None:
    """Save the picture of these runs."""
    path.write_text(picture_of(runs), "utf-8")


def picture_of(runs: Runs) -> str:
    """Picture of these runs. It is made of what it says in figures, so the same figures give the same picture."""
    lines = {
        (who, quantile): [
            (lanes, f"{float(f'{ms:.3g}'):g}")
            for lanes, found in sorted(runs.items())
            if who in found and (ms := found[who][f"share_{quantile}_ms"])
        ]
        for who in PROGRAMS
        for quantile in DASHES
    }
    return FRAME.format(marks="\n".join(_marks(lines, max(runs))))


def _marks(lines: Mapping[tuple[str, str], Points], lanes_max: int) -> Iterator[str]:
    """Axes, lines with their points, names of the programs."""
    values = [float(ms) for points in lines.values() for _, ms in points] or [1.0]
    low = max((tick for tick in TICKS_MS if tick <= min(values)), default=TICKS_MS[0])
    high = min((tick for tick in TICKS_MS if tick >= max(values) and tick > low), default=TICKS_MS[-1])

    def x(lanes: int) -> str:
        return f"{LEFT + 15 + (RIGHT - LEFT - 30) * lanes / lanes_max:.1f}"

    def y(ms: float, below: int = 0) -> str:
        risen = max(0.0, math.log(ms / low) / math.log(high / low))
        return f"{BOTTOM - (BOTTOM - TOP) * risen + below:.1f}"

    for tick in TICKS_MS:
        if low <= tick <= high:
            yield f'<path stroke="#ddd" d="M{LEFT} {y(tick)}H{RIGHT}"/>'
            yield f'<text x="{LEFT - 8}" y="{y(tick, 4)}" text-anchor="end">{tick}</text>'
    for lanes in sorted({lanes for points in lines.values() for lanes, _ in points}):
        yield f'<text x="{x(lanes)}" y="{BOTTOM + 18}">{lanes}</text>'
    for (who, quantile), points in lines.items():
        (name, colour, below), dashes = PROGRAMS[who], DASHES[quantile]
        path = " ".join(f"{x(lanes)},{y(float(ms))}" for lanes, ms in points)
        yield f'<polyline fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}" points="{path}"/>'
        for lanes, ms in points:
            yield f'<circle cx="{x(lanes)}" cy="{y(float(ms))}" r="3.5" fill="{colour}">'
            yield f"<title>{who} {quantile} at {lanes} lanes: {ms} ms</title></circle>"
            yield f'<text x="{x(lanes)}" y="{y(float(ms), below)}" fill="{colour}">{ms}</text>'
        if points and quantile == "p50":
            beside = f'x="{RIGHT + 15}" y="{y(float(points[-1][1]), 4)}" text-anchor="start"'
            yield f'<text {beside} fill="{colour}">{name}</text>'
