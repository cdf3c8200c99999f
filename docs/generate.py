"""Generated parts of README and of the pages in this folder; `python docs/generate.py` writes them anew.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`. `tests/test_documents.py` compares each with what
its source says today.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from gateway.clearing.rules import ClearingRules
from gateway.config import SiteFile
from gateway.documents import Section, parameters
from gateway.model.reasons import REASONS, Severity
from gateway.model.states import DEBIT_MOVES
from gateway.texts.catalogue import Language

ROOT = Path(__file__).resolve().parents[1]
PAGES = (*ROOT.glob("README*.md"), *ROOT.glob("docs/*.md"))
PART = re.compile(r"(<!-- generated: ([a-z-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
CHINESE = ".zh-CN.md"
RECORDED = ("purchase-results.jsonl", "std-station-frames.jsonl")
"""Vectors recorded at a station, with plates and numbers replaced."""

GROUPS = {
    Severity.STOP: ("Stops selling", "停止收费"),
    Severity.ATTENDANT: ("To the attendant", "转人工"),
    Severity.REFUSAL: ("Refused", "拒绝"),
    Severity.NOTE: ("Noted, the vehicle goes on", "仅记录，车辆放行"),
}


def page_with_parts(page: Path) -> str:
    """Text of a page with its generated parts as they are today."""
    text = page.read_text("utf-8")
    return PART.sub(lambda found: f"{found[1]}\n{MAKERS[found[2]](page)}\n{found[4]}", text)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _chinese(page: Path) -> bool:
    return page.name.endswith(CHINESE)


def _keys(model: type[Section], page: Path) -> str:
    """Keys of a file with default and meaning."""
    language, required = (Language.ZH, "必填") if _chinese(page) else (Language.EN, "required")
    rows = [(f"`{key}`", _default(value, required), text.told(language)) for key, value, text in parameters(model)]
    return _table(("键", "默认值", "含义") if _chinese(page) else ("key", "default", "meaning"), rows)


def _default(value: str, required: str) -> str:
    """Default as a site file writes it."""
    if value == "required":
        return required
    return f"`{value}`" if value else "–"


def _reasons(page: Path) -> str:
    chinese = _chinese(page)
    titles = ("code", "meaning", "what to do", "event")
    if chinese:
        titles = ("代码", "含义", "处理", "特情号")
    parts = []
    for severity, names in GROUPS.items():
        rows = [
            (
                f"`{reason.code}`",
                reason.zh if chinese else reason.en,
                reason.next_step_zh if chinese else reason.next_step_en,
                "" if reason.special_event is None else str(reason.special_event),
            )
            for reason in REASONS.values()
            if reason.severity is severity
        ]
        parts.append(f"## {names[chinese]}\n\n{_table(titles, rows)}")
    return "\n".join(parts)


def _moves(_: Path) -> str:
    rows = [
        (f"`{before}`" if before else "(new)", ", ".join(f"`{after}`" for after in sorted(afters)) or "(end)")
        for before, afters in DEBIT_MOVES.items()
    ]
    return _table(("from", "to"), rows)


def _vectors(page: Path) -> str:
    """Vectors of each file by where they come from."""
    titles = ("vectors", "published", "recorded at a station", "constructed", "in all")
    if _chinese(page):
        titles = ("向量", "公开来源", "站点实录（已脱敏）", "自行构造", "合计")
    rows = []
    for file in sorted((ROOT / "tests" / "vectors").glob("*.jsonl")):
        origins = Counter(_origin(file.name, json.loads(line)) for line in file.read_text("utf-8").splitlines())
        counts = [origins[name] for name in ("published", "recorded", "constructed")]
        rows.append((f"`{file.stem}`", *map(str, counts), str(sum(counts))))
    return _table(titles, rows)


def _origin(file: str, vector: dict[str, str]) -> str:
    if file in RECORDED:
        return "recorded"
    origin = vector.get("origin", vector.get("evidence"))
    return "constructed" if origin in ("constructed", "computed") else "published"


MAKERS: dict[str, Callable[[Path], str]] = {
    "site-keys": partial(_keys, SiteFile),
    "clearing-keys": partial(_keys, ClearingRules),
    "reasons": _reasons,
    "debit-moves": _moves,
    "vectors": _vectors,
}


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(page_with_parts(path), "utf-8")
