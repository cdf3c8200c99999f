"""Every wrong value that TOML can hold, at every key of every document: told in our own words, at a key of the file."""

import copy
import datetime
import re
import tomllib

import pytest
from pydantic import ValidationError

from gateway.clearing.rules import ClearingRules
from gateway.config import SiteFile
from gateway.documents import problem_of
from gateway.rules.loading import SHIPPED
from gateway.rules.schema import Document
from gateway.texts import catalogue
from gateway.texts.catalogue import Language
from tests.gateway.cli.conftest import SITE

WRONG = (
    *("", "x" * 200, "§", "5", "2026-13-45", "99:99"),
    *(True, False, -1, 0, 10**30, 1.5, -1e9, float("nan"), float("inf")),
    *([], ["x"], [1] * 300, {}, {"x": 1}, {"§": {}}),
    datetime.datetime(2026, 1, 1),  # noqa: DTZ001 - a TOML file may hold one
    datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    datetime.date(2026, 1, 1),
    datetime.time(1, 2),
)
FULL_SITE = """
[storage]
mark = "m"
held_ms_max = 5.0
retired_chain_keys = ["x"]
[people.roles]
cashier = ["x"]
[rules]
file = "x"
[clearing]
rules = "x"
[bench]
clock = 1970-01-01T00:00:00Z
"""
CLEARING = """
version = "1"
own_account = "main"
[fees.bank-1]
basis_points = 3
rounding = "half_up"
per = "line"
borne_by = "operator"
[splits.lane-1]
road = 1
[shifts]
starts = ["00:00"]
[day_files.bank-1]
encoding = "gb18030"
delimiter = ","
header = true
amounts = "fen"
days = "MMDD"
cut_over = "23:00"
total = "none"
[day_files.bank-1.columns]
kind = "k"
count = "c"
[day_files.bank-1.kinds]
S = "sale"
"""
DOCUMENTS = {
    SiteFile: SITE + FULL_SITE,
    ClearingRules: CLEARING,
    Document: SHIPPED.read_text(encoding="utf-8"),
}
ELSEWHERE = {"missing", "extra_forbidden", "union_tag_invalid", "union_tag_not_found"}
"""Findings about the key, told by `problem_of` itself."""


def places(value, path=()):
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def findings(model, text):
    """Every finding about every wrong value at every place of a good document."""
    good = tomllib.loads(text)
    model.model_validate(good)
    for path in list(places(good)):
        for wrong in WRONG:
            document = copy.deepcopy(good)
            table = document
            for key in path[:-1]:
                table = table[key]
            table[path[-1]] = wrong
            try:
                model.model_validate(document)
            except ValidationError as error:
                yield from ((path, found) for found in error.errors())


@pytest.mark.parametrize("model", DOCUMENTS, ids=lambda model: model.__name__)
def test_every_finding_is_told_in_our_own_words_and_in_both_languages(model):
    told = set()
    for path, found in findings(model, DOCUMENTS[model]):
        told.add(found["type"])
        problem = problem_of(found, model)
        shown = " ".join((str(problem.problem), str(problem.cure)))
        assert catalogue.has(f"schema.{found['type']}") or found["type"] in ELSEWHERE, found
        assert found["msg"] not in shown
        assert not re.search("[Ii]nput should|Python|pydantic|LaneKind|<class", shown), shown
        assert re.search("[\u4e00-\u9fff]", problem.problem.told(Language.ZH)), problem
        assert re.search("[\u4e00-\u9fff]", problem.cure.told(Language.ZH)), problem
        # The key is the one that was changed, or one of those inside or around it; no branch of the schema is in it.
        keys = [part for part in re.split(r"[.\[\]]+", problem.key) if part]
        assert str(path[0]) == keys[0] or problem.key == "file", (path, problem.key)
        branches = {"str", "int", "toll-open", "toll-exit", "toll-entry", "key"}
        assert not branches & set(keys), problem.key
    assert len(told) > 10


def test_a_wrong_kind_of_charge_point_names_all_of_them():
    wrong = SITE.replace('kind = "toll-open"', 'kind = "exit"')
    with pytest.raises(ValidationError) as error:
        SiteFile.model_validate(tomllib.loads(wrong))
    (problem,) = (problem_of(found, SiteFile) for found in error.value.errors())
    assert problem.key == "charge_points[0].kind"
    assert str(problem.cure) == "Known are: toll-open, toll-exit, toll-entry, fuel, counter"
