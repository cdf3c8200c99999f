"""Settings of a counter."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.model.passage import Abandoned, Service
from gateway.points.card.settings import CardSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterSettings(CardSettings):
    """Settings of one counter, from the site file."""

    service: Service = Service.SERVICE_AREA
    abandoned: Abandoned = Abandoned.VOID
