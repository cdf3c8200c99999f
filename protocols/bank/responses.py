"""Meaning of a bank's answer code (F39) for the money, with its text for display: one table for each set of codes.

`CUPS_POS` is a UnionPay profile's response table completed with common ISO 8583 practice; 02, 06, 07, 33-36, 45 and 63
are inferred. `ISO_1987` has every code that ISO 8583:1987 gives a meaning (several public lists agree on codes and
texts; the classes are inferred, and what could mean that money moved is *unknown*). A dialect names its table, a
partner's own goes before it.

A code that a table does not know, blanks among them, says nothing about the money: it is *unknown*, never a decline.
Some hosts book under codes of their own, and 08 and 16, which mean nothing at a UnionPay POS, are approvals elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType


class ResponseClass(Enum):
    """Class of an answer: what the engine may conclude from it."""

    APPROVED = "A"
    DECLINED = "D"
    """Final: asking again does not help."""
    DECLINED_FOR_NOW = "L"
    """Not done; may succeed later."""
    UNKNOWN = "U"
    """Done or not done: reverse or query."""
    KEYS = "K"
    """Key or MAC trouble: sign in again."""
    MANUAL = "M"
    """Not done; a person must look at configuration or data."""


@dataclass(frozen=True, slots=True)
class ResponseCode:
    """One answer code. `in_doubt` is the class where the money was in doubt already: reversals, queries, advices."""

    code: str
    response_class: ResponseClass
    english: str
    chinese: str
    in_doubt: ResponseClass


@dataclass(frozen=True, slots=True)
class ResponseTable:
    """The codes of one set, by code."""

    name: str
    codes: Mapping[str, ResponseCode]

    def meaning(self, code: str) -> ResponseCode:
        """Meaning of `code`; of one that this table does not list: unknown, whatever was asked."""
        return self.codes.get(code) or _unlisted(code)


APPROVED_CODE = "00"
"""The one answer that closes a reversal."""

NOT_FOUND_CODE = "25"
"""Original not found: closes a reversal only once no late message can arrive any more."""

PARTIAL_CODE = "10"
"""Approved for less than was asked: the amount of the answer is what was taken."""

DUPLICATE_CODE = "94"
"""Keys known to the bank already. After a repetition of ours they are ours; after a message sent once they may be
another sender's, or those of an earlier sale."""

_A, _D, _L = ResponseClass.APPROVED, ResponseClass.DECLINED, ResponseClass.DECLINED_FOR_NOW
_U, _K, _M = ResponseClass.UNKNOWN, ResponseClass.KEYS, ResponseClass.MANUAL

_Row = tuple[str, ResponseClass, str, str]

_CUPS_POS_ROWS: tuple[_Row, ...] = (
    ("00", _A, "approved", "交易成功"),
    ("01", _D, "refer to the issuer", "请持卡人与发卡银行联系"),
    ("02", _D, "refer to the issuer, special condition", "请联系发卡行，特殊情况"),
    ("03", _M, "merchant not valid", "无效商户"),
    ("04", _D, "capture the card", "此卡被没收"),
    ("05", _D, "not honoured", "持卡人认证失败"),
    ("06", _U, "error at the host", "交易处理出错"),
    ("07", _D, "capture the card, special condition", "特殊情况下没收此卡"),
    ("10", _A, "approved for the amount in the answer", "部分金额批准"),
    ("11", _A, "approved, VIP", "交易成功，VIP客户"),
    ("12", _M, "transaction not valid", "无效交易"),
    ("13", _M, "amount not valid", "无效金额"),
    ("14", _D, "account number not valid", "无效卡号或账号"),
    ("15", _D, "no such issuer", "此卡无对应发卡方"),
    ("21", _D, "card not initialised or dormant", "该卡未初始化或睡眠卡"),
    ("22", _M, "suspicious operation, or too late", "操作有误，或超出允许天数"),
    # Towards a reversal this is its own case, see NOT_FOUND_CODE: here it only means nothing was done.
    ("25", _M, "original not found", "未找到原交易"),
    ("30", _M, "format error", "报文格式错误"),
    ("33", _D, "card expired, capture", "过期卡，请没收"),
    ("34", _D, "suspected fraud, capture", "有作弊嫌疑，请没收"),
    ("35", _D, "contact the acquirer, capture", "请联系收单机构，没收卡"),
    ("36", _D, "restricted card, capture", "受限制的卡，请没收"),
    ("38", _D, "PIN tries exceeded", "密码错误次数超限"),
    ("40", _M, "transaction type not supported", "不支持的交易类型"),
    ("41", _D, "lost card", "挂失卡"),
    ("43", _D, "stolen card", "被窃卡"),
    ("45", _D, "fallback not allowed", "不允许降级交易"),
    ("51", _L, "insufficient funds", "余额不足"),
    ("54", _D, "card expired", "卡片已过期"),
    ("55", _D, "wrong PIN", "密码错误"),
    ("57", _D, "not permitted to the cardholder", "不允许持卡人进行的交易"),
    ("58", _D, "not permitted at this terminal", "该终端不允许的交易"),
    ("59", _D, "card check failed or suspected fraud", "卡片校验错或有作弊嫌疑"),
    ("61", _L, "amount limit exceeded", "交易金额超限"),
    ("62", _D, "restricted card", "受限制的卡"),
    ("63", _D, "security violation", "违反安全规定"),
    ("64", _M, "amount does not match the original", "与原交易金额不符"),
    ("65", _L, "number of transactions exceeded", "交易次数超限"),
    ("68", _U, "answer came too late", "发卡行应答超时"),
    ("75", _D, "PIN tries exceeded", "密码错误次数超限"),
    ("90", _L, "day cut-over running", "系统日切，请稍后重试"),
    ("91", _L, "issuer not operating", "发卡方状态不正常"),
    ("92", _L, "no route or line down", "通信线路不通"),
    # An earlier message with the same keys exists, ours or not, see DUPLICATE_CODE: never debit anew.
    ("94", _U, "duplicate transmission", "重复交易，请查询原交易"),
    ("96", _U, "switch fault", "交换中心异常"),
    ("97", _M, "terminal not registered", "终端未在中心登记"),
    ("98", _U, "issuer timed out", "发卡方超时"),
    ("99", _K, "PIN format wrong", "PIN格式错"),
    ("A0", _K, "MAC wrong", "MAC校验错"),
    ("A1", _M, "currency not matching", "转账货币不一致"),
    ("A2", _A, "approved, confirm with the issuer", "交易成功，请向发卡行确认"),
    ("A3", _M, "account not valid", "账户不正确"),
    ("A4", _A, "approved, confirm with the issuer", "交易成功，请向发卡行确认"),
    ("A5", _A, "approved, confirm with the issuer", "交易成功，请向发卡行确认"),
    ("A6", _A, "approved, confirm with the issuer", "交易成功，请向发卡行确认"),
    ("A7", _K, "security processing failed", "安全处理失败"),
)

_ISO_1987_ROWS: tuple[_Row, ...] = (
    ("00", _A, "approved or completed", "交易成功"),
    ("01", _D, "refer to the issuer", "请联系发卡行"),
    ("02", _D, "refer to the issuer, special condition", "请联系发卡行，特殊情况"),
    ("03", _M, "merchant not valid", "无效商户"),
    ("04", _D, "capture the card", "没收卡"),
    ("05", _D, "not honoured", "不予承兑"),
    ("06", _U, "error at the host", "交易处理出错"),
    ("07", _D, "capture the card, special condition", "特殊情况下没收卡"),
    ("08", _A, "approved, with identification", "核对身份后承兑"),
    ("09", _U, "request in progress", "请求正在处理中"),
    ("10", _A, "approved for the amount in the answer", "部分金额批准"),
    ("11", _A, "approved, VIP", "交易成功，VIP客户"),
    ("12", _M, "transaction not valid", "无效交易"),
    ("13", _M, "amount not valid", "无效金额"),
    ("14", _D, "card number not valid", "无效卡号"),
    ("15", _D, "no such issuer", "无此发卡方"),
    ("16", _A, "approved, update track 3", "批准，更新第三磁道"),
    ("17", _D, "cancelled by the customer", "持卡人取消"),
    ("18", _D, "disputed by the customer", "持卡人有异议"),
    ("19", _L, "enter the transaction again", "请重新提交交易"),
    ("20", _U, "response not valid", "无效应答"),
    ("21", _D, "no action taken", "未作任何处理"),
    ("22", _U, "suspected malfunction", "怀疑操作有误"),
    ("23", _M, "transaction fee not acceptable", "不可接受的交易费"),
    ("24", _M, "file update not supported", "不支持文件更新"),
    ("25", _M, "record not found", "未找到记录"),
    ("26", _U, "duplicate record, the old one replaced", "重复记录，旧记录已被替换"),
    ("27", _M, "file update: field error", "文件更新字段错误"),
    ("28", _M, "file update: file locked", "文件更新被锁定"),
    ("29", _M, "file update failed", "文件更新不成功"),
    ("30", _M, "format error", "报文格式错误"),
    ("31", _M, "bank not supported by the switch", "交换中心不支持的银行"),
    ("32", _U, "completed in part", "部分完成"),
    ("33", _D, "card expired, capture", "过期卡，请没收"),
    ("34", _D, "suspected fraud, capture", "有作弊嫌疑，请没收"),
    ("35", _D, "contact the acquirer, capture", "请联系收单机构，没收卡"),
    ("36", _D, "restricted card, capture", "受限制的卡，请没收"),
    ("37", _D, "call the acquirer's security, capture", "请联系收单机构安全部门，没收卡"),
    ("38", _D, "PIN tries exceeded, capture", "密码错误次数超限，没收卡"),
    ("39", _D, "no credit account", "无贷记账户"),
    ("40", _M, "function not supported", "不支持的功能"),
    ("41", _D, "lost card", "挂失卡"),
    ("42", _D, "no universal account", "无此账户"),
    ("43", _D, "stolen card", "被窃卡"),
    ("44", _D, "no investment account", "无投资账户"),
    ("51", _L, "insufficient funds", "余额不足"),
    ("52", _D, "no cheque account", "无支票账户"),
    ("53", _D, "no savings account", "无储蓄账户"),
    ("54", _D, "card expired", "卡片已过期"),
    ("55", _D, "wrong PIN", "密码错误"),
    ("56", _D, "no card record", "无此卡记录"),
    ("57", _D, "not permitted to the cardholder", "不允许持卡人进行的交易"),
    ("58", _D, "not permitted at this terminal", "该终端不允许的交易"),
    ("59", _D, "suspected fraud", "有作弊嫌疑"),
    ("60", _D, "contact the acquirer", "请联系收单机构"),
    ("61", _L, "amount limit exceeded", "交易金额超限"),
    ("62", _D, "restricted card", "受限制的卡"),
    ("63", _D, "security violation", "违反安全规定"),
    ("64", _M, "amount does not match the original", "与原交易金额不符"),
    ("65", _L, "number of transactions exceeded", "交易次数超限"),
    ("66", _D, "call the acquirer's security", "请联系收单机构安全部门"),
    ("67", _D, "capture at the machine", "机器没收卡"),
    ("68", _U, "answer came too late", "应答超时"),
    ("75", _D, "PIN tries exceeded", "密码错误次数超限"),
    ("90", _L, "cut-over running", "日切正在进行"),
    ("91", _L, "issuer or switch not operating", "发卡方或交换中心不能操作"),
    ("92", _L, "no route to the institution", "找不到路由"),
    ("93", _D, "transaction violates the law", "交易违法"),
    ("94", _U, "duplicate transmission", "重复交易"),
    ("95", _U, "reconciliation error", "对账不平"),
    ("96", _U, "system malfunction", "系统异常"),
)
"""45-50 and 69-74 are reserved for ISO, 76-89 for private and 97-99 for national use: unknown unless a partner's
table has them."""

_UNKNOWN_IN_DOUBT = frozenset({"91", "A0"})
"""91 after a hold may have been sent on by the switch; with A0 the answer itself cannot be trusted."""


def _table(name: str, rows: Iterable[_Row]) -> ResponseTable:
    codes = {
        code: ResponseCode(
            code=code,
            response_class=response_class,
            english=english,
            chinese=chinese,
            in_doubt=_U if code in _UNKNOWN_IN_DOUBT else response_class,
        )
        for code, response_class, english, chinese in rows
    }
    return ResponseTable(name, MappingProxyType(codes))


def _unlisted(code: str) -> ResponseCode:
    return ResponseCode(code, _U, "code not in the table", "未知应答码", _U)


CUPS_POS = _table("cups-pos", _CUPS_POS_ROWS)
ISO_1987 = _table("iso-8583-1987", _ISO_1987_ROWS)

RESPONSE_TABLES: Mapping[str, ResponseTable] = MappingProxyType({table.name: table for table in (CUPS_POS, ISO_1987)})
"""Every table by name, for configuration files."""


def response_code(code: str) -> ResponseCode:
    """Meaning of a code in the ledger, for display and for rules about refusals; unknown where no table lists it.
    The first table that lists it is asked: where two tables call a code a refusal they call it the same one."""
    known = (table.codes[code] for table in RESPONSE_TABLES.values() if code in table.codes)
    return next(known, None) or _unlisted(code)
