"""Names of the dialects that a site file can give, apart from their tables: to check a name needs none of them."""

from __future__ import annotations

from typing import Final

PCRSU_V3: Final = "pcrsu-v3"
LEGACY_SERIAL_BJ: Final = "legacy-serial-bj"
LEGACY_SINGLE_FF: Final = "legacy-single-ff"

DIALECT_NAMES: Final = frozenset({PCRSU_V3, LEGACY_SERIAL_BJ, LEGACY_SINGLE_FF})
