"""Whatever is done to a covered row behind the gateway's back is found, and named by table, row and column."""

import re
import struct
from collections import Counter
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

import gateway
from gateway.ledger import seals, tables, verify_seals
from gateway.ledger.seals import CODES, KEYED_BY_SALT, LAYOUTS, LEFT_OUT, NOT_COVERED
from gateway.model.passage import Service
from tests.gateway.ledger.tampering import Files

COVERED = [pytest.param(table, id=table.name) for table in LAYOUTS]


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(verify_seals, "FINDINGS_MAX", 10_000)
    monkeypatch.setattr("gateway.ledger.findings.FINDINGS_MAX", 10_000)
    files = Files(tmp_path / "ledger.db")
    yield files
    files.close()


def keys_of(table):
    return [column.name for column in table.primary_key]


def where(table, row):
    names = keys_of(table)
    return " and ".join(f"{name} = ?" for name in names), [row[name] for name in names]


def named(table, row):
    """How a finding names a row."""
    if table is tables.credential:
        return f"credential {row['kind']} of mandate {row['mandate_id']}"
    if table is tables.card_serial:
        return f"card_serial of the card ending in {row['card_number'][-4:]}"
    return f"{table.name} {' '.join(str(row[name]) for name in keys_of(table))}"


def changed(files, column, value):
    """Another value of the same kind."""
    if isinstance(value, int):
        return value + 1_000_000
    if isinstance(value, bytes):
        return value + b"x"
    return value + "x" if isinstance(value, str) else files.value(column, 7_000_000)


def changes(files, table):
    """Every way to change one column of a row: (row before, column, value after)."""
    for column in table.columns:
        row = files.row(table)
        yield row, column.name, changed(files, column, row[column.name])
        if column.nullable and column.name != seals.SALT:
            yield files.row(table), column.name, None
            empty = files.row(table, empty=(column.name,))
            yield empty, column.name, changed(files, column, None)


@pytest.mark.parametrize("table", COVERED)
def test_every_column_of_every_covered_table_is_vouched_for(files, table):
    planned = list(changes(files, table))
    files.put(table, *(row for row, _, _ in planned))
    assert files.findings() == []
    expected = Counter()
    for row, column, value in planned:
        condition, key = where(table, row)
        assert files.tamper(f'update {table.name} set "{column}" = ? where {condition}', [value, *key]) == 1
        if column in LEFT_OUT.get(table.name, {}):
            continue
        after = {**row, column: value}
        if column in keys_of(table) and table.name not in KEYED_BY_SALT:
            # Another key is another row: one is missing, one is nobody's.
            expected.update([(table.name, named(table, row), None), (table.name, named(table, after), None)])
        elif column == seals.SALT and table.name in KEYED_BY_SALT:
            expected.update([(table.name, named(table, after), None), (table.name, "by its commitment", None)])
        else:
            expected[table.name, named(table, after), column] += 1
    found = Counter()
    for finding in files.findings():
        is_hex = table.name in KEYED_BY_SALT and len(finding.row.split()[-1]) == 32 and finding.column is None
        row = "by its commitment" if is_hex and "missing" in finding.problem else finding.row
        found[finding.table, row, finding.column] += 1
    assert found == expected


def test_a_row_is_named_where_no_tag_tells_its_column(files):
    table, layout = tables.counter, seals.LAYOUTS[tables.counter]
    row = files.row(table)
    files.put(table, row)
    tags = layout.seal(tuple(row.values()))[seals.DIGEST_BYTES :]
    value = next(n for n in count(row["value"] + 1) if layout.seal((row["name"], n))[seals.DIGEST_BYTES :] == tags)
    files.tamper("update counter set value = ? where name = ?", [value, row["name"]])
    (finding,) = files.findings()
    assert (finding.table, finding.row, finding.column) == ("counter", named(table, row), None)
    assert "changed" in finding.problem


@pytest.mark.parametrize("table", COVERED)
def test_a_row_taken_out_and_a_row_put_in_are_named(files, table):
    rows = [files.row(table) for _ in range(3)]
    files.put(table, *rows)
    condition, key = where(table, rows[1])
    files.tamper(f"delete from {table.name} where {condition}", key)
    (gone,) = files.findings()
    assert (gone.table, gone.column) == (table.name, None)
    assert "missing" in gone.problem
    if table.name not in KEYED_BY_SALT:
        assert gone.row == named(table, rows[1])
    forged = files.row(table)
    marks = ", ".join("?" * len(forged))
    files.tamper(f"insert into {table.name} values ({marks})", list(forged.values()))
    put_in = [finding for finding in files.findings() if "put in" in finding.problem]
    assert [(f.table, f.row) for f in put_in] == [(table.name, named(table, forged))]


def _write_any_way(tx, place):
    tx.execute(update(tables.passage).where(tables.passage.c.id == "1").values(service=place))


def _write_by_another_column(tx, place):
    tx.update(tables.passage, {"charge_point": "lane"}, service=place)


def _write_by_key_and_more(tx, place):
    tx.update(tables.passage, {"id": "1", "charge_point": "lane"}, service=place)


def _write_by_key(tx, place):
    tx.update(tables.passage, {"id": "1"}, service=place)


@pytest.mark.parametrize("write", [_write_any_way, _write_by_another_column, _write_by_key_and_more, _write_by_key])
@pytest.mark.parametrize(
    "read",
    [
        lambda tx: tx.find(tables.passage, id="1"),
        lambda tx: tx.first(select(tables.passage).where(tables.passage.c.id == "1")),
    ],
    ids=["found", "selected"],
)
def test_a_row_that_was_read_and_changed_is_sealed_as_it_stands(files, read, write):
    row = {**files.row(tables.passage), "id": "1", "charge_point": "lane"}
    files.put(tables.passage, row)

    def change(tx):
        read(tx)
        write(tx, Service.FUEL)
        assert read(tx).service == "fuel"
        write(tx, Service.PARKING)
        assert tx.update(tables.passage, {"id": "1"}, device_type=True) == 1

    files.commit(change)
    assert files.findings() == []


def test_a_row_that_was_read_and_is_gone_is_not_changed(files):
    files.put(tables.passage, {**files.row(tables.passage), "id": "1"})

    def change(tx):
        tx.find(tables.passage, id="1")
        tx.execute(tables.passage.delete().where(tables.passage.c.id == "1"))
        assert tx.update(tables.passage, {"id": "1"}, service="fuel") == 0

    files.commit(change)
    assert files.findings() == []


def test_a_row_put_back_after_it_was_deleted_is_nobodys(files):
    row = files.row(tables.mandate_limit)
    files.put(tables.mandate_limit, row)
    statement = tables.mandate_limit.delete().where(tables.mandate_limit.c.service == row["service"])
    files.commit(lambda tx: tx.execute(statement))
    assert files.findings() == []
    files.tamper("insert into mandate_limit values (?, ?, ?, ?, ?)", list(row.values()))
    (finding,) = files.findings()
    assert "put in" in finding.problem


@pytest.mark.parametrize("name", sorted(KEYED_BY_SALT))
def test_a_copy_with_the_salt_of_another_row_is_found(files, name):
    table = tables.metadata.tables[name]
    row = files.row(table)
    files.put(table, row)
    copy = {**files.row(table), "salt": row["salt"]}
    files.tamper(f"insert into {name} values ({', '.join('?' * len(copy))})", list(copy.values()))
    assert {f.table for f in files.findings()} == {name}


def test_an_entry_that_names_no_row_seals_nothing(files):
    nothing = struct.pack(">BHB", CODES["mandate"], 0, 0)
    files.commit(
        lambda tx: tx.insert_chained(
            tables.journal, kind="rows", ref="0/0/0", event="sealed", at=tx.now_us, content=nothing
        )
    )
    assert any("seals nothing of ours" in finding.problem for finding in files.findings())


def test_the_newest_seal_counts_whatever_changed_the_row(files):
    """Inserted, changed while it waits, changed when it is written, by a statement of its own, twice in one go."""
    one, two = files.row(tables.outbox), files.row(tables.outbox)
    done = update(tables.outbox).where(tables.outbox.c.id == one["id"]).values(done_at=9)

    def change(tx):
        tx.insert(tables.outbox, **one)
        tx.update(tables.outbox, {"id": one["id"]}, kind="advice")
        tx.flush()
        tx.update(tables.outbox, {"id": one["id"]}, kind="refund", tries=4)
        tx.insert(tables.outbox, **two)
        assert tx.execute(done) == 1

    files.commit(change)
    files.commit(lambda tx: tx.update(tables.outbox, {"id": two["id"]}, destination="b/2"))
    assert files.findings() == []


def test_what_no_seal_covers_costs_none(files):
    row = files.row(tables.outbox)
    files.put(tables.outbox, row)
    before = files.commit(lambda tx: tx.chain_span(tables.journal)[1])
    files.commit(lambda tx: tx.update(tables.outbox, {"id": row["id"]}, tries=7, next_at=8, last_answer="91"))
    assert files.commit(lambda tx: tx.chain_span(tables.journal)[1]) == before


def test_what_cannot_be_sealed_is_refused(files):
    many = update(tables.debit).where(tables.debit.c.id == "d").values(merchant="m")
    with pytest.raises(TypeError, match="unsealed"):
        files.commit(lambda tx: tx.execute_many(many, [{}]))
    with pytest.raises(TypeError, match="unsealed"):
        files.commit(lambda tx: tx.update_many(tables.account, "id", ("balance", "owner"), []))
    with pytest.raises(TypeError, match="cannot be sealed"):
        files.commit(lambda tx: tx.execute(insert(tables.debit).values(id="d")))


def test_values_of_other_kinds_are_sealed_as_the_database_keeps_them(files):
    row = files.row(tables.debit) | {"stood_in": True, "payer": _Text("bank-1"), "collected": False}
    files.put(tables.debit, row)
    assert files.findings() == []


class _Text(str):
    """As members of our enums are: a text, and more."""

    __slots__ = ()

    def __repr__(self):
        return f"<{self}>"


def test_seals_of_before_a_table_got_a_column_still_hold(files, monkeypatch):
    """Columns are added at the end: what was sealed without them is held against the columns there were."""
    layout = LAYOUTS[tables.debit]
    old, new = files.row(tables.debit), files.row(tables.debit)
    whole = type(layout)._lines
    fewer = len(layout.columns) - 2
    monkeypatch.setattr(layout, "columns", layout.columns[:fewer])
    monkeypatch.setattr(type(layout), "_lines", lambda self, row, count: whole(self, row, count or fewer))
    files.put(tables.debit, old)
    monkeypatch.undo()
    monkeypatch.setattr(verify_seals, "FINDINGS_MAX", 10_000)
    files.put(tables.debit, new)
    assert files.findings() == []
    for row in (old, new):
        files.tamper("update debit set merchant = 'other' where id = ?", [row["id"]])
    found = {(f.row, f.column) for f in files.findings()}
    assert found == {(f"debit {row['id']}", "merchant") for row in (old, new)}


def test_chains_cut_off_with_their_heads_are_told_by_the_newest_seal(files):
    def change(tx):
        for _ in range(3):
            tx.insert_chained(tables.decision, **{**files.row(tables.decision), "record_no": None, "chain": None})
            tx.insert(tables.refusal, **files.row(tables.refusal))

    files.commit(change)
    link = files.commit(
        lambda tx: tx.first(select(tables.decision.c.chain).where(tables.decision.c.record_no == 2)).chain
    )[0]
    files.tamper("delete from decision where record_no = 3")
    files.tamper("update chain set number = 2, digest = ? where name = 'decision'", [link])
    (finding,) = files.findings()
    assert finding.table == "decision"
    assert "ends with 2" in finding.problem


@pytest.mark.parametrize(
    "content", [b"\x05", b"\xff\x00\x01\x00x", b"\x05\x00\x01\x63x", b"\x05\x00\x01\x17x" + bytes(9)]
)
def test_content_that_is_no_seal_is_named(files, content):
    def change(tx):
        tx.insert_chained(tables.journal, kind="rows", ref="0/0", event="sealed", at=1, content=content)

    files.commit(change)
    (finding,) = files.findings()
    assert finding.table == "journal"


def test_more_than_can_be_named_is_counted(files, monkeypatch):
    monkeypatch.setattr(verify_seals, "FINDINGS_MAX", 3)
    files.put(tables.counter, *(files.row(tables.counter) for _ in range(8)))
    files.tamper("update counter set value = value + 100")
    found = files.findings()
    assert len(found) == 8
    assert sum(finding.column == "value" for finding in found) == 3


def test_a_large_import_is_sealed_in_pieces(files):
    files.put(tables.bank_line, *(files.row(tables.bank_line) for _ in range(3000)))
    reader = files.engine.connect()
    sizes = reader.exec_driver_sql("select length(content) from journal where event = 'sealed'").scalars().all()
    reader.close()
    assert len(sizes) > 1
    assert max(sizes) < seals.CONTENT_BYTES_MAX + 1000
    assert files.findings() == []


# --- what is covered --------------------------------------------------------------------------------------------------


def test_every_table_is_covered_or_says_why_not():
    every = set(tables.metadata.tables)
    assert set(CODES) | set(NOT_COVERED) == every
    assert not set(CODES) & set(NOT_COVERED)
    assert len(set(CODES.values())) == len(CODES)
    for name, columns in LEFT_OUT.items():
        assert columns.keys() < {column.name for column in tables.metadata.tables[name].columns}
        assert all(columns.values())


FIRST_COLUMNS = {
    "counter": 2, "rules": 4, "account": 3, "obligor": 5, "debit": 23, "attempt": 18, "outbox": 6, "subject": 8,
    "passage": 7, "purchase": 18, "purchase_file": 4, "card_serial": 3, "refusal": 3, "refund": 11, "item": 12,
    "mandate": 9, "mandate_limit": 5, "credential": 6, "bank_file": 9, "bank_line": 9, "clearing_run": 5,
    "clearing_line": 14, "clearing_row": 13, "clearing_share": 3, "clearing_payout": 4, "incarnation": 6,
    "pos_attempt": 5, "sale": 17, "pump_order": 10, "mandate_fuel": 8,
}  # fmt: skip
"""Covered columns when tables were first sealed."""


def test_codes_and_columns_of_the_first_seals_stay():
    """Seals stand in ledgers for ever: a column may be added behind the others, and none may go or move."""
    for table, layout in LAYOUTS.items():
        assert len(layout.columns) >= FIRST_COLUMNS[table.name], table.name
    assert list(CODES.values()) == list(range(1, len(CODES) + 1))


def test_nothing_of_the_gateway_writes_past_the_transaction():
    """Whatever is written through a connection of its own goes unsealed."""
    folder = Path(gateway.__file__).parent
    writes = re.compile(
        r"connection\.execute\(\s*(insert|update|delete)\b|\.execute\(\s*tables\.\w+\.(insert|update|delete)\("
    )
    found = [
        str(path.relative_to(folder))
        for path in folder.rglob("*.py")
        if "migrations" not in path.parts and writes.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []
