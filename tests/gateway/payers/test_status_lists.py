"""Status lists: every look-up as a plain dictionary would answer it, and no file used that is not whole."""

import gc
import json
import os
import shutil
import sys
import threading
import weakref
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.model.plate import Plate, PlateColour
from gateway.payers import list_file, status_list_build, status_lists
from gateway.payers.list_file import Effect, ListFile, StatusListError, checksum_of
from gateway.payers.status_list_build import BuildResult, DropUnconfirmed, StatusListBuildError, build, roll_back
from gateway.payers.status_lists import (
    CHAINS_MAX,
    INCREMENTS_MAX,
    ChainFile,
    DropBound,
    ListHit,
    ListKind,
    Manifest,
    StatusLists,
    digest_of,
    load,
    obu_key,
    plate_key,
    proved_times,
    read_manifest,
)

pytestmark = pytest.mark.slow

T0 = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
CARD, OBU, PLATE, PSAM = ListKind


def card(number: int) -> str:
    return f"9901{number:016d}"


def publish(directory: Path, version: str, rows, *, base=None, at=T0, effective=None) -> BuildResult:
    """Write rows (kind, key, list type, sign) to CSV and build them; whatever leaves is meant."""
    source = directory.parent / f"{version}.csv"
    lines = ["kind,key,list_type,sign", *(f"{kind.value},{key},{number},{sign}" for kind, key, number, sign in rows)]
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    facts = {"version": version, "created_at": at, "effective_at": effective or at, "base_version": base}
    try:
        return build(source, directory, **facts)
    except DropUnconfirmed as error:
        return build(source, directory, **facts, confirmed=error.effect.removed)


def switched(lists, now):
    """Take over what was published since. Whether that is another list."""
    snapshot = lists.prepare(now)
    if snapshot is None:
        return False
    before = lists.snapshot.files
    lists.switch(snapshot)
    return snapshot.files != before


@pytest.fixture
def directory(tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    return lists


# --- look-ups -------------------------------------------------------------------------------------------------------


def test_every_kind_is_found_under_its_own_key(directory):
    obu = obu_key(bytes.fromhex("B2E2CAD499010001"), bytes.fromhex("0000000000000017"))
    plate = plate_key(Plate("测a·00017", PlateColour.BLUE))
    psam = "990100000017"
    rows = [(CARD, card(17), 4, 1), (OBU, obu, 2, 1), (PLATE, plate, 1, 1), (PSAM, psam, 9, 1)]
    publish(directory, "v1", rows)
    lists = StatusLists.open(directory, T0)
    assert [lists.lookup(kind, key) for kind, key, _, _ in rows] == [
        ListHit(kind, number, "v1") for kind, _, number, _ in rows
    ]
    assert lists.lookup(PLATE, "测A00017|0") == ListHit(PLATE, 1, "v1")
    assert lists.lookup(PLATE, plate_key(Plate("测A00017", PlateColour.YELLOW))) is None
    assert lists.lookup(OBU, obu.lower()) == ListHit(OBU, 2, "v1")
    assert lists.lookup(CARD, card(18)) is None
    assert lists.lookup(PSAM, card(17)) is None


def test_plates_are_found_however_they_are_written(directory):
    publish(directory, "v1", [(PLATE, "测a·00017|0", 1, 1), (PLATE, "测Ａ00018|4", 1, 1)])
    lists = StatusLists.open(directory, T0)
    assert lists.lookup(PLATE, "测A00017|0")
    assert lists.lookup(PLATE, "测A00018|4")
    assert lists.lookup(PLATE, " 测ａ･00018|4")


@pytest.mark.parametrize("key", ["", "nonsense", "\ud800", "|", "测A00017|", "x" * 10_000])
def test_no_key_makes_a_look_up_fail(directory, key):
    publish(directory, "v1", [(CARD, card(17), 4, 1)])
    lists = StatusLists.open(directory, T0)
    assert [lists.lookup(kind, key) for kind in ListKind] == [None] * 4


def test_an_empty_list_lists_nobody(directory):
    assert publish(directory, "v1", []).entries == 0
    assert StatusLists.open(directory, T0).lookup(CARD, card(1)) is None


def test_the_last_row_of_a_key_counts(directory):
    result = publish(directory, "v1", [(CARD, card(1), 1, 1), (CARD, card(2), 1, 1), (CARD, card(1), 4, 1)])
    assert (result.rows, result.entries, result.replaced) == (3, 2, 1)
    assert StatusLists.open(directory, T0).lookup(CARD, card(1)) == ListHit(CARD, 4, "v1")


keys = st.one_of(
    st.tuples(st.just(CARD), st.integers(0, 40).map(card)),
    st.tuples(st.just(PLATE), st.builds(lambda n, c: f"测A{n:05d}|{c}", st.integers(0, 9), st.sampled_from([0, 1]))),
    st.tuples(st.just(PSAM), st.integers(0, 9).map(lambda n: f"{n:012X}")),
)
full_rows = st.lists(st.builds(lambda key, number: (*key, number, 1), keys, st.integers(1, 255)), max_size=40)
change_rows = st.lists(
    st.builds(lambda key, number, sign: (*key, number, sign), keys, st.integers(1, 255), st.sampled_from([1, 2])),
    max_size=12,
)


def effect_of(before, after, named):
    """What a publication that names these keys did, counted the plain way."""
    gone, come = before.keys() - after.keys(), after.keys() - before.keys()
    changed = [key for key in named if key in before and key in after and before[key] != after[key]]
    return Effect(len(before), len(come), len(gone), len(changed))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    full=full_rows,
    increments=st.lists(change_rows, max_size=4),
    last=full_rows,
    probes=st.lists(keys, max_size=20),
)
def test_lists_answer_like_a_dictionary(tmp_path, full, increments, last, probes):
    directory = tmp_path / "model"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    model, seen = {}, set()
    lists = None
    for step, rows in enumerate([full, *increments, last]):
        version, increment = f"v{step}", 0 < step <= len(increments)
        before = model
        model = {key: hit for key, hit in before.items() if increment}
        result = publish(directory, version, rows, base=f"v{step - 1}" if increment else None)
        for kind, key, number, sign in rows:
            seen.add((kind, key))
            model.pop((kind, key), None)
            if sign == 1:
                model[kind, key] = ListHit(kind, number, version)
        types = [{key: hit.list_type for key, hit in listed.items()} for listed in (before, model)]
        assert result.effect == effect_of(*types, {(kind, key) for kind, key, *_ in rows})
        if lists is None:
            lists = StatusLists.open(directory, T0)
        else:
            assert switched(lists, T0)
        assert lists.version == version
        for kind, key in [*seen, *probes]:
            assert lists.lookup(kind, key) == model.get((kind, key))
    assert StatusLists.open(directory, T0).snapshot.entries == lists.snapshot.entries


# --- list types -----------------------------------------------------------------------------------------------------


def test_list_types_have_reasons():
    codes = [ListHit(CARD, number, "v1").reason.code for number in range(9)]
    assert len(set(codes)) == 8
    assert (codes[4], codes[0], codes[8]) == ("card_listed_in_debt", "card_listed", "card_listed")
    assert ListHit(OBU, 4, "v1").reason.code == "obu_listed"
    assert ListHit(PLATE, 1, "v1").reason.code == "plate_recovery"
    assert ListHit(PSAM, 1, "v1").reason.code == "psam_listed"


# --- version, age, effective time -----------------------------------------------------------------------------------


def test_age_counts_from_when_the_issuer_made_the_newest_list(directory):
    publish(directory, "v1", [], at=T0)
    publish(directory, "v2", [], base="v1", at=T0 + HOUR)
    lists = StatusLists.open(directory, T0 + 3 * HOUR)
    assert lists.age(T0 + 3 * HOUR) == 2 * HOUR
    assert not lists.stale(T0 + 3 * HOUR, 2 * HOUR)
    assert lists.stale(T0 + 3 * HOUR + timedelta(microseconds=1), 2 * HOUR)
    assert lists.age(T0) == -HOUR


def test_a_list_is_used_from_its_hour_on_and_not_before(directory):
    publish(directory, "v1", [(CARD, card(1), 1, 1)])
    publish(directory, "v2", [], at=T0 + HOUR, effective=T0 + 5 * HOUR)
    lists = StatusLists.open(directory, T0 + 2 * HOUR)
    assert lists.version == "v1"
    assert lists.prepare(T0 + 4 * HOUR) is None
    assert switched(lists, T0 + 5 * HOUR)
    assert lists.version == "v2"
    assert lists.lookup(CARD, card(1)) is None


def test_a_directory_with_only_future_lists_is_refused_with_the_hour_and_a_start_uses_the_soonest(directory):
    publish(directory, "v1", [(CARD, card(1), 1, 1)], effective=T0 + HOUR)
    publish(directory, "v2", [], effective=T0 + 2 * HOUR)
    with pytest.raises(StatusListError, match=r"CURRENT: effective: nothing before 2026-11-01T01:00") as caught:
        load(directory, T0)
    assert caught.value.field == "effective"
    lists = StatusLists.open(directory, T0)
    assert (lists.version, str(lists.refusal)) == ("v1", str(caught.value))
    assert lists.lookup(CARD, card(1)) is not None
    assert switched(lists, T0 + 2 * HOUR)
    assert (lists.version, lists.refusal) == ("v2", None)


def test_when_lists_were_made_proves_what_time_it_is_at_least(directory):
    publish(directory, "v1", [], at=T0)
    publish(directory, "v2", [], base="v1", at=T0 + HOUR)
    assert max(proved_times(directory)) == T0 + HOUR
    (directory / "CURRENT").write_text("no manifest")
    assert proved_times(directory) == []


def test_the_list_in_force_stays_named_however_many_wait(directory):
    publish(directory, "now", [(CARD, card(1), 1, 1)])
    for n in range(CHAINS_MAX + 2):
        publish(directory, f"later-{n}", [], at=T0, effective=T0 + (n + 1) * HOUR)
    assert len(read_manifest(directory).chains) == CHAINS_MAX
    assert StatusLists.open(directory, T0).version == "now"


# --- switching ------------------------------------------------------------------------------------------------------


def test_prepare_loads_and_only_switch_changes_answers(directory):
    publish(directory, "v1", [(CARD, card(1), 1, 1)])
    lists = StatusLists.open(directory, T0)
    assert lists.prepare(T0) is None
    publish(directory, "v2", [(CARD, card(1), 1, 2)], base="v1")
    snapshot = lists.prepare(T0)
    assert lists.lookup(CARD, card(1)) == ListHit(CARD, 1, "v1")
    held = lists.snapshot
    lists.switch(snapshot)
    assert (lists.version, lists.lookup(CARD, card(1))) == ("v2", None)
    assert (held.version, held.lookup(CARD, card(1))) == ("v1", ListHit(CARD, 1, "v1"))
    assert lists.prepare(T0) is None


def test_an_increment_costs_no_second_reading_of_the_full_list(directory, monkeypatch):
    publish(directory, "v1", [(CARD, card(1), 1, 1)])
    lists = StatusLists.open(directory, T0)
    publish(directory, "v2", [], base="v1")
    opened = []
    monkeypatch.setattr(
        ListFile,
        "open",
        classmethod(lambda cls, path, *more, real=ListFile.open: opened.append(path) or real(path, *more)),
    )
    before = lists.snapshot.files[0]
    assert switched(lists, T0)
    assert [path.name[:2] for path in opened] == ["v2"]
    assert lists.snapshot.files[0] is before


def open_files():
    return {str(number.readlink()) for number in Path("/proc/self/fd").iterdir() if number.is_symlink()}


def test_an_old_file_is_closed_when_its_last_user_lets_go(directory):
    first = str(publish(directory, "v1", [(CARD, card(1), 1, 1)]).path)
    lists = StatusLists.open(directory, T0)
    using = lists.snapshot
    publish(directory, "v2", [])
    publish(directory, "v3", [])
    publish(directory, "v4", [])
    publish(directory, "v5", [])
    assert not Path(first).exists()
    assert switched(lists, T0)
    assert using.lookup(CARD, card(1)) == ListHit(CARD, 1, "v1")
    assert f"{first} (deleted)" in open_files()
    gone = weakref.ref(using)
    del using
    gc.collect()
    assert gone() is None
    assert f"{first} (deleted)" not in open_files()


def test_look_ups_never_see_a_mixture_while_versions_change(directory):
    """Version n lists card n and no other card: any answer that mixes two versions shows."""
    publish(directory, "v0", [(CARD, card(0), 1, 1)])
    lists = StatusLists.open(directory, T0)
    wrong, versions, stop, looked_up = [], set(), threading.Event(), threading.Event()

    def look_up():
        while not stop.is_set():
            snapshot = lists.snapshot
            listed = [n for n in range(8) if snapshot.lookup(CARD, card(n))]
            versions.add(snapshot.version)
            if [f"v{n}" for n in listed] != [snapshot.version]:
                wrong.append((snapshot.version, listed))
            looked_up.set()

    thread = threading.Thread(target=look_up)
    thread.start()
    try:
        for n in range(1, 8):
            publish(directory, f"v{n}", [(CARD, card(n), 1, 1)])
            assert switched(lists, T0)
            looked_up.clear()
            assert looked_up.wait(60)
    finally:
        stop.set()
        thread.join()
    assert wrong == []
    assert len(versions) > 1


def test_a_publication_under_a_load_makes_it_start_over(directory, monkeypatch):
    publish(directory, "v0", [])
    real = status_lists.open_chain

    def publish_then_open(*asked):
        monkeypatch.setattr(status_lists, "open_chain", real)
        for n in range(1, CHAINS_MAX + 1):
            publish(directory, f"v{n}", [])
        return real(*asked)

    monkeypatch.setattr(status_lists, "open_chain", publish_then_open)
    assert load(directory, T0)[0].version == f"v{CHAINS_MAX}"


def test_roll_back(directory):
    publish(directory, "v1", [(CARD, card(1), 1, 1)])
    publish(directory, "v2", [(CARD, card(1), 1, 2)], base="v1")
    lists = StatusLists.open(directory, T0)
    assert roll_back(directory) == "v1"
    assert switched(lists, T0)
    assert lists.lookup(CARD, card(1)) == ListHit(CARD, 1, "v1")
    with pytest.raises(StatusListError, match="no older publication"):
        roll_back(directory)
    publish(directory, "v2", [], base="v1")


# --- damage ---------------------------------------------------------------------------------------------------------


def test_every_damaged_byte_and_every_cut_is_noticed(directory):
    path = publish(directory, "v1", [(CARD, card(n), 1, 1) for n in range(5)]).path
    whole, checksum = path.read_bytes(), checksum_of(path)
    ListFile.open(path, checksum)
    for at in [*range(0, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        with pytest.raises(StatusListError, match="checksum"):
            ListFile.open(path, checksum)
        path.write_bytes(whole[:at])
        with pytest.raises(StatusListError, match="checksum"):
            ListFile.open(path, checksum)
    path.write_bytes(whole + b"\0")
    with pytest.raises(StatusListError, match="checksum"):
        ListFile.open(path, checksum)


@pytest.mark.parametrize("content", [b"", b"no database at all", b"SQLite format 3\0"])
def test_a_file_that_is_no_list_is_refused_with_a_right_checksum_too(tmp_path, content):
    path = tmp_path / "other.etcl"
    path.write_bytes(content)
    with pytest.raises(StatusListError, match="content"):
        ListFile.open(path, checksum_of(path))


def many(directory, version="v1", **more):
    """A list of many pages, of which none but the first is in memory yet."""
    publish(directory, version, [(CARD, card(n), 1, 1) for n in range(2000)], **more)
    return StatusLists.open(directory, T0)


@pytest.mark.parametrize(
    "damage", [lambda path: os.truncate(path, 4096), lambda path: path.write_bytes(b"\xff" * 9999)]
)
def test_a_file_that_is_damaged_while_it_is_in_use_is_an_error_and_never_an_answer(directory, damage):
    lists = many(directory)
    damage(lists.snapshot.files[0].path)
    errors = 0
    for n in range(2000):
        try:
            assert lists.lookup(CARD, card(n)) == ListHit(CARD, 1, "v1")  # from a page that was in memory
        except StatusListError:
            errors += 1
    assert errors > 1000
    with pytest.raises(StatusListError, match="checksum"):
        switched(lists, T0)
    assert lists.refusal is not None


def test_a_file_that_was_damaged_and_made_good_again_is_opened_anew(directory):
    lists = many(directory)
    path = lists.snapshot.files[0].path
    whole = path.read_bytes()
    path.write_bytes(b"")
    with pytest.raises(StatusListError):
        [lists.lookup(CARD, card(n)) for n in range(2000)]
    path.write_bytes(whole)
    assert switched(lists, T0)
    assert all(lists.lookup(CARD, card(n)) == ListHit(CARD, 1, "v1") for n in range(2000))


def test_a_list_file_is_not_mapped(directory):
    lists = many(directory)
    assert lists.lookup(CARD, card(1)) is not None
    assert ".etcl" not in Path("/proc/self/maps").read_text()


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_damaged_publication_leaves_the_old_one_in_force_and_says_why(directory):
    publish(directory, "v1", [(CARD, card(1), 1, 1)])
    lists = StatusLists.open(directory, T0)
    bad = publish(directory, "v2", [(CARD, card(2), 1, 1)]).path
    whole = bad.read_bytes()
    spoil(bad)
    with pytest.raises(StatusListError, match="checksum"):
        lists.prepare(T0)
    assert lists.version == "v1"
    assert lists.lookup(CARD, card(1)) == ListHit(CARD, 1, "v1")
    assert (lists.refusal.file, lists.refusal.field) == (bad, "checksum")
    assert lists.prepare(T0) is None, "the same bad files are not hashed again"
    assert lists.refusal is not None
    bad.write_bytes(whole)
    assert switched(lists, T0)
    assert (lists.version, lists.refusal) == ("v2", None)


def test_a_waiting_list_that_proves_damaged_does_not_hide_the_next_one(directory):
    publish(directory, "v1", [])
    bad = publish(directory, "v2", [(CARD, card(1), 1, 1)], effective=T0 + HOUR)
    publish(directory, "v3", [], effective=T0 + 2 * HOUR)
    lists = StatusLists.open(directory, T0)
    spoil(bad.path)
    with pytest.raises(StatusListError):
        lists.prepare(T0 + HOUR)
    assert lists.prepare(T0 + HOUR) is None
    assert switched(lists, T0 + 2 * HOUR)
    assert (lists.version, lists.refusal) == ("v3", None)


def test_a_start_with_a_damaged_publication_falls_back_and_says_so(directory):
    publish(directory, "v1", [(CARD, card(1), 1, 1)])
    bad = publish(directory, "v2", [(CARD, card(2), 1, 1)], base="v1").path
    bad.unlink()
    lists = StatusLists.open(directory, T0)
    assert lists.version == "v1"
    assert lists.refusal.file == bad
    with pytest.raises(StatusListError):
        load(directory, T0)


def test_a_start_without_any_usable_list_is_refused(directory):
    with pytest.raises(StatusListError, match=r"CURRENT: file"):
        StatusLists.open(directory, T0)
    spoil(publish(directory, "v1", [(CARD, card(1), 1, 1)]).path)
    with pytest.raises(StatusListError, match="checksum"):
        StatusLists.open(directory, T0)


def test_another_file_under_a_named_name_is_refused(directory, tmp_path):
    first = publish(directory, "v1", [(CARD, card(1), 1, 1)]).path
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(publish(other, "v1", [(CARD, card(2), 1, 1)]).path, first)
    with pytest.raises(StatusListError, match="checksum"):
        StatusLists.open(directory, T0)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"null", b'{"format":2,"chains":[]}\n00', b"\xff" * 9])
def test_a_half_manifest_is_refused(directory, data):
    publish(directory, "v1", [])
    (directory / "CURRENT").write_bytes(data)
    with pytest.raises(StatusListError, match="CURRENT"):
        StatusLists.open(directory, T0)


def test_every_changed_digit_of_the_manifest_is_noticed(directory):
    publish(directory, "v1", [])
    path = directory / "CURRENT"
    whole = path.read_bytes()
    for at in [n for n, byte in enumerate(whole) if chr(byte).isalnum()]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(StatusListError):
            StatusLists.open(directory, T0)


def rewrite_manifest(directory, change):
    """Change the content of CURRENT and give it a good checksum again, as a faulty publisher would."""
    content = json.loads((directory / "CURRENT").read_text().rpartition("}")[0] + "}")
    change(content)
    written = json.dumps(content).encode()
    (directory / "CURRENT").write_bytes(written + b"\n" + status_lists._checksum(written))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda content: content.update(format=1), "format"),
        (lambda content: content.update(chains=[]), "chains"),
        (lambda content: content.update(chains=[[]]), "chains.0"),
        (lambda content: content.update(chains=content["chains"] * 5), "chains"),
        (lambda content: content.update(chains=[content["chains"][0] * 34]), "chains.0"),
        (lambda content: content["chains"][0][0].update(name="../v1.etcl"), "chains.0.0.name"),
        (lambda content: content["chains"][0][0].update(version="two words"), "chains.0.0.version"),
        (lambda content: content["chains"][0][0].update(effective_at=10**30), "chains.0.0.effective_at"),
        (lambda content: content["chains"][0][0].pop("created_at"), "chains.0.0.created_at"),
    ],
)
def test_a_manifest_that_a_faulty_publisher_wrote_is_refused(directory, change, field):
    publish(directory, "v1", [])
    rewrite_manifest(directory, change)
    with pytest.raises(StatusListError) as caught:
        StatusLists.open(directory, T0)
    assert caught.value.field == field


def test_the_longest_manifest_fits_its_bound(directory):
    long = ChainFile(
        name=f"{'v' * 32}-{'a' * 8}.etcl",
        version="v" * 32,
        checksum="a" * 64,
        size=10**11,
        entries=10**9,
        created_at=T0 + timedelta(microseconds=123456),
        effective_at=T0 + timedelta(microseconds=123456),
        effect=Effect(10**9, 10**9, 10**9, 10**9),
        confirmed=10**9,
    )
    manifest = Manifest(((long,) * (INCREMENTS_MAX + 1),) * CHAINS_MAX)
    (directory / "CURRENT").write_bytes(manifest.encode())
    assert read_manifest(directory) == manifest


def test_an_endless_manifest_is_not_read_to_its_end(directory):
    publish(directory, "v1", [])
    (directory / "CURRENT").write_bytes(b" " * (status_lists.MANIFEST_BYTES_MAX + 1))
    with pytest.raises(StatusListError, match="CURRENT: size"):
        StatusLists.open(directory, T0)


def test_a_start_goes_back_as_far_as_it_must(directory):
    publish(directory, "v1", [])
    spoil(publish(directory, "v2", [(CARD, card(1), 1, 1)]).path)
    newest = publish(directory, "v3", [(CARD, card(1), 1, 1)]).path
    spoil(newest)
    lists = StatusLists.open(directory, T0)
    assert (lists.version, lists.refusal.file) == ("v1", newest)


def test_a_list_directory_that_vanishes_leaves_the_lists_in_force(directory):
    publish(directory, "v1", [(CARD, card(1), 1, 1)])
    lists = StatusLists.open(directory, T0)
    shutil.rmtree(directory)
    with pytest.raises(StatusListError, match="list directory of the site file"):
        lists.prepare(T0)
    assert lists.lookup(CARD, card(1)) == ListHit(CARD, 1, "v1")


def test_a_manifest_that_breaks_later_leaves_the_lists_in_force(directory):
    publish(directory, "v1", [(CARD, card(1), 1, 1)])
    lists = StatusLists.open(directory, T0)
    (directory / "CURRENT").write_bytes(b"{")
    with pytest.raises(StatusListError, match="checksum"):
        switched(lists, T0)
    assert switched(lists, T0) is False
    assert lists.refusal.field == "checksum"
    assert lists.lookup(CARD, card(1)) == ListHit(CARD, 1, "v1")


# --- building -------------------------------------------------------------------------------------------------------

HEADER_ROW = "kind,key,list_type,sign\n"


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("", 1, None),
        ("card,key\n", 1, None),
        (f"{HEADER_ROW}card,{card(1)},1\n", 2, None),
        (f"{HEADER_ROW}card,{card(1)},1,1\nvan,{card(1)},1,1\n", 3, "kind"),
        (f"{HEADER_ROW}card,{card(1)}0,1,1\n", 2, "key"),
        (f"{HEADER_ROW}card,{'١' * 20},1,1\n", 2, "key"),
        (f"{HEADER_ROW}obu,{card(1)},1,1\n", 2, "key"),
        (f"{HEADER_ROW}plate,测A00017,1,1\n", 2, "key"),
        (f"{HEADER_ROW}plate,测A00017|9,1,1\n", 2, "key"),
        (f"{HEADER_ROW}plate,测A000?7|0,1,1\n", 2, "key"),
        (f"{HEADER_ROW}plate,|0,1,1\n", 2, "key"),
        (f"{HEADER_ROW}psam,99010000001,1,1\n", 2, "key"),
        (f"{HEADER_ROW}card,{card(1)},0,1\n", 2, "list_type"),
        (f"{HEADER_ROW}card,{card(1)},256,1\n", 2, "list_type"),
        (f"{HEADER_ROW}card,{card(1)},1,3\n", 2, "sign"),
        (f"{HEADER_ROW}card,{card(1)},1,2\n", 2, "sign"),
        (f'{HEADER_ROW}card,"{card(1)}"x,1,1\n', 2, None),
        (f"{HEADER_ROW}card,{card(1)},1,1\n\n", 3, None),
    ],
)
def test_a_fault_in_a_delivery_is_named_by_line_and_column(directory, tmp_path, text, line, column):
    source = tmp_path / "delivery.csv"
    source.write_text(text, encoding="utf-8")
    with pytest.raises(StatusListBuildError) as caught:
        build(source, directory, version="v1", created_at=T0, effective_at=T0)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert caught.value.cure
    assert card(1) not in str(caught.value)
    assert sorted(path.name for path in directory.iterdir()) == [".lock"]


def test_a_delivery_in_another_encoding_is_refused(directory, tmp_path):
    source = tmp_path / "delivery.csv"
    source.write_bytes(HEADER_ROW.encode() + "plate,测A00017|0,1,1\n".encode("gbk"))
    with pytest.raises(StatusListBuildError, match="looks like GBK; save it as UTF-8"):
        build(source, directory, version="v1", created_at=T0, effective_at=T0)


def test_a_spreadsheet_s_byte_order_mark_and_line_ends_do_no_harm(directory, tmp_path):
    source = tmp_path / "delivery.csv"
    source.write_bytes(b"\xef\xbb\xbf" + HEADER_ROW.replace("\n", "\r\n").encode() + f"card,{card(1)},1,1\r\n".encode())
    build(source, directory, version="v1", created_at=T0, effective_at=T0)
    assert StatusLists.open(directory, T0).lookup(CARD, card(1)) == ListHit(CARD, 1, "v1")


@pytest.mark.parametrize(
    ("version", "base", "field"),
    [("v1", None, "version"), ("v3", "v0", "base version"), ("v1", "v2", "version")],
)
def test_versions_never_mix(directory, version, base, field):
    publish(directory, "v1", [])
    publish(directory, "v2", [], base="v1")
    with pytest.raises(StatusListError) as caught:
        publish(directory, version, [], base=base)
    assert caught.value.field == field
    assert StatusLists.open(directory, T0).version == "v2"


def test_an_increment_needs_a_list_to_stand_on_and_its_hour(directory):
    with pytest.raises(StatusListError, match="newest here is none"):
        publish(directory, "v2", [], base="v1")
    publish(directory, "v1", [], effective=T0 + HOUR)
    with pytest.raises(StatusListError, match="before its base"):
        publish(directory, "v2", [], base="v1", effective=T0)


def test_increments_are_bounded(directory, monkeypatch):
    monkeypatch.setattr(status_list_build, "INCREMENTS_MAX", 2)
    publish(directory, "v0", [])
    publish(directory, "v1", [], base="v0")
    publish(directory, "v2", [], base="v1")
    with pytest.raises(StatusListError, match="publish a full list"):
        publish(directory, "v3", [], base="v2")
    publish(directory, "v3", [])


@pytest.mark.parametrize("version", ["", "two words", "../v1", "v" * 33, "版本"])
def test_odd_versions_are_refused(directory, version):
    with pytest.raises(StatusListBuildError, match="version"):
        build(directory / "x.csv", directory, version=version, created_at=T0, effective_at=T0)


def test_times_need_a_zone(directory):
    with pytest.raises(StatusListBuildError, match="no zone"):
        build(directory / "x.csv", directory, version="v1", created_at=T0.replace(tzinfo=None), effective_at=T0)


def test_rows_are_bounded(directory, monkeypatch):
    monkeypatch.setattr(status_list_build, "ENTRIES_MAX", 2)
    publish(directory, "v1", [(CARD, card(n), 1, 1) for n in range(2)])
    with pytest.raises(StatusListBuildError, match="more than 2 rows"):
        publish(directory, "v2", [(CARD, card(n), 1, 1) for n in range(3)])


def test_two_builders_do_not_share_a_directory(directory):
    with status_list_build._only_builder(directory), pytest.raises(StatusListError, match="another build is running"):
        publish(directory, "v1", [])
    publish(directory, "v1", [])


def test_a_build_that_dies_before_its_last_rename_changes_nothing(directory, monkeypatch):
    publish(directory, "v1", [(CARD, card(1), 1, 1)])

    class PowerCutError(Exception):
        pass

    def cut(*_, **__):
        raise PowerCutError

    for module, step in (
        (list_file, "write"),
        (status_list_build, "_publish"),
        (status_list_build, "_replace_manifest"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, step, cut)
            with pytest.raises(PowerCutError):
                publish(directory, "v2", [(CARD, card(2), 1, 1)])
        assert StatusLists.open(directory, T0).lookup(CARD, card(1)) == ListHit(CARD, 1, "v1")
    (directory / ".build-left").mkdir()
    (directory / ".build-left" / "bucket-00").write_bytes(b"x")
    publish(directory, "v2", [(CARD, card(2), 1, 1)])
    assert sorted(path.name for path in directory.iterdir() if path.name.startswith(".build")) == []
    assert StatusLists.open(directory, T0).version == "v2"


def test_other_databases_in_the_folder_are_left_alone(directory):
    others = [directory / name for name in ("ledger.db", "ledger.sqlite", "notes.txt")]
    for other in others:
        other.write_bytes(b"of somebody else")
    for version in ("v1", "v2", "v3", "v4", "v5", "v6"):
        publish(directory, version, [])
    assert all(other.exists() for other in others)
    assert len(list(directory.glob("*.etcl"))) == CHAINS_MAX


def test_a_directory_that_is_not_there_is_an_error_with_a_cure(tmp_path):
    with pytest.raises(StatusListBuildError, match="fix the rights"):
        build(tmp_path / "x.csv", tmp_path / "none", version="v1", created_at=T0, effective_at=T0)


def test_a_full_disk_is_an_error_with_a_cure(directory, monkeypatch):
    monkeypatch.setattr(list_file, "_SCHEMA", list_file._SCHEMA + "PRAGMA max_page_count = 3;")
    with pytest.raises(StatusListError, match=r"full; free space .* then build again"):
        publish(directory, "v1", [(CARD, card(n), 1, 1) for n in range(2000)])
    assert sorted(path.name for path in directory.iterdir()) == [".lock"]


def test_spooling_in_small_pieces_keeps_the_order(directory, monkeypatch):
    monkeypatch.setattr(status_list_build, "BUFFER_BYTES", 48)
    rows = [(CARD, card(n % 300), n % 255 + 1, 1) for n in range(3000)]
    publish(directory, "v1", rows)
    lists = StatusLists.open(directory, T0)
    expected = {key: number for _, key, number, _ in rows}
    assert all(lists.lookup(CARD, key).list_type == number for key, number in expected.items())
    digests = [digest_of(CARD, key) for key in expected]
    assert len(set(digests)) == 300


def test_progress_is_reported(directory, tmp_path, monkeypatch):
    monkeypatch.setattr(status_list_build, "PROGRESS_ROWS", 2)
    source = tmp_path / "delivery.csv"
    source.write_text(HEADER_ROW + "".join(f"card,{card(n)},1,1\n" for n in range(5)))
    seen = []
    build(source, directory, version="v1", created_at=T0, effective_at=T0, progress=seen.append)
    assert [(p.phase, p.done, p.total) for p in seen if p.phase == "read"] == [
        ("read", 2, None),
        ("read", 4, None),
        ("read", 5, 5),
    ]
    assert [p.done for p in seen if p.phase == "write"] == list(range(1, 257))


# --- size -----------------------------------------------------------------------------------------------------------

MANY = 1_500_000
"""More than the build keeps in memory of any bucket, and a file larger than what a gateway keeps of it; beside lanes
that trade five million are built (`test_site_faults`)."""


@pytest.mark.bench
def test_a_list_larger_than_memory_is_built_and_looked_up(tmp_path, capsys):
    """Built in a process of its own, looked up while the next publication is built and switched to."""
    from hardware.bench import measure_lists

    in_memory = status_list_build.BUCKETS * status_list_build.BUFFER_BYTES
    assert in_memory < MANY * status_list_build.RECORD_LENGTH
    figures = measure_lists.run(tmp_path, MANY)
    with capsys.disabled():
        sys.stderr.write("\n" + json.dumps(figures, indent=1) + "\n")
    assert figures["entries"] == MANY
    assert figures["wrong_answers"] == 0
    assert figures["lookups_while_switching"] > 0


# --- what comes and what goes ---------------------------------------------------------------------------------------

LISTED = [(CARD, card(n), 4, 1) for n in range(1000)]


def delivery(directory, rows):
    file = directory.parent / "delivery.csv"
    lines = ["kind,key,list_type,sign", *(f"{kind.value},{key},{number},{sign}" for kind, key, number, sign in rows)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def deliver(directory, rows, version="v2", **more):
    return build(delivery(directory, rows), directory, version=version, created_at=T0, effective_at=T0, **more)


def test_a_delivery_without_a_row_frees_nobody(directory):
    deliver(directory, LISTED, "v1")
    with pytest.raises(DropUnconfirmed, match="1000 of 1000 entries leave"):
        deliver(directory, [])
    assert StatusLists.open(directory, T0).lookup(CARD, card(1)) is not None
    assert [file.name for file in directory.glob("*.etcl")] == [read_manifest(directory).chains[0][0].name]


@pytest.mark.parametrize(
    ("kept", "added", "refused"),
    [(899, 0, True), (900, 0, False), (899, 500, True), (0, 1000, True), (1000, 50, False)],
)
def test_more_than_the_bound_leaves_only_with_a_confirmation(directory, kept, added, refused):
    """Also where as many come: a list of something else would free everybody just so."""
    deliver(directory, LISTED, "v1")
    rows = [*LISTED[:kept], *((CARD, card(5000 + n), 4, 1) for n in range(added))]
    if not refused:
        assert deliver(directory, rows).effect == Effect(1000, added, 1000 - kept, 0)
        return
    for wrong in (None, 1, 1000 - kept + 1):
        with pytest.raises(DropUnconfirmed):
            deliver(directory, rows, confirmed=wrong)
    deliver(directory, rows, confirmed=1000 - kept)
    assert StatusLists.open(directory, T0).version == "v2"


def test_the_last_of_a_few_do_not_leave_unconfirmed_either(directory):
    deliver(directory, LISTED[:3], "v1")
    deliver(directory, LISTED[:1], "v2")
    with pytest.raises(DropUnconfirmed):
        deliver(directory, [(CARD, card(0), 4, 2)], "v3", base_version="v2")


def test_the_bound_is_the_sites_own(directory):
    deliver(directory, LISTED, "v1")
    with pytest.raises(DropUnconfirmed):
        deliver(directory, LISTED[5:], bound=DropBound(percent_max=0.1, entries_max=2))
    deliver(directory, LISTED[500:], bound=DropBound(percent_max=60))


def test_what_comes_goes_and_changes_is_counted_over_increments_too(directory):
    deliver(directory, LISTED[:10], "v1")
    second = [(CARD, card(0), 4, 2), (CARD, card(1), 7, 1), (CARD, card(2), 4, 1), (CARD, card(20), 4, 1)]
    assert deliver(directory, second, "v2", base_version="v1").effect == Effect(10, 1, 1, 1)
    again = [(CARD, card(0), 4, 1), (CARD, card(77), 4, 2), (CARD, card(20), 4, 2)]
    assert deliver(directory, again, "v3", base_version="v2").effect == Effect(10, 1, 1, 0)
    assert deliver(directory, LISTED[:10], "v4").effect == Effect(10, 0, 0, 1)


def test_what_comes_and_goes_is_told_before_anything_is_published(directory):
    deliver(directory, LISTED, "v1")
    told = []

    def show(effect):
        told.append((effect.removed, read_manifest(directory).chains[0][0].version))

    with pytest.raises(DropUnconfirmed):
        deliver(directory, LISTED[:10], show=show)
    deliver(directory, LISTED[:950], show=show)
    assert told == [(990, "v1"), (50, "v1")]


def test_a_trial_publishes_nothing(directory):
    deliver(directory, LISTED, "v1")
    before = sorted(file.name for file in directory.iterdir())
    result = deliver(directory, [], dry_run=True)
    assert (result.path, result.effect) == (None, Effect(1000, 0, 1000, 0))
    assert sorted(file.name for file in directory.iterdir()) == before


def publish_unconfirmed(directory):
    """As a builder would that asks nobody."""
    deliver(directory, LISTED, "v1")
    lists = StatusLists.open(directory, T0)
    deliver(directory, [], confirmed=1000)
    manifest = read_manifest(directory)
    (empty,), *older = manifest.chains
    status_list_build._replace_manifest(directory, Manifest(((replace(empty, confirmed=0),), *older)))
    return lists


def test_a_gateway_does_not_switch_to_a_drop_that_nobody_confirmed(directory):
    lists = publish_unconfirmed(directory)
    with pytest.raises(StatusListError, match="1000 of 1000 leave and nobody confirmed it"):
        switched(lists, T0)
    assert lists.version == "v1"
    assert lists.lookup(CARD, card(1)) is not None
    assert "confirm-drop" in str(lists.refusal)


def test_a_gateway_that_starts_stays_with_the_list_before_such_a_drop(directory):
    publish_unconfirmed(directory)
    lists = StatusLists.open(directory, T0)
    assert (lists.version, lists.refusal is not None) == ("v1", True)


def test_a_gateway_switches_to_a_drop_that_was_confirmed_and_back(directory):
    deliver(directory, LISTED, "v1")
    lists = StatusLists.open(directory, T0)
    deliver(directory, [], confirmed=1000)
    assert switched(lists, T0)
    assert lists.lookup(CARD, card(1)) is None
    roll_back(directory)
    assert switched(lists, T0)
    assert lists.lookup(CARD, card(1)) is not None


def test_a_publication_of_before_effects_were_counted_is_taken_as_it_is(directory):
    lists = publish_unconfirmed(directory)
    manifest = read_manifest(directory)
    (empty,), *older = manifest.chains
    status_list_build._replace_manifest(directory, Manifest(((replace(empty, effect=None),), *older)))
    assert switched(lists, T0)


@pytest.mark.parametrize("key", ["测A\x1b00017|0", "测A0001\u202e7|0", "测" * 17 + "|0", "测A00017|٠"])
def test_a_plate_that_is_none_is_refused(directory, key):
    with pytest.raises(StatusListBuildError) as refused:
        deliver(directory, [(PLATE, key, 1, 1)], "v1")
    assert (refused.value.line, refused.value.column) == (2, "key")
