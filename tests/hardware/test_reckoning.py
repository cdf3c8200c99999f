"""The bench's judge of lifts bites: one without a decision, of another lane's, or a second one for the same."""

from dataclasses import dataclass

import pytest

from hardware.bench.reckoning import lifts


@dataclass
class Row:
    record_no: int
    charge_point: str = "lane-1"
    release: str = "go"


class View:
    def decisions(self):
        return [Row(1), Row(2, release="stop"), Row(3), Row(4, charge_point="lane-2")]


@pytest.mark.parametrize(
    ("lifted", "counts"),
    [
        ({"lane-1": [1, 3], "lane-2": [4]}, (0, 0)),
        ({"lane-1": [3, 1], "lane-2": []}, (0, 0)),
        ({"lane-1": [1, None], "lane-2": []}, (1, 0)),
        ({"lane-1": [2], "lane-2": []}, (1, 0)),
        ({"lane-1": [4], "lane-2": []}, (1, 0)),
        ({"lane-1": [5], "lane-2": []}, (1, 0)),
        ({"lane-1": [1, 1, 3, 3, 3], "lane-2": []}, (0, 3)),
    ],
)
def test_each_lift_has_a_decision_of_its_own(lifted, counts):
    lines = lifts(View(), lifted)
    assert tuple(line.ours for line in lines) == counts
    assert [line.agrees for line in lines] == [not count for count in counts]
