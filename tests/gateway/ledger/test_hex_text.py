"""Ids and digests are bytes in the file and texts everywhere else, whatever way they are written, found and read."""

import pytest
from sqlalchemy import bindparam, select, text

from gateway.ledger import hex_text, tables
from gateway.ledger.hex_text import Conversions, from_stored, to_stored
from gateway.ledger.statements import pages
from tests.gateway.ledger.tampering import Files

ID, DIGEST = "01a2" * 8, "0f" * 32
PLAIN = ["d1", "", "m", "01A2" * 8, "01a2" * 7 + "01a", "0" * 31, " 1" * 16, "1 " * 16, "g" * 32, "京" * 32, "0" * 66]

_p, _d = tables.passage, tables.debit
_OF_PASSAGE = select(_d.c.id, _p.c.id.label("passage"), _d.c.payer).join(_p, _p.c.id == _d.c.passage_id)
_FOUND = _OF_PASSAGE.where(_d.c.id == bindparam("debit"), _p.c.charge_point == "l")


def a_debit(tx, key, payer="i"):
    """A debit whose keys are all `key`, written."""
    tx.insert(tables.subject, id=key)
    tx.insert(_p, id=key, charge_point="l", service="toll", opened_at=1, clock_quality="x")
    tx.insert(tables.obligor, id=key, subject_key=key)
    tx.insert(
        _d,
        **dict.fromkeys(("id", "idempotency_key", "content_hash", "passage_id", "obligor_id"), key),
        **{"merchant": "m", "service": "toll", "day": "20261123", "funding": "purse", "payer": payer, "amount": 1},
        **{"state": "held", "hold_id": 1, "created_at": 1, "changed_at": 1, "abandoned": "void"},
    )
    tx.flush()


@pytest.mark.parametrize("value", [ID, DIGEST])
def test_an_id_and_a_digest_take_half_the_room(value):
    assert to_stored(value) == bytes.fromhex(value)
    assert from_stored(to_stored(value)) == value


@pytest.mark.parametrize("value", [*PLAIN, None])
def test_whatever_else_stands_there_is_stored_as_it_is(value):
    assert to_stored(value) is value
    assert from_stored(value) is value


def test_two_stored_values_never_read_the_same():
    others = [ID, DIGEST, b"d1", b"", bytes.fromhex(ID)[:-1], bytes.fromhex(ID) + b"\0", b"01A2" * 8 + b"\0"]
    stored = [bytes.fromhex(ID), bytes.fromhex(DIGEST), *PLAIN, *others]
    assert len(set(map(from_stored, stored))) == len(stored)


def test_bytes_are_no_id():
    with pytest.raises(TypeError, match="not the text of an id"):
        to_stored(bytes(16))


@pytest.mark.parametrize("key", [ID, "d1"])
def test_every_way_to_read_gives_the_text(tx, key):
    a_debit(tx, key, payer=DIGEST)
    assert tx.find(_d, idempotency_key=key).passage_id == key
    assert [tuple(row) for row in tx.rows(_FOUND, debit=key)] == [(key, key, DIGEST)]
    assert [tuple(row) for row in tx.connection.execute(_FOUND, {"debit": key})] == [(key, key, DIGEST)]
    assert list(pages(tx.connection, _OF_PASSAGE)) == [[(key, key, DIGEST)]]
    (changed,) = tx._runner.update_returning(_d, {"id": key}, {"obligor_id": key})
    assert (changed[0], changed[4]) == (key, key)
    assert tx.connection.execute(text("select hex_text(id) from debit")).scalar_one() == key
    stored = tx.connection.execute(text("select distinct typeof(id) || typeof(passage_id) from debit")).scalars().all()
    assert stored == [{ID: "blobblob", "d1": "texttext"}[key]]


def test_the_journal_does_not_repeat_the_id_of_its_debit(tx):
    tx.note("debit", ID, "held", debit_id=ID)
    tx.note("attempt", "a", "stored", debit_id=ID)
    tx.finish()
    rows = tx.connection.execute(
        text("select kind, typeof(ref), typeof(debit_id) from journal where debit_id not null")
    )
    assert [tuple(row) for row in rows] == [("debit", "null", "blob"), ("attempt", "text", "blob")]


def test_an_id_put_in_as_text_is_not_what_was_sealed(tmp_path):
    files = Files(tmp_path / "ledger.db")
    row = files.row(_d)
    files.put(_d, row)
    assert files.findings() == []
    assert files.tamper("update debit set passage_id = lower(hex(passage_id))") == 1
    (finding,) = files.findings()
    files.close()
    assert (finding.row, finding.column) == (f"debit {row['id']}", "passage_id")


def test_conversions_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(hex_text, "CONVERSIONS_MAX", 5)
    known = Conversions(to_stored)
    for n in range(20):
        assert known[f"{n:032x}"] == n.to_bytes(16)
    assert len(known) <= 5
