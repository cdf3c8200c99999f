"""Texts for what a schema finds wrong with a value, by the name that pydantic gives it.

Its own texts are English, speak of Python, and change with its version. Ours stand in the catalogue under
`schema.<name>`, with what the finding knows as their values. Those about a key that is missing, unknown or chooses a
kind stand where the key is named.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic_core import ErrorDetails

from gateway.texts.catalogue import Text, Words, has
from gateway.texts.foreign import text_of_error


def text_of(found: ErrorDetails) -> Text:
    """Text about the value of a finding."""
    known: dict[str, Any] = dict(found.get("ctx", {}))
    if "expected" in known:
        known["expected"] = ", ".join(re.split(" or |, ", known["expected"])).replace("'", "")
    if isinstance(known.get("error"), Exception):
        known["error"] = text_of_error(known["error"])
    code = f"schema.{found['type']}"
    return Words(code if has(code) else "schema.other", **known)
