"""`etcgw rsu` on the recorded and constructed frames under tests/vectors."""

import json
import re
from collections.abc import Mapping

import pytest
from rich.cells import cell_len

from gateway.cli import rsu
from gateway.cli.described import told
from gateway.cli.screen import Screen
from gateway.texts.catalogue import Language
from hardware.emulators.control import Capture
from protocols.card import layout as card_layout
from protocols.fields import Layout
from protocols.obu import layout as obu_layout
from protocols.rsu.names import DIALECT_NAMES
from protocols.rsu.registry import dialect_named
from tests.protocols.rsu.samples import GOOD, VECTORS, v3, vector

B4 = vector("v3-b4-183").raw


def leaves(fields):
    return [leaf for field in fields for leaf in (leaves(field["fields"]) if field["fields"] else [field])]


def field(frame, name):
    def search(fields):
        for one in fields:
            found = one if one["name"] == name else search(one["fields"])
            if found:
                return found
        return None

    found = search(frame["fields"])
    assert found, name
    return found


@pytest.mark.parametrize("sample", GOOD, ids=lambda v: v.id)
def test_every_good_frame_is_told_to_its_last_byte(ask, sample):
    found = ask("rsu", "decode", sample.raw.hex(), "--unmask")
    assert found["ok"] is True
    (frame,) = found["frames"]
    assert frame["raw"] == sample.raw.hex()
    at = 0
    for top in frame["fields"]:
        assert top["offset"] == at
        at += top["length"]
    assert at == len(sample.raw)


@pytest.mark.parametrize("name", ["v3-b4-274", "v3-c6-159"])
def test_ef04_is_taken_apart(ask, name):
    (frame,) = ask("rsu", "decode", vector(name).raw.hex())["frames"]
    assert field(frame, "ef04.verify_code")["length"] == 8
    assert field(frame, "ef04")["raw"] is None


@pytest.mark.parametrize("sample", VECTORS, ids=lambda v: v.id)
def test_text_for_every_frame_fits_80_columns(run, sample):
    result = run("rsu", "decode", sample.raw.hex(), code=0 if sample.checksum_ok else 5, COLUMNS="80")
    body = [line for line in result.stdout.splitlines() if not line.startswith(("layout", "DAMAGED", "  next"))]
    assert max(cell_len(line) for line in body) <= 80
    assert ("frame is in order" in result.stdout) == sample.checksum_ok


def english_left(text):
    """Words of a Chinese text that are English; names of dialects, messages and forms are none."""
    for name in DIALECT_NAMES:
        text = text.replace(name, "")
    return re.findall(r"\b[a-z]{3,}\b", text.replace("hhmmss", ""))


def told_of(fields):
    for one in fields:
        yield from filter(None, (one.meaning, one.problem, one.hint))
        yield from told_of(one.fields)


@pytest.mark.parametrize("sample", VECTORS, ids=lambda v: v.id)
def test_a_frame_whole_or_damaged_is_told_in_chinese(sample):
    screen, dialect = Screen(Language.ZH), dialect_named(sample.dialect)
    for raw in (sample.raw, sample.raw[:-1], sample.raw[: len(sample.raw) // 2], sample.raw[:3], sample.raw + b"\1"):
        described = rsu._describe(dialect, raw, unmask=False)
        for text in (*told_of(described.fields), described.source or ""):
            assert english_left(told(screen, rsu._labels, text)) == [], text


@pytest.mark.parametrize("dialect", [*map(dialect_named, sorted(DIALECT_NAMES))], ids=lambda dialect: dialect.name)
def test_every_field_and_word_of_a_layout_is_told_in_chinese(dialect):
    screen = Screen(Language.ZH)
    for layout in dialect.layouts:
        for one in layout.fields.values():
            for field in getattr(one, "fields", (one,)):
                words = field.words.values() if isinstance(field.words, Mapping) else ()
                for text in (one.meaning, field.meaning, layout.source, *(getattr(w, "en", w) for w in words)):
                    assert english_left(told(screen, rsu._labels, text)) == [], text


def test_every_field_and_word_of_a_file_is_told_in_chinese():
    screen = Screen(Language.ZH)
    layouts = [one for module in (card_layout, obu_layout) for one in vars(module).values() if isinstance(one, Layout)]
    for one in (field for layout in layouts for field in layout.fields):
        words = one.words.values() if isinstance(one.words, Mapping) else ()
        for text in (one.meaning, *(word.en for word in words)):
            assert english_left(told(screen, rsu._labels, text)) == [], text


def test_files_inside_are_taken_apart(ask):
    (frame,) = ask("rsu", "decode", B4.hex())["frames"]
    assert field(frame, "vehicle_file.vehicle_class")["value"] == "1"
    assert field(frame, "card_file.card_type")["meaning"].endswith("stored value")
    assert field(frame, "station.status")["meaning"].endswith("ETC entry")
    assert field(frame, "balance_raw")["value"] == "50000"


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        ("v3-b2-37", "card in the tag"),
        ("v3-b2-one-piece", "not locked"),
        ("v3-b2-cpc", "battery low"),
    ],
)
def test_status_bits_are_read_by_the_kind_of_device(ask, sample, words):
    (frame,) = ask("rsu", "decode", vector(sample).raw.hex())["frames"]
    meaning = field(frame, "status.obu_status")["meaning"]
    assert words in meaning
    assert ("card in the tag" in meaning) == (sample == "v3-b2-37")


@pytest.mark.parametrize("sample", ["v3-b4-133", "v3-b4-cpc-64", "v3-cf-ex", "v3-b1-01", "v3-c6-174"])
def test_odd_sizes_of_files_harm_nobody(ask, sample):
    assert ask("rsu", "decode", vector(sample).raw.hex())["ok"] is True


def test_a_padded_station_file_is_read_all_the_same(ask):
    (frame,) = ask("rsu", "decode", vector("v3-b4-133").raw.hex())["frames"]
    assert field(frame, "station.status")["offset"] == field(frame, "station.header")["offset"] + 13


# --- masking --------------------------------------------------------------------------------------------------------


PERSONAL = {
    "obu_id",
    "serial",
    "vehicle_file.plate",
    "vehicle_file.engine",
    "card_file.inner_number",
    "card_file.plate",
    "station.plate",
    "ef04",
    "body",
}
COUNTING = "v3-b4-cpc-161"
"""Its made-up province data count 00, 01, 02 ... and so hold its made-up tag id by accident."""


@pytest.mark.parametrize("sample", [v for v in VECTORS if v.id != COUNTING], ids=lambda v: v.id)
@pytest.mark.parametrize("cut", [0, 3])
def test_no_private_byte_is_shown(run, ask, sample, cut):
    """Bytes of every private field are gone from text and JSON, whole frame or damaged."""
    code = 0 if sample.checksum_ok else 5
    (whole,) = ask("rsu", "decode", sample.raw.hex(), "--unmask", code=code)["frames"]
    private = [f for f in leaves(whole["fields"]) if f["private"] and f["name"] in PERSONAL]
    raw = sample.raw[: len(sample.raw) - cut]
    for more in (["--json"], []):
        result = run("rsu", "decode", raw.hex(), *more, code=5 if cut else code)
        shown = result.output.replace(" ", "").lower()
        for one in private:
            if one["length"] >= 4 and len(set(bytes.fromhex(one["raw"]))) > 2:
                assert one["raw"] not in shown, one["name"]
        assert raw.hex() not in shown


def test_masked_and_unmasked(run, ask):
    (masked,) = ask("rsu", "decode", B4.hex())["frames"]
    (plain,) = ask("rsu", "decode", B4.hex(), "--unmask")["frames"]
    assert masked["raw"] is None
    assert field(masked, "obu_id")["value"] == "***0c01"
    assert field(masked, "obu_id")["raw"] is None
    assert field(masked, "vehicle_file.plate")["value"] == "测B***05"
    assert field(masked, "balance_raw")["raw"] == "0000c350"
    assert field(plain, "vehicle_file.plate")["value"] == "测B77A05"
    assert field(plain, "obu_id")["raw"] == "0a0b0c01"
    assert masked.keys() == plain.keys()
    assert "测B77A05" not in run("rsu", "decode", B4.hex()).output
    assert "测B77A05" in run("rsu", "decode", B4.hex(), "--unmask").stdout


def test_what_stands_behind_a_frame_is_masked_too(run):
    both = vector("v3-c4-01").raw + B4[:-3]
    result = run("rsu", "decode", both.hex(), code=5)
    assert B4[20:40].hex() not in result.stdout.replace(" ", "")
    assert "cut short" in result.stdout


# --- damage ---------------------------------------------------------------------------------------------------------


def test_a_damaged_frame_names_field_offset_and_next_step(ask, run):
    sample = vector("v3-c0-badcrc").raw
    found = ask("rsu", "decode", sample.hex(), code=5)
    assert found["ok"] is False
    (problem,) = found["frames"][0]["problems"]
    assert (problem["field"], problem["offset"]) == ("CRC", 30)
    assert problem["next_step"]
    text = run("rsu", "decode", sample.hex(), code=5).stdout
    assert "DAMAGED  CRC at offset 30" in text
    assert "  next: " in text


@pytest.mark.parametrize("end", range(1, len(B4), 7))
def test_a_frame_cut_anywhere_is_5_and_told_as_far_as_it_goes(ask, end):
    found = ask("rsu", "decode", B4[:end].hex(), code=5)
    assert found["frames"][0]["problems"]
    assert found["frames"][0]["length"] == end


def test_one_bad_frame_does_not_stop_the_others(ask):
    found = ask("rsu", "decode", B4[:40].hex(), B4.hex(), code=5)
    assert [frame["ok"] for frame in found["frames"]] == [False, True]


def test_an_unknown_type_is_told(run):
    assert "unknown to pcrsu-v3" in run("rsu", "decode", v3(1, b"\x77\x01").hex(), code=5).stdout


# --- hex ------------------------------------------------------------------------------------------------------------


def test_blanks_colons_and_unquoted_pieces(ask):
    plain = ask("rsu", "decode", B4.hex())
    assert ask("rsu", "decode", B4.hex(" ")) == plain
    assert ask("rsu", "decode", B4.hex(":").upper()) == plain
    assert ask("rsu", "decode", *B4.hex(" ").split()) == plain
    assert ask("rsu", "decode", *B4.hex(" ", 4).split()) == plain


def test_standard_input_holds_one_frame_a_line(ask):
    text = f"# from the antenna\n\n{B4.hex()}\n  {vector('v3-c4-01').raw.hex(' ')}  \n"
    found = ask("rsu", "decode", stdin=text)
    assert [frame["layout"] for frame in found["frames"]] == ["B4/183", "C4/2"]


@pytest.mark.parametrize(
    ("arguments", "stdin", "named"),
    [
        (["FFFF0G"], None, "frame 1, offset 5: 'G' is no hex digit"),
        (["FFFF 0"], None, "offset 5: 5 hex digits"),
        ([" : "], None, "no hex digits"),
        ([B4.hex(), B4.hex() + "x"], None, f"frame 2, offset {2 * len(B4)}"),
        ([], "# nothing\n\n", "no frame given"),
        ([], f"{B4.hex()}\nFF?F\n", "line 2, offset 2"),
        ([], '{"t": 1}\n', "line 1, offset 0: no line of a capture"),
        ([], '{"t": "1", "dir": "in", "peer": "a", "he', "line 1, offset 37: no line of a capture"),
        ([], "FF" * 9_000_000, "more than 16777216 bytes"),
        (["--dialect", "morse", "FFFF"], None, "morse"),
        (["--file", __file__, "FFFF"], None, "not both"),
    ],
)
def test_hex_that_is_none_is_2_and_names_the_place(run, arguments, stdin, named):
    result = run("rsu", "decode", *arguments, code=2, stdin=stdin, COLUMNS="200", TERMINAL_WIDTH="200")
    assert named in " ".join(result.stderr.replace("│", " ").split())


C4 = vector("v3-c4-01").raw


def raws(found):
    return [frame["raw"] for frame in found["frames"]]


@pytest.mark.parametrize(
    "text",
    [
        f"0x{B4.hex()}",
        ", ".join(f"0x{byte:02X}" for byte in B4),
        ",".join(f"{byte:#x}" for byte in B4),
        "-".join(f"{byte:02x}" for byte in B4),
        f"\ufeff{B4.hex(':')}\r\n",
    ],
    ids=["0x", "C array", "C array, short", "hyphens", "from Windows"],
)
def test_hex_as_it_is_copied_from_anywhere(ask, text):
    assert raws(ask("rsu", "decode", "--unmask", stdin=text)) == [B4.hex()]


def test_pieces_with_0x_need_no_quotes(ask):
    assert raws(ask("rsu", "decode", "--unmask", *(f"0x{byte:02x}," for byte in C4))) == [C4.hex()]


def test_decoding_goes_on_after_a_bad_line(run):
    text = f"{B4.hex()}\nnonsense\n{C4.hex()}\n"
    found = json.loads(run("rsu", "decode", "--json", "--unmask", code=2, stdin=text).stdout)
    assert raws(found) == [B4.hex(), C4.hex()]
    assert [frame["line"] for frame in found["frames"]] == [1, 3]
    assert found["unread"] == [{"line": 2, "argument": None, "offset": 0, "text": "'n' is no hex digit"}]
    assert found["error"]["code"] == "hex_wrong"
    shown = run("rsu", "decode", code=2, stdin=text)
    assert shown.stdout.count("frame is in order") == 2
    assert "line 2, offset 0: 'n' is no hex digit" in shown.stderr


def test_frames_behind_each_other_in_one_line(ask):
    found = ask("rsu", "decode", "--unmask", (C4 + B4 + C4).hex())
    assert raws(found) == [C4.hex(), B4.hex(), C4.hex()]
    assert [frame["offset"] for frame in found["frames"]] == [0, len(C4), len(C4) + len(B4)]


def test_a_damaged_frame_between_others_is_shown_where_it_is(ask):
    bad = bytearray(B4)
    bad[50] ^= 1
    found = ask("rsu", "decode", (C4 + bytes(bad) + C4).hex(), code=5)
    assert [frame["ok"] for frame in found["frames"]] == [True, False, True]
    assert found["frames"][1]["offset"] == len(C4)
    assert found["error"]["code"] == "frame_damaged"


def test_raw_bytes(ask, run, tmp_path):
    (tmp_path / "line.bin").write_bytes(C4 + B4)
    found = ask("rsu", "decode", "--unmask", "--file", tmp_path / "line.bin")
    assert raws(found) == [C4.hex(), B4.hex()]
    assert ask("rsu", "decode", "--unmask", stdin=C4 + B4) == found
    run("rsu", "decode", "--file", tmp_path / "missing.bin", code=3)


@pytest.mark.parametrize("cut", [1, 7, 200])
def test_a_capture_of_the_bench(ask, tmp_path, cut):
    """Frames are cut from what each peer sent, however the link gave it; the two sides do not mix."""
    sent = {"in": C4 + C4, "out": B4 + B4}
    capture = Capture(tmp_path / "capture.jsonl")
    for start in range(0, 2 * len(B4), cut):
        for direction, data in sent.items():
            if data[start : start + cut]:
                capture.write(direction, "127.0.0.1:9", data[start : start + cut])
    capture.close()
    with (tmp_path / "capture.jsonl").open("a") as file:
        file.write('{"t":"2026-')  # a bench that was killed
    found = ask("rsu", "decode", "--unmask", "--file", tmp_path / "capture.jsonl", code=2)
    assert sorted(raws(found)) == sorted([C4.hex(), C4.hex(), B4.hex(), B4.hex()])
    assert {frame["captured"]["dir"]: frame["sender"] for frame in found["frames"]} == {"in": "lane", "out": "rsu"}
    assert len(found["unread"]) == 1


def test_comments_in_gbk_are_told_as_such(run):
    result = run("rsu", "decode", "--json", code=2, stdin=f"# 天线\n{B4.hex()}\n".encode("gbk"))
    assert json.loads(result.stdout)["error"]["code"] == "encoding_wrong"
    assert "looks like GBK" in result.stdout


def test_dialects(ask, run):
    known = {dialect["name"]: dialect for dialect in ask("rsu", "dialects")["dialects"]}
    assert set(known) == {"pcrsu-v3", "legacy-serial-bj", "legacy-single-ff"} == DIALECT_NAMES
    assert "B4/183" in known["pcrsu-v3"]["layouts"]
    assert "pcrsu-v3" in run("rsu", "dialects").stdout
