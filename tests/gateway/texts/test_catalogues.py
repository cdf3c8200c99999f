"""Every text exists in both languages with the same values, and every code leads to one and is needed."""

import ast
import inspect
import re
import string
from pathlib import Path

import pytest

from gateway.clearing.rules import ClearingRules
from gateway.config import SiteFile
from gateway.documents import models_of, parameters
from gateway.rules.schema import Document
from gateway.texts import catalogue
from gateway.texts.catalogue import Language, Pair, Words
from gateway.texts.compile import compiled, edited, source_of
from hardware.bench import texts as bench

ROOT = Path(__file__).parents[3]

FOLDERS = {"gateway": catalogue.Words.FOLDER, "hardware": bench.Words.FOLDER}
"""Folder of code -> its catalogue."""

MAKERS = {"Words", "say"}
"""Names that are called with a code."""

CODE = re.compile(r"[a-z-]+(\.[a-z0-9_-]+)+")

HAN = "[\u4e00-\u9fff]"

BY_TABLE = re.compile(r"help\.|usage\.|lists\.kind\.|schema\.|storage\.|key\.|said\.|ledger-file\.|decode\.")
"""Codes that are looked up by the name of a thing; each has a test where they are used."""

CHINESE_ALONE = re.compile(r"key\.")
"""Codes of what says its English itself: keys of files by the text under them."""

both = pytest.mark.parametrize("folder", FOLDERS.values(), ids=FOLDERS)


def texts_of(folder, language):
    return {message.id: message.string for message in edited(folder / f"{language}.po") if message.id}


def used(code_folder):
    """Codes that stand in calls, with the names of the values given."""
    for path in sorted((ROOT / code_folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            for argument in node.args[:2] if name in MAKERS else ():
                if isinstance(argument, ast.Constant) and CODE.fullmatch(str(argument.value)):
                    yield argument.value, {keyword.arg for keyword in node.keywords}, f"{path.name}:{node.lineno}"


def names_in(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@both
def test_both_languages_have_the_same_codes(folder):
    chinese = {code for code in texts_of(folder, Language.ZH) if not CHINESE_ALONE.match(code)}
    assert texts_of(folder, Language.EN).keys() == chinese


@both
def test_no_text_is_empty_and_chinese_is_chinese(folder):
    english, chinese = (texts_of(folder, language) for language in (Language.EN, Language.ZH))
    assert all(english.values())
    assert all(re.search("[A-Za-z{]", text) for text in english.values())
    same = {code for code, text in chinese.items() if not re.search(HAN, text)}
    # What has values alone, and what the trade calls by a name in every language.
    assert not {code for code in same if chinese[code] not in (english.get(code, chinese[code]), "OBU")}


@pytest.mark.parametrize("code_folder", FOLDERS)
def test_every_code_in_a_call_leads_to_a_text_with_its_values(code_folder):
    english, chinese = (texts_of(FOLDERS[code_folder], language) for language in (Language.EN, Language.ZH))
    gateway = texts_of(FOLDERS["gateway"], Language.EN)
    for code, names, place in used(code_folder):
        if code not in english and code_folder == "hardware":
            assert code in gateway, (place, code)
            continue
        assert code in english, (place, code)
        if None not in names:  # `**values`
            assert (names_in(english[code]) | names_in(chinese[code]) if names else set()) == names, (place, code)


@pytest.mark.parametrize("code_folder", FOLDERS)
def test_every_text_is_needed(code_folder):
    needed = {code for code, _, _ in used(code_folder)}
    left = {code for code in texts_of(FOLDERS[code_folder], Language.EN) if not BY_TABLE.match(code)} - needed
    assert not left


def test_every_key_of_a_file_is_described_in_chinese():
    """Sections are known by their names, so no two have the same."""
    needed, sections = {}, {}
    for model in (SiteFile, ClearingRules, Document):
        for section, name, field in keys_of(model):
            assert sections.setdefault(section.__name__, section) is section
            if field.description:
                needed[f"key.{section.__name__}.{name}"] = field
    chinese = {code for code in texts_of(FOLDERS["gateway"], Language.ZH) if code.startswith("key.")}
    assert chinese == needed.keys()
    for model in (SiteFile, ClearingRules, Document):
        for key, _, text in parameters(model):
            assert re.search(HAN, text.zh), key
            assert text.en


def keys_of(model):
    """Every key at and below a section, with the section that describes it."""
    for name, field in model.model_fields.items():
        yield next(kind for kind in model.__mro__ if name in inspect.get_annotations(kind)), name, field
        for inner in models_of(field.annotation):
            yield from keys_of(inner)


@both
@pytest.mark.parametrize("language", Language)
def test_what_programs_read_is_what_people_edited(folder, language):
    path = folder / f"{language}.po"
    catalog = edited(path)
    assert path.read_bytes() == source_of(catalog), "run `make texts`"
    assert path.with_suffix(".mo").read_bytes() == compiled(catalog), "run `make texts`"


def test_a_text_is_told_in_the_language_asked_for():
    text = Words("check.entries", entries=3)
    assert [text.told(language) for language in (Language.EN, Language.ZH)] == ["entries: 3", "3 条"]
    assert str(text) == "entries: 3"


def test_a_text_in_a_text_is_told_in_the_same_language():
    inside = Words("check.entries", entries=Pair("three", "三"))
    assert [inside.told(language) for language in (Language.EN, Language.ZH)] == ["entries: three", "三 条"]


def test_a_code_that_nobody_knows_is_an_error():
    with pytest.raises(KeyError, match=r"no\.such"):
        Words("no.such").told(Language.EN)
    with pytest.raises(KeyError, match="entries"):
        Words("check.entries", other=1).told(Language.EN)
