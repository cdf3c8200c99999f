"""Words of DART: orders, states, alarms."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from protocols.fields import Label


class OrderCode(IntEnum):
    """Order to a side (CD1). 00, 04, 05, 06 and 08 were recorded, the others are of public controllers."""

    RETURN_STATUS = 0x00
    RETURN_PARAMETERS = 0x02
    RETURN_IDENTITY = 0x03
    RETURN_FILLING_INFORMATION = 0x04
    RESET = 0x05
    AUTHORIZE = 0x06
    STOP = 0x08
    SWITCH_OFF = 0x0A
    SUSPEND = 0x0D
    RESUME = 0x0E
    RETURN_PRICES = 0x0F


class Status(IntEnum):
    """Status of a side (DC1). 3 is not used."""

    NOT_PROGRAMMED = 0
    RESET = 1
    AUTHORIZED = 2
    FILLING = 4
    FILLING_COMPLETED = 5
    MAX_AMOUNT_OR_VOLUME_REACHED = 6
    SWITCHED_OFF = 7
    SUSPENDED = 8


ORDERS: Final[Mapping[int, Label]] = MappingProxyType(
    {
        OrderCode.RETURN_STATUS: Label("返回状态", "return status"),
        OrderCode.RETURN_PARAMETERS: Label("返回参数", "return parameters"),
        OrderCode.RETURN_IDENTITY: Label("返回标识", "return identity"),
        OrderCode.RETURN_FILLING_INFORMATION: Label("返回加油数据", "return filling information"),
        OrderCode.RESET: Label("总清", "reset"),
        OrderCode.AUTHORIZE: Label("授权", "authorise"),
        OrderCode.STOP: Label("停止", "stop"),
        OrderCode.SWITCH_OFF: Label("关机", "switch off"),
        OrderCode.SUSPEND: Label("暂停", "suspend"),
        OrderCode.RESUME: Label("继续", "resume"),
        OrderCode.RETURN_PRICES: Label("返回全部单价", "return all prices"),
    }
)
STATES: Final[Mapping[int, Label]] = MappingProxyType(
    {
        Status.NOT_PROGRAMMED: Label("未编程", "not programmed: wants prices, then a reset"),
        Status.RESET: Label("已总清", "reset: ready, an authorisation is taken"),
        Status.AUTHORIZED: Label("已授权", "authorised"),
        Status.FILLING: Label("正在加油", "filling"),
        Status.FILLING_COMPLETED: Label("加油完毕", "filling completed"),
        Status.MAX_AMOUNT_OR_VOLUME_REACHED: Label("达到限定值", "maximum amount or volume reached"),
        Status.SWITCHED_OFF: Label("关机", "switched off"),
        Status.SUSPENDED: Label("已暂停", "suspended"),
    }
)
ALARMS: Final[Mapping[int, Label]] = MappingProxyType(
    {
        0x01: Label("处理器复位", "processor was reset"),
        0x03: Label("内存错误", "RAM error"),
        0x04: Label("程序存储器错误", "PROM error"),
        0x06: Label("脉冲发生器错误", "pulser error"),
        0x07: Label("脉冲发生器电流错误", "pulser current error"),
        0x09: Label("紧急停止", "emergency stop"),
        0x0A: Label("断电", "power failure"),
        0x0B: Label("压力丢失", "pressure lost"),
        0x0C: Label("混油比错误", "blend ratio error"),
        0x0D: Label("泄漏", "leak"),
        0x0E: Label("泄漏", "leak"),
        0x0F: Label("泄漏", "leak"),
        0x10: Label("油气回收错误", "vapour recovery error"),
        0x11: Label("油气回收错误", "vapour recovery error"),
        0x12: Label("油气回收错误", "vapour recovery error"),
        0x13: Label("油气回收错误", "vapour recovery error"),
        0x19: Label("油气回收错误", "vapour recovery error"),
        0x20: Label("油气回收错误", "vapour recovery error"),
    }
)
UNLISTED_ALARM: Final = Label("未列出的报警", "alarm that is not listed")
TITLES: Final[Mapping[str, Label]] = MappingProxyType(
    {
        "CD1": Label("命令", "order"),
        "CD2": Label("允许油枪", "allowed nozzles"),
        "CD3": Label("预置油量", "preset of a volume"),
        "CD4": Label("预置金额", "preset of an amount"),
        "CD5": Label("设置单价", "prices to set"),
        "CD7": Label("输出控制", "output"),
        "CD9": Label("设置参数", "parameters to set"),
        "CD13": Label("加油类型", "filling type"),
        "CD14": Label("暂停请求", "request to suspend"),
        "CD15": Label("继续请求", "request to resume"),
        "CD101": Label("读总累", "question for a total"),
        "DC1": Label("油机状态", "status"),
        "DC2": Label("加油数据", "filling"),
        "DC3": Label("油枪与单价", "nozzle and price"),
        "DC5": Label("报警", "alarm"),
        "DC7": Label("油机参数", "parameters"),
        "DC9": Label("油机标识", "identity"),
        "DC14": Label("暂停应答", "answer to a request to suspend"),
        "DC15": Label("继续应答", "answer to a request to resume"),
        "DC101": Label("总累", "totals"),
        "DC102": Label("脱机模式", "mode without a controller"),
        "DC103": Label("油枪单价", "prices"),
    }
)
"""Subject of each transaction."""
SWITCH: Final[Mapping[int, Label]] = MappingProxyType({0: Label("关", "off"), 1: Label("开", "on")})
FILLING_TYPES: Final[Mapping[int, Label]] = MappingProxyType({0: Label("现金", "cash"), 1: Label("记账", "credit")})


NOZZLE_BITS: Final = 0x0F
NOZZLE_OUT_BIT: Final = 0x10


def nozzle_words(value: int, _neighbours: object) -> Label:
    """Nozzle and its place."""
    nozzle = value & NOZZLE_BITS
    if value & NOZZLE_OUT_BIT:
        return Label(f"{nozzle} 号枪已提起", f"nozzle {nozzle} out")
    return Label(f"{nozzle} 号枪已挂好", f"nozzle {nozzle} in")


def counter_words(value: int, _neighbours: object) -> Label:
    """Totaliser meant. 01 was recorded; 11 and above is inferred."""
    nozzle = value & NOZZLE_BITS
    if value & NOZZLE_OUT_BIT:
        return Label(f"{nozzle} 号枪金额总累", f"amount total of nozzle {nozzle}")
    return Label(f"{nozzle} 号枪油量总累", f"volume total of nozzle {nozzle}")
