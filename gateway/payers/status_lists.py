"""Status lists: who must not pay here, in immutable checksummed files that are looked up without loading them.

A list file holds up to 2**27 entries of one publication: either the whole list (full) or what changed since another
publication (increment). Files are written once, by `status_list_build`, and never changed. `CURRENT` names the files
that belong together, so one version is never mixed with another.

File format 1, big-endian
-------------------------

    offset  size  field
    0       8     magic `ETCLISTS`
    8       2     format version, 1
    10      1     kind: 1 full, 2 increment
    11      1     fan-out bits b, 8 to 20
    12      4     record length, 16
    16      8     number of records n
    24      8     body length, 4 * (2**b + 1) + 16 * n
    32      8     created, UTC microseconds since 1970: when the issuer made the list; its age counts from here
    40      8     effective, UTC microseconds since 1970: not used before
    48      32    list version, ASCII, NUL padded
    80      32    base version of an increment, all NUL for a full list
    112     32    SHA-256 of the body
    144     80    reserved, NUL
    224     32    SHA-256 of bytes 0 to 223, which also names the file in `CURRENT`
    256           body: fan-out table, then records

The fan-out table has 2**b + 1 unsigned 32-bit numbers: entry i is the index of the first record whose first b bits are
at least i. b is chosen so that a bucket fills about one memory page. The table (128 KiB for five million entries) stays
in memory, so a look-up costs one or two page reads even if no record of the file is in memory.
Records ascend by digest, each digest once:

    0       12    digest: BLAKE2b-96 of `<kind>:<key>` in UTF-8
    12      1     list type as the issuer numbers it
    13      1     sign: 1 enters the list, 2 leaves it (increments only)
    14      2     reserved, NUL

Keys: `card` 20 digits as printed; `obu` issuer identifier and contract serial, 16 hex digits each; `plate` normalised
text, `|`, colour code; `psam` terminal number, 12 hex digits. With 2**27 entries the chance that any vehicle at all
meets a foreign digest by accident is below 2**-60 a look-up.

`CURRENT` is JSON: chains, newest first; a chain is a full list and the increments on top of it, oldest first. In force
is the newest chain whose effective time has come. Older chains stay for a newest one that is not effective yet, proves
damaged, or is rolled back. With each file stands what it did to the publication before it, and how many entries leaving
a person confirmed: a delivery that was cut off or exported wrongly would free everybody who is barred, so a publication
of which too many leave (`DropBound`) is neither built nor taken without that. Files of before have no such note and are
taken as they are.

Threads
-------
`load_current` and `StatusLists.prepare` read and hash whole files: call them from a worker thread. Look-ups and
`switch` belong to the loop and take microseconds. A snapshot is closed when its last user lets go of it.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import Enum, IntEnum
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from gateway.model import reasons
from gateway.model.clock import from_us, to_us
from gateway.model.plate import Plate, PlateColour, normalise
from gateway.model.reasons import Reason

MAGIC: Final = b"ETCLISTS"
FORMAT_VERSION: Final = 1
MANIFEST_NAME: Final = "CURRENT"
FILE_SUFFIX: Final = ".etcl"
HEADER: Final = struct.Struct(">8sHBBIQQqq32s32s32s80s")
HEADER_LENGTH: Final = HEADER.size + 32
RECORD_LENGTH: Final = 16
DIGEST_LENGTH: Final = 12
FANOUT_BITS_MIN: Final = 8
FANOUT_BITS_MAX: Final = 20
BUCKET_RECORDS: Final = 256
"""Records aimed at per fan-out bucket: 256 of 16 bytes are one page of 4 KiB."""

VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", re.ASCII)
"""A list version: fits 32 header bytes and may stand in a file name."""
ENTRIES_MAX: Final = 1 << 27
"""Entries of one file: well over the 50 million of the whole country, and far below the 32 bits of the fan-out."""
INCREMENTS_MAX: Final = 32
"""Increments on one full list. Each costs every look-up a probe; past this a full list is due."""
CHAINS_MAX: Final = 4
"""Chains `CURRENT` may name: the one in force, one waiting for its hour, and room for a hasty correction of each."""
MANIFEST_BYTES_MAX: Final = 64 * 1024
"""`CURRENT` with every chain full takes about 40 KiB."""
LOAD_TRIES_MAX: Final = 3
"""Starts of a load when a publication deletes files under it; a fourth in one load would mean a broken publisher."""
_HASH_CHUNK: Final = 1 << 20
_BOUNDS: Final = struct.Struct(">II")


class ListKind(Enum):
    """What an entry is about. The value is part of the digest."""

    CARD = "card"
    OBU = "obu"
    PLATE = "plate"
    PSAM = "psam"


class FileKind(IntEnum):
    FULL = 1
    INCREMENT = 2


class Sign(IntEnum):
    """Whether an entry enters or leaves the list."""

    ENTERS = 1
    LEAVES = 2


class StatusListError(Exception):
    """A list file or `CURRENT` cannot be used. Names the file, the field, and what to do."""

    def __init__(self, file: Path, field: str, problem: str, cure: str) -> None:
        self.file = file
        self.field = field
        self.problem = problem
        self.cure = cure
        super().__init__(f"{file}: {field}: {problem}; {cure}")


# --- keys -----------------------------------------------------------------------------------------------------------


def obu_key(issuer: bytes, serial: bytes) -> str:
    """Key of a tag: issuer identifier (8 bytes) and contract serial (8 bytes) of the system file."""
    return (issuer + serial).hex().upper()


def plate_key(plate: Plate) -> str:
    """Key of a plate with its colour. Ask only with `plate.known`: an unread plate is on no list."""
    colour = PlateColour.UNKNOWN if plate.colour is None else plate.colour
    return f"{plate.text}|{int(colour)}"


def psam_key(terminal: bytes) -> str:
    """Key of a PSAM: its 6-byte terminal number."""
    return terminal.hex().upper()


def canonical_key(kind: ListKind, key: str) -> str:
    """The written form that is hashed, without checking that it is well formed."""
    if kind is ListKind.PLATE:
        text, bar, colour = key.rpartition("|")
        return f"{normalise(text)}{bar}{colour.strip()}"
    return key.strip().upper()


def digest_of(kind: ListKind, key: str) -> bytes:
    """12-byte digest under which an entry is stored."""
    whole = f"{kind.value}:{canonical_key(kind, key)}".encode(errors="surrogatepass")
    return hashlib.blake2b(whole, digest_size=DIGEST_LENGTH).digest()


# --- list types -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ListType:
    """One list type with its names and the reason shown for it."""

    zh: str
    en: str
    reason: Reason


CARD_LIST_TYPES: Final[Mapping[int, ListType]] = MappingProxyType(
    {
        1: ListType("卡挂失", "lost", reasons.CARD_LISTED_LOST),
        2: ListType("无卡挂起", "suspended without card", reasons.CARD_LISTED_SUSPENDED),
        3: ListType("无卡注销", "cancelled without card", reasons.CARD_LISTED_CANCELLED),
        4: ListType("账户透支", "account overdrawn or in debt", reasons.CARD_LISTED_IN_DEBT),
        5: ListType("合作机构黑名单", "list of a partner institution", reasons.CARD_LISTED_PARTNER),
        6: ListType("车型不符", "vehicle mismatch", reasons.CARD_LISTED_VEHICLE),
        7: ListType("储值不足", "stored value too low", reasons.CARD_LISTED_VALUE_LOW),
    }
)
"""Types of card lists (several sources). Numbers of tag and plate lists are not public and stay plain numbers."""

_GENERAL_REASON: Final[Mapping[ListKind, Reason]] = MappingProxyType(
    {
        ListKind.CARD: reasons.CARD_LISTED,
        ListKind.OBU: reasons.OBU_LISTED,
        ListKind.PLATE: reasons.PLATE_RECOVERY,
        ListKind.PSAM: reasons.PSAM_LISTED,
    }
)


def reason_for(kind: ListKind, list_type: int) -> Reason:
    """Why an entry of this type stops a passage; the general reason of its kind for types without one."""
    if kind is ListKind.CARD and list_type in CARD_LIST_TYPES:
        return CARD_LIST_TYPES[list_type].reason
    return _GENERAL_REASON[kind]


@dataclass(frozen=True, slots=True)
class ListHit:
    """An entry in force. `list_version` is the publication that put it there."""

    kind: ListKind
    list_type: int
    list_version: str

    @property
    def reason(self) -> Reason:
        return reason_for(self.kind, self.list_type)


# --- files ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Header:
    """First 256 bytes of a list file, decoded."""

    kind: FileKind
    fanout_bits: int
    count: int
    body_length: int
    created_at: datetime
    effective_at: datetime
    version: str
    base_version: str | None
    body_sha256: bytes

    def encode(self) -> bytes:
        """The 256 bytes, checksum included."""
        fields = HEADER.pack(
            MAGIC,
            FORMAT_VERSION,
            self.kind,
            self.fanout_bits,
            RECORD_LENGTH,
            self.count,
            self.body_length,
            to_us(self.created_at),
            to_us(self.effective_at),
            self.version.encode("ascii"),
            (self.base_version or "").encode("ascii"),
            self.body_sha256,
            b"",
        )
        return fields + hashlib.sha256(fields).digest()

    @property
    def identity(self) -> str:
        """Checksum of the header as hex text: names this file and, through the body checksum, all of its content."""
        return self.encode()[HEADER.size :].hex()


def fanout_length(bits: int) -> int:
    """Bytes of a fan-out table of so many bits."""
    return 4 * ((1 << bits) + 1)


def fanout_bits_for(count: int) -> int:
    """Fan-out bits that keep the average bucket within one page, inside the format's limits."""
    wanted = (max(count, 1) - 1) // BUCKET_RECORDS
    return min(max(wanted.bit_length(), FANOUT_BITS_MIN), FANOUT_BITS_MAX)


_COPY_AGAIN: Final = "copy or build the file again; the list in force stays"


def read_header(file: Path, data: bytes) -> Header:
    """Decode and check a header. Raises StatusListError naming the field."""
    if len(data) < HEADER_LENGTH:
        raise _unusable(file, "header", f"{len(data)} bytes of {HEADER_LENGTH}: the file is cut short")
    fields = data[: HEADER.size]
    magic, fmt, *values = HEADER.unpack(fields)
    if magic != MAGIC:
        raise _unusable(file, "magic", f"{magic!r} is not {MAGIC!r}: this is no status list file")
    if fmt != FORMAT_VERSION:
        raise _unusable(file, "format version", f"{fmt} is not {FORMAT_VERSION}")
    if hashlib.sha256(fields).digest() != data[HEADER.size : HEADER_LENGTH]:
        raise _unusable(file, "header checksum", "does not match the header")
    return _header_of(file, values)


def _unusable(file: Path, field: str, problem: str) -> StatusListError:
    return StatusListError(file, field, problem, _COPY_AGAIN)


def _header_of(file: Path, values: Sequence[Any]) -> Header:
    """Check the values behind a good checksum: what fails here is the fault of whoever wrote the file."""
    kind, bits, record_length, count, body_length, created_us, effective_us, version, base, body_sha256, reserved = (
        values
    )
    if kind not in (FileKind.FULL, FileKind.INCREMENT):
        raise _unusable(file, "kind", f"{kind} is neither full (1) nor increment (2)")
    if not FANOUT_BITS_MIN <= bits <= FANOUT_BITS_MAX:
        raise _unusable(file, "fan-out bits", f"{bits} is outside {FANOUT_BITS_MIN} to {FANOUT_BITS_MAX}")
    expected = fanout_length(bits) + RECORD_LENGTH * count
    if record_length != RECORD_LENGTH or count > ENTRIES_MAX or body_length != expected:
        problem = f"{body_length} bytes do not hold {count} records of {record_length} bytes"
        raise _unusable(file, "body length", problem)
    if any(reserved):
        raise _unusable(file, "reserved", f"holds bytes that format {FORMAT_VERSION} does not know")
    texts = [padded.rstrip(b"\0").decode("ascii", errors="replace") for padded in (version, base)]
    if VERSION.fullmatch(texts[0]) is None:
        raise _unusable(file, "list version", f"{texts[0]!r} is not a version")
    if (kind == FileKind.INCREMENT) != (VERSION.fullmatch(texts[1]) is not None):
        raise _unusable(file, "base version", "an increment needs one and a full list has none")
    try:
        moments = from_us(created_us), from_us(effective_us)
    except OverflowError as error:
        raise _unusable(file, "created or effective", "is no time of this calendar") from error
    return Header(FileKind(kind), bits, count, body_length, *moments, texts[0], texts[1] or None, body_sha256)


class ListFile:
    """One verified list file, mapped into memory. Unmapped when nothing refers to it any more."""

    __slots__ = ("__weakref__", "_fanout", "_map", "_records", "_shift", "header", "path")

    def __init__(self, path: Path, header: Header, mapped: mmap.mmap) -> None:
        self.path = path
        self.header = header
        self._map = mapped
        self._shift = 32 - header.fanout_bits
        self._fanout = mapped[HEADER_LENGTH : HEADER_LENGTH + fanout_length(header.fanout_bits)]
        self._records = HEADER_LENGTH + fanout_length(header.fanout_bits)

    @classmethod
    def open(cls, path: Path) -> ListFile:
        """Open, verify every checksum and map. Reads the whole file once; never call it on the loop."""
        try:
            with path.open("rb") as stream:
                header = read_header(path, stream.read(HEADER_LENGTH))
                size = os.fstat(stream.fileno()).st_size
                if size != HEADER_LENGTH + header.body_length:
                    problem = f"{size} bytes where {HEADER_LENGTH + header.body_length} belong"
                    raise _unusable(path, "size", problem)
                body = hashlib.sha256()
                while chunk := stream.read(_HASH_CHUNK):
                    body.update(chunk)
                if body.digest() != header.body_sha256:
                    raise _unusable(path, "body checksum", "does not match the body")
                mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise StatusListError(path, "file", str(error), "check that it exists and can be read") from error
        # Digests are spread evenly: read-ahead would only push out pages somebody needs.
        mapped.madvise(mmap.MADV_RANDOM)
        opened = cls(path, header, mapped)
        opened._check_fanout()
        return opened

    def _check_fanout(self) -> None:
        table = struct.unpack(f">{len(self._fanout) // 4}I", self._fanout)
        if table[0] != 0 or table[-1] != self.header.count or any(low > high for low, high in pairwise(table)):
            raise _unusable(self.path, "fan-out table", "does not ascend from 0 to the count")

    def records(self) -> Iterator[bytes]:
        """Every record, ascending."""
        step = RECORD_LENGTH << 12
        for start in range(self._records, len(self._map), step):
            chunk = self._map[start : start + step]
            for at in range(0, len(chunk), RECORD_LENGTH):
                yield chunk[at : at + RECORD_LENGTH]

    def find(self, digest: bytes) -> tuple[int, int] | None:
        """(list type, sign) of a digest, or None. At most 20 steps in one bucket."""
        data, base = self._map, self._records
        bucket = int.from_bytes(digest[:4], "big") >> self._shift
        low, high = _BOUNDS.unpack_from(self._fanout, 4 * bucket)
        while low < high:
            middle = (low + high) // 2
            at = base + RECORD_LENGTH * middle
            found = data[at : at + DIGEST_LENGTH]
            if found == digest:
                return data[at + DIGEST_LENGTH], data[at + DIGEST_LENGTH + 1]
            if found < digest:
                low = middle + 1
            else:
                high = middle
        return None


# --- what a publication does ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Effect:
    """What a publication did to the one before it, in entries in force."""

    before: int
    added: int
    removed: int
    changed: int
    """Those that have another list type."""

    @property
    def after(self) -> int:
        """Entries in force with it."""
        return self.before + self.added - self.removed


@dataclass(frozen=True, slots=True)
class DropBound:
    """How many entries may leave at once without a person who confirms it: either bound is enough to let them."""

    percent_max: float = 10.0
    entries_max: int = 100

    def exceeded(self, effect: Effect) -> bool:
        """Whether more than both leave, or all there were."""
        if effect.before and not effect.after:
            return True
        return effect.removed > self.entries_max and effect.removed * 100 > effect.before * self.percent_max


DROP_BOUND: Final = DropBound()
"""Where the site file says nothing else: a list changes by a few percent a day."""


# --- CURRENT --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChainFile:
    """A list file as `CURRENT` names it."""

    name: str
    version: str
    identity: str
    effective_at: datetime
    effect: Effect | None = None
    """None: published before effects were counted, or on top of one that could not be read."""
    confirmed: int = 0
    """Entries whose leaving a person confirmed."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Content of `CURRENT`: chains newest first, files of a chain oldest (the full list) first."""

    chains: tuple[tuple[ChainFile, ...], ...]

    def encode(self) -> bytes:
        content = {
            "format": FORMAT_VERSION,
            "chains": [
                [
                    {
                        "name": file.name,
                        "version": file.version,
                        "identity": file.identity,
                        "effective_us": to_us(file.effective_at),
                        "effect": None if file.effect is None else asdict(file.effect),
                        "confirmed": file.confirmed,
                    }
                    for file in chain
                ]
                for chain in self.chains
            ],
        }
        whole = {**content, "checksum": _manifest_checksum(content)}
        return json.dumps(whole, indent=1).encode() + b"\n"


def _manifest_checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _chain_file(file: Mapping[str, Any]) -> ChainFile:
    effect = file.get("effect")
    return ChainFile(
        file["name"],
        file["version"],
        file["identity"],
        from_us(file["effective_us"]),
        None if effect is None else Effect(**{name: int(value) for name, value in effect.items()}),
        int(file.get("confirmed", 0)),
    )


_PUBLISH_AGAIN: Final = "publish a list again; the list in force stays"


def read_manifest(directory: Path) -> Manifest:
    """Read and check `CURRENT`. Raises StatusListError."""
    path = directory / MANIFEST_NAME
    try:
        with path.open("rb") as stream:
            data = stream.read(MANIFEST_BYTES_MAX + 1)
    except OSError as error:
        raise StatusListError(path, "file", str(error), "publish a full list into this directory") from error
    if len(data) > MANIFEST_BYTES_MAX:
        raise StatusListError(path, "size", f"more than {MANIFEST_BYTES_MAX} bytes", _PUBLISH_AGAIN)
    try:
        content = json.loads(data)
        stated = content.pop("checksum")
        chains = tuple(tuple(_chain_file(file) for file in chain) for chain in content["chains"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise StatusListError(path, "content", f"not a manifest ({error!r})", _PUBLISH_AGAIN) from error
    if stated != _manifest_checksum(content):
        raise StatusListError(path, "checksum", "does not match the content", _PUBLISH_AGAIN)
    if content.get("format") != FORMAT_VERSION:
        raise StatusListError(path, "format", f"{content.get('format')} is not {FORMAT_VERSION}", _PUBLISH_AGAIN)
    if not 1 <= len(chains) <= CHAINS_MAX or any(not 1 <= len(chain) <= INCREMENTS_MAX + 1 for chain in chains):
        raise StatusListError(path, "chains", "their number or length is outside the limits", _PUBLISH_AGAIN)
    if any(file.name != Path(file.name).name for chain in chains for file in chain):
        raise StatusListError(path, "name", "leaves the directory", _PUBLISH_AGAIN)
    return Manifest(chains)


# --- snapshots ------------------------------------------------------------------------------------------------------

Signature = tuple[tuple[str, int, int, int], ...]
"""Name, inode, size and modification time of every file that a load depends on: equal means nothing changed."""


def _signature(directory: Path) -> Signature:
    seen = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name != MANIFEST_NAME and not entry.name.endswith(FILE_SUFFIX):
                    continue
                with suppress(FileNotFoundError):  # A publication deletes files that nobody names any more.
                    facts = entry.stat()
                    seen.append((entry.name, facts.st_ino, facts.st_size, facts.st_mtime_ns))
    except OSError as error:
        raise StatusListError(
            directory, "directory", str(error), "check the list directory of the site file"
        ) from error
    return tuple(sorted(seen))


class Snapshot:
    """One consistent state of the lists: a verified full list with its increments. Never changes."""

    __slots__ = ("__weakref__", "_newest_first", "effective_at", "files", "next_effective_at", "signature", "version")

    def __init__(self, files: tuple[ListFile, ...], signature: Signature, next_effective_at: datetime | None) -> None:
        self.files = files
        """Oldest first: the full list, then its increments."""
        self.signature = signature
        self.next_effective_at = next_effective_at
        """When a published chain that is not in force yet will be; None if there is none."""
        self._newest_first = files[::-1]
        self.version = files[-1].header.version
        self.effective_at = files[-1].header.effective_at

    @property
    def created_at(self) -> datetime:
        return self.files[-1].header.created_at

    @property
    def entries(self) -> int:
        """Records in all files, those that leave the list included."""
        return sum(file.header.count for file in self.files)

    def lookup(self, kind: ListKind, key: str) -> ListHit | None:
        """The entry in force for a key; the newest file that names the key decides."""
        digest = digest_of(kind, key)
        for file in self._newest_first:
            found = file.find(digest)
            if found is not None:
                list_type, sign = found
                return None if sign == Sign.LEAVES else ListHit(kind, list_type, file.header.version)
        return None


def open_chain(
    directory: Path, chain: tuple[ChainFile, ...], reuse: Snapshot | None = None, bound: DropBound | None = None
) -> tuple[ListFile, ...]:
    """Open the files of a chain and check that they are the ones `CURRENT` means, each based on the one before.

    With a bound, a file of which more entries leave, unconfirmed, is refused unless it is in force. Raises
    StatusListError.
    """
    known = {} if reuse is None else {file.header.identity: file for file in reuse.files}
    files: list[ListFile] = []
    for named in chain:
        path = directory / named.name
        if bound is not None and named.identity not in known:
            _check_drop(path, named, bound)
        file = known.get(named.identity) or ListFile.open(path)
        if file.header.identity != named.identity:
            raise StatusListError(path, "identity", f"is not the file {MANIFEST_NAME} names", _PUBLISH_AGAIN)
        expected = files[-1].header.version if files else None
        if file.header.base_version != expected:
            problem = f"{file.header.base_version!r} where {expected!r} belongs"
            raise StatusListError(path, "base version", problem, _PUBLISH_AGAIN)
        files.append(file)
    return tuple(files)


def _check_drop(path: Path, named: ChainFile, bound: DropBound) -> None:
    effect = named.effect
    if effect is not None and bound.exceeded(effect) and named.confirmed != effect.removed:
        problem = f"{effect.removed} of {effect.before} leave and nobody confirmed it"
        cure = "look at the delivery; if it is meant, build it under a new version with --confirm-drop"
        raise StatusListError(path, "entries", problem, cure)


def _load(
    directory: Path, now: datetime, reuse: Snapshot | None, bound: DropBound, *, older: bool
) -> tuple[Snapshot, StatusListError | None]:
    signature = _signature(directory)
    manifest = read_manifest(directory)
    waiting = [chain[-1].effective_at for chain in manifest.chains if chain[-1].effective_at > now]
    due = [chain for chain in manifest.chains if chain[-1].effective_at <= now]
    if due:
        try:
            return Snapshot(open_chain(directory, due[0], reuse, bound), signature, min(waiting, default=None)), None
        except StatusListError as error:
            refusal = error
        others = due[1:]
    else:
        cure = "wait, correct the clock, or publish a list that is effective now"
        problem = f"nothing before {min(waiting).isoformat()}"
        refusal = StatusListError(directory / MANIFEST_NAME, "effective", problem, cure)
        # A list used too early bars whom it will bar soon; without any list a lane stands still.
        others = sorted(manifest.chains, key=lambda chain: chain[-1].effective_at)
    for chain in others if older else ():
        try:
            return Snapshot(open_chain(directory, chain, reuse, bound), signature, min(waiting, default=None)), refusal
        except StatusListError:
            continue  # The newest chain's fault is the one to report.
    raise refusal


def _load_again(
    directory: Path, now: datetime, reuse: Snapshot | None, bound: DropBound, *, older: bool
) -> tuple[Snapshot, StatusListError | None]:
    """Load, and start over when a publication replaced the files meanwhile."""
    for _ in range(LOAD_TRIES_MAX - 1):
        before = _signature(directory)
        try:
            return _load(directory, now, reuse, bound, older=older)
        except StatusListError:
            if _signature(directory) == before:
                raise
    return _load(directory, now, reuse, bound, older=older)


def _next_effective(directory: Path, now: datetime) -> datetime | None:
    """When the next waiting chain of a directory with a refused one comes into force; None if that cannot be told."""
    try:
        chains = read_manifest(directory).chains
    except StatusListError:
        return None
    return min((chain[-1].effective_at for chain in chains if chain[-1].effective_at > now), default=None)


def proved_times(directory: Path) -> list[datetime]:
    """When each list that `CURRENT` names was made, as far as their headers can be read: moments that are over."""
    made = []
    with suppress(StatusListError):
        for path in (directory / file.name for chain in read_manifest(directory).chains for file in chain):
            with suppress(OSError, StatusListError), path.open("rb") as stream:
                made.append(read_header(path, stream.read(HEADER_LENGTH)).created_at)
    return made


def load_current(
    directory: Path, now: datetime, reuse: Snapshot | None = None, bound: DropBound = DROP_BOUND
) -> Snapshot:
    """Load and verify the newest chain that is effective at `now`. Blocking: hashes every file it has not seen.

    Files of `reuse` that are named again are taken over as they are, so an increment costs only its own bytes.
    Raises StatusListError if the chain cannot be used; nothing is changed then.
    """
    return _load_again(directory, now, reuse, bound, older=False)[0]


class StatusLists:
    """The lists in force at a charge point: look-ups now, a newer publication when it is ready and proved."""

    def __init__(
        self,
        directory: Path,
        snapshot: Snapshot,
        refusal: StatusListError | None = None,
        bound: DropBound = DROP_BOUND,
    ) -> None:
        self._directory = directory
        self._bound = bound
        self._snapshot = snapshot
        self._examined = snapshot.signature
        self._next_effective_at = snapshot.next_effective_at
        self.refusal = refusal
        """Why the newest publication is not in use; None when it is."""

    @classmethod
    def open(cls, directory: Path, now: datetime, bound: DropBound = DROP_BOUND) -> StatusLists:
        """Open at start-up. Says in `refusal` why the newest chain is not used: it is damaged, or drops more entries
        than `bound` lets it, and the next older one is in force; or none is effective yet, and the soonest is."""
        snapshot, refusal = _load_again(directory, now, None, bound, older=True)
        return cls(directory, snapshot, refusal, bound)

    @property
    def snapshot(self) -> Snapshot:
        """The state in force. Hold it for one passage to have one version throughout."""
        return self._snapshot

    @property
    def version(self) -> str:
        """Version to store with every decision."""
        return self._snapshot.version

    def lookup(self, kind: ListKind, key: str) -> ListHit | None:
        """The entry in force for a key, None if it is on no list. Never raises for the content of a key."""
        return self._snapshot.lookup(kind, key)

    def age(self, now: datetime) -> timedelta:
        """Time since the issuer made the newest publication in force. Negative if our clock is behind."""
        return now - self._snapshot.created_at

    def stale(self, now: datetime, limit: timedelta) -> bool:
        """Whether the lists are older than allowed (reason LIST_STALE). Meaningful only with a trusted clock."""
        return self.age(now) > limit

    def prepare(self, now: datetime) -> Snapshot | None:
        """Load what was published since, ready for `switch`; None if nothing is new. Blocking: worker thread only.

        Raises StatusListError if the new publication cannot be used: the lists in force stay, `refusal` keeps the
        reason, and the same files are not read again before one of them changes.
        """
        current = self._snapshot
        signature = _signature(self._directory)
        due = self._next_effective_at is not None and self._next_effective_at <= now
        if signature == self._examined and not due:
            return None
        try:
            snapshot = load_current(self._directory, now, current, self._bound)
        except StatusListError as error:
            self._examined = signature
            self._next_effective_at = _next_effective(self._directory, now)
            self.refusal = error
            raise
        return snapshot

    def switch(self, snapshot: Snapshot) -> None:
        """Use a prepared snapshot from the next look-up on. Look-ups under way finish on the old one."""
        self._snapshot = snapshot
        self._examined = snapshot.signature
        self._next_effective_at = snapshot.next_effective_at
        self.refusal = None

    def maybe_switch(self, now: datetime) -> bool:
        """`prepare` and `switch` in one, for programs without a loop. Whether the version in force changed."""
        snapshot = self.prepare(now)
        if snapshot is None:
            return False
        before = self._snapshot.files
        self.switch(snapshot)
        return snapshot.files != before
