"""Dialects of pump links by their names: the controller's end of each, the numbers of its sides, and its line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from protocols.errors import LocalProtocolError
from protocols.pump import exchanges, names
from protocols.pump.bus import Bus, LineFormat
from protocols.pump.dart import framing
from protocols.pump.dart.master import USUAL_LINE, Master
from protocols.pump.exchanges import ExchangeMaster
from protocols.pump.lanfeng import LANFENG
from protocols.pump.two_wire import TWO_WIRE
from protocols.pump.types import Decimals, SideId


@dataclass(frozen=True, slots=True)
class PumpDialect:
    """One dialect."""

    name: str
    master: Callable[[Mapping[SideId, Decimals], float], Bus]
    """Makes the controller's end of a new connection, for these sides, at this time."""
    sides: range
    """Numbers a side can have."""
    line: LineFormat
    """Usual format of its serial line."""


def _exchanges(name: str, dialect: exchanges.Dialect) -> PumpDialect:
    def master(sides: Mapping[SideId, Decimals], now: float) -> Bus:
        return ExchangeMaster(dialect, sides, now=now)

    return PumpDialect(name, master, dialect.sides, dialect.timing.line)


DIALECTS: Final[Mapping[str, PumpDialect]] = MappingProxyType(
    {
        names.DART: PumpDialect(names.DART, lambda sides, now: Master(sides, now=now), framing.ADDRESSES, USUAL_LINE),
        names.TWO_WIRE: _exchanges(names.TWO_WIRE, TWO_WIRE),
        names.LANFENG: _exchanges(names.LANFENG, LANFENG),
    }
)


def dialect_named(name: str) -> PumpDialect:
    """The dialect called `name`; LocalProtocolError lists the known names."""
    try:
        return DIALECTS[name]
    except KeyError as error:
        known = ", ".join(sorted(DIALECTS))
        raise LocalProtocolError(f"no pump dialect {name!r}", field="dialect", hint=f"known are: {known}") from error
