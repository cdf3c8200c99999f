"""Names of the pump dialects that a site file can give, apart from their tables: to check a name needs none of them."""

from __future__ import annotations

from typing import Final

DART: Final = "dart"
TWO_WIRE: Final = "two-wire"
LANFENG: Final = "lanfeng"

DIALECT_NAMES: Final = frozenset({DART, TWO_WIRE, LANFENG})
