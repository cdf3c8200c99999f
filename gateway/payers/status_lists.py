"""Status lists: contracts that must not pay here, in immutable checksummed files, looked up without loading them.

A list file (`list_file`) holds one publication: either the whole list (full) or what changed since another publication
(increment). `CURRENT` names the files that belong together, so one version is never mixed with another.

Entries stand under a digest, BLAKE2b-96 of `<kind>:<key>` in UTF-8. Keys: `card` 20 digits as printed; `obu` issuer
identifier and contract serial, 16 hex digits each; `plate` normalised text, `|`, colour code; `psam` terminal number,
12 hex digits. With 2**27 entries the chance that any vehicle at all meets a foreign digest by accident is below 2**-60
a look-up.

`CURRENT` is JSON and a last line with its checksum: chains, newest first; a chain is a full list and the increments on
top of it, oldest first, each with its own checksum. In force is the newest chain whose effective time has come. Older
chains stay for a newest one that is not effective yet, proves damaged, or is rolled back. With each file stands what it
did to the publication before it, and how many entries leaving a person confirmed: a delivery that was cut off or
exported wrongly would free everybody who is barred, so a publication of which too many leave (`DropBound`) is neither
built nor taken without that.

Threads
-------
`load` and `StatusLists.prepare` read and hash whole files: call them from a worker thread. Look-ups and `switch` belong
to the loop and take microseconds; with nothing in memory a look-up takes up to four reads of the disk, and one as soon
as the inner pages are there. A snapshot is closed when its last user lets go of it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from gateway.model import reasons
from gateway.model.plate import Plate, PlateColour, normalise
from gateway.model.reasons import Reason
from gateway.payers.list_file import Effect, ListFile, StatusListError
from gateway.schema_texts import text_of
from gateway.texts.catalogue import Pair, Text, Words

MANIFEST_NAME: Final = "CURRENT"
FILE_SUFFIX: Final = ".etcl"
"""File suffix of ours: what is not named any more is deleted by it, and a ledger may lie in the same folder."""
DIGEST_LENGTH: Final = 12

VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", re.ASCII)
"""Pattern of a list version: may stand in a file name."""
ENTRIES_MAX: Final = 1 << 27
"""Entries of one file: well over the 50 million of the whole country."""
INCREMENTS_MAX: Final = 32
"""Increments on one full list. Each costs every look-up a probe; past this a full list is due."""
CHAINS_MAX: Final = 4
"""Most chains in `CURRENT`: the one in force, one waiting for its hour, and room for a hasty correction of each."""
MANIFEST_BYTES_MAX: Final = 128 * 1024
"""`CURRENT` with every chain full takes up to 68 KiB."""
LOAD_TRIES_MAX: Final = 3
"""Starts of a load when a publication deletes files under it; a fourth in one load would mean a broken publisher."""


class ListKind(Enum):
    """Kind of key that an entry has. The value is part of the digest."""

    CARD = "card"
    OBU = "obu"
    PLATE = "plate"
    PSAM = "psam"


# --- keys -----------------------------------------------------------------------------------------------------------


def obu_key(issuer: bytes, serial: bytes) -> str:
    """Key of a tag: issuer identifier (8 bytes) and contract serial (8 bytes) of the system file."""
    return (issuer + serial).hex().upper()


def plate_key(plate: Plate) -> str:
    """Key of a plate with its colour. Only for one with `plate.known`: an unread plate is on no list."""
    colour = PlateColour.UNKNOWN if plate.colour is None else plate.colour
    return f"{plate.text}|{int(colour)}"


def canonical_key(kind: ListKind, key: str) -> str:
    """Written form of a key that is hashed, without checking that it is well formed."""
    if kind is ListKind.PLATE:
        text, bar, colour = key.rpartition("|")
        return f"{normalise(text)}{bar}{colour.strip()}"
    return key.strip().upper()


def digest_of(kind: ListKind, key: str) -> bytes:
    """Digest (12 bytes) under which an entry is stored."""
    whole = f"{kind.value}:{canonical_key(kind, key)}".encode(errors="surrogatepass")
    return hashlib.blake2b(whole, digest_size=DIGEST_LENGTH).digest()


# --- list types -----------------------------------------------------------------------------------------------------


_CARD_REASON: Final[Mapping[int, Reason]] = MappingProxyType(
    {
        1: reasons.CARD_LISTED_LOST,
        2: reasons.CARD_LISTED_SUSPENDED,
        3: reasons.CARD_LISTED_CANCELLED,
        4: reasons.CARD_LISTED_IN_DEBT,
        5: reasons.CARD_LISTED_PARTNER,
        6: reasons.CARD_LISTED_VEHICLE,
        7: reasons.CARD_LISTED_VALUE_LOW,
    }
)
"""Reasons by list type of a card (several sources). Types of tag and plate lists are not public and stay numbers."""

_REASON: Final[Mapping[ListKind, Reason]] = MappingProxyType(
    {
        ListKind.CARD: reasons.CARD_LISTED,
        ListKind.OBU: reasons.OBU_LISTED,
        ListKind.PLATE: reasons.PLATE_RECOVERY,
        ListKind.PSAM: reasons.PSAM_LISTED,
    }
)
"""Reasons for list types that have none of their own."""


@dataclass(frozen=True, slots=True)
class ListHit:
    """Hit: an entry in force. `list_version` is the publication that put it there."""

    kind: ListKind
    list_type: int
    list_version: str

    @property
    def reason(self) -> Reason:
        """Reason for which it stops a passage."""
        return (_CARD_REASON if self.kind is ListKind.CARD else {}).get(self.list_type, _REASON[self.kind])


# --- what may leave --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DropBound:
    """Bound on entries that may leave at once without a person who confirms it: either bound is enough to let them."""

    percent_max: float = 10.0
    entries_max: int = 100

    def exceeded(self, effect: Effect) -> bool:
        """True when more than both bounds leave, or all there were."""
        if effect.before and not effect.after:
            return True
        return effect.removed > self.entries_max and effect.removed * 100 > effect.before * self.percent_max


DROP_BOUND: Final = DropBound()
"""Bound where the site file says nothing else: a list changes by a few percent a day."""


# --- CURRENT --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainFile:
    """List file as `CURRENT` names it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.etcl$")]
    version: Annotated[str, Field(pattern=f"^{VERSION.pattern}$")]
    checksum: str
    """SHA-256 of the whole file, as hex text."""
    size: int
    entries: int
    created_at: AwareDatetime
    """Time at which the issuer made the list; its age counts from here."""
    effective_at: AwareDatetime
    """Time before which it is not used."""
    effect: Effect | None = None
    """Effect on the publication before; None: that one could not be read."""
    confirmed: int = 0
    """Entries whose leaving a person confirmed."""

    def problem(self, directory: Path) -> Text | None:
        """Reason why the file cannot be the published one, as far as that shows without reading it; else None."""
        try:
            size = (directory / self.name).stat().st_size
        except OSError as error:
            return Pair.same(str(error))
        return None if size == self.size else Words("list.other-size", size=size, belong=self.size)


Chain = tuple[ChainFile, ...]
"""Chain: a full list and its increments, oldest first."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Manifest: content of `CURRENT`, chains newest first."""

    chains: Annotated[
        tuple[Annotated[Chain, Field(min_length=1, max_length=INCREMENTS_MAX + 1)], ...],
        Field(min_length=1, max_length=CHAINS_MAX),
    ]
    format: Literal[2] = 2

    def encode(self) -> bytes:
        """Encode it as it stands in the file."""
        content = _MANIFEST.dump_json(self, indent=1)
        return b"%b\n%b\n" % (content, _checksum(content))


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


_MANIFEST: Final = TypeAdapter(Manifest)
_PUBLISH_AGAIN: Final = Words("list.publish-again")


def read_manifest(directory: Path) -> Manifest:
    """Read and check `CURRENT`. Raises StatusListError."""
    path = directory / MANIFEST_NAME
    try:
        with path.open("rb") as stream:
            data = stream.read(MANIFEST_BYTES_MAX + 1)
    except OSError as error:
        raise StatusListError(path, "file", Pair.same(str(error)), Words("list.publish-full-here")) from error
    if len(data) > MANIFEST_BYTES_MAX:
        raise StatusListError(path, "size", Words("list.manifest-too-large", most=MANIFEST_BYTES_MAX), _PUBLISH_AGAIN)
    content, _, checksum = data.strip().rpartition(b"\n")
    if checksum != _checksum(content):
        raise StatusListError(path, "checksum", Words("list.checksum-of-content"), _PUBLISH_AGAIN)
    try:
        return _MANIFEST.validate_json(content)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in found["loc"]) or "content"
        problem = Words("list.no-manifest", problem=text_of(found))
        raise StatusListError(path, place, problem, _PUBLISH_AGAIN) from error


def proved_times(directory: Path) -> list[datetime]:
    """Times at which the lists that `CURRENT` names were made, if that can be read: moments that are over."""
    with suppress(StatusListError):
        return [file.created_at for chain in read_manifest(directory).chains for file in chain]
    return []


# --- snapshots ------------------------------------------------------------------------------------------------------

Looked = tuple[tuple[tuple[str, int, int, int], ...], Chain | None]
"""State of a load: name, inode, size and modification time of every file it depends on, and the chain that is due:
equal means that nothing changed."""


def _look(directory: Path, now: datetime) -> Looked:
    """Look at the directory. Raises StatusListError if there is none."""
    seen = []
    try:
        for path in directory.iterdir():
            if path.name == MANIFEST_NAME or path.suffix == FILE_SUFFIX:
                with suppress(FileNotFoundError):  # A publication deletes files that nobody names any more.
                    facts = path.stat()
                    seen.append((path.name, facts.st_ino, facts.st_size, facts.st_mtime_ns))
    except OSError as error:
        raise StatusListError(directory, "directory", Pair.same(str(error)), Words("list.check-directory")) from error
    try:
        chains = read_manifest(directory).chains
    except StatusListError:
        chains = ()
    return tuple(sorted(seen)), next((chain for chain in chains if chain[-1].effective_at <= now), None)


class Snapshot:
    """Snapshot: one consistent state of the lists, a verified full list with its increments. Never changes."""

    __slots__ = ("__weakref__", "_newest_first", "chain", "created_at", "files", "looked", "version")

    def __init__(self, chain: Chain, files: tuple[ListFile, ...], looked: Looked) -> None:
        self.chain = chain
        self.files = files
        """Files of the chain, oldest first."""
        self.looked = looked
        self.version = chain[-1].version
        self.created_at = chain[-1].created_at
        self._newest_first = tuple(zip(files, (named.version for named in chain), strict=True))[::-1]

    @property
    def entries(self) -> int:
        """Entries of all files, those that leave the list included."""
        return sum(named.entries for named in self.chain)

    def untouched(self, looked: Looked) -> dict[ChainFile, ListFile]:
        """Files that are still the verified ones."""
        same = {facts[0] for facts in self.looked[0] if facts in looked[0]}
        return {named: file for named, file in zip(self.chain, self.files, strict=True) if named.name in same}

    def lookup(self, kind: ListKind, key: str) -> ListHit | None:
        """Find the entry in force for a key; the newest file that names the key decides.

        Raises StatusListError where a file was damaged since it was opened.
        """
        digest = digest_of(kind, key)
        for file, version in self._newest_first:
            found = file.find(digest)
            if found is not None:
                (list_type,) = found
                return None if list_type is None else ListHit(kind, list_type, version)
        return None


def open_chain(
    directory: Path,
    chain: Chain,
    bound: DropBound | None = None,
    reuse: Mapping[ChainFile, ListFile] = MappingProxyType({}),
) -> tuple[ListFile, ...]:
    """Open the files of a chain and check that they are the ones `CURRENT` means.

    Files of `reuse` are open already. With a bound, another one of which more entries leave, unconfirmed, is refused.
    Raises StatusListError.
    """
    files = []
    for named in chain:
        path = directory / named.name
        if bound is not None and named not in reuse:
            _check_drop(path, named, bound)
        files.append(reuse.get(named) or ListFile.open(path, named.checksum))
    return tuple(files)


def _check_drop(path: Path, named: ChainFile, bound: DropBound) -> None:
    effect = named.effect
    if effect is not None and bound.exceeded(effect) and named.confirmed != effect.removed:
        problem = Words("list.drop-unconfirmed", removed=effect.removed, before=effect.before)
        raise StatusListError(path, "entries", problem, Words("list.confirm-drop"))


def _load(
    directory: Path, now: datetime, bound: DropBound, in_force: Snapshot | None, *, older: bool
) -> tuple[Snapshot, StatusListError | None]:
    looked = _look(directory, now)
    reuse = {} if in_force is None else in_force.untouched(looked)
    chains = read_manifest(directory).chains
    due = [chain for chain in chains if chain[-1].effective_at <= now]
    # A list used too early bars whom it will bar soon; without any list a lane stands still.
    soonest_first = sorted(chains, key=lambda chain: chain[-1].effective_at)
    refusals = []
    if not due:
        problem = Words("list.nothing-before", effective=soonest_first[0][-1].effective_at.isoformat())
        cure = Words("list.wait-or-publish")
        refusals.append(StatusListError(directory / MANIFEST_NAME, "effective", problem, cure))
    for chain in (due or soonest_first) if older else due[:1]:
        try:
            files = open_chain(directory, chain, bound, reuse)
        except StatusListError as error:
            refusals.append(error)
        else:
            return Snapshot(chain, files, looked), next(iter(refusals), None)
    raise refusals[0]  # The newest chain's fault is the one to report.


def load(
    directory: Path,
    now: datetime,
    bound: DropBound = DROP_BOUND,
    in_force: Snapshot | None = None,
    *,
    older: bool = False,
    tries: int = LOAD_TRIES_MAX,
) -> tuple[Snapshot, StatusListError | None]:
    """Load and verify the newest chain that is effective at `now`. Blocking: hashes every file it has not seen.

    Files `in_force` that are named again and untouched are taken over as they are, so an increment costs only its own
    bytes. If the chain cannot be used, raises StatusListError, or with `older` takes the nearest to it and says why.
    Starts over when a publication replaced files meanwhile.
    """
    before = _look(directory, now)
    try:
        return _load(directory, now, bound, in_force, older=older)
    except StatusListError:
        if tries == 1 or _look(directory, now) == before:
            raise
    return load(directory, now, bound, in_force, older=older, tries=tries - 1)


class StatusLists:
    """Status lists in force at a charge point: look-ups now, a newer publication when it is ready and proved."""

    def __init__(self, directory: Path, snapshot: Snapshot, refusal: StatusListError | None, bound: DropBound) -> None:
        self._directory = directory
        self._bound = bound
        self._snapshot = snapshot
        self._examined = snapshot.looked
        self.refusal = refusal
        """Reason why the newest publication is not in use; None when it is."""

    @classmethod
    def open(cls, directory: Path, now: datetime, bound: DropBound = DROP_BOUND) -> StatusLists:
        """Open at start-up. Says in `refusal` why the newest chain is not used: it is damaged, or drops more entries
        than `bound` lets it, and the next older one is in force; or none is effective yet, and the soonest is."""
        return cls(directory, *load(directory, now, bound, older=True), bound)

    @property
    def snapshot(self) -> Snapshot:
        """Snapshot in force. Hold it for one passage to have one version throughout."""
        return self._snapshot

    @property
    def version(self) -> str:
        """Version to store with every decision."""
        return self._snapshot.version

    def lookup(self, kind: ListKind, key: str) -> ListHit | None:
        """Find the entry in force for a key, None if it is on no list. Never raises for the content of a key."""
        return self._snapshot.lookup(kind, key)

    def age(self, now: datetime) -> timedelta:
        """Time since the issuer made the newest publication in force. Negative if our clock is behind."""
        return now - self._snapshot.created_at

    def stale(self, now: datetime, limit: timedelta) -> bool:
        """True when the lists are older than allowed (reason LIST_STALE). Meaningful only with a trusted clock."""
        return self.age(now) > limit

    def prepare(self, now: datetime) -> Snapshot | None:
        """Load what was published since, ready for `switch`; None if nothing is new. Blocking: worker thread only.

        Raises StatusListError if the new publication cannot be used: the lists in force stay, `refusal` keeps the
        reason, and the same files are not read again before one of them changes.
        """
        looked = _look(self._directory, now)
        if looked == self._examined:
            return None
        try:
            return load(self._directory, now, self._bound, self._snapshot)[0]
        except StatusListError as error:
            self._examined = looked
            self.refusal = error
            raise

    def switch(self, snapshot: Snapshot) -> None:
        """Use a prepared snapshot from the next look-up on. Look-ups under way finish on the old one."""
        self._snapshot = snapshot
        self._examined = snapshot.looked
        self.refusal = None
