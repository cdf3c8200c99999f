"""Settings of one toll lane."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.model.passage import Abandoned, Service
from gateway.points.etc.settings import EtcSettings


class LaneKind(StrEnum):
    """Kind of lane by the source of its fare. The values are the site file's kinds of charge points."""

    OPEN = "toll-open"
    """Open lane: one fare per class."""
    EXIT = "toll-exit"
    """Exit: fare from the entry written on the card to here."""
    ENTRY = "toll-entry"
    """Entry: no fare, the entry is written on the card."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSettings(EtcSettings):
    """Settings of one toll lane, from the site file."""

    service: Service = Service.TOLL
    abandoned: Abandoned = Abandoned.VOID
    kind: LaneKind
