"""Error codes of jsonPTS that a pump, a sale or a login can give, with their words.

The specification's own examples disagree with its table: one gives 57 with the text of 40. The text is believed first,
without its prefix and without `PUMP_`, which examples leave out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocols.fields import Label

PREFIX: Final = "JSONPTS_ERROR_"

INVALID_REQUEST: Final = 2
"""Code by which a packet that cannot be read is refused, by either side."""


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """One error of the table, with its text on the wire less the prefix."""

    code: int
    name: str
    words: Label


ERRORS: Final = tuple(
    ErrorCode(code, name, Label(zh, en))
    for code, name, zh, en in (
        (1, "NOT_FOUND", "控制器不认识此请求", "request not known to the controller"),
        (2, "INVALID_JSON_REQUEST", "JSON 无法读取", "JSON cannot be read"),
        (3, "NO_DATA", "没有数据", "no data"),
        (4, "NO_DATA_FOR_RESPONSE", "没有可回答的数据", "no data for an answer"),
        (5, "JSON_REQUEST_IS_TOO_LONG", "请求过长", "request too long"),
        (6, "NO_PERMISSIONS", "该用户无此权限", "user has no right to this"),
        (7, "NO_SD_FOUND", "控制器没有 SD 卡", "controller has no SD card"),
        (8, "POWER_DOWN_DETECTED", "控制器检测到掉电", "controller sees its power go"),
        (9, "SD_NOT_MOUNTED", "SD 卡未挂载", "SD card not mounted"),
        (11, "SD_ERROR", "SD 卡故障", "SD card fails"),
        (15, "INCORRECT_PUMPS_CONFIGURATION", "加油机配置有误", "configuration of pumps is wrong"),
        (17, "COULD_NOT_GET_DATETIME", "缺少日期时间", "date and time missing"),
        (18, "COULD_NOT_GET_PUMP_NUMBER", "缺少加油机号", "pump number missing"),
        (19, "COULD_NOT_GET_PUMP_TRANSACTION_NUMBER", "缺少交易号", "transaction number missing"),
        (20, "PUMP_NUMBER_OUT_OF_RANGE", "加油机号超出范围", "pump number out of range"),
        (21, "PUMP_TRANSACTION_NUMBER_OUT_OF_RANGE", "交易号超出范围", "transaction number out of range"),
        (22, "PUMP_TRANSACTION_NOT_FOUND", "找不到该交易", "transaction not found"),
        (25, "COULD_NOT_GET_TRANSACTION_NUMBER", "缺少交易号", "transaction number missing"),
        (26, "TRANSACTION_NUMBER_OUT_OF_RANGE", "交易号超出范围", "transaction number out of range"),
        (27, "TRANSACTION_NUMBER_NOT_MATCH", "交易号不符", "transaction number does not match"),
        (28, "TRANSACTION_NUMBER_ALREADY_EXIST", "交易号已存在", "transaction number exists already"),
        (29, "COULD_NOT_GET_NOZZLE_NUMBER", "缺少油枪号", "nozzle number missing"),
        (31, "COULD_NOT_GET_NOZZLE_NUMBER_FUEL_GRADE_ID", "缺少油枪号和油品号", "nozzle and fuel grade missing"),
        (32, "COULD_NOT_GET_NOZZLE_NUMBER_FROM_GRADE_ID", "该油品没有油枪", "no nozzle has this fuel grade"),
        (33, "NOZZLE_NUMBER_OUT_OF_RANGE", "油枪号超出范围", "nozzle number out of range"),
        (34, "COULD_NOT_GET_TYPE", "缺少预置类型", "type of preset missing"),
        (36, "TYPE_OUT_OF_RANGE", "预置类型不存在", "type of preset unknown"),
        (37, "COULD_NOT_GET_DOSE_VALUE", "缺少预置量", "preset missing"),
        (38, "COULD_NOT_GET_PRICE_VALUE", "缺少单价", "price missing"),
        (39, "DUPLICATED_AUTHORIZATION_REQUEST", "重复授权,先前的授权有效", "authorised already, the first one stands"),
        (40, "PUMP_BUSY_OTHER_USER", "加油机被其他用户占用", "pump is held by another user"),
        (41, "PUMP_BUSY_OTHER_REQUEST_EXECUTED", "加油机正执行其他请求", "pump is busy with another request"),
        (42, "PUMP_BUSY_FILLING", "加油机正在加油", "pump is delivering"),
        (43, "PUMP_NOT_IN_FILLING_PROCESS", "加油机未在加油", "pump is not delivering"),
        (46, "USER_NOT_MATCH", "用户不符", "user does not match"),
        (52, "PUMP_IS_NOT_CONFIGURED", "控制器中没有该加油机", "pump is not configured at the controller"),
        (57, "PUMP_GRADE_NOT_CORRESPOND_TANK", "油枪油品与油罐油品不符", "nozzle and tank hold different fuel grades"),
        (61, "COULD_NOT_GET_TAG", "缺少标签号", "tag missing"),
        (65, "TANK_PRODUCT_HEIGHT_IS_CRITICAL_LOW", "油罐液位过低", "tank is critically low"),
        (69, "PUMP_STATUS_NOT_END_OF_TRANSACTION", "交易尚未结束或已关闭", "transaction is not at its end, or closed"),
        (70, "TAG_IS_NOT_VALID", "标签无效", "tag is not valid"),
        (71, "DATETIME_INCORRECT_FORMAT", "日期时间格式有误", "date and time are malformed"),
        (78, "REPEATED_AUTHORIZE_PUMP_PRICE_DIFFERENT", "重复授权但单价不同", "authorised again at another price"),
        (
            79,
            "CAN_NOT_USE_DATA_UPLOAD_WEBSOCKETS_SAME_TIME",
            "HTTP 上传与 WebSocket 不能同时使用",
            "uploads by HTTP and WebSocket exclude each other",
        ),
        (83, "NOT_ENOUGH_DATA_IN_REQUEST_FOR_EXECUTION", "请求数据不全", "request lacks data"),
        (91, "PUMP_IS_NOT_LOCKED_BY_USER", "加油机不是由该用户锁定", "pump is not locked by this user"),
        (96, "OPERATION_ERROR", "操作失败", "operation failed"),
        (99, "AUTOREAD_PUMPS_TOTALS_NOT_CONFIGURED", "未设置自动读取累计数", "automatic reading of totals is not set"),
        (101, "DATA_IS_NOT_READY", "数据尚未就绪,稍后再试", "data is not ready, try again later"),
        (102, "PUMP_TRANSACTION_ALREADY_PAID", "交易已付款", "transaction is paid already"),
        (
            103,
            "PUMP_TRANSACTION_AMOUNT_NOT_MATCH_PAYMENT",
            "付款金额与交易不符",
            "payment differs from the transaction",
        ),
        (115, "DATETIME_NOT_CONFIGURED", "控制器时间未设置", "controller's clock is not set"),
    )
)

_BY_CODE: Final = {error.code: error for error in ERRORS}


_BY_TEXT: Final = {error.name.removeprefix("PUMP_"): error for error in ERRORS} | {
    error.name: error for error in ERRORS
}


def error_meant(code: int | None, text: str) -> ErrorCode | None:
    """Error that an answer means; None for one that this table does not know."""
    return _BY_TEXT.get(text.strip().upper().removeprefix(PREFIX)) or _BY_CODE.get(-1 if code is None else code)
