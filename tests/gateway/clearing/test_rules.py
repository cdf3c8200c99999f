"""Rules of clearing: defaults without a file, and every mistake named with file and key."""

import textwrap

import pytest

from gateway.clearing import rules
from gateway.clearing.rules import ClearingRulesError, load_rules
from gateway.model.clearing import FeeRounding


@pytest.fixture
def load(tmp_path):
    def from_text(text):
        file = tmp_path / "clearing.toml"
        file.write_text(text, encoding="utf-8")
        return load_rules(file)

    return from_text


def test_without_a_file_nothing_is_kept_and_nothing_is_shared():
    found = load_rules(None)
    assert found.fee("bank-1").basis_points == 0
    assert found.owners("lane-1", "99010101", "road-1") == {"road-1": 1}
    assert found.profile("bank-1") is rules.OURS


def test_the_example_of_the_documentation_is_a_file(load):
    text = "\n".join(line for line in rules.__doc__.splitlines() if line.startswith("    "))
    found = load(textwrap.dedent(text))
    assert found.version == "2026-11-01"
    assert found.fee("bank-1").basis_points == 38
    assert found.fee("bank-1").rounding is FeeRounding.HALF_UP
    assert found.owners("lane-1", None, "road-1") == {"road-1": 60, "road-2": 40}
    assert found.profile("bank-1").model_copy(update={"cut_over": None}) == rules.OURS


def test_a_charge_point_goes_before_its_station(load):
    found = load("[splits.99010101]\na = 1\n[splits.lane-1]\nb = 1\n")
    assert list(found.owners("lane-1", "99010101", "road")) == ["b"]
    assert list(found.owners("lane-2", "99010101", "road")) == ["a"]
    assert list(found.owners("lane-2", "99010102", "road")) == ["road"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[fees.bank-1]\nbasis_point = 38", "fees.bank-1.basis_point"),
        ("[fees.bank-1]\nbasis_points = 38.5", "fees.bank-1.basis_points"),
        ("[fees.bank-1]\nrounding = 'bankers'", "fees.bank-1.rounding"),
        ("[splits.lane-1]\nroad-1 = 0", "splits.lane-1 needs"),
        ("[splits.lane-1]\nroad-1 = -1", "splits.lane-1.road-1"),
        ("[shifts]\nstarts = ['08:00', '00:00']", "must ascend"),
        ("[shifts]\nstarts = ['8:00']", "time of day"),
        ("[day_files.bank-1]\nencoding = 'klingon'", "known encoding"),
        ("[day_files.bank-1]\nheader = false", "numbers from 0"),
        ("[day_files.bank-1]\nkinds = { a = 'sale' }", 'needs a word for "total"'),
        ("[day_files.bank-1.columns]\namount = 3", "columns are titles"),
        ("version = 1 2", "is not TOML"),
    ],
)
def test_a_mistake_is_named(load, text, told):
    with pytest.raises(ClearingRulesError) as caught:
        load(text)
    assert told in str(caught.value)
    assert "clearing.toml" in str(caught.value)


def test_a_file_that_is_not_there_or_far_too_large(load, tmp_path, monkeypatch):
    with pytest.raises(ClearingRulesError, match="No such file"):
        load_rules(tmp_path / "nowhere.toml")
    monkeypatch.setattr(rules, "FILE_BYTES_MAX", 10)
    with pytest.raises(ClearingRulesError, match="too large"):
        load("version = '1234567'")
