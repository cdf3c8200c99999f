"""Special-event numbers of the national toll network: the outward code of a passage that was not plain.

1 to 130 are national; from 141 on provinces number for themselves, so a site may replace those. Confidence: 1-60 seen
in several independent sources, 61-130 and the provincial examples in one source. Programs differ on a few numbers
(68 and 166 for an absurd amount, 59 and 66 for an impossible route), which is why this is a table and not an enum.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

NATIONAL_MAX: Final = 130
PROVINCIAL_MIN: Final = 141
PROVINCIAL_MAX: Final = 226

SPECIAL_EVENTS: Final[Mapping[int, tuple[str, str]]] = MappingProxyType(
    {
        # tag
        1: ("OBU电量低", "tag battery low"),
        2: ("OBU拆卸", "tag removed from its mount"),
        3: ("OBU过期", "tag expired"),
        4: ("OBU未启用", "tag not yet valid"),
        5: ("OBU无卡", "no card in the tag"),
        6: ("OBU在状态名单", "tag on the status list"),
        7: ("OBU已锁", "tag locked"),
        8: ("OBU发行方无效", "tag issuer not valid"),
        9: ("OBU车型不合法", "vehicle class on the tag not legal"),
        10: ("EF04前缀异常", "EF04 prefix odd"),
        11: ("签内无卡次数大于零", "no-card count above zero"),
        12: ("OBU入口无效", "entry on the tag not valid"),
        13: ("通行省份个数为零", "number of provinces passed is zero"),
        14: ("累计应收金额过大", "accumulated amount too big"),
        15: ("累计应收金额过小", "accumulated amount too small"),
        16: ("本省实收累计异常", "own-province total odd"),
        17: ("无本省入口编码", "no entry code of this province"),
        18: ("累计里程异常", "accumulated distance odd"),
        # card
        21: ("卡过期", "card expired"),
        22: ("卡未启用", "card not yet valid"),
        23: ("卡已锁", "card locked"),
        24: ("卡在状态名单", "card on the status list"),
        25: ("卡发行方无效", "card issuer not valid"),
        26: ("卡入口无效", "entry on the card not valid"),
        27: ("储值卡余额不足", "stored value too low"),
        28: ("卡余额为零", "stored value is zero"),
        29: ("卡累计金额过大", "accumulated amount on the card too big"),
        30: ("卡累计金额过小", "accumulated amount on the card too small"),
        31: ("卡类型非法", "card type not legal"),
        32: ("卡车辆状态标识非法", "vehicle state mark on the card not legal"),
        33: ("CPC卡电量低", "CPC card battery low"),
        35: ("CPC卡损坏", "CPC card damaged"),
        36: ("CPC卡丢失", "CPC card missing"),
        37: ("CPC卡入口站错误", "entry station on the CPC card wrong"),
        # card against tag
        41: ("卡签车牌(含颜色)不符", "plate or colour differ between card and tag"),
        42: ("卡签车型不符", "vehicle class differs between card and tag"),
        43: ("卡签发行方不符", "issuer differs between card and tag"),
        44: ("EF04卡片信息不一致", "card data in EF04 differ"),
        45: ("卡签入口信息不一致", "entry differs between card and tag"),
        46: ("上个门架不一致", "last gantry differs"),
        47: ("卡签车种不一致", "user type differs between card and tag"),
        # entry against exit
        51: ("出入口车型不符", "vehicle class differs between entry and exit"),
        52: ("出入口车牌不符", "plate differs between entry and exit"),
        53: ("货车状态标识不符", "goods vehicle mark differs between entry and exit"),
        54: ("入口时间异常", "entry time impossible"),
        55: ("流通状态有误", "in/out state wrong"),
        56: ("入口无卡或读卡出错或余额为零", "no card, read fault or zero balance at entry"),
        57: ("门架代写入口", "entry written by a gantry"),
        58: ("行驶超时", "trip took too long"),
        59: ("路径不可达", "route impossible"),
        60: ("轴数不一致", "number of axles differs"),
        # fee
        61: ("计费模块初始化失败", "fee module did not start"),
        62: ("计费模块版本失败", "fee module version fault"),
        63: ("查询费率失败", "rate not found"),
        64: ("查询费率超时", "rate query timed out"),
        65: ("计费服务失败", "fee service failed"),
        66: ("路径不可达", "route impossible (fee service)"),
        67: ("拟合门架过多", "too many gantries fitted"),
        68: ("计费金额异常", "amount impossible"),
        # antenna
        71: ("无DSRC返回", "no DSRC reply"),
        72: ("读车辆信息失败", "vehicle data not readable"),
        73: ("解密失败", "vehicle data not decrypted"),
        74: ("读卡失败", "card not readable"),
        75: ("消费初始化失败", "purchase initialisation failed"),
        76: ("更新记录缓存失败", "record cache update failed"),
        77: ("复合消费失败", "composite purchase failed"),
        78: ("取TAC失败", "TAC not obtained"),
        79: ("读EF04失败", "EF04 not readable"),
        80: ("写EF04失败", "EF04 not written"),
        81: ("单片式OBU认证失败", "one-piece tag: authentication failed"),
        82: ("单片式OBU读车辆信息失败", "one-piece tag: vehicle data not readable"),
        83: ("单片式OBU读出入口信息失败", "one-piece tag: entry/exit file not readable"),
        84: ("单片式OBU写失败", "one-piece tag: write failed"),
        85: ("单片式OBU MAC失败", "one-piece tag: MAC failed"),
        86: ("MAC1无效", "MAC1 not valid"),
        87: ("MAC2无效", "MAC2 not valid"),
        88: ("天线复位失败", "antenna reset failed"),
        89: ("未读到各省累计", "province totals not read"),
        # PSAM
        91: ("PSAM在黑名单", "PSAM on the status list"),
        92: ("PSAM已锁", "PSAM locked"),
        93: ("PSAM复位异常", "PSAM reset fault"),
        94: ("PSAM授权服务异常", "PSAM authorisation service fault"),
        95: ("PSAM签到异常", "PSAM sign-in fault"),
        96: ("PSAM操作异常", "PSAM operation fault"),
        97: ("PSAM未授权", "PSAM not authorised"),
        # lane
        101: ("交易流程不完整", "transaction sequence incomplete"),
        102: ("车道参数有误", "lane parameters wrong"),
        103: ("车道对时有误", "lane clock wrong"),
        104: ("名单版本有误", "list version wrong"),
        # passage
        111: ("U型车", "vehicle left where it entered"),
        113: ("门架码不合法", "gantry code not legal"),
        114: ("反向车辆", "vehicle in the wrong direction"),
        115: ("邻道干扰", "tag of the adjacent lane"),
        116: ("节假日免费", "free on a holiday"),
        117: ("闯关", "ran through"),
        118: ("追缴黑名单", "debt recovery, black list"),
        119: ("滞留过长", "stayed too long"),
        120: ("砸车", "barrier hit the vehicle"),
        121: ("跟车逃费", "followed another vehicle through"),
        122: ("交易未完成(超时)", "transaction not completed"),
        123: ("无标签", "no tag"),
        124: ("一车多标", "several tags in one vehicle"),
        125: ("入出口超时", "too long between entry and exit"),
        127: ("追缴灰名单", "debt recovery, grey list"),
        129: ("无入口信息", "no entry data"),
        # provincial examples
        141: ("同站重复交易", "charged again at the same station"),
        161: ("队列异常", "vehicle queue out of step"),
        165: ("五分钟内已交易", "charged less than five minutes ago"),
        166: ("金额异常", "amount impossible"),
        173: ("车牌识别与卡内不一致", "plate by camera differs from the card"),
        200: ("倒车(秤台)", "reversed off the scale"),
        201: ("倒车(线圈)", "reversed off the loop"),
        202: ("换道", "changed lane"),
        203: ("未检测到OBU", "tag not detected"),
        220: ("闯关", "ran through"),
        221: ("闯关", "ran through"),
        222: ("闯关", "ran through"),
        223: ("闯关", "ran through"),
        224: ("闯关", "ran through"),
        225: ("闯关", "ran through"),
        226: ("闯关", "ran through"),
    }
)
"""Number -> (zh, en). 220 to 226 tell causes of a run-through apart; the causes are not in our sources."""
