"""Regions of card and OBU issuers: the two characters on every issuer id, province codes, key factors.

Table: region text and code as two or more public sources list them, except the lines marked inferred.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

REGION_BYTES: Final = 4
"""Two GBK characters at the head of an issuer id."""

ISSUER_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Region:
    """One issuer region."""

    zh: str
    en: str
    code: str
    """Two digits. A network number is this code and a sequence, usually 01, also 02, 03 or 11."""
    fictional: bool = False
    """True for the bench issuer, which no real card carries."""

    @property
    def text_bytes(self) -> bytes:
        """The four GBK bytes of the region text."""
        return self.zh.encode("gbk")

    @property
    def factor(self) -> bytes:
        """8-byte diversification factor: the region text twice.

        Verified for one vendor's test region, and by the purchases of a real day, Shanghai's among them (11 of 11), for
        which card sources give 上海公路.
        """
        return self.text_bytes * 2


BENCH: Final = Region("测试", "bench (fictional)", "99", fictional=True)
"""Issuer of the bench's cards and tags."""

REGIONS: Final = (
    Region("军车", "military vehicles", "05"),
    Region("北京", "Beijing", "11"),
    Region("天津", "Tianjin", "12"),
    Region("河北", "Hebei", "13"),
    Region("山西", "Shanxi", "14"),
    Region("内蒙", "Inner Mongolia", "15"),
    Region("辽宁", "Liaoning", "21"),
    Region("吉林", "Jilin", "22"),
    Region("龙江", "Heilongjiang", "23"),
    Region("上海", "Shanghai", "31"),
    Region("江苏", "Jiangsu", "32"),
    Region("浙江", "Zhejiang", "33"),
    Region("安徽", "Anhui", "34"),
    Region("福建", "Fujian", "35"),
    Region("江西", "Jiangxi", "36"),
    Region("山东", "Shandong", "37"),
    Region("河南", "Henan", "41"),
    Region("湖北", "Hubei", "42"),
    Region("湖南", "Hunan", "43"),
    Region("广东", "Guangdong", "44"),
    Region("广西", "Guangxi", "45"),
    Region("海南", "Hainan", "46"),  # inferred
    Region("重庆", "Chongqing", "50"),
    Region("四川", "Sichuan", "51"),
    Region("贵州", "Guizhou", "52"),
    Region("云南", "Yunnan", "53"),
    Region("西藏", "Tibet", "54"),  # inferred
    Region("陕西", "Shaanxi", "61"),
    Region("甘肃", "Gansu", "62"),
    Region("青海", "Qinghai", "63"),
    Region("宁夏", "Ningxia", "64"),
    Region("新疆", "Xinjiang", "65"),
    Region("路网", "road network centre", "99"),  # network 9901: 6 % of a real day's cards and tags
    BENCH,
)

_BY_TEXT: Final[Mapping[bytes, Region]] = MappingProxyType({region.text_bytes: region for region in REGIONS})
_BY_CODE: Final[Mapping[str, Region]] = MappingProxyType(
    {region.code: region for region in REGIONS if not region.fictional}
)


def region_of_issuer(issuer: bytes) -> Region | None:
    """Region whose text heads this issuer id (8 bytes), None when no region is known by it."""
    return _BY_TEXT.get(issuer[:REGION_BYTES])


def region_of_network(network: str) -> Region | None:
    """Region of a network number or station code by its first two digits ('9901' -> 路网)."""
    return _BY_CODE.get(network[:2])


def region_factor(issuer: bytes, network: str | None = None) -> bytes:
    """8-byte region factor of an issuer id: a known region's, else its first 4 bytes twice.

    An issuer id of zeros has no region; then `network` chooses it (RSU lane programs do the same).
    """
    known = region_of_issuer(issuer)
    if known is None and network is not None and not any(issuer[:REGION_BYTES]):
        known = region_of_network(network)
    return known.factor if known is not None else issuer[:REGION_BYTES] * 2
