"""What a site says about one toll lane."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.model.passage import Abandoned, Service
from gateway.points.etc.settings import EtcSettings


class LaneKind(StrEnum):
    """Where the fare comes from. The values are the site file's kinds of charge points."""

    OPEN = "toll-open"
    """One fare per class."""
    EXIT = "toll-exit"
    """From the entry written on the card to here."""
    ENTRY = "toll-entry"
    """None: the entry is written on the card."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSettings(EtcSettings):
    """One toll lane, from the site file."""

    service: Service = Service.TOLL
    abandoned: Abandoned = Abandoned.VOID
    kind: LaneKind
