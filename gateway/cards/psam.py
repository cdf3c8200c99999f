"""PSAM at a desk: would a lane work with it, and what has to be done where not.

Everything here but `COUNTER` costs nothing. A terminal number is spent only where somebody asks for it: it is the one
way to see that the PSAM makes MAC1 and that its counter moves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import StrEnum
from itertools import product
from types import MappingProxyType
from typing import Final

from drivers.psam import KeyState, Psam, PsamInfo, PsamRefused
from gateway.model.reasons import REASONS, Reason, Severity
from gateway.texts.catalogue import Pair, Text, Words
from gateway.texts.foreign import text_of
from protocols.card.codes import TradeType
from protocols.card.psam import KeyKind
from protocols.card.purse import PurchaseOpened
from protocols.codings import read_text
from protocols.crypto import Algorithm
from protocols.crypto.keys import FACTOR_BYTES
from protocols.regions import REGION_BYTES

SERIAL_MAX: Final = 0xFFFFFFFF
SERIALS_LEFT_LOW: Final = 10_000_000
"""Terminal numbers left that are called few: two years of a busy lane."""

PROBED_KINDS: Final = (KeyKind.VEHICLE, KeyKind.TAC, KeyKind.EXTERNAL_AUTH, KeyKind.MAINTENANCE)
"""Uses of keys that can be asked for without an amount."""


class PsamCheck(StrEnum):
    """Check of a PSAM."""

    DATES = "dates"
    REGION = "region"
    AUTHORISED = "authorised"
    KEYS = "keys"
    COUNTER = "counter"
    """The only one that spends a terminal number."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a PSAM."""

    kind: KeyKind
    algorithm: Algorithm
    state: KeyState


@dataclass(frozen=True, slots=True)
class PsamContents:
    """Contents of a PSAM, and its keys as far as they can be asked for."""

    reader: str
    info: PsamInfo
    keys: tuple[Key, ...]

    @property
    def authorised(self) -> bool | None:
        """True when it works with its keys, False when a centre has to authorise it; None when that is not known."""
        states = {key.state for key in self.keys}
        if KeyState.PRESENT in states:
            return True
        return False if KeyState.LOCKED in states else None

    @property
    def algorithms(self) -> frozenset[Algorithm]:
        """Key sets that it has, by its files and by the keys that answered."""
        told = {Algorithm.DES3, *([Algorithm.SM4] if self.info.has_sm4 else [])}
        return frozenset(told | {key.algorithm for key in self.keys if key.state is KeyState.PRESENT})


@dataclass(frozen=True, slots=True)
class PsamQuestion:
    """Question put to a PSAM. `regions`: heads of issuer ids whose cards are taken here; None where nobody says."""

    at: datetime
    zone: timezone
    clock_trusted: bool
    regions: frozenset[bytes] | None = None
    spend_one: bool = False


@dataclass(frozen=True, slots=True)
class PsamFinding:
    """Result of one check. `reason`: None where it is passed or was not made."""

    check: PsamCheck
    made: bool
    reason: Reason | None = None
    detail: Text | None = None

    @property
    def refuses(self) -> bool:
        """True when a lane must not work with this PSAM."""
        return self.reason is not None and self.reason.severity is Severity.STOP


async def read_psam(psam: Psam) -> PsamContents:
    """Read a PSAM's files, and ask for its keys. Spends no terminal number."""
    info = await psam.info()
    pairs = [(kind, algorithm) for kind, algorithm in product(PROBED_KINDS, Algorithm)]
    keys = [Key(kind, algorithm, await psam.key_state(kind, algorithm)) for kind, algorithm in pairs]
    return PsamContents(psam.name, info, tuple(key for key in keys if key.state is not KeyState.UNKNOWN))


async def check_psam(psam: Psam, contents: PsamContents, question: PsamQuestion) -> tuple[PsamFinding, ...]:
    """Check a PSAM that was read, in the order of `PsamCheck`."""
    found = [
        *_dates(contents.info, question),
        *_region(contents.info, question),
        *_authorised(contents),
        *_keys(contents),
    ]
    return (*found, await _counter(psam, contents, question))


def _found(check: PsamCheck, code: str, detail: Text | None = None) -> PsamFinding:
    return PsamFinding(check, made=True, reason=REASONS[code], detail=detail)


def _dates(info: PsamInfo, question: PsamQuestion) -> Iterator[PsamFinding]:
    if not question.clock_trusted or info.expires is None or info.starts is None:
        yield PsamFinding(PsamCheck.DATES, made=False)
        return
    today = question.at.astimezone(question.zone).date()
    if info.expires < today:
        yield _found(PsamCheck.DATES, "psam_expired", Words("verdict.until", day=info.expires))
    elif info.starts > today:
        yield _found(PsamCheck.DATES, "psam_not_yet_valid", Words("verdict.from", day=info.starts))
    else:
        yield PsamFinding(PsamCheck.DATES, made=True, detail=Words("verdict.until", day=info.expires))


def _region(info: PsamInfo, question: PsamQuestion) -> Iterator[PsamFinding]:
    area = info.application.area[:REGION_BYTES]
    shown = Pair.same(read_text(area) or area.hex().upper())
    if question.regions is None:
        yield PsamFinding(PsamCheck.REGION, made=False, detail=shown)
    elif area in question.regions:
        yield PsamFinding(PsamCheck.REGION, made=True, detail=shown)
    else:
        yield _found(PsamCheck.REGION, "psam_region_wrong", shown)


def _authorised(contents: PsamContents) -> Iterator[PsamFinding]:
    if contents.authorised is False:
        yield _found(PsamCheck.AUTHORISED, "psam_not_authorised")
    else:
        yield PsamFinding(PsamCheck.AUTHORISED, made=contents.authorised is not None)


def _keys(contents: PsamContents) -> Iterator[PsamFinding]:
    if contents.authorised is False:
        yield PsamFinding(PsamCheck.KEYS, made=False)  # before it is authorised it tells of none
        return
    names = Pair.same(", ".join(sorted(one.title for one in contents.algorithms)))
    if Algorithm.SM4 in contents.algorithms:
        yield PsamFinding(PsamCheck.KEYS, made=True, detail=names)
    else:
        # Cards of version 50 and above want SM4; most have 3DES keys too, some do not.
        yield _found(PsamCheck.KEYS, "psam_keys_missing", names)


async def _counter(psam: Psam, contents: PsamContents, question: PsamQuestion) -> PsamFinding:
    """Spend one terminal number on a purchase that no card takes part in, where it is wanted."""
    if not question.spend_one:
        return PsamFinding(PsamCheck.COUNTER, made=False)
    nobody = bytes(FACTOR_BYTES)
    opened = PurchaseOpened(0, 0, 0, Algorithm.DES3.purse_key_index, Algorithm.DES3, bytes(4))
    try:
        async with psam.turn():
            made = await psam.open_purchase(
                opened,
                amount_fen=0,
                trade_type=TradeType.COMPOSITE,
                time=question.at.astimezone(question.zone).strftime("%Y%m%d%H%M%S"),
                inner_number=nobody,
                region=contents.info.application.area[:REGION_BYTES] * 2,
            )
    except PsamRefused as refused:
        code = REFUSALS.get(refused.sw, "psam_operation_failed")
        return _found(PsamCheck.COUNTER, code, text_of(refused.problem))
    left = SERIAL_MAX - made.terminal_serial
    detail = Words("psam.serial-spent", serial=made.terminal_serial)
    if left <= SERIALS_LEFT_LOW:
        return _found(PsamCheck.COUNTER, "psam_counter_low", detail)
    return PsamFinding(PsamCheck.COUNTER, made=True, detail=detail)


REFUSALS: Final[Mapping[int, str]] = MappingProxyType(
    {
        0x6982: "psam_not_authorised",
        0x6983: "psam_locked",
        0x9303: "psam_locked",
        0x9402: "psam_counter_full",
        0x9403: "psam_keys_missing",
    }
)
"""Status word of a PSAM that refuses a purchase -> code of the reason."""
