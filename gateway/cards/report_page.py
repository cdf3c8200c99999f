"""Report of a batch of cards as one page of HTML that needs nothing else: counts, a chart of the defects, every card.

It is read on a screen and printed on A4. What a card says is escaped: it is text, never markup.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from types import MappingProxyType
from typing import Final

from gateway.cards.batch import Result, Tested
from gateway.cards.compare import Golden
from gateway.model.reasons import REASONS
from gateway.texts.catalogue import Language, Pair, Text, Words

STYLE: Final = """
:root { --line: #d9dde3; --quiet: #5b6573; --good: #1b7f4b; --bad: #b3261e; --again: #8a6100; }
* { box-sizing: border-box; }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1.25rem; color: #17202b; background: #fff;
  font: 15px/1.5 system-ui, "Noto Sans", "Noto Sans CJK SC", "Microsoft YaHei", sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .5rem 0 1.5rem; }
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
.counts { display: flex; flex-wrap: wrap; gap: .75rem; }
.counts div { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem 1rem; min-width: 8rem; }
.counts b { display: block; font-size: 1.7rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
th { color: var(--quiet); font-weight: 600; white-space: nowrap; }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap; }
.accepted { color: var(--good); } .rejected { color: var(--bad); } .try_again { color: var(--again); }
td.result { font-weight: 600; white-space: nowrap; }
svg { max-width: 100%; height: auto; display: block; }
svg text { font: 14px system-ui, "Noto Sans", "Noto Sans CJK SC", "Microsoft YaHei", sans-serif; fill: #17202b; }
@page { size: A4; margin: 14mm; }
@media print { body { margin: 0; max-width: none; padding: 0; font-size: 11px; } thead { display: table-header-group; }
  tr, .counts div, svg { break-inside: avoid; } .counts b { font-size: 1.2rem; } }
"""

ROW_PX, LABEL_PX, BAR_PX, WIDTH_PX = 26, 330, 420, 820
"""Measures of the chart: height of a row, room for a name, longest bar, the whole."""

RESULTS: Final = MappingProxyType(
    {
        Result.ACCEPTED: Words("card-page.accepted"),
        Result.REJECTED: Words("card-page.rejected"),
        Result.TRY_AGAIN: Words("card-page.try-again"),
    }
)

HEADINGS: Final = (
    Words("card-page.no"),
    Words("label.time"),
    Words("card-page.result"),
    Words("card-page.number"),
    Words("label.plate"),
    Words("card-page.why"),
)

DEFECTS: Final = MappingProxyType(
    {
        "dates": Words("card-page.defect.dates"),
        "plates_differ": Words("card-batch.plates-differ"),
        "keys": Words("card-page.defect.keys"),
        "not_fresh": Words("card-page.defect.not-fresh"),
        "balance": Words("card-page.defect.balance"),
        "entry": Words("card-batch.entry"),
        "double": Words("card-page.defect.double"),
        "silent": Words("card-batch.silent"),
    }
)


def defect_text(code: str) -> Text:
    """Name of a kind of defect."""
    known = DEFECTS.get(code)
    if known is not None:
        return known
    reason = REASONS.get(code)
    if reason is not None:
        return Pair(reason.en, reason.zh)
    return Words("card-page.defect.differs", place=code.removeprefix("differs:"))


def page(tested: Sequence[Tested], golden: Golden, language: Language) -> str:
    """HTML of a batch."""

    def say(text: Text) -> str:
        return escape(text.told(language))

    counts = Counter(one.result for one in tested)
    defects = Counter(code for one in tested if one.result is Result.REJECTED for code in one.defects)
    title = say(Words("card-page.title"))
    first, last = (tested[0].time, tested[-1].time) if tested else ("-", "-")
    facts = [
        (Words("card-page.golden"), escape(golden.name)),
        (Words("label.digest"), f"<code>{escape(golden.digest)}</code>"),
        (Words("card-page.period"), f"{escape(first)} &ndash; {escape(last)}"),
    ]
    parts = [
        "<!doctype html>",
        f'<html lang="{"zh-CN" if language is Language.ZH else "en"}"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{STYLE}</style></head><body>",
        f"<h1>{title}</h1><dl>",
        *(f"<dt>{say(name)}</dt><dd>{value}</dd>" for name, value in facts),
        '</dl><div class="counts">',
        f"<div><b>{counts[Result.ACCEPTED] + counts[Result.REJECTED]}</b>{say(Words('card-page.tested'))}</div>",
        *(f'<div class="{one.value}"><b>{counts[one]}</b>{say(text)}</div>' for one, text in RESULTS.items()),
        "</div>",
        *(_chart(defects, language) if defects else ()),
        f"<h2>{say(Words('card-page.cards'))}</h2>",
        *_table(tested, language),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _chart(defects: Counter[str], language: Language) -> Iterable[str]:
    """Bars of the defects, most frequent first."""
    most = max(defects.values())
    height = ROW_PX * len(defects)
    title = escape(Words("card-page.defects").told(language))
    yield f"<h2>{title}</h2>"
    size = f'viewBox="0 0 {WIDTH_PX} {height}" width="{WIDTH_PX}" height="{height}"'
    yield f'<svg {size} role="img" aria-label="{title}">'
    for row, (code, count) in enumerate(defects.most_common()):
        y, width = row * ROW_PX, max(2, BAR_PX * count // most)
        name = escape(defect_text(code).told(language))
        yield f'<text x="{LABEL_PX - 10}" y="{y + 18}" text-anchor="end">{name}</text>'
        yield f'<rect x="{LABEL_PX}" y="{y + 5}" width="{width}" height="{ROW_PX - 9}" rx="3" fill="#b3261e"/>'
        yield f'<text x="{LABEL_PX + width + 8}" y="{y + 18}">{count}</text>'
    yield "</svg>"


def _table(tested: Sequence[Tested], language: Language) -> Iterable[str]:
    cells = "".join(f"<th>{escape(text.told(language))}</th>" for text in HEADINGS)
    yield f"<table><thead><tr>{cells}</tr></thead><tbody>"
    for one in tested:
        result = escape(RESULTS[one.result].told(language))
        time = escape(one.time.partition("+")[0].replace("T", " "))
        yield (
            f'<tr><td class="n">{one.no}</td><td class="n">{time}</td>'
            f'<td class="result {one.result.value}">{result}</td><td class="n">{escape(one.number)}</td>'
            f'<td class="n">{escape(one.plate)}</td><td>{escape(one.text)}</td></tr>'
        )
    yield "</tbody></table>"
