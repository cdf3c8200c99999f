"""Tariff files: read whole, refused with file, key, value and cure, chosen by time."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.tariffs import loading
from gateway.tariffs.loading import TariffError, load_tariffs, load_version
from gateway.tariffs.quote import Discount, EntryFact, Rounding, RoundingMode, RoundingPlace, RoundingUnit, quote

EXAMPLE = loading.__doc__.split("\n\n", 1)[1].rsplit("\n\n", 1)[0]
T0 = datetime(2026, 10, 31, 16, tzinfo=UTC)


def example(*changes: tuple[str, str]) -> str:
    text = EXAMPLE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture
def write(tmp_path):
    def put(text, name="tariff.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return put


def test_the_documented_example_loads_and_prices(write):
    version = load_version(write(EXAMPLE))
    assert version.version == "9920261101001"
    assert version.valid_from == T0
    assert version.longest_trip == timedelta(hours=72)
    assert version.discount == Discount(50, Rounding(RoundingUnit.FEN, RoundingMode.HALF_UP, RoundingPlace.UNIT))
    tariffs = load_tariffs(write(EXAMPLE).parent)
    entry = EntryFact("99010101", T0)
    fares = [quote(tariffs, T0, f"9901010{n}", 1, entry).gross_fen for n in (1, 2, 3)]
    assert fares == [500, 2345, 1000 + 494]


def test_percent_and_permille_say_the_same(write):
    per_cent = load_version(write(example(("permille_off = 50", "percent_off = 5"))))
    assert per_cent.discount == load_version(write(EXAMPLE)).discount


def test_what_may_be_left_out(write):
    text = """
        version = "9920261101001"
        valid_from = 2026-11-01T00:00:00+08:00
        [ceiling_fen]
        1 = 1000
        [class_table.99010101]
        1 = 500
    """
    version = load_version(write(text))
    assert (version.valid_to, version.longest_trip, version.discount) == (None, None, Discount())
    assert version.exempt_user_types == frozenset()
    assert Discount().permille_off == 0


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ([('version = "9920261101001"', "")], "version"),
        ([("9920261101001", "20261101001")], "version"),
        ([("9920261101001", "9920261301001")], "version"),
        ([('"9920261101001"', "9920261101001")], "version"),
        ([("2026-11-01T00:00:00+08:00", "2026-11-01T00:00:00")], "valid_from"),
        ([("2026-11-01T00:00:00+08:00", '"2026-11-01"')], "valid_from"),
        ([("2027-05-01T00:00:00+08:00", "2026-10-31T16:00:00Z")], "valid_to"),
        ([("2027-05-01T00:00:00+08:00", "2027-05-01")], "valid_to"),
        ([("user_types = []", "user_types = [256]")], "exempt_user_types"),
        ([("user_types = []", "user_types = [true]")], "exempt_user_types"),
        ([("user_types = []", "user_types = 8")], "exempt_user_types"),
        ([("= 72", "= 0")], "longest_trip_hours"),
        ([("1 = 200000", "7 = 200000")], "ceiling_fen.7"),
        ([("1 = 200000", "01 = 200000")], "ceiling_fen.01"),
        ([("1 = 200000", '"١" = 200000')], "ceiling_fen.١"),
        ([("1 = 200000", '"²" = 200000')], "ceiling_fen.²"),
        ([("1 = 200000", "2 = 200000")], "ceiling_fen.1"),
        ([("1 = 200000", "1 = 2000.00")], "ceiling_fen.1"),
        ([("1 = 200000", "1 = -1")], "ceiling_fen.1"),
        ([("1 = 200000", "1 = true")], "ceiling_fen.1"),
        ([("1 = 200000", '1 = "200000"')], "ceiling_fen.1"),
        ([("1 = 200000", "1 = 4294967296")], "ceiling_fen.1"),
        ([("permille_off = 50", "permille_off = 1001")], "discount.permille_off"),
        ([("permille_off = 50", "permille_off = 50\npercent_off = 5")], "discount.permille_off"),
        ([("permille_off = 50", "")], "discount.permille_off"),
        ([("half_up", "up_half")], "per_metre.rounding.mode"),
        ([('where = "unit"', "where = 1")], "per_metre.rounding.where"),
        ([('unit = "fen"', 'currency = "fen"')], "per_metre.rounding.currency"),
        ([("[class_table.99010101]", "[class_table.9901010]")], "class_table.9901010"),
        ([("[class_table.99010101]", "[class_table.9901010a]")], "class_table.9901010a"),
        ([("[class_table.99010101]", "[class_table.99010102]")], "class_table.99010102"),
        ([("[matrix.99010101.99010102]", "[matrix.99010101.99010103]")], "matrix.99010101.99010103"),
        ([("[matrix.99010101.99010102]", "[matrix.99010101]")], "matrix.99010101.1"),
        ([('["99A1", "99A2"]', '["99A1", "99A3"]')], "routes.99010101.99010103.units"),
        ([('["99A1", "99A2"]', '["99A1", "99A1"]')], "routes.99010101.99010103.units"),
        ([('["99A1", "99A2"]', "[]")], "routes.99010101.99010103.units"),
        ([('["99A1", "99A2"]', "[[1]]")], "routes.99010101.99010103.units"),
        ([("metres = 12345", "length = 12345")], "units.99A2.length"),
        ([("metres = 12345", "")], "units.99A2.fen"),
        ([("metres = 12345", "metres = 0")], "units.99A2.metres"),
        ([("fen_per_km = { 1 = 40 }", "")], "units.99A2.metres"),
        ([("[units.99A2]", '[units."99 A2"]')], "units.99 A2"),
        ([("[per_metre]", "[per_meter]")], "per_meter"),
        ([("fen_per_km = { 1 = 40 }", "fen_per_km = 40")], "per_metre.fen_per_km"),
        ([("[ceiling_fen]", "[ceiling]")], "ceiling"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_a_cure(write, changes, key):
    file = write(example(*changes))
    with pytest.raises(TariffError) as caught:
        load_version(file)
    assert caught.value.key == key
    assert caught.value.file == file
    assert caught.value.cure
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("text", ["version = ", "a = 1\na = 2", "\0"])
def test_what_is_no_toml_is_refused(write, text):
    with pytest.raises(TariffError, match="is not TOML"):
        load_version(write(text))


def test_other_encodings_and_oversize_are_refused(write, tmp_path, monkeypatch):
    (tmp_path / "gbk.toml").write_bytes("# 费率".encode("gbk"))
    with pytest.raises(TariffError, match="looks like GBK; save it as UTF-8"):
        load_version(tmp_path / "gbk.toml")
    monkeypatch.setattr(loading, "FILE_BYTES_MAX", 10)
    with pytest.raises(TariffError, match="longer than 10 bytes"):
        load_version(write(EXAMPLE))
    with pytest.raises(TariffError, match="check that it exists"):
        load_version(tmp_path / "none.toml")


def months(write, *spans):
    for at, (serial, begin, end) in enumerate(spans):
        limit = "" if end is None else f"valid_to = {end}T00:00:00+08:00\n"
        write(
            f'version = "99{serial}"\nvalid_from = {begin}T00:00:00+08:00\n{limit}'
            "[ceiling_fen]\n1 = 1000\n[class_table.99010101]\n1 = 500\n",
            f"{9 - at}.toml",
        )


def test_versions_follow_each_other(write, tmp_path):
    months(write, ("20261101001", "2026-11-01", "2026-12-01"), ("20261201001", "2026-12-01", None))
    tariffs = load_tariffs(tmp_path)
    assert [version.version for version in tariffs.versions] == ["9920261101001", "9920261201001"]
    assert tariffs.in_force(datetime(2030, 1, 1, tzinfo=UTC)).version == "9920261201001"


@pytest.mark.parametrize(
    ("spans", "problem", "file"),
    [
        ([("20261101001", "2026-11-01", "2026-12-01"), ("20261201001", "2026-12-02", None)], "gap", "9.toml"),
        ([("20261101001", "2026-11-01", "2026-12-02"), ("20261201001", "2026-12-01", None)], "overlaps", "9.toml"),
        ([("20261101001", "2026-11-01", None), ("20261201001", "2026-12-01", None)], "overlaps", "9.toml"),
        ([("20261101001", "2026-11-01", None), ("20261101002", "2026-11-01", None)], "overlaps", "9.toml"),
        ([("20261101001", "2026-11-01", "2026-12-01"), ("20261101001", "2026-12-01", None)], "stands in", "8.toml"),
    ],
)
def test_gaps_overlaps_and_repeated_versions_are_refused(write, tmp_path, spans, problem, file):
    months(write, *spans)
    with pytest.raises(TariffError, match=problem) as caught:
        load_tariffs(tmp_path)
    assert caught.value.file.name in (file, "8.toml")
    assert caught.value.cure


def test_an_empty_or_crowded_directory_is_refused(write, tmp_path, monkeypatch):
    with pytest.raises(TariffError, match=r"no \*\.toml"):
        load_tariffs(tmp_path)
    monkeypatch.setattr(loading, "FILES_MAX", 1)
    months(write, ("20261101001", "2026-11-01", "2026-12-01"), ("20261201001", "2026-12-01", None))
    with pytest.raises(TariffError, match="more than 1"):
        load_tariffs(tmp_path)


def test_a_loaded_tariff_cannot_be_changed(write):
    version = load_version(write(EXAMPLE))
    with pytest.raises(TypeError):
        version.matrix["99010102"]["99010101"][1] = 0
    with pytest.raises(AttributeError):
        version.discount = Discount()
