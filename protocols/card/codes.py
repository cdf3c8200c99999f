"""Code numbers on cards and OBUs, with their words. Unknown numbers stay numbers: real cards carry odd ones."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from protocols.fields import Label


class CardType(IntEnum):
    """File 0015 offset 8. Other values occur (51..53 are test cards of one province)."""

    PERIOD = 21
    STORED_VALUE = 22
    CHARGE = 23


class TradeType(IntEnum):
    """Kind of a purse transaction: in file 0018, in MACs and in GET TRANSACTION PROVE."""

    LOAD_DEPOSIT = 0x01
    LOAD = 0x02
    PURCHASE = 0x06
    COMPOSITE = 0x09


class PassStatus(IntEnum):
    """File 0019 offset 13, national numbering. Yunnan counts otherwise (one source)."""

    MTC_ENTRY = 1
    MTC_EXIT = 2
    ETC_ENTRY = 3
    ETC_EXIT = 4
    MTC_OPEN = 5
    ETC_OPEN = 6


VALID_ENTRY_STATUSES: Final = frozenset({0x01, 0x03, 0x10})
"""Status bytes that lane programs in the field take as an entry (agreed)."""

CARD_TYPES: Final[Mapping[int, Label]] = MappingProxyType(
    {
        CardType.PERIOD: Label("月票/年票卡", "month or year pass"),
        CardType.STORED_VALUE: Label("储值卡", "stored value"),
        CardType.CHARGE: Label("记账卡", "charge card"),
    }
)

TRADE_TYPES: Final[Mapping[int, Label]] = MappingProxyType(
    {
        TradeType.LOAD_DEPOSIT: Label("存折圈存", "load into deposit"),
        TradeType.LOAD: Label("钱包圈存", "load"),
        0x05: Label("消费", "purchase"),
        TradeType.PURCHASE: Label("消费", "purchase"),
        TradeType.COMPOSITE: Label("复合消费", "composite purchase"),
    }
)

PASS_STATUSES: Final[Mapping[int, Label]] = MappingProxyType(
    {
        0: Label("保留", "reserved"),
        PassStatus.MTC_ENTRY: Label("封闭MTC入口", "manual entry"),
        PassStatus.MTC_EXIT: Label("封闭MTC出口", "manual exit"),
        PassStatus.ETC_ENTRY: Label("封闭ETC入口", "ETC entry"),
        PassStatus.ETC_EXIT: Label("封闭ETC出口", "ETC exit"),
        PassStatus.MTC_OPEN: Label("MTC开放式", "manual open lane"),
        PassStatus.ETC_OPEN: Label("ETC开放式", "ETC open lane"),
        0x10: Label("入口", "entry"),  # inferred: lanes take it as one
    }
)

YUNNAN_PASS_STATUSES: Final[Mapping[int, Label]] = MappingProxyType(
    {
        0: Label("出口", "exit"),
        1: Label("入口", "entry"),
        3: Label("入口", "entry"),
        5: Label("便携机", "portable terminal"),
        7: Label("手持机", "hand-held terminal"),
        9: Label("自助", "unattended"),
    }
)
"""Numbering of Yunnan's old cards (one source)."""

USER_TYPES: Final[Mapping[int, Label]] = MappingProxyType(
    {
        0: Label("普通", "normal"),
        **dict.fromkeys(range(1, 6), Label("地区预留", "reserved for a region")),
        6: Label("公务", "official"),
        8: Label("军警", "military or police"),
        10: Label("紧急", "emergency"),
        12: Label("免费", "free of charge"),
        14: Label("车队", "fleet"),
        **dict.fromkeys(range(15, 21), Label("省内自定义", "province's own")),
        21: Label("绿通车", "green channel"),
        22: Label("联合收割机", "combine harvester"),
        23: Label("抢险救灾", "disaster relief"),
        24: Label("集装箱J1", "container J1"),
        25: Label("大件运输", "oversize transport"),
        26: Label("应急车", "emergency vehicle"),
        27: Label("货车列车/半挂", "truck train or semi-trailer"),
        28: Label("集装箱J2", "container J2"),
    }
)

VEHICLE_STATES: Final[Mapping[int, Label]] = MappingProxyType(
    {
        0x00: Label("大件运输", "oversize transport"),
        0x02: Label("绿通", "green channel"),
        0x03: Label("联合收割机", "harvester"),
        0xFF: Label("默认", "nothing special"),
    }
)


def vehicle_class_label(vehicle_class: int, _: Mapping[str, object] | None = None) -> Label | None:
    """1..6 passenger, 11..16 truck, 21..26 special-purpose; None for anything else."""
    kind, number = divmod(vehicle_class, 10)
    kinds = (Label("客", "passenger class"), Label("货", "truck class"), Label("专项", "special-purpose class"))
    if kind >= len(kinds) or not 1 <= number <= 6:
        return None
    return Label(f"{kinds[kind].zh}{number}", f"{kinds[kind].en} {number}")


class RecordKind(NamedTuple):
    """Kind of record in file 0019."""

    total_bytes: int
    """With the 3-byte head, whose length byte is two less."""
    use: Label


_RESERVED: Final = Label("预留", "reserved")
_NEW_PARTS: Final = Label("新增复合数据区", "composite data, new part")

RECORD_KINDS: Final[Mapping[int, RecordKind]] = MappingProxyType(
    {
        0xAA: RecordKind(43, Label("收费站出入口信息", "toll record")),
        0x44: RecordKind(60, Label("旧复合数据区", "composite data, old area")),  # one source
        **dict.fromkeys(range(0xB1, 0xB6), RecordKind(43, _RESERVED)),
        **dict.fromkeys((0xC1, 0xC2), RecordKind(63, _NEW_PARTS)),  # one source
        **dict.fromkeys((0xD1, 0xD2), RecordKind(96, _RESERVED)),
    }
)
"""Records of file 0019 by their ids (agreed, but where a line says otherwise)."""

RECORDS: Final[Mapping[int, Label]] = MappingProxyType({number: kind.use for number, kind in RECORD_KINDS.items()})
