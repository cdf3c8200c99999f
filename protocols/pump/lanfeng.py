"""Lanfeng (Wenzhou): RS-422, 9600 8N1, twelve bytes each way.

Panel, 00, command, eight bytes of data, check: the two's complement of the sum of bytes 1 to 10. The pump answers each
message with twelve bytes of the same check; the answer to a status has price, amount, volume and state in place of
command and data.

How sure it is: one public Chinese controller, no recorded frame. **Unproven**: no pump has heard what is written here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from protocols.codings import HEX_BYTE, octets, packed
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.fields import Field, Label, Layout, const, uint
from protocols.pump import types
from protocols.pump.bus import LineFormat, Parity
from protocols.pump.exchanges import Answer, Find, Request, Timing
from protocols.pump.types import Command, Decimals, Reading, SideId, SideState

CLAUSE: Final = "Lanfeng, as one public Chinese controller speaks it; unproven"
MESSAGE_BYTES: Final = 12
DATA_BYTES: Final = 8

TAKE_CONTROL, AUTHORISE, PRESET_AMOUNT, PRESET_VOLUME, SET_PRICE = 0xA0, 0xA1, 0xA2, 0xA3, 0xA4
ASK_AMOUNT_TOTAL, ASK_VOLUME_TOTAL, STOP, ASK_STATUS = 0xAC, 0xAD, 0xB1, 0xB8
COMMANDS: Final = {
    TAKE_CONTROL: Label("主控模式", "take control"),
    AUTHORISE: Label("授权", "authorise"),
    PRESET_AMOUNT: Label("预置金额", "preset an amount"),
    PRESET_VOLUME: Label("预置油量", "preset a volume"),
    SET_PRICE: Label("设置单价", "set the price"),
    ASK_AMOUNT_TOTAL: Label("读金额总累", "ask the amount total"),
    ASK_VOLUME_TOTAL: Label("读油量总累", "ask the volume total"),
    STOP: Label("停止加油", "stop"),
    ASK_STATUS: Label("读状态", "ask the status"),
}
HOST_CONTROL: Final = 0x40
STATES: Final = {0x41: SideState.IDLE, 0xC1: SideState.CALLING, 0xC2: SideState.FUELLING}
STATE_WORDS: Final = {code: state.value for code, state in STATES.items()}

_PANEL: Final = Field("panel", uint(1), "panel", zh="面板号")
_CHECK: Final = Field("check", HEX_BYTE, "two's complement of the sum of bytes 1 to 10", zh="校验")
REQUEST: Final = Layout(
    "request",
    CLAUSE,
    (
        _PANEL,
        Field("zero", const(b"\0"), "00", zh="固定"),
        Field("command", HEX_BYTE, "command", words=COMMANDS, zh="命令"),
        Field("data", octets(DATA_BYTES), "data, BCD from its first byte", zh="数据"),
        _CHECK,
    ),
)
STATUS: Final = Layout(
    "status",
    CLAUSE,
    (
        _PANEL,
        Field("zero", octets(1), "not explained", zh="未说明"),
        Field("price_raw", packed(2), "unit price, digits without a point", zh="单价"),
        Field("amount_raw", packed(3), "amount, digits without a point", zh="金额"),
        Field("volume_raw", packed(3), "volume, digits without a point", zh="油量"),
        Field("state", HEX_BYTE, "state; bit 40: the host is in control", words=STATE_WORDS, zh="状态"),
        _CHECK,
    ),
)
TOTAL: Final = Layout(
    "total",
    CLAUSE,
    (
        _PANEL,
        Field("head", octets(4), "not explained", zh="未说明"),
        Field("total_raw", packed(6), "total, digits without a point", zh="总累"),
        _CHECK,
    ),
)
_PRICE: Final = Layout("price", CLAUSE, (Field("price_raw", packed(2), "unit price", zh="单价"),))
_PRESET: Final = Layout("preset", CLAUSE, (Field("preset_raw", packed(3), "most amount or volume", zh="预置量"),))
ANSWERS: Final = {ASK_STATUS: STATUS, ASK_AMOUNT_TOTAL: TOTAL, ASK_VOLUME_TOTAL: TOTAL}
"""Layouts of answers by what was asked; an answer does not say it itself. All others look like the request."""


def check_of(message: bytes) -> int:
    """Check over bytes 1 to 10."""
    return -sum(message[1 : MESSAGE_BYTES - 1]) & 0xFF


def write_request(panel: int, command: int, data: bytes = b"") -> bytes:
    """One message of the controller."""
    if len(data) > DATA_BYTES:
        raise LocalProtocolError(f"{len(data)} bytes of data, at most {DATA_BYTES}", field="data", clause=CLAUSE)
    draft = REQUEST.build(panel=panel, zero=b"\0", command=command, data=data.ljust(DATA_BYTES, b"\0"), check=0)
    return draft[:-1] + bytes((check_of(draft),))


def read(message: bytes, layout: Layout) -> dict[str, Any]:
    """Values of one message. Raises RemoteProtocolError with the field and the offset that do not fit."""
    values = layout.parse(message)
    if message[-1] != check_of(message):
        raise RemoteProtocolError(
            f"check is {message[-1]:02X}, expected {check_of(message):02X}",
            field="check",
            offset=MESSAGE_BYTES - 1,
            data=message,
            clause=CLAUSE,
            hint="ask again: bytes were lost or damaged on the line",
        )
    return values


def _find(panel: int, layout: Layout, readings: Callable[[dict[str, Any]], tuple[Reading, ...]]) -> Find:
    """Answer of a panel: the first twelve bytes that begin with it and have a right check. What else comes is noise."""

    def find(received: bytes) -> Answer | None:
        for at in range(len(received) - MESSAGE_BYTES + 1):
            message = received[at : at + MESSAGE_BYTES]
            if message[0] == panel and message[-1] == check_of(message):
                return Answer(message, readings(read(message, layout)))
        return None

    return find


def status_readings(values: dict[str, Any], decimals: Decimals) -> tuple[Reading, ...]:
    """Readings of a status."""
    price = decimals.unit_price_milli(values["price_raw"])
    delivered = types.Delivered(
        decimals.volume_ml(values["volume_raw"]), decimals.amount_minor(values["amount_raw"]), price
    )
    state = STATES.get(values["state"])
    if state is None:
        return (delivered,)
    # A panel calls and fuels with its nozzle out alone; it has one.
    return (types.StateSeen(state), types.NozzleSeen(1, state is not SideState.IDLE, price), delivered)


def _none(_values: dict[str, Any]) -> tuple[Reading, ...]:
    return ()


class Lanfeng:
    """Lanfeng for `ExchangeMaster`. Suspend and resume are not known; a pump clears itself at the next nozzle."""

    name = "lanfeng"
    sides = range(1, 256)
    timing = Timing(LineFormat(9_600, Parity.NONE), answer_ms=150, gap_ms=30, poll_ms=300, pause_ms=50)

    def poll(self, side: SideId, decimals: Decimals) -> Request:
        """Ask the status."""
        find = _find(side, STATUS, lambda values: status_readings(values, decimals))
        return Request(write_request(side, ASK_STATUS), find)

    def requests(
        self,
        side: SideId,
        command: Command,
        decimals: Decimals,
        state: SideState | None,
    ) -> tuple[Request, ...]:
        """A command as requests."""
        match command:
            case types.AskState() | types.AskDelivered():
                return (self.poll(side, decimals),)
            case types.Authorise(limit, (1,)):
                return self._authorise(side, limit, decimals)
            case types.SetPrices((price,)):
                data = _PRICE.build(price_raw=decimals.price_digits(price))
                return (self._plain(side, SET_PRICE, data, acts=True),)
            case types.Stop():
                return (self._plain(side, STOP, acts=True),)
            case types.AskTotals():
                return tuple(
                    Request(write_request(side, asked), _find(side, TOTAL, _total_readings(asked, decimals)))
                    for asked in (ASK_VOLUME_TOTAL, ASK_AMOUNT_TOTAL)
                )
            case types.Clear():
                return ()
        raise LocalProtocolError(
            f"{command} is not known of {self.name}", field="command", hint="a panel has one nozzle and no pause"
        )

    def _authorise(
        self, side: SideId, limit: types.VolumeLimit | types.AmountLimit, decimals: Decimals
    ) -> tuple[Request, ...]:
        if isinstance(limit, types.VolumeLimit):
            code, raw = PRESET_VOLUME, decimals.volume_digits(limit.volume_ml)
        else:
            code, raw = PRESET_AMOUNT, decimals.amount_digits(limit.amount_minor)
        if raw <= 0:
            raise LocalProtocolError("limit below the smallest step of the pump", field="limit", clause=CLAUSE)
        preset = write_request(side, code, _PRESET.build(preset_raw=raw))
        return (
            self._plain(side, TAKE_CONTROL),
            Request(preset, _find(side, REQUEST, _none), needs=frozenset({SideState.CALLING})),
            Request(
                write_request(side, AUTHORISE),
                None,
                acts=True,
                needs=frozenset({SideState.CALLING}),
                proof=frozenset({SideState.FUELLING}),
                pause_ms=600,  # the state is the old one until then
            ),
        )

    @staticmethod
    def _plain(side: SideId, command: int, data: bytes = b"", *, acts: bool = False) -> Request:
        return Request(write_request(side, command, data), _find(side, REQUEST, _none), acts=acts)


def _total_readings(asked: int, decimals: Decimals) -> Callable[[dict[str, Any]], tuple[Reading, ...]]:
    def readings(values: dict[str, Any]) -> tuple[Reading, ...]:
        total = values["total_raw"]
        if asked == ASK_VOLUME_TOTAL:
            return (types.TotalsSeen(1, decimals.volume_ml(total), None),)
        return (types.TotalsSeen(1, None, decimals.amount_minor(total)),)

    return readings


LANFENG: Final = Lanfeng()
