"""Assembly of a charge point: parts it is given, and parts it gives back; each kind has its own in `assemble`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.debit.engine import DebitEngine, Timing
from gateway.doors import Doors
from gateway.health import Tell
from gateway.ledger.batches import LedgerWriter
from gateway.ledger.reading import LedgerReader
from gateway.payers.mandates import IssuerPolicy, MandateReader
from gateway.payers.status_lists import StatusLists
from gateway.points.config import ChargePoint
from gateway.points.gate.assemble import RelayBoards
from gateway.surroundings import Surroundings
from gateway.tariffs.quote import TariffSet
from gateway.timekeeping import Timekeeper


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """Parts that all charge points of a site share."""

    merchant: str
    utc_offset_min: int
    sections: Sequence[ChargePoint]
    engine: DebitEngine
    writer: LedgerWriter
    reader: LedgerReader
    mandates: MandateReader
    issuers: Mapping[bytes, IssuerPolicy]
    """Policies of issuers, by the region bytes of tags and cards."""
    lists: StatusLists | None
    """Status lists; None where no charge point needs any; so with the tariffs."""
    tariffs: TariffSet | None
    boards: RelayBoards
    doors: Doors
    surroundings: Surroundings
    time: Timekeeper
    note_timing: Callable[[Timing], None]
    tell: Tell


class Serving(Protocol):
    """Charge point at work."""

    async def run(self) -> None:
        """Serve until cancelled."""
        ...

    async def drain(self) -> None:
        """Drain: take no new customers, and wait for those under way; for an orderly stop."""
        ...


@dataclass(frozen=True, slots=True)
class Point:
    """Charge point with its devices, made and not yet started."""

    name: str
    serving: Serving
    devices: Mapping[str, Callable[[], Awaitable[object]]]
    """Tasks of its own devices, by task name."""
    live: Mapping[str, Callable[[], Sequence[Mapping[str, Any]]]] = field(default_factory=dict)
    """Tellers of how its places stand now, by the key of the health file under which all points' are listed."""


def live(points: Iterable[Point]) -> dict[str, list[Mapping[str, Any]]]:
    """Tell how the places of all points stand now, by kind of place: pumps, bays."""
    told: dict[str, list[Mapping[str, Any]]] = {}
    for point in points:
        for kind, tell in point.live.items():
            told.setdefault(kind, []).extend(tell())
    return told
