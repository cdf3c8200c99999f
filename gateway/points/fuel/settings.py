"""Settings of a fuel island."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import time

from gateway.model.passage import Abandoned, Service
from gateway.points.etc.settings import EtcSettings
from gateway.points.fuel.witnesses import Rules
from protocols.pump.types import Decimals


@dataclass(frozen=True, slots=True, kw_only=True)
class SideSettings:
    """Settings of one side of an island."""

    number: int
    """Number that people know it by, and that stands with its sales."""
    pump: str
    """Name of the line that its pump is on."""
    address: int
    """Number of the side on that line."""
    grades: Mapping[int, str]
    """Nozzle -> grade."""
    unit_prices: Mapping[int, int] = field(default_factory=dict)
    """Nozzle -> thousandths of a yuan a litre that the station sells at; all of them or none."""
    decimals: Decimals
    totaliser_wraps_at_ml: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FuelSettings(EtcSettings):
    """Settings of one fuel island, from the site file."""

    service: Service = Service.FUEL
    abandoned: Abandoned = Abandoned.KEEP
    sides: tuple[SideSettings, ...] = ()
    proof: Rules
    limit_fen: int
    """Most that one sale may come to: so much is held, and preset at the pump."""
    minimum_fen: int = 100
    """Smallest sale that is begun; a fleet that has less left of its bounds is refused."""
    limits_of_grades: Mapping[str, int] = field(default_factory=dict)
    answer_s: float = 3.0
    """Seconds for which a reading that was asked for is waited for."""
    order_waits_s: float = 120.0
    """Seconds for which a person's order waits for the lifted nozzle."""
    card_pays_within_s: float = 15.0
    """Seconds after the delivery in which a stored-value card is asked; one that was not seen by then has left."""
    stock_at: tuple[time, ...] = ()
    """Local times at which totalisers are compared with the sales."""
    lift_to_flow_s: float = 120.0
    """Seconds after an authorisation in which fuel must flow, or it is taken back."""
