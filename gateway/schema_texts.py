"""Texts for what a schema finds wrong with a value, by the name that pydantic gives it, in both languages.

Its own texts are English, speak of Python, and change with its version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from pydantic_core import ErrorDetails

_WHOLE: Final = ("is no whole number", "不是整数")
_NUMBER: Final = ("is no number", "不是数字")
_TIME: Final = ("is no date with time", "不是日期时间")
_LIST: Final = ("is no list", "不是列表")
_TABLE: Final = ("is no table", "不是表")
_OTHER: Final = ("does not fit", "不符合要求")

TEXTS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "bool_parsing": ("is neither true nor false", "不是 true 或 false"),
        "bool_type": ("is neither true nor false", "不是 true 或 false"),
        "datetime_from_date_parsing": _TIME,
        "datetime_object_invalid": _TIME,
        "datetime_parsing": _TIME,
        "datetime_type": _TIME,
        "dict_type": _TABLE,
        "enum": ("is not one of {expected}", "不是以下之一: {expected}"),
        "finite_number": ("is no number with an end", "不是有限数"),
        "float_parsing": _NUMBER,
        "float_type": _NUMBER,
        "greater_than": ("is not above {gt}", "须大于 {gt}"),
        "greater_than_equal": ("is below {ge}", "不得小于 {ge}"),
        "int_from_float": _WHOLE,
        "int_parsing": _WHOLE,
        "int_parsing_size": ("is too large a number", "数字过大"),
        "int_type": _WHOLE,
        "less_than": ("is not below {lt}", "须小于 {lt}"),
        "less_than_equal": ("is above {le}", "不得大于 {le}"),
        "list_type": _LIST,
        "literal_error": ("is not one of {expected}", "不是以下之一: {expected}"),
        "model_attributes_type": _TABLE,
        "model_type": _TABLE,
        "path_type": ("is no path", "不是路径"),
        "string_pattern_mismatch": ("is not written as it must be: {pattern}", "格式不符: {pattern}"),
        "string_too_long": ("has more than {max_length} characters", "超过 {max_length} 个字符"),
        "string_too_short": ("has fewer than {min_length} characters", "少于 {min_length} 个字符"),
        "string_type": ("is no text", "不是文本"),
        "string_unicode": ("is no text", "不是文本"),
        "timezone_aware": ("has no time zone", "缺少时区"),
        "too_long": ("has {actual_length} entries, at most {max_length}", "有 {actual_length} 项,最多 {max_length} 项"),
        "too_short": (
            "has {actual_length} entries, at least {min_length}",
            "有 {actual_length} 项,至少 {min_length} 项",
        ),
        "tuple_type": _LIST,
        "value_error": ("{error}", "不符合要求: {error}"),
    }
)
"""Texts about the value; `{...}` is what the finding knows. Those about a key that is missing, unknown or chooses a
kind stand where the key is named."""


def text_of(found: ErrorDetails) -> tuple[str, str]:
    """Text about the value of a finding, English and Chinese."""
    known: dict[str, Any] = dict(found.get("ctx", {}))
    if "expected" in known:
        known["expected"] = ", ".join(re.split(" or |, ", known["expected"])).replace("'", "")
    english, chinese = TEXTS.get(found["type"], _OTHER)
    return english.format_map(known), chinese.format_map(known)
