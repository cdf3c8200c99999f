"""Display words of the serial dialects, where they are others than those of `pcrsu-v3`.

No table of result codes of this dialect is known: only 00 is, and 80 as the mark of a heartbeat.
"""

from __future__ import annotations

from collections.abc import Mapping

from protocols.rsu.meanings_v3 import fen_text

LANE_MODES = {0x03: "entry", 0x04: "exit", 0x06: "open system"}
RADIO_CHANNELS = {0: "channel 1", 1: "channel 2"}
TRANS_MODES = {
    0: "traditional purchase for all cards",
    1: "composite purchase for all cards",
    2: "traditional for charge cards, composite for stored value",
}
STOP_TYPES = {1: "end, search again", 2: "send the current report again"}
ERRORS = {0x00: "success", 0x80: "heartbeat"}
CARD_TYPES = {0: "national CPU card", 1: "local card"}
CHIPS = {0: "CPU", 1: "Mifare S50", 2: "Mifare Pro", 3: "Ultralight", 5: "S70"}
TRANS_TYPES = {
    0x00: "traditional purchase",
    0x06: "traditional purchase, stored value",
    0x09: "composite purchase",
    0x10: "composite purchase",
}
BALANCE_UNREAD = 0xFFFFFFFF


def balance(amount: int, _: Mapping[str, object]) -> str:
    """Balance of a purse."""
    return "could not be read" if amount == BALANCE_UNREAD else fen_text(amount)


def seconds(count: int, _: Mapping[str, object]) -> str:
    """Seconds as text."""
    return f"{count} s"


def vehicle_class(number: int, _: Mapping[str, object]) -> str:
    """Vehicle class as text, as the antenna counts."""
    return f"class {number}"
