"""Transactions of DART: one declaration each, with its source and how sure it is.

A transaction is `TRANS LNG DATA`. The same TRANS means different things in the two directions, and some even have the
same length (CD1 and DC1, CD3 and DC3): bytes are read for a sender that is known, never guessed. The marks of a source:
*seen* was recorded on a bus, *code* comes from public controllers only.

Numbers stay as they are on the wire, without a point: decimals belong to the pump (`protocols.pump.types.Decimals`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final, cast

from protocols.codings import HEX_BYTE, bcd, octets, packed
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.fields import Field, Layout, Repeated, numbers, raw, uint
from protocols.pump.dart import meanings
from protocols.pump.dart.meanings import NOZZLE_BITS, NOZZLE_OUT_BIT

HEAD_BYTES: Final = 2
"""TRANS and LNG."""
LENGTH_MAX: Final = 255
LAYOUTS_KEPT_MAX: Final = 128
NOZZLES_MAX: Final = 15
"""A nozzle is one nibble."""


class Sender(Enum):
    """End of the bus that a transaction comes from."""

    CONTROLLER = "controller"
    PUMP = "pump"


# --- values -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Order:
    """CD1: do this."""

    order: int


@dataclass(frozen=True, slots=True)
class AllowNozzles:
    """CD2: nozzles that may deliver."""

    allowed_nozzles: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PresetVolume:
    """CD3: most volume of the next filling."""

    preset_volume_raw: int


@dataclass(frozen=True, slots=True)
class PresetAmount:
    """CD4: most amount of the next filling."""

    preset_amount_raw: int


@dataclass(frozen=True, slots=True)
class Price:
    """One price in CD5 or DC103."""

    price_raw: int


@dataclass(frozen=True, slots=True)
class SetPrices:
    """CD5: prices of nozzle 1, 2, ..."""

    prices: tuple[Price, ...]


@dataclass(frozen=True, slots=True)
class SwitchOutput:
    """CD7: an output of the pump on or off."""

    function: int
    on: int


@dataclass(frozen=True, slots=True)
class SetParameters:
    """CD9: decimals and maximum amount. Its layout is not confirmed, so it is kept whole."""

    body: bytes


@dataclass(frozen=True, slots=True)
class FillingType:
    """CD13: kind of payment shown."""

    filling_type: int


@dataclass(frozen=True, slots=True)
class SuspendNozzle:
    """CD14: hold."""

    nozzle: int


@dataclass(frozen=True, slots=True)
class ResumeNozzle:
    """CD15: go on."""

    nozzle: int


@dataclass(frozen=True, slots=True)
class AskTotal:
    """CD101: ask for a totaliser."""

    counter: int


@dataclass(frozen=True, slots=True)
class PumpStatus:
    """DC1: status."""

    status: int


@dataclass(frozen=True, slots=True)
class Filled:
    """DC2: display of the running or last filling."""

    volume_raw: int
    amount_raw: int


@dataclass(frozen=True, slots=True)
class NozzlePrice:
    """DC3: nozzle, its place, its price. All three bytes are the price: none is a product code."""

    price_raw: int
    nozio: int

    @property
    def nozzle(self) -> int:
        """Number of the nozzle."""
        return self.nozio & NOZZLE_BITS

    @property
    def nozzle_out(self) -> bool:
        """True when it is out of its holder."""
        return bool(self.nozio & NOZZLE_OUT_BIT)


@dataclass(frozen=True, slots=True)
class Alarm:
    """DC5: alarm."""

    alarm: int


@dataclass(frozen=True, slots=True)
class Parameters:
    """DC7: parameters of the pump, among them its decimals."""

    head: bytes
    volume_decimals: int
    amount_decimals: int
    price_decimals: int
    reserved: bytes
    max_amount: bytes
    grades: tuple[int, ...]
    tail: bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """DC9: identity of the pump."""

    identity: str


@dataclass(frozen=True, slots=True)
class Suspended:
    """DC14: answer to CD14."""

    nozzle: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """DC15: answer to CD15."""

    nozzle: int


@dataclass(frozen=True, slots=True)
class Total:
    """DC101 of 6 bytes: one totaliser."""

    counter: int
    total_raw: int


@dataclass(frozen=True, slots=True)
class MeteredTotal:
    """DC101 of 16 bytes: a totaliser with the meters behind it."""

    counter: int
    total_raw: int
    meter1_raw: int
    meter2_raw: int


@dataclass(frozen=True, slots=True)
class BothTotals:
    """DC101 of 13 bytes: volume and amount, as Chinese card pumps send them."""

    counter: int
    volume_total_raw: int
    amount_total_raw: int


@dataclass(frozen=True, slots=True)
class StandAlone:
    """DC102: mode without a controller."""

    mode: bytes


@dataclass(frozen=True, slots=True)
class PumpPrices:
    """DC103: prices of nozzle 1, 2, ..."""

    prices: tuple[Price, ...]


@dataclass(frozen=True, slots=True)
class Unmodelled:
    """A transaction that nothing here gives a meaning to, kept whole."""

    code: int
    body: bytes


ToPump = (
    Order
    | AllowNozzles
    | PresetVolume
    | PresetAmount
    | SetPrices
    | SwitchOutput
    | SetParameters
    | FillingType
    | SuspendNozzle
    | ResumeNozzle
    | AskTotal
)
FromPump = (
    PumpStatus
    | Filled
    | NozzlePrice
    | Alarm
    | Parameters
    | Identity
    | Suspended
    | Resumed
    | Total
    | MeteredTotal
    | BothTotals
    | StandAlone
    | PumpPrices
)
Transaction = ToPump | FromPump | Unmodelled

# --- declarations -----------------------------------------------------------------------------------------------------

Fields = tuple["Field | Repeated", ...]


@dataclass(frozen=True, slots=True, eq=False)
class Declared:
    """One transaction of one sender."""

    name: str
    """Name in documents, such as `DC3`."""
    sender: Sender
    code: int
    value: type[Transaction]
    fields: Callable[[int], Fields | None]
    """Fields for a length of DATA; None when it has none of that length."""
    lengths: str
    """Lengths for people."""
    source: str


def _fixed(length: int, *fields: Field | Repeated) -> tuple[Callable[[int], Fields | None], str]:
    return lambda found: fields if found == length else None, str(length)


def _nozzles(length: int) -> Fields | None:
    """One byte a nozzle."""
    if not 1 <= length <= NOZZLES_MAX:
        return None
    return (Field("allowed_nozzles", numbers(length), "nozzles that may deliver", zh="允许的油枪"),)


def _prices(length: int) -> Fields | None:
    """Three bytes a nozzle."""
    count, rest = divmod(length, 3)
    if rest or not 1 <= count <= NOZZLES_MAX:
        return None
    price = Field("price_raw", packed(3), "unit price, digits without a point", zh="单价")
    return (Repeated("prices", (price,), "prices of nozzle 1, 2, ...", Price, count),)


_PARAMETERS_MIN: Final = 46


def _parameters(length: int) -> Fields | None:
    if length < _PARAMETERS_MIN:
        return None
    return (
        Field("head", octets(22), "not explained", zh="未说明"),
        Field("volume_decimals", uint(1), "decimals of volumes", zh="油量小数位"),
        Field("amount_decimals", uint(1), "decimals of amounts", zh="金额小数位"),
        Field("price_decimals", uint(1), "decimals of prices", zh="单价小数位"),
        Field("reserved", octets(1), "not explained", zh="未说明"),
        Field("max_amount", octets(4), "maximum amount", zh="最大金额"),
        Field("grades", numbers(15), "grade of nozzle 1, 2, ...", zh="各枪油品"),
        Field("tail", octets(length - 45), "not explained", zh="未说明"),
    )


def _whole(length: int) -> Fields | None:
    return (Field("body", octets(length), "layout not confirmed", zh="格式未证实"),) if length else None


_COUNTER: Final = Field("counter", HEX_BYTE, "totaliser", words=meanings.counter_words, zh="总累编号")
_NOZZLE: Final = Field("nozzle", uint(1), "nozzle, normally 0", zh="油枪")


def _declare(
    name: str, value: type[Transaction], fields: tuple[Callable[[int], Fields | None], str], source: str
) -> Declared:
    sender = Sender.CONTROLLER if name.startswith("CD") else Sender.PUMP
    return Declared(name, sender, int(name[2:]), value, *fields, source)


DECLARED: Final = (
    _declare(
        "CD1",
        Order,
        _fixed(1, Field("order", HEX_BYTE, "order", words=meanings.ORDERS, zh="命令")),
        "seen: 00 04 05 06 08; others code",
    ),
    _declare("CD2", AllowNozzles, (_nozzles, "1 to 15"), "seen with one nozzle"),
    _declare(
        "CD3",
        PresetVolume,
        _fixed(4, Field("preset_volume_raw", packed(4), "most volume, digits without a point", zh="预置油量")),
        "code, two",
    ),
    _declare(
        "CD4",
        PresetAmount,
        _fixed(4, Field("preset_amount_raw", packed(4), "most amount, digits without a point", zh="预置金额")),
        "code, two",
    ),
    _declare("CD5", SetPrices, (_prices, "3 a nozzle"), "seen with one and three nozzles"),
    _declare(
        "CD7",
        SwitchOutput,
        _fixed(
            2,
            Field("function", HEX_BYTE, "output", zh="输出"),
            Field("on", uint(1), "off or on", words=meanings.SWITCH, zh="开关"),
        ),
        "code",
    ),
    _declare("CD9", SetParameters, (_whole, "any"), "code; layout not confirmed"),
    _declare(
        "CD13",
        FillingType,
        _fixed(1, Field("filling_type", uint(1), "filling type", words=meanings.FILLING_TYPES, zh="加油类型")),
        "code",
    ),
    _declare("CD14", SuspendNozzle, _fixed(1, _NOZZLE), "code"),
    _declare("CD15", ResumeNozzle, _fixed(1, _NOZZLE), "code"),
    _declare("CD101", AskTotal, _fixed(1, _COUNTER), "seen: 01"),
    _declare(
        "DC1",
        PumpStatus,
        _fixed(1, Field("status", uint(1), "status", words=meanings.STATES, zh="状态")),
        "seen: 0 1 2 4 5 6; others code",
    ),
    _declare(
        "DC2",
        Filled,
        _fixed(
            8,
            Field("volume_raw", packed(4), "volume, digits without a point", zh="油量"),
            Field("amount_raw", packed(4), "amount, digits without a point", zh="金额"),
        ),
        "seen",
    ),
    _declare(
        "DC3",
        NozzlePrice,
        _fixed(
            4,
            Field("price_raw", packed(3), "unit price, digits without a point", zh="单价"),
            Field("nozio", HEX_BYTE, "nozzle and its place", words=meanings.nozzle_words, zh="油枪位置"),
        ),
        "seen",
    ),
    _declare("DC5", Alarm, _fixed(1, Field("alarm", HEX_BYTE, "alarm", words=meanings.ALARMS, zh="报警")), "code"),
    _declare("DC7", Parameters, (_parameters, "46 or more"), "code, one"),
    _declare("DC9", Identity, _fixed(5, Field("identity", bcd(5), "identity, ten digits", zh="标识")), "code"),
    _declare("DC14", Suspended, _fixed(1, _NOZZLE), "code"),
    _declare("DC15", Resumed, _fixed(1, _NOZZLE), "code"),
    _declare(
        "DC101",
        Total,
        _fixed(6, _COUNTER, Field("total_raw", packed(5), "total, digits without a point", zh="总累")),
        "seen",
    ),
    _declare(
        "DC101",
        MeteredTotal,
        _fixed(
            16,
            _COUNTER,
            Field("total_raw", packed(5), "total, digits without a point", zh="总累"),
            Field("meter1_raw", packed(5), "meter 1", zh="计量器一"),
            Field("meter2_raw", packed(5), "meter 2", zh="计量器二"),
        ),
        "seen",
    ),
    _declare(
        "DC101",
        BothTotals,
        _fixed(
            13,
            _COUNTER,
            Field("volume_total_raw", packed(6), "volume total, digits without a point", zh="油量总累"),
            Field("amount_total_raw", packed(6), "amount total, digits without a point", zh="金额总累"),
        ),
        "code, one: Chinese card pumps",
    ),
    _declare("DC102", StandAlone, _fixed(2, Field("mode", raw(2), "mode without a controller", zh="脱机模式")), "code"),
    _declare("DC103", PumpPrices, (_prices, "3 a nozzle"), "code"),
)

_BY_CODE: Final[Mapping[tuple[Sender, int], tuple[Declared, ...]]] = {
    (one.sender, one.code): tuple(other for other in DECLARED if (other.sender, other.code) == (one.sender, one.code))
    for one in DECLARED
}
_BY_VALUE: Final[Mapping[type, Declared]] = {one.value: one for one in DECLARED}


@lru_cache(maxsize=LAYOUTS_KEPT_MAX)
def _layout(declared: Declared, length: int) -> Layout | None:
    fields = declared.fields(length)
    return None if fields is None else Layout(declared.name, declared.source, fields)


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slice:
    """One transaction as it stands in a data block. Offsets count from the first TRANS, without escapes."""

    offset: int
    code: int
    length: int
    body: bytes
    """Shorter than `length` when the block ends too early."""
    declared: Declared | None
    """None: its TRANS is unknown, or has no such length."""
    problem: str = ""

    @property
    def layout(self) -> Layout | None:
        """Layout of its body."""
        return None if self.declared is None else _layout(self.declared, self.length)


def slices(data: bytes, sender: Sender) -> Iterator[Slice]:
    """Transactions of a data block of this sender, cut by their lengths."""
    at = 0
    while at < len(data):
        code, length = data[at], data[at + 1] if at + 1 < len(data) else 0
        body = data[at + HEAD_BYTES : at + HEAD_BYTES + length]
        known = _BY_CODE.get((sender, code), ())
        declared = next((one for one in known if one.fields(length) is not None), None)
        problem = ""
        if at + 1 == len(data):
            problem = "LNG is missing: the block ends after TRANS"
        elif len(body) < length:
            problem = f"LNG is {length}, {len(body)} bytes are left"
        elif known and declared is None:
            problem = f"{known[0].name} of {length} bytes, it has {' or '.join(one.lengths for one in known)}"
        yield Slice(at, code, length, body, declared, problem)
        at += HEAD_BYTES + length


def read(data: bytes, sender: Sender) -> tuple[Transaction, ...]:
    """Transactions of a data block. Raises RemoteProtocolError with the field and its offset in the block."""
    return tuple(_read_one(one) for one in slices(data, sender))


def _read_one(one: Slice) -> Transaction:
    if one.problem:
        raise RemoteProtocolError(
            one.problem,
            field="LNG",
            offset=one.offset + 1,
            data=one.body,
            clause=one.declared.source if one.declared else None,
            hint="keep the frame and compare it with the pump's manual: its revision may differ",
        )
    declared, layout = one.declared, one.layout
    if declared is None or layout is None:
        return Unmodelled(one.code, one.body)
    try:
        values = layout.parse(one.body)
    except RemoteProtocolError as error:
        raise RemoteProtocolError(
            f"{declared.name}: {error.problem}",
            field=error.field,
            offset=one.offset + HEAD_BYTES + (error.offset or 0),
            data=error.data,
            clause=error.clause,
            hint=error.hint,
        ) from error
    return cast("Callable[..., Transaction]", declared.value)(**values)


# --- writing ----------------------------------------------------------------------------------------------------------


def write(*transactions: Transaction) -> bytes:
    """A data block of these transactions, in their order."""
    return b"".join(_written(one) for one in transactions)


def _written(one: Transaction) -> bytes:
    if isinstance(one, Unmodelled):
        return bytes((one.code, len(one.body))) + one.body
    declared = _BY_VALUE[type(one)]
    values: dict[str, Any] = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
    layout = _layout(declared, _length_of(values, declared))
    if layout is None:
        raise LocalProtocolError(
            f"{declared.name} has {declared.lengths} bytes", field=declared.name, clause=declared.source
        )
    return bytes((declared.code, layout.size)) + layout.build(**values)


def _length_of(values: Mapping[str, Any], declared: Declared) -> int:
    """Length of DATA: what a value of many parts counts, or the only one there is."""
    if "prices" in values:
        return 3 * len(values["prices"])
    if "allowed_nozzles" in values:
        return len(values["allowed_nozzles"])
    if "body" in values:
        return len(values["body"])
    if "tail" in values:
        return 45 + len(values["tail"])
    return int(declared.lengths)
