"""Who stands at a lifted nozzle: proved, or nobody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.points.fuel.witnesses import Open, Proven, Rules, Sighting, WitnessKind, who

SIDE, ISLAND, CAMERA = WitnessKind.SIDE_ANTENNA, WitnessKind.ISLAND_ANTENNA, WitnessKind.CAMERA
RULES = Rules({SIDE: 10, ISLAND: 6, CAMERA: 6}, need=6, lead=4, before_s=120)


def seen(vehicle, kind=ISLAND, at=100.0):
    return Sighting(vehicle, kind, at)


@pytest.mark.parametrize(
    ("sightings", "expected"),
    [
        ([], Open(())),
        ([seen("a")], Proven("a", 6, 0, (ISLAND,))),
        ([seen("a", at=-21.0)], Open(())),  # seen too long ago
        ([seen("a", at=130.0)], Proven("a", 6, 0, (ISLAND,))),  # seen after the lift
        ([seen("a"), seen("b")], Open(("a", "b"))),
        ([seen("a"), seen("b"), seen("a", CAMERA)], Proven("a", 12, 6, (CAMERA, ISLAND))),
        ([seen("a", SIDE), seen("b")], Proven("a", 10, 6, (SIDE,))),
        ([seen("a", SIDE), seen("b"), seen("b", CAMERA)], Open(("b", "a"))),  # antenna and camera disagree
        ([seen("a"), seen("a", at=101.0)], Proven("a", 6, 0, (ISLAND,))),  # one witness, seen twice
    ],
)
def test_who(sightings, expected):
    assert who(sightings, RULES, 100.0) == expected


def test_a_witness_without_weight_proves_nothing():
    assert who([seen("a")], Rules({}, need=1, lead=1, before_s=120), 100.0) == Open(())


def test_the_proof_is_kept_in_a_few_words():
    assert str(who([seen("a"), seen("a", CAMERA)], RULES, 100.0)) == "camera+island_antenna 12:0"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(WitnessKind), st.floats(-300, 300))))
def test_nobody_is_proved_without_points_and_lead(found):
    sightings = [Sighting(*one) for one in found]
    proof = who(sightings, RULES, 100.0)
    if isinstance(proof, Proven):
        assert proof.points >= RULES.need
        assert proof.points - proof.next_points >= RULES.lead
        assert who(reversed(sightings), RULES, 100.0) == proof
