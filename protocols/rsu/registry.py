"""The dialects a site file can name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from protocols.errors import LocalProtocolError
from protocols.rsu.dialect import Dialect
from protocols.rsu.dialect_bj import LEGACY_SERIAL_BJ, LEGACY_SINGLE_FF
from protocols.rsu.dialect_v3 import PCRSU_V3

DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        PCRSU_V3.name: PCRSU_V3,
        LEGACY_SERIAL_BJ.name: LEGACY_SERIAL_BJ,
        LEGACY_SINGLE_FF.name: LEGACY_SINGLE_FF,
    }
)


def dialect_named(name: str) -> Dialect:
    """The dialect called `name`; LocalProtocolError lists the known names."""
    try:
        return DIALECTS[name]
    except KeyError as error:
        known = ", ".join(sorted(DIALECTS))
        raise LocalProtocolError(f"no dialect {name!r}", field="dialect", hint=f"known are: {known}") from error
