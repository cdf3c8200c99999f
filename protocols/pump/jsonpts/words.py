"""Words for the keys and types of jsonPTS, and for its alerts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from protocols.fields import Label

_PAIRS: Final = """
Amount|金额|amount
AmountTotal|金额累计小数位|decimals of the amount total
AuthorizeWithoutTag|无标签授权|authorise without a tag
AutoCloseTransaction|自动关闭交易|close the transaction by itself
AutoSynchronize|自动对时|set the clock by itself
BatteryVoltage|电池电压(毫伏)|battery, mV
Code|代码|code
ConfigurationId|配置标识|configuration
CpuTemperature|处理器温度|CPU temperature
DateTime|时间|time
DateTimeStart|开始时间|begin
DeviceNumber|设备号|device number
DeviceType|设备类型|kind of device
Dose|预置量|preset
FirmwareDateTime|固件时间|firmware of
FlowRate|流速|flow rate
FuelGradeId|油品号|fuel grade
FuelGradeIds|油品号|fuel grades
FuelGradeName|油品|name of the fuel grade
Id|标识|identifier
IsOffline|手动模式销售|sold by hand at the pump
IsPaid|已付款|paid
IsSuspended|已暂停|suspended
LastAmount|上笔金额|last amount
LastDateTime|上笔结束时间|last end
LastDateTimeStart|上笔开始时间|last begin
LastFlowRate|上笔流速|last flow rate
LastFuelGradeId|上笔油品号|last fuel grade
LastFuelGradeName|上笔油品|name of the last fuel grade
LastNozzle|上笔油枪|last nozzle
LastPrice|上笔单价|last unit price
LastReceivedTotalAmount|最近读到的金额累计|amount total read last
LastReceivedTotalNozzle|最近读累计数的油枪|nozzle whose totals were read last
LastReceivedTotalVolume|最近读到的油量累计|volume total read last
LastTotalAmount|上笔金额累计|last amount total
LastTotalVolume|上笔油量累计|last volume total
LastTransaction|上笔交易号|last transaction
LastUser|上笔用户|last user
LastVolume|上笔油量|last volume
NoTagVerification|不核对标签|tag is not verified
NotApplyUser|不占用用户|user is not applied
Nozzle|油枪|nozzle
NozzlePrices|各枪单价|unit prices of the nozzles
NozzleUp|提起的油枪|nozzle out
Nozzles|油枪|nozzles
OrderedDose|授权预置量|preset ordered
OrderedNozzle|授权油枪|nozzle ordered
OrderedNozzles|授权油枪|nozzles ordered
OrderedType|授权预置类型|type of preset ordered
PowerDownDetected|检测到掉电|power seen going
Price|单价|unit price
Prices|单价|unit prices
PtsStartupSeconds|开机秒数|seconds since its start
Pump|加油机|pump
Pumps|加油机状态|pumps
Request|正在执行的请求|request under way
RequestTagInformationOnServer|向服务器查询标签|ask the server about the tag
SdMounted|SD 卡已挂载|SD card mounted
State|状态|state
TCVolume|标准温度油量|volume at 15 degrees
Tag|标签|tag
Tank|油罐|tank
TotalAmount|金额累计|amount total
TotalVolume|油量累计|volume total
Transaction|交易号|transaction
Type|预置类型|type of preset
UTCOffset|时区(分钟)|offset from UTC, minutes
User|用户|user
UserId|用户号|user number
Volume|油量|volume
VolumeTotal|油量累计小数位|decimals of the volume total
"""

KEY_WORDS: Final[Mapping[str, Label]] = {
    key: Label(zh, en) for key, zh, en in (line.split("|") for line in _PAIRS.split("\n") if line)
}
"""Words for each key that a declaration has."""

PUMP_ALERTS: Final[Mapping[int, Label]] = (
    {1: Label("加油机离线", "pump does not answer"), 20: Label("超量加油", "delivered above the limit")}
    | {20 + n: Label(f"{n} 号枪超量加油", f"delivered above the limit at nozzle {n}") for n in range(1, 7)}
    | {30: Label("离线加油", "delivered while off line")}
    | {30 + n: Label(f"{n} 号枪离线加油", f"delivered while off line at nozzle {n}") for n in range(1, 7)}
)
"""Alerts of pumps ("Alert codes")."""

CONTROLLER_ALERTS: Final[Mapping[int, Label]] = {
    1: Label("电池电压低", "battery is low"),
    2: Label("处理器温度高", "CPU is hot"),
    3: Label("检测到掉电", "power is going"),
    4: Label("控制器重启", "controller has restarted"),
}
