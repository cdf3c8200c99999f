"""What a bank's answer code (F39) means for the money, and what to tell people.

Codes and their class come from a UnionPay profile's response table completed with common ISO 8583 practice; 02, 06,
07, 33-36, 45 and 63 are inferred. A partner's own table goes before this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType


class ResponseClass(Enum):
    """What the engine may conclude from an answer."""

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
    status_list: bool = False
    """The issuer wants the card stopped: put it on the status list."""
    listed: bool = True
    """False for a code this table does not know."""

    @property
    def outcome_unknown(self) -> bool:
        """The answer does not say whether money moved."""
        return ResponseClass.UNKNOWN in {self.response_class, self.in_doubt}


_A, _D, _L = ResponseClass.APPROVED, ResponseClass.DECLINED, ResponseClass.DECLINED_FOR_NOW
_U, _K, _M = ResponseClass.UNKNOWN, ResponseClass.KEYS, ResponseClass.MANUAL

_ROWS: tuple[tuple[str, ResponseClass, str, str], ...] = (
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
    # Towards a reversal this is its own case, see Profile.not_found_code: here it only means nothing was done.
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
    # An earlier message with the same keys exists and its outcome is what counts: query it, never debit anew.
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

_STATUS_LIST_CODES = frozenset({"04", "07", "33", "34", "35", "36", "41", "43"})
_UNKNOWN_IN_DOUBT = frozenset({"91", "A0"})
"""91 after a hold may have been sent on by the switch; with A0 the answer itself cannot be trusted."""

RESPONSE_CODES: Mapping[str, ResponseCode] = MappingProxyType(
    {
        code: ResponseCode(
            code=code,
            response_class=response_class,
            english=english,
            chinese=chinese,
            in_doubt=_U if code in _UNKNOWN_IN_DOUBT else response_class,
            status_list=code in _STATUS_LIST_CODES,
        )
        for code, response_class, english, chinese in _ROWS
    }
)


def response_code(code: str) -> ResponseCode:
    """Meaning of `code`. An unlisted one is unknown for money in doubt and a decline otherwise, never an approval."""
    known = RESPONSE_CODES.get(code)
    if known is not None:
        return known
    return ResponseCode(
        code=code,
        response_class=_D,
        english="code not in the table",
        chinese="未知应答码",
        in_doubt=_U,
        listed=False,
    )
