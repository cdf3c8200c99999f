"""Facts of one side: the newest word of its pump on everything, whatever order it comes in."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway.points.fuel.ports import Heard
from protocols.pump.bus import Offline, Online, Restarted
from protocols.pump.types import Delivered, NozzleSeen, SideState, StateSeen

OVER: Final = frozenset({SideState.COMPLETED, SideState.LIMIT_REACHED, SideState.STOPPED})
"""States in which a delivery is over; with the nozzle still out only the first is its end."""

RESTING: Final = OVER | {SideState.IDLE, SideState.NOT_PROGRAMMED, SideState.CALLING, SideState.CLOSED}
"""States in which nothing flows and nothing may."""

TOLD_BY_STATE: Final = MappingProxyType({SideState.CALLING: True, SideState.IDLE: False, SideState.COMPLETED: False})
"""Nozzle out, by the state of a pump that says nothing of its nozzles."""


@dataclass(slots=True)
class Facts:
    """Facts of one side."""

    first_nozzle: int
    """Nozzle that a pump means which names none."""
    online: bool = False
    state: SideState | None = None
    since_us: int = 0
    """Time since which it is in its state, with its nozzle in or out."""
    nozzle: int = 0
    out: bool = False
    tells_nozzle: bool = False
    """The pump says which nozzle is out; others tell by their state."""
    lifts: int = 0
    """Number of times that a nozzle was lifted: one lift is told from the next by it."""
    lifted_at: float = 0.0
    unit_price_milli: int | None = None
    delivered: Delivered | None = None
    watched: bool = False
    """The side was heard from its last authorisation until now."""
    flowed: bool = False
    """Fuel has flowed since."""
    end_seen: bool = False
    """The end of the last delivery has been dealt with; the state may stay for a while."""
    fresh: bool = False
    """The side has come, or come back: its prices and totalisers are to be looked over."""

    @property
    def position(self) -> tuple[object, ...]:
        """State, nozzle and presence: a side acts by them."""
        return self.online, self.state, self.out, self.lifts

    @property
    def is_over(self) -> bool:
        """True when the delivery that was authorised can go on no more."""
        return self.state is SideState.COMPLETED or (self.state in RESTING and not self.out)

    @property
    def at_rest(self) -> bool:
        """True when nobody is served, and the end of the last delivery has been dealt with."""
        dealt_with = self.state not in OVER or self.end_seen
        return self.online and not self.out and self.state in RESTING and dealt_with

    def authorised(self) -> None:
        """Note that a new delivery is about to be authorised."""
        self.watched, self.flowed, self.delivered = True, False, None

    def let_go(self) -> None:
        """Note that the pump has the authorisation, or may have it: the state it told before is of before."""
        if not self.flowed and self.state not in OVER:
            self.state = SideState.AUTHORISED

    def note(self, event: Heard, now: float) -> None:
        """Take what the pump says; `now` is a monotonic second."""
        match event:
            case Offline():
                self.online = self.watched = False
            case Online():
                self.online = self.fresh = True
            case Restarted():
                self.watched, self.fresh = False, True
            case StateSeen(state=state):
                self._note_state(state, now)
            case NozzleSeen():
                self.tells_nozzle = True
                self._note_nozzle(event.nozzle, out=event.out, now=now)
                self.unit_price_milli = event.unit_price_milli or self.unit_price_milli
            case Delivered():
                self.delivered = event
                if event.volume_ml:
                    self.flowed = True
            case _:
                pass

    def _note_state(self, state: SideState, now: float) -> None:
        if state is not self.state:
            if state not in OVER:
                self.end_seen = False
            if state is SideState.NOT_PROGRAMMED:
                self.fresh = True
        self.state = state
        if state in (SideState.FUELLING, SideState.SUSPENDED):
            self.flowed = True
        if not self.tells_nozzle and state in TOLD_BY_STATE:
            self._note_nozzle(self.first_nozzle, out=TOLD_BY_STATE[state], now=now)

    def _note_nozzle(self, nozzle: int, *, out: bool, now: float) -> None:
        if out and not self.out:
            self.lifts += 1
            self.lifted_at = now
        if nozzle != self.nozzle:
            self.unit_price_milli = None  # it was the other one's
        self.nozzle, self.out = nozzle, out
