"""A run of the demo as plain data, for programs. Keys are stable; times are microseconds, money is fen."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hardware.bench.demo import Run


def as_dict(run: Run) -> dict[str, Any]:
    """Summary of a run as one dictionary."""
    return {
        "good": run.good,
        "seconds": round(run.seconds, 1),
        "slower": round(run.slower, 1),
        "deadline_ms": run.deadline_ms,
        "faults": run.faults,
        "vehicles": [
            {
                "id": result.vehicle.id,
                "story": result.vehicle.story,
                "lane": result.vehicle.lane,
                "right": result.right,
                "problems": list(result.problems),
                "decisions": [
                    {key: value for key, value in asdict(d).items() if key != "obu_id"} for d in result.decisions
                ],
            }
            for result in run.results
        ],
        "fillings": [
            {
                "id": filled.filling.vehicle.id,
                "story": filled.filling.vehicle.story,
                "side": filled.filling.side,
                "right": not filled.problems,
                "problems": filled.problems,
                "sale": filled.sale,
                "debit": filled.debit,
                "volume_ml": filled.volume_ml,
                "amount_fen": filled.amount_fen,
                "reason": filled.reason,
            }
            for filled in run.filled
        ],
        "comparisons": [{**asdict(line), "agrees": line.agrees} for line in run.lines],
        "loop_lag_ms": run.condition.get("loop_lag_ms"),
    }
