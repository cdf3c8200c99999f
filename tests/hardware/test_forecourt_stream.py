"""Times of sales of fuel add up, and come from the ledger; what many sides cost is told."""

import asyncio
import json

import pytest

from hardware.bench.forecourt_stream import SIDES_A_LINE, measure_sides, measure_times, plans_of

SALES = 6


@pytest.mark.slow
def test_the_parts_of_the_time_of_a_sale_are_the_whole(tmp_path):
    found = asyncio.run(measure_times(tmp_path, sales=SALES, within_ms=100.0))
    assert all(line.agrees for line in found.lines), found.lines
    (late,) = found.problems  # a bank takes longer than that
    assert late.startswith("p99 of the whole is ")
    assert not found.good
    every = {row["part"]: row for row in found.rows if row["pumps"] == "all"}
    assert set(every) == {"noticed", "pump", "bank", "ours", "whole"}
    assert all(row["sales"] == SALES - found.figures["cars_turned_away"] for row in every.values())
    assert every["bank"]["p50_ms"] >= found.figures["bank_ms"]
    assert all(0 <= row["p50_ms"] <= row["p99_ms"] <= row["max_ms"] for row in every.values())
    assert sum(every[part]["p99_ms"] for part in ("noticed", "pump", "bank", "ours")) >= every["whole"]["p99_ms"]
    json.dumps(found.as_dict())


@pytest.mark.slow
def test_what_many_sides_cost_is_told(tmp_path):
    found = asyncio.run(measure_sides(tmp_path, sides=5, every_s=4.0, idle_s=0.5))
    assert found.good, (found.problems, found.lines)
    assert (found.figures["sides"], found.figures["islands"]) == (5, 2)
    assert found.figures["resident_mb"] > 0
    assert {"idle_cpu_percent", "cpu_ms_per_sale", "loop_lag_p99_ms"} <= set(found.figures)


def test_sides_are_put_on_lines_some_a_line():
    plans = plans_of(2 * SIDES_A_LINE + 1)
    assert [(plan.name, len(plan.addresses)) for plan in plans] == [("island-1", 4), ("island-2", 4), ("island-3", 1)]
    assert plans[0].addresses == (80, 81, 82, 83)
