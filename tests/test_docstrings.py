"""Docstrings begin with a noun of the field or a verb: one that begins with a question leaves the reader with it."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RIDDLE = re.compile(
    r"\s*(What|How|Whether|Where|Who|Whoever|Why|Whatever|As|It|They|That|When|Which|Everything|Everybody)\b"
)


def docstrings(path: Path) -> list[tuple[int, str]]:
    """Line and text of every bare string: of modules, classes, functions, constants and attributes."""
    found = (node.value for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Expr))
    constants = (value for value in found if isinstance(value, ast.Constant) and isinstance(value.value, str))
    return [(value.lineno, value.value) for value in constants]


def test_no_docstring_begins_with_a_question():
    riddles = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in ("protocols", "drivers", "gateway", "hardware")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in docstrings(path)
        if RIDDLE.match(text)
    ]
    assert riddles == []
