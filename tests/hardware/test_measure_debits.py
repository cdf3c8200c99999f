"""The bench compares like with like: the hand-written loop writes what the engine writes, or there is no ratio."""

import pytest

from hardware.bench import measure_debits
from hardware.bench.chain_key import KEYS
from hardware.bench.hand_written import HandWritten

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Enough for vehicles to come again."""
    monkeypatch.setattr(measure_debits, "CALLERS", (1, 5))
    monkeypatch.setattr(measure_debits, "DEBITS", {1: 12, 5: 60})
    monkeypatch.setattr(measure_debits, "VEHICLES", 20)
    monkeypatch.setattr(measure_debits.garbage_collection, "collect_rarely", lambda: None)


def test_engine_and_loop_write_the_same_rows(tmp_path):
    rows = measure_debits.measure(tmp_path)
    assert [(row["kind"], row["callers"]) for row in rows] == [
        (kind, callers) for kind in ("charge", "purse passage") for callers in (1, 5)
    ]
    assert all(row["ratio"] > 0 and row["p99_ms_of_a_debit"] > 0 for row in rows)


def test_a_loop_that_writes_less_is_no_reference(tmp_path, monkeypatch):
    monkeypatch.setattr(HandWritten, "_note", lambda *_: None)
    with pytest.raises(ValueError, match="journal"):
        measure_debits.measure(tmp_path)


def test_the_loop_keeps_the_ledgers_own_rules(tmp_path):
    """Its books and chains are as true as the engine's."""
    from gateway.ledger import engines
    from gateway.ledger.verify import verify

    hand = HandWritten(tmp_path / "hand.db", fare_fen=1425, vehicles=20, day="20261123")
    for start in range(0, 40, 5):
        hand.charge(range(start, start + 5))
        hand.passage(range(100 + start, 105 + start))
    hand.close()
    engine = engines.open_reader(tmp_path / "hand.db")
    findings = [finding for check in verify(engine, KEYS) for finding in check.findings]
    engine.dispose()
    assert findings == []


def test_memory_is_looked_at_on_the_way(tmp_path):
    (row,) = measure_debits.measure_memory(tmp_path, 40)
    assert row["debits"] == 40
    assert row["resident_mb"] > 1
