"""Reasons why a charge point refused, delayed or remarked on something: a stable code, two languages, next steps.

The `code` is for programs and never changes with the language; texts are for the lane display, the CLI and reports.
`special_event` is the number under which the toll network knows the same thing (see `special_events`), None where
the network has none. A pure table: whether a reason stops a vehicle is decided by the charge point's policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final


class Severity(Enum):
    """Severity of a reason."""

    NOTE = "note"
    """Recorded with the passage; the vehicle goes on."""
    REFUSAL = "refusal"
    """No charge by this means; the driver can do something about it or use another means."""
    ATTENDANT = "attendant"
    """A person must look before the vehicle goes on or the money is settled."""
    STOP = "stop"
    """The charge point must not sell until this is cured."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason. `other_events` are numbers that other programs use for the same thing."""

    code: str
    zh: str
    en: str
    next_step_zh: str
    next_step_en: str
    special_event: int | None
    severity: Severity
    other_events: tuple[int, ...] = ()


_registry: dict[str, Reason] = {}

REASONS: Final[Mapping[str, Reason]] = MappingProxyType(_registry)
"""Every reason by its code."""


def _note(code: str, event: int | None, zh: str, en: str, *, do: tuple[str, str], also: tuple[int, ...] = ()) -> Reason:
    return _add(Reason(code, zh, en, do[0], do[1], event, Severity.NOTE, also))


def _refusal(
    code: str, event: int | None, zh: str, en: str, *, do: tuple[str, str], also: tuple[int, ...] = ()
) -> Reason:
    return _add(Reason(code, zh, en, do[0], do[1], event, Severity.REFUSAL, also))


def _attendant(
    code: str, event: int | None, zh: str, en: str, *, do: tuple[str, str], also: tuple[int, ...] = ()
) -> Reason:
    return _add(Reason(code, zh, en, do[0], do[1], event, Severity.ATTENDANT, also))


def _stop(code: str, event: int | None, zh: str, en: str, *, do: tuple[str, str], also: tuple[int, ...] = ()) -> Reason:
    return _add(Reason(code, zh, en, do[0], do[1], event, Severity.STOP, also))


def _add(reason: Reason) -> Reason:
    if reason.code in _registry:
        raise ValueError(f"reason {reason.code} is declared twice; give one of them another code")
    _registry[reason.code] = reason
    return reason


# Next steps shared by several reasons.
_ISSUER = ("请联系发行方客服", "contact the issuer's service desk")
_OTHER_MEANS = ("请改用其他支付方式", "pay by another means")
_MANUAL = ("请驶入人工车道", "use a staffed lane")
_ASK = ("请等待工作人员处理", "wait for the attendant")
_CHECK_IDENTITY = ("请核对车辆与标签、卡片是否一致", "check that vehicle, tag and card belong together")
_KEEP_OPEN = (
    "保留待核实记录,再次读卡时取证,不得再次扣款",
    "keep the record open, prove it at the next reading, do not debit again",
)
_RETRY_READ = ("请稍候,系统将重新读取", "wait, the reading is repeated")
_PSAM_SERVICE = ("停止交易,更换PSAM或联系运维", "stop selling, replace the PSAM or call maintenance")
_CALL_MAINTENANCE = ("联系运维检查设备", "call maintenance to check the device")
_NOTHING = ("无需处理", "nothing to do")
_SIGN_AGAIN = ("请用户在银行或发行方渠道重新签约", "the payer signs up again at the bank or the issuer")

# --- tag ------------------------------------------------------------------------------------------------------------

OBU_BATTERY_LOW = _note(
    "obu_battery_low",
    1,
    "OBU电量低",
    "tag battery is low",
    do=("提醒用户更换电池或设备", "tell the driver to have the tag serviced"),
)
OBU_TAMPERED = _refusal(
    "obu_tampered",
    2,
    "OBU已被拆卸",
    "tag was removed from its mount",
    do=("请到发行方网点重新激活", "have the tag activated again by the issuer"),
)
OBU_EXPIRED = _refusal("obu_expired", 3, "OBU已过期", "tag has expired", do=_ISSUER)
OBU_NOT_YET_VALID = _refusal("obu_not_yet_valid", 4, "OBU未到启用日期", "tag is not valid yet", do=_ISSUER)
OBU_NO_CARD = _refusal(
    "obu_no_card", 5, "OBU未插卡", "no card in the tag", do=("请插入ETC卡后重试", "insert the ETC card and try again")
)
OBU_LISTED = _refusal("obu_listed", 6, "OBU在状态名单中", "tag is on the status list", do=_ISSUER)
OBU_LOCKED = _refusal("obu_locked", 7, "OBU已锁定", "tag is locked", do=_ISSUER)
OBU_ISSUER_UNKNOWN = _refusal("obu_issuer_unknown", 8, "OBU发行方无效", "tag issuer is unknown", do=_ISSUER)
OBU_CLASS_ILLEGAL = _refusal(
    "obu_class_illegal", 9, "OBU车型不合法", "vehicle class on the tag is not legal", do=_MANUAL
)
OBU_ENTRY_INVALID = _attendant("obu_entry_invalid", 12, "OBU入口信息无效", "entry on the tag is not valid", do=_ASK)
OBU_VEHICLE_UNREADABLE = _refusal(
    "obu_vehicle_unreadable", 72, "读OBU车辆信息失败", "vehicle data on the tag could not be read", do=_RETRY_READ
)
OBU_DECRYPT_FAILED = _refusal(
    "obu_decrypt_failed", 73, "OBU车辆信息解密失败", "vehicle data of the tag could not be decrypted", do=_MANUAL
)
OBU_MISSING = _refusal("obu_missing", 123, "未检测到OBU", "no tag was found", do=_OTHER_MEANS, also=(203,))
OBU_SEVERAL = _attendant(
    "obu_several",
    124,
    "一车多标签",
    "several tags in one vehicle",
    do=("仅保留与本车牌一致的标签", "keep only the tag that carries this plate"),
)
ADJACENT_LANE = _refusal(
    "adjacent_lane",
    115,
    "邻道干扰",
    "tag belongs to the adjacent lane",
    do=("等待本车道车辆到位后重新读取", "read again when a vehicle stands in this lane"),
)

# --- card -----------------------------------------------------------------------------------------------------------

CARD_EXPIRED = _refusal("card_expired", 21, "卡片已过期", "card has expired", do=_ISSUER)
CARD_NOT_YET_VALID = _refusal("card_not_yet_valid", 22, "卡片未到启用日期", "card is not valid yet", do=_ISSUER)
CARD_LOCKED = _refusal("card_locked", 23, "卡片已锁定", "card is locked", do=_ISSUER)
CARD_LISTED = _refusal("card_listed", 24, "卡片在状态名单中", "card is on the status list", do=_ISSUER)
CARD_LISTED_LOST = _refusal(
    "card_listed_lost",
    24,
    "卡片已挂失",
    "card is reported lost",
    do=("保留卡片信息并通知发行方", "record the card and inform the issuer"),
)
CARD_LISTED_SUSPENDED = _refusal(
    "card_listed_suspended", 24, "卡片已无卡挂起", "card is suspended (without card)", do=_ISSUER
)
CARD_LISTED_CANCELLED = _refusal(
    "card_listed_cancelled", 24, "卡片已无卡注销", "card is cancelled (without card)", do=_ISSUER
)
CARD_LISTED_IN_DEBT = _refusal(
    "card_listed_in_debt",
    24,
    "卡片账户透支或欠费",
    "account of the card is overdrawn or in debt",
    do=("请补缴欠费后再使用", "pay the arrears before using the card again"),
)
CARD_LISTED_PARTNER = _refusal(
    "card_listed_partner",
    24,
    "卡片被合作机构列入名单",
    "card is listed by a partner institution",
    do=("请联系合作银行或机构", "contact the partner bank or institution"),
)
CARD_LISTED_VEHICLE = _refusal(
    "card_listed_vehicle",
    24,
    "卡片车型或车牌不符被列入名单",
    "card is listed for a vehicle mismatch",
    do=_CHECK_IDENTITY,
)
CARD_LISTED_VALUE_LOW = _refusal(
    "card_listed_value_low",
    24,
    "卡片因储值不足被列入名单",
    "card is listed for too low stored value",
    do=("请充值后再使用", "top up before using the card again"),
    also=(27,),
)
CARD_ISSUER_UNKNOWN = _refusal("card_issuer_unknown", 25, "卡片发行方无效", "card issuer is unknown", do=_ISSUER)
CARD_ENTRY_INVALID = _attendant("card_entry_invalid", 26, "卡片入口信息无效", "entry on the card is not valid", do=_ASK)
PURSE_TOO_LOW = _refusal(
    "purse_too_low",
    27,
    "储值卡余额不足",
    "stored value is below the fare",
    do=("请充值或改用其他支付方式", "top up or pay by another means"),
)
PURSE_ZERO = _refusal(
    "purse_zero",
    28,
    "储值卡余额为零",
    "stored value is zero",
    do=("请充值或改用其他支付方式", "top up or pay by another means"),
)
PURSE_SUSPICIOUS = _attendant("purse_suspicious", None, "储值卡余额异常", "stored value looks impossible", do=_ASK)
CARD_TYPE_ILLEGAL = _refusal("card_type_illegal", 31, "卡片类型非法", "card type is not legal", do=_MANUAL)
CARD_UNREADABLE = _refusal(
    "card_unreadable",
    74,
    "读卡失败",
    "card could not be read",
    do=("请重新插卡或改用其他支付方式", "insert the card again or pay by another means"),
)
CARD_NOT_ETC = _refusal(
    "card_not_etc",
    31,
    "不是ETC用户卡",
    "not an ETC user card",
    do=("请出示ETC用户卡", "present an ETC user card"),
)
CARD_BLANK = _refusal(
    "card_blank",
    74,
    "卡片为空白卡,尚未发行",
    "card is blank: nothing was issued on it",
    do=("退回发卡部门", "return it to whoever issues cards"),
)
CARD_COUNTER_FULL = _refusal(
    "card_counter_full", 75, "卡片交易计数器已满", "transaction counter of the card is full", do=_ISSUER
)
CARD_COUNTER_LOW = _note(
    "card_counter_low",
    None,
    "卡片交易计数器即将用尽",
    "transaction counter of the card is nearly full",
    do=("提醒用户换卡", "tell the holder to have the card replaced"),
)
CPC_BATTERY_LOW = _note(
    "cpc_battery_low",
    33,
    "CPC卡电量低",
    "CPC card battery is low",
    do=("收回后更换", "replace the card after collection"),
)
CPC_DAMAGED = _attendant("cpc_damaged", 35, "CPC卡损坏", "CPC card is damaged", do=_ASK)
CPC_TO_ATTENDANT = _attendant(
    "cpc_to_attendant",
    None,
    "CPC卡车辆,请交卡缴费",
    "vehicle carries a CPC card",
    do=("请将CPC卡交给工作人员", "hand the CPC card to the attendant"),
)

# --- card, tag and camera against each other ------------------------------------------------------------------------

PLATE_MISMATCH = _refusal(
    "plate_mismatch", 41, "卡签车牌不符", "plate differs between card and tag", do=_CHECK_IDENTITY
)
PLATE_UNKNOWN = _attendant(
    "plate_unknown", None, "标签或卡片中无有效车牌", "tag or card holds no usable plate", do=_CHECK_IDENTITY
)
CLASS_MISMATCH = _refusal(
    "class_mismatch", 42, "卡签车型不符", "vehicle class differs between card and tag", do=_CHECK_IDENTITY
)
ISSUER_MISMATCH = _refusal(
    "issuer_mismatch", 43, "卡签发行方不符", "issuer differs between card and tag", do=_CHECK_IDENTITY
)
ENTRY_MISMATCH = _attendant("entry_mismatch", 45, "卡签入口信息不一致", "entry differs between card and tag", do=_ASK)
USER_TYPE_MISMATCH = _attendant(
    "user_type_mismatch", 47, "卡签车种不一致", "user type differs between card and tag", do=_CHECK_IDENTITY
)
PLATE_MISMATCH_CAMERA = _attendant(
    "plate_mismatch_camera",
    173,
    "识别车牌与标签不一致",
    "plate by camera differs from the tag",
    do=("请核对图像与车辆,防止套牌或换签", "compare picture and vehicle; a swapped or cloned tag is possible"),
    also=(52,),
)
CAMERA_NO_PLATE = _note(
    "camera_no_plate",
    None,
    "未识别到车牌",
    "camera read no plate",
    do=("以标签为准,人工可补录", "the tag decides; the plate can be added by hand"),
)
CAMERA_SILENT = _note(
    "camera_silent", None, "车牌识别设备无响应", "camera did not answer in time", do=_CALL_MAINTENANCE
)

# --- entry and exit -------------------------------------------------------------------------------------------------

NO_ENTRY = _attendant(
    "no_entry",
    129,
    "无入口信息",
    "no entry data",
    do=("按车牌查询入口,不得自行编造", "look the entry up by plate; never invent one"),
)
ENTRY_TIME_INVALID = _attendant("entry_time_invalid", 54, "入口时间异常", "entry time is impossible", do=_ASK)
FLOW_STATE_WRONG = _attendant("flow_state_wrong", 55, "流通状态有误", "in/out state is wrong", do=_ASK)
WRONG_DIRECTION = _attendant("wrong_direction", 114, "行驶方向相反", "vehicle comes from the wrong direction", do=_ASK)
ROUTE_UNREACHABLE = _attendant(
    "route_unreachable", 59, "路径不可达", "no route from entry to exit", do=_ASK, also=(66,)
)
TRIP_TOO_LONG = _attendant("trip_too_long", 58, "行驶超时", "trip took too long", do=_ASK, also=(125,))
U_TURN = _attendant("u_turn", 111, "U型车", "entry and exit are the same station", do=_ASK)
CLASS_MISMATCH_ENTRY = _attendant(
    "class_mismatch_entry", 51, "出入口车型不符", "vehicle class differs from the entry", do=_CHECK_IDENTITY
)
PLATE_MISMATCH_ENTRY = _attendant(
    "plate_mismatch_entry", 52, "出入口车牌不符", "plate differs from the entry", do=_CHECK_IDENTITY
)

# --- fare -----------------------------------------------------------------------------------------------------------

NO_TARIFF = _stop(
    "no_tariff",
    102,
    "无有效费率版本",
    "no tariff version is in force",
    do=("导入有效费率后再开道", "load a valid tariff before opening"),
    also=(62,),
)
FARE_MISSING = _attendant(
    "fare_missing",
    63,
    "费率表中无此项",
    "tariff holds no fare for this case",
    do=("人工确定金额并上报费率缺失", "an attendant sets the amount; report the gap in the tariff"),
)
AMOUNT_ABSURD = _attendant(
    "amount_absurd",
    68,
    "计费金额异常",
    "amount is impossible",
    do=("核对路径与费率,不得直接扣款", "check route and tariff; do not charge it"),
    also=(166,),
)
VEHICLE_EXEMPT = _note("vehicle_exempt", 116, "免费车辆", "vehicle is exempt from the toll", do=_NOTHING)

# --- who pays -------------------------------------------------------------------------------------------------------

ONE_PIECE_REFUSED = _refusal(
    "one_piece_refused", None, "本车道不受理单片式OBU", "one-piece tags are not accepted here", do=_MANUAL
)
NO_MANDATE = _refusal("no_mandate", None, "未签约代扣", "no payment mandate", do=_OTHER_MEANS)
MANDATE_PAUSED = _refusal("mandate_paused", None, "代扣协议已暂停", "payment mandate is paused", do=_SIGN_AGAIN)
MANDATE_CLOSED = _refusal("mandate_closed", None, "代扣协议已解约", "payment mandate is closed", do=_SIGN_AGAIN)
MANDATE_PLATE_MISMATCH = _refusal(
    "mandate_plate_mismatch", None, "代扣协议车牌与本车不符", "payment mandate is for another plate", do=_CHECK_IDENTITY
)
LIMIT_EXCEEDED = _refusal(
    "limit_exceeded",
    None,
    "超出付款人限额",
    "limit of the payer is used up",
    do=("请缴清未付款项或改用其他支付方式", "settle what is open or pay by another means"),
)
STAND_IN_LIMIT = _attendant(
    "stand_in_limit",
    None,
    "银行无应答且超出脱机垫付限额",
    "bank is silent and the stand-in limit is used up",
    do=_OTHER_MEANS,
)
STAND_IN_NOT_OFFERED = _attendant(
    "stand_in_not_offered",
    None,
    "银行无应答,该业务不允许垫付",
    "bank gave no answer and this service never stands in",
    do=_OTHER_MEANS,
)
STAND_IN_AFTER_ANSWER = _attendant(
    "stand_in_after_answer",
    None,
    "银行应答后规则不允许垫付",
    "the rules allow no stand-in after what the bank answered",
    do=_OTHER_MEANS,
)
STAND_IN_IN_DEBT = _attendant(
    "stand_in_in_debt",
    None,
    "银行无应答且付款人有欠费",
    "bank gave no answer and the payer has unpaid debts",
    do=("请缴清欠费或改用其他支付方式", "settle the debts or pay by another means"),
)
STAND_IN_AMOUNT = _attendant(
    "stand_in_amount",
    None,
    "银行无应答且金额超出单笔垫付上限",
    "bank gave no answer and the amount is above the stand-in limit of one debit",
    do=_OTHER_MEANS,
)
STAND_IN_COUNT = _attendant(
    "stand_in_count",
    None,
    "银行无应答且当日垫付次数已满",
    "bank gave no answer and the stand-ins of this day are used up",
    do=_OTHER_MEANS,
)
LIMIT_PER_DEBIT = _refusal(
    "limit_per_debit", None, "超出付款人单笔限额", "amount is above the payer's limit of one debit", do=_OTHER_MEANS
)
LIMIT_PER_DAY = _refusal(
    "limit_per_day", None, "超出付款人当日金额限额", "the payer's amount for this day is used up", do=_OTHER_MEANS
)
LIMIT_PER_DAY_COUNT = _refusal(
    "limit_per_day_count",
    None,
    "超出付款人当日笔数限额",
    "the payer's number of debits for this day is used up",
    do=_OTHER_MEANS,
)
DEBTS_LISTED = _refusal(
    "debts_listed",
    None,
    "付款人欠费未清,暂停代扣",
    "the payer's unpaid debts put it on the local list",
    do=("请缴清欠费或改用其他支付方式", "settle the debts or pay by another means"),
)
PAYER_IN_DEBT = _note(
    "payer_in_debt",
    None,
    "付款人有未清欠费",
    "the payer has unpaid debts",
    do=("提醒用户缴清欠费", "tell the payer to settle them"),
)
BANK_DECLINED = _refusal("bank_declined", None, "银行拒绝扣款", "bank declined the debit", do=_OTHER_MEANS)
BANK_SILENT = _note(
    "bank_silent",
    None,
    "银行未及时应答",
    "bank did not answer in time",
    do=("已垫付放行,后台继续核实", "released on stand-in; the outcome is being resolved"),
)
BANK_UNAVAILABLE = _note(
    "bank_unavailable", None, "银行通道不可用", "bank channel is down", do=("检查银行通道", "check the bank channel")
)
BANK_MISBEHAVES = _note(
    "bank_misbehaves",
    None,
    "银行通道发来大量或残缺报文,已断开",
    "the bank sends too much or broken messages and was cut off",
    do=("请联系银行检查其主机,稍后自动重连", "ask the bank to look at its host; it is tried again by itself"),
)
PLATE_RECOVERY = _attendant(
    "plate_recovery",
    118,
    "车辆在追缴名单中",
    "vehicle is on the debt recovery list",
    do=("向用户出示欠费记录,不得自动补扣", "show the debt to the driver; never charge it automatically"),
    also=(127,),
)

# --- purchase -------------------------------------------------------------------------------------------------------

ALREADY_CHARGED = _note(
    "already_charged",
    141,
    "同站已扣款,不再重复",
    "already charged at this station",
    do=("放行,不得再次扣款", "let the vehicle go; do not charge again"),
    also=(165,),
)
PURCHASE_REFUSED = _refusal("purchase_refused", 77, "卡片拒绝扣款", "card refused the purchase", do=_OTHER_MEANS)
PURCHASE_NOT_TAKEN = _refusal(
    "purchase_not_taken", 122, "扣款未完成,未扣费", "purchase did not complete; nothing was taken", do=_RETRY_READ
)
PURCHASE_UNKNOWN = _attendant(
    "purchase_unknown", 122, "扣款结果未知", "outcome of the purchase is not known", do=_KEEP_OPEN
)
PURCHASE_DISPUTED = _attendant(
    "purchase_disputed",
    122,
    "扣款结果有争议",
    "purchase is disputed: the evidence contradicts itself",
    do=("不得再次扣款,转中心核对", "do not debit again; the centre settles it"),
    also=(78, 87),
)
PURCHASE_BALANCE_WRONG = _attendant(
    "purchase_balance_wrong",
    122,
    "扣款前余额、金额与扣款后余额不符",
    "balance before, amount and balance after do not agree",
    do=("不得放行为已付,读卡核对余额后处理", "do not take it as paid; read the card's balance and settle it"),
)
CARD_SERIAL_NOT_ABOVE = _attendant(
    "card_serial_not_above",
    122,
    "卡片交易序号未高于上次序号",
    "the card's serial is not above the last one known of it",
    do=("不得放行为已付,读卡核对交易记录后处理", "do not take it as paid; read the card's own records and settle it"),
)
PSAM_SERIAL_REPEATED = _attendant(
    "psam_serial_repeated",
    122,
    "终端机编号与PSAM交易序号已被使用",
    "terminal and PSAM serial belong to an earlier purchase",
    do=("不得放行为已付,检查天线与PSAM", "do not take it as paid; have antenna and PSAM checked"),
)
PURCHASE_PROOF_INCOMPLETE = _attendant(
    "purchase_proof_incomplete",
    122,
    "报告扣款成功但缺少余额、序号或TAC",
    "reported as paid without balance, serials or TAC",
    do=(
        "不得放行为已付;如设备确无此项,在站点文件中选用相应的天线配置",
        "do not take it as paid; if the device honestly tells none, name its profile in the site file",
    ),
)
PURCHASE_OPEN = _attendant(
    "purchase_open", 122, "该卡有未核实的扣款", "an earlier purchase of this card is still open", do=_KEEP_OPEN
)
TAC_MISSING = _note(
    "tac_missing",
    78,
    "已扣款但未取得TAC",
    "charged, but the TAC is missing",
    do=("列入无TAC记录,再次读卡时补取", "keep it as charged without TAC; fetch it when the card is seen again"),
)
PURCHASE_INIT_FAILED = _refusal(
    "purchase_init_failed", 75, "消费初始化失败", "purchase could not be initialised", do=_RETRY_READ
)
RECORD_UPDATE_FAILED = _refusal(
    "record_update_failed", 76, "更新过站记录失败", "toll record on the card could not be updated", do=_RETRY_READ
)
MAC1_FAILED = _stop("mac1_failed", 86, "PSAM计算MAC1失败", "PSAM could not make MAC1", do=_PSAM_SERVICE)
MAC2_FAILED = _attendant(
    "mac2_failed",
    87,
    "MAC2校验失败,卡片可疑",
    "MAC2 is wrong although the card says debited",
    do=("留存证据,核对卡片真伪", "keep the evidence; the card may be a fake"),
)
MAC2_UNCHECKED = _note(
    "mac2_unchecked",
    87,
    "已扣款,但PSAM未能校验MAC2",
    "charged, but no PSAM checked the card's MAC2",
    do=("照常上传TAC清分,检查PSAM与读卡器", "clear it by its TAC; have PSAM and reader checked"),
)
PAID_LATELY = _refusal(
    "paid_lately",
    165,
    "该卡刚刚在此支付过相同金额",
    "the card has paid this very amount here a moment ago",
    do=("确需再次收费时另行确认", "confirm it where the customer is really to pay twice"),
)
EF04_READ_FAILED = _note("ef04_read_failed", 79, "读EF04失败", "EF04 could not be read", do=_NOTHING)
EF04_WRITE_FAILED = _note(
    "ef04_write_failed",
    80,
    "写EF04失败",
    "EF04 could not be written",
    do=("记录特情,不得为补写再次扣款", "record it; never debit again to repair the file"),
)
ONE_PIECE_AUTH_FAILED = _refusal(
    "one_piece_auth_failed", 81, "单片式OBU认证失败", "one-piece tag failed authentication", do=_MANUAL
)
ONE_PIECE_VEHICLE_FAILED = _refusal(
    "one_piece_vehicle_failed",
    82,
    "单片式OBU读车辆信息失败",
    "vehicle data of the one-piece tag could not be read",
    do=_RETRY_READ,
)
ONE_PIECE_READ_FAILED = _refusal(
    "one_piece_read_failed",
    83,
    "单片式OBU读出入口信息失败",
    "entry/exit file of the one-piece tag could not be read",
    do=_RETRY_READ,
)
ONE_PIECE_WRITE_FAILED = _refusal(
    "one_piece_write_failed", 84, "单片式OBU写入失败", "one-piece tag could not be written", do=_RETRY_READ
)

# --- antenna --------------------------------------------------------------------------------------------------------

OBU_SILENT = _refusal("obu_silent", 71, "OBU无应答", "tag does not answer", do=_RETRY_READ)
UPLINK_GARBLED = _refusal(
    "uplink_garbled", 71, "OBU应答无法解析", "answer of the tag could not be decoded", do=_RETRY_READ
)
CPC_READ_FAILED = _attendant("cpc_read_failed", 35, "读CPC卡失败", "CPC card could not be read", do=_ASK)
CPC_WRITE_FAILED = _attendant("cpc_write_failed", 35, "写CPC卡失败", "CPC card could not be written", do=_ASK)
RSU_ANTENNA_FAULT = _stop("rsu_antenna_fault", 88, "天线故障", "antenna head does not work", do=_CALL_MAINTENANCE)
RSU_CONTROLLER_FAULT = _stop(
    "rsu_controller_fault", None, "天线控制器故障", "antenna controller did not start", do=_CALL_MAINTENANCE
)
RSU_SILENT = _stop(
    "rsu_silent",
    None,
    "天线无心跳",
    "antenna is silent",
    do=("转人工,检查天线电源与网络", "go manual; check the antenna's power and network"),
)
RSU_TEST_FRAME = _note("rsu_test_frame", None, "天线测试帧", "antenna sent a test frame", do=_NOTHING)
RSU_ERROR_UNLISTED = _attendant(
    "rsu_error_unlisted",
    None,
    "天线返回未登记的错误码",
    "antenna gave an error code that no table lists",
    do=("记录错误码并联系天线厂家", "note the code and ask the antenna's maker"),
)

# --- PSAM -----------------------------------------------------------------------------------------------------------

PSAM_LISTED = _stop("psam_listed", 91, "PSAM在黑名单中", "PSAM is on the status list", do=_PSAM_SERVICE)
PSAM_LOCKED = _stop("psam_locked", 92, "PSAM已锁定", "PSAM is locked", do=_PSAM_SERVICE)
PSAM_KEYS_MISSING = _refusal(
    "psam_keys_missing",
    96,
    "PSAM没有该卡所需算法的密钥",
    "PSAM has no keys of the algorithm this card wants",
    do=("更换含有该算法密钥的PSAM", "fit a PSAM that has keys of that algorithm"),
)
PSAM_EXPIRED = _stop("psam_expired", 96, "PSAM已过有效期", "PSAM has expired", do=_PSAM_SERVICE)
PSAM_NOT_YET_VALID = _stop(
    "psam_not_yet_valid",
    96,
    "PSAM未到启用日期",
    "PSAM is not valid yet",
    do=("检查时钟与PSAM启用日期", "check clock and PSAM dates"),
)
PSAM_REGION_WRONG = _stop(
    "psam_region_wrong",
    96,
    "PSAM不属于本站点受理的地区",
    "PSAM is of a region whose cards are not taken here",
    do=_PSAM_SERVICE,
)
PSAM_COUNTER_LOW = _note(
    "psam_counter_low",
    None,
    "PSAM终端交易序号即将用完",
    "PSAM has few terminal numbers left",
    do=("尽快更换PSAM", "replace the PSAM soon"),
)
PSAM_COUNTER_FULL = _stop(
    "psam_counter_full", 96, "PSAM终端交易序号已用完", "PSAM has no terminal numbers left", do=_PSAM_SERVICE
)
PSAM_RESET_FAILED = _stop("psam_reset_failed", 93, "PSAM复位异常", "PSAM does not reset", do=_PSAM_SERVICE)
PSAM_AUTHORISATION_FAULT = _stop(
    "psam_authorisation_fault",
    94,
    "PSAM授权服务异常",
    "PSAM authorisation service does not work",
    do=("检查授权服务连接", "check the link to the authorisation service"),
)
PSAM_SIGN_IN_FAILED = _stop(
    "psam_sign_in_failed", 95, "PSAM签到异常", "PSAM sign-in failed", do=("重新签到", "sign in again")
)
PSAM_OPERATION_FAILED = _stop("psam_operation_failed", 96, "PSAM操作异常", "PSAM operation failed", do=_PSAM_SERVICE)
PSAM_NOT_AUTHORISED = _stop(
    "psam_not_authorised",
    97,
    "PSAM未授权",
    "PSAM is not authorised",
    do=("请求在线授权", "request authorisation on line"),
)

# --- lane and box ---------------------------------------------------------------------------------------------------

SEQUENCE_INCOMPLETE = _refusal(
    "sequence_incomplete", 101, "交易流程不完整", "transaction sequence is incomplete", do=_RETRY_READ
)
CLOCK_BAD = _stop(
    "clock_bad",
    103,
    "车道时钟不可信",
    "lane clock cannot be trusted",
    do=("检查对时服务与时钟电池", "check time synchronisation and the clock battery"),
)
LIST_STALE = _note(
    "list_stale",
    104,
    "状态名单已过期限",
    "status list is older than allowed",
    do=("检查名单下发", "check the delivery of status lists"),
)
LIST_UNAVAILABLE = _stop(
    "list_unavailable",
    104,
    "无可用状态名单",
    "no status list is loaded",
    do=("导入状态名单后再开道", "import a status list before opening"),
)
FILES_OPEN = _note(
    "files_open",
    None,
    "数据文件可被其他用户访问",
    "others than the gateway's user may use its files",
    do=("按提示执行 chmod,并查明何人放开权限", "run the chmod that is named, and find out who opened them"),
)
STORAGE_UNAVAILABLE = _stop(
    "storage_unavailable",
    None,
    "存储不可用",
    "records cannot be stored",
    do=("检查磁盘与数据库,恢复前停止交易", "check disk and database; do not sell before they work"),
)
LEDGER_LOST = _stop(
    "ledger_lost",
    None,
    "账本文件丢失或被替换",
    "the ledger's file is gone, or another stands in its place",
    do=(
        "停止网关,按 etcgw status 所示放回账本或抢救副本,再启动",
        "stop the gateway, put back the ledger or its rescued copy as etcgw status says, start it again",
    ),
)
_ADOPT = (
    "查明原因; 如确认使用该账本: etcgw ledger adopt --reason ...",
    "find out why; if this is the ledger to go on with: etcgw ledger adopt --reason ...",
)
LEDGER_MISSING = _stop(
    "ledger_missing",
    None,
    "没有账本文件",
    "there is no ledger",
    do=(
        "检查路径与数据盘是否已挂载; 新站点: etcgw ledger create",
        "check the path, and that its disk is mounted; at a new site: etcgw ledger create",
    ),
)
LEDGER_GONE = _stop(
    "ledger_gone",
    None,
    "账本文件已丢失",
    "the ledger is gone",
    do=(
        "检查数据盘; 找回文件, 或 etcgw ledger restore 备份文件, 再 etcgw ledger adopt",
        "check its disk; bring it back, or etcgw ledger restore BACKUP, then etcgw ledger adopt",
    ),
)
LEDGER_EXISTS = _refusal(
    "ledger_exists",
    None,
    "已有账本或其标记,不得新建",
    "there is a ledger, or the mark of one; no new one is made",
    do=(
        "账本丢失或陈旧时用 etcgw ledger restore 或 etcgw ledger adopt",
        "for a lost or older ledger: etcgw ledger restore, or etcgw ledger adopt",
    ),
)
LEDGER_BEHIND = _stop("ledger_behind", None, "账本比标记陈旧", "the ledger is older than its mark", do=_ADOPT)
LEDGER_OTHER = _stop(
    "ledger_other", None, "账本与标记不属于同一世代", "the ledger is not the one of its mark", do=_ADOPT
)
LEDGER_REWRITTEN = _stop(
    "ledger_rewritten", None, "账本内容与标记不符", "the ledger's journal is not the one its mark knows", do=_ADOPT
)
LEDGER_RESTORED = _stop(
    "ledger_restored", None, "账本由备份恢复,尚未认可", "the ledger is a restored backup, not adopted yet", do=_ADOPT
)
LEDGER_KNOWN = _refusal(
    "ledger_known",
    None,
    "账本无需认可",
    "the ledger is the one its mark knows; there is nothing to adopt",
    do=("直接启动网关", "start the gateway"),
)
MARK_MISSING = _stop("mark_missing", None, "账本标记文件丢失", "the ledger's mark is missing", do=_ADOPT)
MARK_UNREADABLE = _stop("mark_unreadable", None, "账本标记文件无法读取", "the ledger's mark cannot be read", do=_ADOPT)
MARK_LATE = _note(
    "mark_late",
    None,
    "账本标记未能跟上",
    "the ledger's mark cannot be written",
    do=(
        "检查标记所在磁盘; 号段用尽后停止联机扣款",
        "check the mark's disk; no bank is asked once the reserved numbers are used up",
    ),
)
SYSTEM_FAULT = _stop(
    "system_fault",
    None,
    "系统故障",
    "internal fault",
    do=("导出诊断包并联系运维", "export a diagnostic bundle and call maintenance"),
)
BANK_BACKLOG = _note(
    "bank_backlog",
    None,
    "待发银行报文积压",
    "messages to the bank have piled up",
    do=("检查银行链路,核对积压的冲正与通知", "check the bank's link; etcgw debits shows what waits"),
)
BANK_DISPUTED = _note(
    "bank_disputed",
    None,
    "银行称报文重复,首次发送的交易有争议",
    "the bank knows keys that were sent to it once",
    do=(
        "向银行查询或等待日终文件,再用 etcgw debits resolve 登记",
        "ask the bank or wait for its day file, then etcgw debits resolve",
    ),
)
RECOVERING = _stop(
    "recovering",
    None,
    "正在恢复未完成的交易",
    "unfinished transactions are being recovered",
    do=("请稍候", "wait until recovery has finished"),
)
BUSY = _refusal("busy", None, "系统繁忙", "charge point is busy", do=_RETRY_READ)
IDEMPOTENCY_CONFLICT = _attendant(
    "idempotency_conflict",
    None,
    "同一笔交易内容不一致",
    "the same claim came again with other content",
    do=("请人工核对该车交易", "compare both claims by hand"),
)
PAYER_MISMATCH = _attendant(
    "payer_mismatch",
    None,
    "付款方与预授权不一致",
    "payer is not the one the hold was placed on",
    do=("请以预授权时的付款方完成扣款", "complete it with the payer of the hold"),
)
HOLD_EXPIRED = _note("hold_expired", None, "预授权已到期释放", "hold ran out and was freed", do=_NOTHING)
NOTHING_DELIVERED = _note(
    "nothing_delivered", None, "未提供服务,预授权已释放", "nothing was delivered, the hold was freed", do=_NOTHING
)
PURSE_NEEDS_CARD = _refusal(
    "purse_needs_card",
    None,
    "储值支付必须在卡上扣款",
    "a purse pays by a purchase on its card only",
    do=("请刷卡扣款", "present the card"),
)
DEBIT_UNKNOWN = _attendant(
    "debit_unknown", None, "没有该笔扣款", "there is no such debit", do=("请核对扣款编号", "check the debit's id")
)
DEBIT_HELD = _attendant(
    "debit_held",
    None,
    "该笔扣款尚未完成",
    "the debit is still held",
    do=("请先完成或释放预授权", "complete or release the hold first"),
)
DEBIT_SETTLED = _attendant(
    "debit_settled",
    None,
    "该笔扣款已处理完毕",
    "the debit is settled already",
    do=("需要更正时请办理退款或补扣", "to put it right, refund it or charge the difference"),
)
BANK_IN_DOUBT = _attendant(
    "bank_in_doubt",
    None,
    "银行结果未明,暂不能处理",
    "the bank has yet to say what became of an attempt",
    do=("等待冲正或对账结果后再试", "try again when the reversal has closed or the day file is in"),
)
NOT_A_DEBT = _attendant(
    "not_a_debt", None, "该笔扣款不是欠费", "the debit is no debt", do=("请核对扣款状态", "look at the debit's state")
)
DEBT_WITHOUT_BANK = _attendant(
    "debt_without_bank",
    None,
    "该笔欠费没有可扣款的银行协议",
    "no bank can be asked for this debt",
    do=("请以现金收取或核销", "take it at a till, or write it off"),
)
PURCHASE_SETTLED = _attendant(
    "purchase_settled",
    None,
    "该笔扣款没有未定的卡片交易",
    "the debit has no purchase in doubt",
    do=("用 etcgw debits show 查看卡片交易", "etcgw debits show tells how its purchases ended"),
)
PURCHASE_UNDER_WAY = _attendant(
    "purchase_under_way",
    None,
    "正在与卡片交易,结果未出",
    "the card is being asked at this moment",
    do=(
        "稍后再试,或待网关重启归类后处理",
        "try again in a moment; a restart of the gateway tells what was cut off",
    ),
)
ATTEMPT_UNKNOWN = _attendant(
    "attempt_unknown",
    None,
    "该扣款没有该笔银行请求",
    "the debit has no such attempt at a bank",
    do=("用 etcgw debits show 查看请求编号", "etcgw debits show lists its attempts with their ids"),
)
ATTEMPT_SETTLED = _attendant(
    "attempt_settled",
    None,
    "该笔银行请求的结果已明确",
    "what became of the attempt is known already",
    do=("用 etcgw debits history 查看经过", "etcgw debits history tells how"),
)
MANDATE_UNKNOWN = _attendant(
    "mandate_unknown",
    None,
    "没有该签约",
    "there is no such mandate",
    do=("用 etcgw mandates list 查看签约", "etcgw mandates list lists them"),
)
REFUND_ABOVE_COLLECTED = _attendant(
    "refund_above_collected",
    None,
    "退款超过已收金额",
    "the refund is above what was collected and not refunded yet",
    do=("请核对已收和已退金额", "compare what was collected and what was refunded"),
)
REFUND_UNKNOWN = _attendant(
    "refund_unknown", None, "没有该笔退款", "there is no such refund", do=("请核对退款编号", "check the refund's id")
)
REFUND_TARGET_WRONG = _attendant(
    "refund_target_wrong",
    None,
    "退款须原路退回或在柜台支付",
    "money goes back the way it came, or over a till",
    do=("请按原渠道退款或改为柜台支付", "refund it the way it was paid, or at a till"),
)
REFUND_PAID_BEFORE = _attendant("refund_paid_before", None, "该笔退款已支付", "the refund was paid before", do=_NOTHING)
LATE_PASSAGE = _note(
    "late_passage",
    122,
    "处理超过时限",
    "decision took longer than allowed",
    do=("查看耗时明细", "look at where the time went"),
)
QUEUE_OUT_OF_STEP = _attendant(
    "queue_out_of_step",
    161,
    "车辆队列异常",
    "vehicle queue is out of step",
    do=("按线圈重新核对车辆队列", "match the queue with the loops again"),
)
VEHICLE_FOLLOWED = _attendant(
    "vehicle_followed",
    121,
    "跟车通过",
    "vehicle followed another one through",
    do=("留存图像,按追缴处理", "keep the pictures; treat as unpaid"),
)
RUN_THROUGH = _attendant(
    "run_through",
    117,
    "闯关",
    "vehicle ran through without permission",
    do=("留存图像,不得对后车标签扣款", "keep the pictures; do not charge the tag of the next car"),
)
STAY_TOO_LONG = _attendant(
    "stay_too_long",
    119,
    "车辆滞留过长",
    "vehicle stands in the lane too long",
    do=("前往协助,保持队列", "offer help; keep the queue"),
)
BARRIER_HIT = _attendant(
    "barrier_hit", 120, "栏杆砸车", "barrier hit the vehicle", do=("保护现场并报告", "secure the place and report")
)
BARRIER_FAULT = _attendant(
    "barrier_fault",
    None,
    "栏杆未按指令动作",
    "barrier did not obey",
    do=("已付费,人工抬杆放行", "paid: open by hand and let the vehicle go"),
)
ATTENDANT_REFUSED = _refusal("attendant_refused", None, "工作人员拒绝放行", "attendant refused", do=_OTHER_MEANS)

# --- doors ----------------------------------------------------------------------------------------------------------

HTTP_UNAVAILABLE = _stop(
    "http_unavailable",
    None,
    "网关不接受外部连接",
    "the gateway takes no calls from outside",
    do=("检查 [http] 的地址、端口与证书", "check address, port and certificate of [http]"),
)

# --- fuel -----------------------------------------------------------------------------------------------------------

PUMP_UNAVAILABLE = _stop("pump_unavailable", None, "加油机不可用", "pump is not available", do=_CALL_MAINTENANCE)
PUMP_VEHICLE_UNCLEAR = _attendant(
    "pump_vehicle_unclear",
    None,
    "无法确定加油车辆",
    "it is not clear which vehicle stands at the pump",
    do=("请司机确认车牌", "ask the driver to confirm the plate"),
)
PUMP_GRADE_REFUSED = _refusal(
    "pump_grade_refused",
    None,
    "油品不允许",
    "fuel grade is not allowed for this payer",
    do=("请选择允许的油品", "choose an allowed grade"),
)
FUEL_DAY_USED_UP = _refusal(
    "fuel_day_used_up",
    None,
    "车队当日加油金额或升数已用完",
    "the fleet's fuel of this day is used up, in money or in litres",
    do=_OTHER_MEANS,
)
FUEL_MONTH_USED_UP = _refusal(
    "fuel_month_used_up",
    None,
    "车队当月加油金额或升数已用完",
    "the fleet's fuel of this month is used up, in money or in litres",
    do=_OTHER_MEANS,
)
FUEL_TOO_LITTLE_LEFT = _refusal(
    "fuel_too_little_left",
    None,
    "剩余加油额度不足最小一笔",
    "what the limits leave is less than the smallest sale",
    do=_OTHER_MEANS,
)
FUEL_PRICE_UNKNOWN = _refusal(
    "fuel_price_unknown",
    None,
    "油品单价未知,无法控制升数额度",
    "unit price of the nozzle is not known, so a limit in litres cannot be kept",
    do=("请用其他支付方式,并核对加油机单价", "pay by another means, and look at the prices of the pump"),
)
PUMP_EARLIER_OPEN = _attendant(
    "pump_earlier_open",
    None,
    "上一笔加油未结清",
    "an earlier filling is not settled",
    do=("先补结上一笔交易", "settle the earlier filling first"),
)
PUMP_OVERRUN = _note(
    "pump_overrun",
    None,
    "加油金额超过预授权",
    "more was delivered than was held",
    do=("超出部分另行入账", "the excess is booked apart"),
)
NOZZLE_RETURNED = _note(
    "nozzle_returned", None, "油枪已放回,预授权已释放", "nozzle was put back, the hold was freed", do=_NOTHING
)
PUMP_REFUSED = _refusal(
    "pump_refused",
    None,
    "加油机拒绝授权",
    "pump did not take the authorisation",
    do=("请挂枪后重新提枪", "hang the nozzle up and lift it again"),
)
PURSE_CARD_LEFT = _attendant(
    "purse_card_left",
    None,
    "加油完成时储值卡已不在天线范围内,未能扣款",
    "the stored-value card had left before it could pay for what was delivered",
    do=("按欠费追缴", "collect it as a debt of the card"),
)
PUMP_PRICE_DIFFERS = _attendant(
    "pump_price_differs",
    None,
    "加油机单价与油站单价不符",
    "price of the pump is not the station's",
    do=("请挂枪,系统将重新下发单价", "hang the nozzle up: the price is set again"),
)
PUMP_VEHICLE_NOT_SEEN = _refusal(
    "pump_vehicle_not_seen",
    None,
    "天线未读到该车辆,或该车正在加油",
    "the antenna does not see this vehicle, or it is filling up already",
    do=("核对车牌与颜色,或改为现金加油", "compare plate and colour, or let it pay at the till"),
)
PUMP_SIDE_UNKNOWN = _note(
    "pump_side_unknown",
    None,
    "该加油岛没有此加油位",
    "the island has no such side",
    do=("核对加油位编号", "look at its number"),
)
PUMP_ORDER_WAITS = _note(
    "pump_order_waits",
    None,
    "该加油位已有未使用的授权",
    "an order for this side waits already",
    do=("提枪使用,或等待其失效", "lift the nozzle, or wait until it lapses"),
)
PUMP_ORDER_LAPSED = _note(
    "pump_order_lapsed",
    None,
    "授权未在有效时间内使用",
    "nobody lifted the nozzle in time",
    do=("如仍需加油,请重新授权", "order it again if it is still wanted"),
)
PUMP_SILENT_ON_SALE = _attendant(
    "pump_silent_on_sale",
    None,
    "加油机未报告交易或累计数",
    "pump does not say what it delivered",
    do=("请核对加油机显示与泵码", "compare display and totaliser of the pump"),
)
PUMP_TOTALS_MISSING = _attendant(
    "pump_totals_missing",
    None,
    "加油期间通信中断且无泵码可核对",
    "contact was lost while fuel flowed, and no totaliser proves the delivery",
    do=("请核对加油机显示与泵码", "compare display and totaliser of the pump"),
)
PUMP_TOTALS_DIFFER = _attendant(
    "pump_totals_differ",
    None,
    "泵码与交易量不符",
    "totaliser and delivery do not agree",
    do=("请核对加油机显示与泵码", "compare display and totaliser of the pump"),
)
PUMP_AMOUNT_DIFFERS = _attendant(
    "pump_amount_differs",
    None,
    "加油机金额与油量乘单价不符",
    "amount of the pump is not volume times price",
    do=("请停用该枪并核对单价", "take the nozzle out of use and check its price"),
)
SALE_UNKNOWN = _note(
    "sale_unknown",
    None,
    "账本中没有该加油交易",
    "ledger has no such sale",
    do=("核对交易编号", "compare the sale's id"),
)
SALE_SETTLED = _note(
    "sale_settled",
    None,
    "该加油交易无需人工处理",
    "this sale needs nobody's word",
    do=("用 etcgw sales show 查看现状", "etcgw sales show tells where it stands"),
)
FUEL_UNEXPLAINED = _attendant(
    "fuel_unexplained",
    None,
    "发现未经本系统授权的加油",
    "fuel was delivered that no sale of ours explains",
    do=("请核对现金或手工交易", "look for a sale paid at the till"),
)

# --- parking --------------------------------------------------------------------------------------------------------

NO_STAY = _attendant(
    "no_stay",
    129,
    "无入场记录",
    "no record of the entry",
    do=("按车牌与图像查找入场记录", "look for the entry by plate and picture"),
)
STAY_OPEN = _attendant(
    "stay_open",
    None,
    "该车已在场内",
    "vehicle is already inside",
    do=("核对是否漏记出场或套牌", "a missed exit or a cloned plate is possible"),
)
STAY_FREE = _note("stay_free", None, "免费时段内离场", "left within the free time", do=_NOTHING)
CAR_PARK_FULL = _refusal(
    "car_park_full", None, "车位已满", "car park is full", do=("请等待空位", "wait for a free space")
)

# --- counter --------------------------------------------------------------------------------------------------------

READER_UNAVAILABLE = _stop(
    "reader_unavailable",
    None,
    "读卡器不可用",
    "card reader is not available",
    do=("检查读卡器连接与权限", "check the reader's cable and access rights"),
)
CARD_REMOVED = _refusal(
    "card_removed",
    None,
    "卡片过早移开",
    "card was taken away too early",
    do=("请将卡片放回直至提示完成", "put the card back and leave it until told"),
)
CODE_UNREADABLE = _refusal(
    "code_unreadable",
    None,
    "付款码无法识别",
    "pay-code could not be read",
    do=("请刷新付款码后重试", "refresh the code and try again"),
)
CODE_UNSUPPORTED = _refusal(
    "code_unsupported", None, "不支持该付款码", "pay-code of this kind is not accepted", do=_OTHER_MEANS
)
CODE_USED = _refusal(
    "code_used",
    None,
    "付款码已使用或已失效",
    "pay-code was used before or has run out",
    do=("请刷新付款码后重试", "refresh the code and try again"),
)

# --- clearing -------------------------------------------------------------------------------------------------------

_ASK_BANK = ("向银行索取正确的对账文件", "ask the bank for the right file")

BANK_FILE_MALFORMED = _refusal(
    "bank_file_malformed", None, "对账文件格式有误", "bank's day file is not well formed", do=_ASK_BANK
)
BANK_FILE_OTHER_DAY = _refusal(
    "bank_file_other_day", None, "对账文件属于其他清算日", "bank's day file is of another day", do=_ASK_BANK
)
BANK_FILE_OTHER_TERMINAL = _refusal(
    "bank_file_other_terminal",
    None,
    "对账文件含非本站终端",
    "bank's day file names a terminal that is not ours",
    do=(
        "核对文件是否属于本站,或在车道配置中补充终端",
        "check that the file is meant for this site, or add the terminal",
    ),
)
BANK_FILE_KNOWN = _refusal(
    "bank_file_known",
    None,
    "该对账文件已导入",
    "this very day file was read before",
    do=("不带文件重新执行清算即可", "run the clearing again without the file"),
)
BANK_FILE_SECOND = _refusal(
    "bank_file_second",
    None,
    "该清算日已有对账文件",
    "bank's day file of this day was read before",
    do=("如为补充文件,请加 --supplement", "if it adds to the first one, give it with --supplement"),
)
CLEARING_DAY_OPEN = _refusal(
    "clearing_day_open",
    None,
    "清算日尚未结束",
    "the day is not over yet",
    do=("待该日结束后再执行清算", "run the clearing when the day is over"),
)
NOT_YOUR_ROLE = _refusal(
    "not_your_role",
    None,
    "当前账号无权执行该操作",
    "this account may not do that",
    do=(
        "请由具备该角色的账号操作; 角色与用户组见配置 [people.roles]",
        "let an account with that role do it; [people.roles] of the site file says which groups have it",
    ),
)
ITEM_UNKNOWN = _refusal(
    "item_unknown",
    None,
    "没有该差错记录",
    "there is no such item",
    do=("用 etcgw clearing items 查看差错记录", "etcgw clearing items lists them"),
)
ITEM_CLOSED = _refusal("item_closed", None, "该差错记录已结案", "the item is closed already", do=_NOTHING)
ITEM_NEEDS_SECOND = _refusal(
    "item_needs_second",
    None,
    "须由两名不同人员确认",
    "this needs two different people",
    do=("请由另一账号再次执行同一操作", "let somebody else give the same command, from an account of their own"),
)
ITEM_NOT_A_LOSS = _refusal(
    "item_not_a_loss",
    None,
    "该类差错不能核销",
    "an item of this kind cannot be written off",
    do=("请说明原因,或待其自行更正", "explain it, or wait until it is corrected"),
)
