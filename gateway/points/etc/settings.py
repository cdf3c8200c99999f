"""Settings of a site for tags and cards at one charge point."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.points.card.settings import CardSettings


class EntryWrite(StrEnum):
    """Way to write the entry of a trip to file 0019."""

    COMMAND = "command"
    """Command of the dialect's own (C3), without a purchase."""
    ZERO_PURCHASE = "zero_purchase"
    """Composite purchase of zero, where the dialect has no such command."""


class TacCommand(StrEnum):
    """Way of a dialect to fetch the TAC of a purchase whose answer was lost."""

    BY_SERIAL = "by_serial"
    """C8 with the card's purchase serial, answered by B8."""
    BY_CONTENT = "by_content"
    """C7 with time and station of the purchase, answered by B5."""
    NONE = "none"


class OnePiecePolicy(StrEnum):
    """Policy for one-piece tags, which have no card."""

    REFUSE = "refuse"
    CONTRACT = "contract"
    """Contract of the tag, which finds a bank mandate; no purchase is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcSettings(CardSettings):
    """Settings of one charge point with an antenna, from the site file."""

    tac_command: TacCommand = TacCommand.BY_SERIAL
    entry_write: EntryWrite = EntryWrite.ZERO_PURCHASE
    quiet_s: float = 10.0
    """Seconds for which a vehicle just dealt with is not dealt with again."""
    attempts_max: int = 3
    """Purchases tried on one vehicle in a row when the card takes none of them."""
    one_piece: OnePiecePolicy = OnePiecePolicy.REFUSE
