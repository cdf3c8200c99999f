"""Comparison of a card with a golden one: file by file, field by field.

A golden card is the dump of a good card (`etcgw card read --json`), or a TOML file that names what is expected. Of a
dump everything counts but what differs from card to card: numbers, dates, plates, balance, transactions (`FREE`). Of
a TOML file what it names counts, and nothing else:

    name = "batch 7"
    fresh = true                # balance zero, never used
    keys = [1]                  # key indexes that INITIALIZE FOR PURCHASE must know
    [files.0015]
    bytes = 50
    network = "9901"
    card_type = [22, 23]        # one of these
    plate = { pattern = "测[A-D][0-9]{5}" }
    expires = { min = "2030-01-01", max = "2036-12-31" }
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from gateway.cards.contents import CardContents, FileRead
from gateway.cards.dump import DUMP_BYTES_MAX, DumpWrong, read_json
from gateway.texts.catalogue import Pair, Text, Words
from protocols.masks import STARS

FREE: Final = (
    "1001.content",
    "0002.content",
    "0008.content",
    "0009.content",
    "0012.*",
    "0015.inner_number",
    "0015.starts",
    "0015.expires",
    "0015.plate",
    "0016.*",
    "0016.sw",
    "0018/*.*",
    "0018/*.sw",
    "0019/*.*",
)
"""Fields of a dump that differ from card to card; `*` stands for any of them."""

CONTENT: Final = "content"
"""Field that stands for all bytes of a file that nobody has a layout for."""

LENGTH: Final = "bytes"
STATUS: Final = "sw"

KEYS_OF_FIELD: Final = frozenset({"pattern", "min", "max"})


@dataclass(frozen=True, slots=True)
class Expected:
    """Values that a field may have: one of some, a pattern, or a range (of numbers, or of dates as they are shown)."""

    one_of: tuple[str, ...] | None = None
    pattern: str | None = None
    least: str | None = None
    most: str | None = None

    def fits(self, value: str) -> bool:
        """True when a field may have this value."""
        if self.one_of is not None:
            return value in self.one_of
        if self.pattern is not None:
            return re.fullmatch(self.pattern, value) is not None
        least, most = self.least, self.most
        return (least is None or _rank(value) >= _rank(least)) and (most is None or _rank(value) <= _rank(most))

    def __str__(self) -> str:
        if self.one_of is not None:
            return " / ".join(self.one_of)
        return self.pattern or f"{self.least or ''} .. {self.most or ''}".strip()


def _rank(value: str) -> tuple[int, int, str]:
    """Rank of a value: numbers by their size, all else as text behind them."""
    number = value.partition(" ")[0]
    return (0, int(number), "") if number.isdecimal() else (1, 0, value)


@dataclass(frozen=True, slots=True)
class Golden:
    """Card as it should be."""

    name: str
    digest: str
    """SHA-256 of its file: a report names the golden card that it was made with."""
    files: Mapping[str, Mapping[str, Expected]]
    """Fields by file; `bytes`, its length, and `sw` among them."""
    free: tuple[str, ...] = ()
    fresh: bool = False
    """True where a card must never have been used: balance and counter zero, no transaction, no entry."""
    keys: tuple[int, ...] = ()
    """Key indexes that INITIALIZE FOR PURCHASE must know."""

    def is_free(self, file: str, name: str) -> bool:
        """True for a field that is not compared. That a file is there, and how long it is, only a pattern with that
        very name sets free."""
        return any(
            fnmatchcase(f"{file}.{name}", pattern)
            for pattern in self.free
            if name not in (STATUS, LENGTH) or pattern.endswith(f".{name}")
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """Field that is not as expected. `offset`: None where it is no field, or cannot be read."""

    file: str
    name: str
    offset: int | None
    expected: Text
    found: Text = field(repr=False)

    @property
    def place(self) -> str:
        """File and field, as `--free` names them."""
        return f"{self.file}.{self.name}"


def golden_of(file: Path, *, free: tuple[str, ...] = (), compared: tuple[str, ...] = ()) -> Golden:
    """Golden card of a dump or a TOML file. `free`: further fields that are not compared; `compared`: fields that are,
    although they differ from card to card. Raises DumpWrong and OSError."""
    digest = hashlib.sha256(_bytes_of(file)).hexdigest()
    if file.suffix.lower() == ".toml":
        return _of_toml(file, digest, free)
    found = read_json(file)
    try:
        files = {str(one["file"]): _of_dump(one) for one in found["files"]}
    except (KeyError, TypeError) as error:
        raise DumpWrong(file, Words("card-dump.no-card")) from error
    kept = tuple(pattern for pattern in FREE if pattern not in compared)
    return Golden(file.stem, digest, files, (*kept, *free))


def compare(contents: CardContents, golden: Golden, *, unmask: bool = False) -> list[Difference]:
    """Differences between a card and the golden one, in the order of the golden one's files."""
    return [
        difference
        for name, fields in golden.files.items()
        for difference in _compare_file(contents.files.get(name), name, fields, golden, unmask=unmask)
    ]


# --- comparing --------------------------------------------------------------------------------------------------------


def _compare_file(
    read: FileRead | None, name: str, fields: Mapping[str, Expected], golden: Golden, *, unmask: bool
) -> Iterator[Difference]:
    status = fields.get(STATUS, _SW_OK)
    sw = "-" if read is None else f"{read.sw:04X}"
    if not status.fits(sw) and not golden.is_free(name, STATUS):
        problem = None if read is None else read.problem
        yield Difference(name, STATUS, None, _said(status), problem or Words("card-compare.absent"))
        return
    if read is None or not read.readable:
        return
    wanted = fields.get(LENGTH)
    if wanted is not None and not wanted.fits(str(len(read.data))) and not golden.is_free(name, LENGTH):
        yield Difference(name, LENGTH, None, _said(wanted), Pair.same(str(len(read.data))))
    rows = _fields_of(read)
    for key, expected in fields.items():
        if key in (LENGTH, STATUS) or golden.is_free(name, key):
            continue
        if key not in rows:
            yield Difference(name, key, None, _said(expected), Words("card-compare.no-field"))
            continue
        offset, value, masked = rows[key]
        if not expected.fits(value):
            hidden = masked != value and not unmask
            told = _hidden(expected) if hidden else str(expected)
            yield Difference(name, key, offset, Pair.same(told), Pair.same(masked if hidden else value))


def _fields_of(read: FileRead) -> Mapping[str, tuple[int, str, str]]:
    """Fields of a file: offset, value, and the value as everybody may see it."""
    rows = read.described(unmask=True)
    if not rows:
        return {CONTENT: (0, read.data.hex().upper(), STARS)}
    hidden = read.described(unmask=False)
    return {one.name: (one.offset, one.value, masked.value) for one, masked in zip(rows, hidden, strict=True)}


def _hidden(expected: Expected) -> str:
    """Values expected of a field that not everybody may see; a pattern names nobody."""
    return STARS if expected.one_of is not None else str(expected)


def _said(expected: Expected) -> Text:
    return Pair.same(str(expected))


_SW_OK: Final = Expected(("9000",))


# --- reading ----------------------------------------------------------------------------------------------------------


def _bytes_of(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(DUMP_BYTES_MAX)


def _of_dump(one: Mapping[str, Any]) -> Mapping[str, Expected]:
    """Fields of one file of a dump. What a mask hides cannot be compared."""
    fields = {STATUS: Expected((str(one["sw"]),)), LENGTH: Expected((str(one["length"]),))}
    for row in one["fields"]:
        if STARS not in row["value"]:
            fields[str(row["name"])] = Expected((str(row["value"]),))
    if not one["fields"] and one["raw"]:
        fields[CONTENT] = Expected((str(one["raw"]),))
    return MappingProxyType(fields)


def _of_toml(file: Path, digest: str, free: tuple[str, ...]) -> Golden:
    try:
        found = tomllib.loads(_bytes_of(file).decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DumpWrong(file, Words("card-compare.no-toml", error=str(error))) from error
    strange = found.keys() - {"name", "fresh", "keys", "files"}
    files, keys = found.get("files", {}), found.get("keys", [])
    if strange or not isinstance(files, dict) or not all(isinstance(one, dict) for one in files.values()):
        raise DumpWrong(file, Words("card-compare.strange-keys", keys=", ".join(sorted(strange)) or "files"))
    if not isinstance(keys, list) or not all(isinstance(key, int) and 0 <= key <= 0xFF for key in keys):
        raise DumpWrong(file, Words("card-compare.strange-keys", keys="keys"))
    read = {
        str(name): MappingProxyType({key: _expected(file, f"{name}.{key}", value) for key, value in fields.items()})
        for name, fields in files.items()
    }
    fresh, name = found.get("fresh") is True, str(found.get("name", file.stem))
    return Golden(name, digest, read, free, fresh, tuple(keys))


def _expected(file: Path, place: str, value: object) -> Expected:
    """Values that a key of a TOML file allows."""
    if isinstance(value, dict):
        texts = {key: str(one) for key, one in value.items()}
        if not texts or texts.keys() - KEYS_OF_FIELD or ("pattern" in texts and len(texts) > 1):
            raise DumpWrong(file, Words("card-compare.strange-keys", keys=place))
        if "pattern" in texts:
            _check_pattern(file, place, texts["pattern"])
        return Expected(None, texts.get("pattern"), texts.get("min"), texts.get("max"))
    values = value if isinstance(value, list) else [value]
    if not values or any(isinstance(one, bool | float | dict | list) for one in values):
        raise DumpWrong(file, Words("card-compare.strange-keys", keys=place))
    return Expected(tuple(map(str, values)))


def _check_pattern(file: Path, place: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise DumpWrong(file, Words("card-compare.no-pattern", place=place, error=str(error))) from error
