"""What the values of the serial dialects mean, for people: what they share with `pcrsu-v3`, and their own tables.

No table of result codes of this dialect is known: only 00 is, and 80 as the mark of a heartbeat. A plate has no text
here: a display masks values, not meanings.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from protocols.rsu.meanings_v3 import MANUFACTURERS, MEANINGS, RSU_STATES, SWITCH, Meaning, fen_text, table

LANE_MODES = {0x03: "entry", 0x04: "exit", 0x06: "open system"}
CHANNELS = {0: "channel 1", 1: "channel 2"}
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


def _balance(value: object, _: Mapping[str, object]) -> str:
    if not isinstance(value, int):
        return ""
    return "could not be read" if value == BALANCE_UNREAD else fen_text(value)


def _seconds(value: object, _: Mapping[str, object]) -> str:
    return f"{value} s"


def _vehicle_class(value: object, _: Mapping[str, object]) -> str:
    return f"class {value}"


MEANINGS_BJ: Mapping[tuple[int | None, str], Meaning] = MappingProxyType(
    {
        **{place: meaning for place, meaning in MEANINGS.items() if place[0] is None},
        (None, "error"): table(ERRORS),
        (None, "trans_type"): table(TRANS_TYPES),
        (0xC0, "lane_mode"): table(LANE_MODES),
        (0xC0, "wait_time_s"): _seconds,
        (0xC0, "pll_channel"): table(CHANNELS),
        (0xC0, "trans_mode"): table(TRANS_MODES),
        (0xC2, "stop_type"): table(STOP_TYPES),
        (0x4C, "on"): table(SWITCH),
        (0xB0, "rsu_status"): table(RSU_STATES),
        (0xB0, "manufacturer_id"): table(MANUFACTURERS),
        (0xB2, "status"): MEANINGS[0xB2, "status"],
        (0xB3, "vehicle_class"): _vehicle_class,
        (0xB4, "card_type"): table(CARD_TYPES),
        (0xB4, "physical_card_type"): table(CHIPS),
        (0xB5, "balance_raw"): _balance,
    }
)
