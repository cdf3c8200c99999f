"""Who has no key makes no chain, who has an old one makes no new rows, and who has the right one is told by a head."""

import sqlite3
from contextlib import closing

import pytest

from gateway.documents import DocumentError
from gateway.ledger import chain, chain_key_files, key_change, key_notes, tables
from gateway.ledger.chain import ChainKey, ChainKeys, ChainKeyUnknown
from gateway.ledger.chain_key_files import ChainKeyError
from gateway.ledger.key_change import ChainKeyReused
from gateway.ledger.verify import NOTED_HEADS
from gateway.ledger.verify_chains import NAMES
from hardware.bench.chain_key import BENCH_KEY, KEYS, write_key_file
from tests.gateway.ledger.in_parts import verify
from tests.gateway.ledger.tampering import Files

NEW_KEY, NEWEST_KEY, STRANGER = (ChainKey(bytes([n]) * 32) for n in (1, 2, 3))
ROTATED = ChainKeys(NEW_KEY, (BENCH_KEY,))


@pytest.fixture
def files(tmp_path):
    files = Files(tmp_path / "ledger.db")
    for n in range(3):
        files.commit(lambda tx, n=n: (tx.note("test", f"{n}", "noted"), decide(files, tx)))
    yield files
    files.close()


def decide(files, tx):
    tx.insert_chained(tables.decision, **{**files.row(tables.decision), "record_no": None, "chain": None})


def findings(files, keys=KEYS, noted=()):
    """What the chains say, and the heads."""
    checks = verify(files.engine, keys, noted=noted)
    return [f for c in checks if c.name in (*NAMES.values(), NOTED_HEADS) for f in c.findings]


def rewrite(files, name, key, start=1, set_=""):
    """Change a row, and make all links from there on anew under `key`; the head, too."""
    number = chain.CHAINED[name]
    with closing(sqlite3.connect(files.path, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        if set_:
            connection.execute(f"update {name} set {set_} where {number} = ?", (start,))
        rows = connection.execute(f"select * from {name} order by {number}").fetchall()
        link = chain.GENESIS
        for row in rows:
            values = [row[c.name] for c in tables.metadata.tables[name].columns if c.name != "chain"]
            link = row["chain"] if row[number] < start else chain.link(key, name, link, values)
            connection.execute(f"update {name} set chain = ? where {number} = ?", (link, row[number]))
        connection.execute("update chain set number = ?, digest = ? where name = ?", (len(rows), link, name))


def test_links_of_a_new_ledger_name_their_key(files):
    assert findings(files) == []
    with files.engine.connect() as connection:
        first = connection.exec_driver_sql("select kind, ref, event from journal order by number limit 1").one()
        links = connection.exec_driver_sql("select chain from journal union all select chain from decision").scalars()
        assert {link[:4] for link in links} == {BENCH_KEY.id}
    assert tuple(first) == (key_notes.KIND, BENCH_KEY.id.hex(), key_notes.BEGUN)


@pytest.mark.parametrize("name", ["journal", "decision"])
@pytest.mark.parametrize("how", ["another key", "another key with our id"])
def test_a_chain_made_anew_without_the_key_does_not_hold(files, name, how):
    forged = ChainKey(STRANGER.secret)
    if how == "another key with our id":
        object.__setattr__(forged, "id", BENCH_KEY.id)
    when = {"journal": "at", "decision": "decided_at"}[name]
    rewrite(files, name, forged, 2, set_=f"{when} = 7")
    found = findings(files)
    assert [(f.table, f.row) for f in found] == [(name, f"{name} 2")]


def test_a_chain_made_anew_with_the_key_is_told_by_a_head_noted_before(files):
    noted = [check.head.digest for check in verify(files.engine, KEYS) if check.head]
    rewrite(files, "decision", BENCH_KEY, 2, set_="decided_at = 7")
    assert findings(files) == []
    (lost,) = findings(files, noted=noted)
    assert lost.check == NOTED_HEADS


def test_a_journal_begins_with_its_key(files):
    with closing(sqlite3.connect(files.path, isolation_level=None)) as connection:
        connection.execute("update journal set kind = 'test' where kind = 'chain_key'")
    found = findings(files)
    assert [(f.table, f.row) for f in found] == [("journal", "journal 1")]
    assert "never put under a chain key" in found[0].problem


# --- a new key --------------------------------------------------------------------------------------------------------


def rotate(files, keys=ROTATED):
    with files.engine.connect() as connection:
        due = key_change.is_due(connection, keys)
    (changed,) = files.commit(key_change.take_current, keys=keys)
    assert changed == due
    return changed


def test_a_new_key_is_in_force_from_its_note_on(files):
    assert rotate(files)
    assert not rotate(files)
    files.commit(lambda tx: decide(files, tx), keys=ROTATED)
    assert findings(files, ROTATED) == []
    with files.engine.connect() as connection:
        links = connection.exec_driver_sql("select chain from decision order by record_no").scalars().all()
    assert [link[:4] for link in links] == [BENCH_KEY.id] * 3 + [NEW_KEY.id]


def test_until_the_gateway_starts_rows_go_on_under_the_key_before_and_verify_says_so(files):
    files.commit(lambda tx: decide(files, tx), keys=ROTATED)
    (finding,) = findings(files, ROTATED)
    assert "retired" in finding.problem
    assert rotate(files)
    assert findings(files, ROTATED) == []


def test_nothing_is_added_under_a_key_that_is_not_the_journals(files):
    rotate(files)
    for keys in (KEYS, ChainKeys(STRANGER)):
        with pytest.raises(ChainKeyUnknown, match=NEW_KEY.id.hex()):
            files.commit(lambda tx: decide(files, tx), keys=keys)
    assert findings(files, ROTATED) == []


def test_a_ledger_is_not_verified_without_each_of_its_keys(files):
    rotate(files)
    found = findings(files, ChainKeys(NEW_KEY))
    assert {f.table for f in found} == {"journal", "decision"}
    assert all(BENCH_KEY.id.hex() in f.problem for f in found)


@pytest.mark.parametrize("name", ["journal", "decision"])
def test_a_key_that_was_given_up_makes_no_newer_row(files, name):
    rotate(files)
    files.commit(lambda tx: (tx.note("test", "x", "noted"), decide(files, tx)), keys=ROTATED)
    assert findings(files, ROTATED) == []
    last = {"journal": "(select max(number) from journal)", "decision": "4"}[name]
    with files.engine.connect() as connection:
        row = int(connection.exec_driver_sql(f"select {last}").scalar())
    rewrite(files, name, BENCH_KEY, row, set_={"journal": "at = 7", "decision": "decided_at = 7"}[name])
    (finding,) = findings(files, ROTATED)
    assert (finding.table, finding.row) == (name, f"{name} {row}")
    assert f"under chain key {BENCH_KEY.id.hex()}, and {NEW_KEY.id.hex()} was in force" in finding.problem


def test_a_ledger_taken_back_before_the_new_key_and_led_on_under_the_old_one_is_told(files):
    """Who has stolen the old key cuts the note off, and everything behind it."""
    rotate(files)
    with closing(sqlite3.connect(files.path, isolation_level=None)) as connection:
        (note,) = connection.execute("select number from journal where event = 'rotated'").fetchone()
        connection.execute("delete from journal where number >= ?", (note,))
    rewrite(files, "journal", BENCH_KEY, note)
    files.commit(lambda tx: decide(files, tx))
    assert findings(files, KEYS) == []
    (finding,) = findings(files, ROTATED)
    assert "an old key was used" in finding.problem


def test_a_key_comes_into_force_once(files):
    rotate(files)
    back = ChainKeys(BENCH_KEY, (NEW_KEY,))
    with pytest.raises(ChainKeyReused, match=BENCH_KEY.id.hex()):
        rotate(files, back)
    files.commit(lambda tx: tx._note_key(BENCH_KEY, NEW_KEY), keys=back)
    found = findings(files, ROTATED)
    assert any("was given up before" in f.problem for f in found)


@pytest.mark.parametrize("detail", [None, "after 00000000; nonsense", "after none; transfer 0 00, decision 0 00"])
def test_a_note_that_no_release_writes_is_told(files, detail):
    files.commit(lambda tx: tx.note(key_notes.KIND, NEW_KEY.id.hex(), key_notes.ROTATED, detail=detail))
    assert "as the ledger never does" in findings(files)[0].problem


def test_keys_follow_each_other_without_a_gap(files):
    rotate(files)
    both = ChainKeys(NEWEST_KEY, (NEW_KEY, BENCH_KEY))
    rotate(files, both)
    assert findings(files, both) == []


# --- the files --------------------------------------------------------------------------------------------------------


def test_a_key_that_was_made_can_be_loaded_and_is_its_owners_alone(tmp_path):
    made = chain_key_files.make(tmp_path / "a.key")
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
    loaded = chain_key_files.load(tmp_path / "a.key", [], production=True)
    assert loaded.current == made
    assert chain_key_files.make(tmp_path / "b.key") != made
    assert made.secret.hex() not in repr(loaded)


def test_a_key_is_never_overwritten(tmp_path):
    path = tmp_path / "a.key"
    chain_key_files.make(path)
    before = path.read_bytes()
    with pytest.raises(ChainKeyError, match="never overwritten"):
        chain_key_files.make(path)
    assert path.read_bytes() == before


def test_production_refuses_the_published_key_of_the_bench(tmp_path):
    path = write_key_file(tmp_path)
    assert chain_key_files.load(path, [], production=False) == KEYS
    with pytest.raises(ChainKeyError, match="published"):
        chain_key_files.load(path, [], production=True)
    chain_key_files.make(tmp_path / "own.key")
    with pytest.raises(ChainKeyError, match="published"):
        chain_key_files.load(tmp_path / "own.key", [path], production=True)


@pytest.mark.parametrize("production", [True, False])
def test_a_site_without_a_key_is_refused(tmp_path, production):
    with pytest.raises(ChainKeyError, match="etcgw ledger key FILE"):
        chain_key_files.load(tmp_path / "none.key", [], production=production)


@pytest.mark.parametrize("text", [b"", b"ab" * 31, b"zz" * 32, b"ab" * 33, b"\xff" * 64, b"ab" * 5000])
def test_what_is_no_key_is_refused_and_never_shown(tmp_path, text):
    path = tmp_path / "a.key"
    path.touch(0o600)
    path.write_bytes(text)
    with pytest.raises(DocumentError) as refused:
        chain_key_files.load(path, [], production=False)
    assert "64 hex digits" in str(refused.value)
    assert text[:8].decode("ascii", "replace") not in str(refused.value) or not text


def test_a_key_that_others_can_read_is_refused(tmp_path):
    path = write_key_file(tmp_path)
    path.chmod(0o640)
    with pytest.raises(ChainKeyError, match="chmod 600"):
        chain_key_files.load(path, [], production=False)


def test_one_key_in_two_files_is_refused(tmp_path):
    path = write_key_file(tmp_path)
    with pytest.raises(ChainKeyError, match="same key"):
        chain_key_files.load(path, [path], production=False)
