"""README and the pages of docs are true: commands run, examples pass, files exist, both languages say the same."""

import os
import re
import runpy
import shlex
import tomllib
from dataclasses import dataclass

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.model.states import DEBIT_MOVES
from hardware.bench.cli import app as bench
from hardware.bench.load.picture import picture_of
from tests.programs import ROOT

CHINESE = ".zh-CN.md"
PAGES = sorted([*ROOT.glob("README*.md"), *ROOT.glob("docs/*.md")])
ENGLISH = [page for page in PAGES if not page.name.endswith(CHINESE)]
SITE = ROOT / "docs" / "site-file.md"
BEGINNINGS = (ROOT / "README.md", SITE)
"""Pages that make a site of their own; the examples of all others go on with the site of `SITE`."""

NOT_RUN = {
    "make run": "takes a minute; test_demo drives the same site",
    "make test": "is what runs this test",
    "etcgw card batch": "waits for cards; test_card_batch lays them",
    "etcgw card purchase": "waits for a card; test_card_purchases lays one",
    "etcgw card recover": "waits for a card; test_card_purchases lays one",
    "etcgw run": "serves until it is stopped; test_run starts it",
    "etcgw tag": "needs an antenna with a tag before it; test_tag has them emulated",
    "etcgw psam": "needs a reader with a PSAM in it; test_psam has them emulated",
    "python docs/generate.py": "writes into the tree; what it would write is compared here",
}
"""Commands of `sh` blocks that are not run here, each with the reason; their options are checked all the same."""

ENDS_WITH = {
    "etcgw status": (3, "no gateway runs here"),
    "etcgw pumps": (3, "no gateway runs here"),
    "etcgw card": (3, "no card lies here"),
    "etcgw pump": (2, "the site of the pages has no fuel island"),
    "etcgw passages show": (1, "nobody has passed here"),
    "etcgw debits show": (1, "nobody has passed here"),
    "etcgw debits resolve": (1, "nobody has passed here"),
    "etcgw debits refund": (1, "nobody has passed here"),
    "etcgw tac verify": (1, "nobody has passed here"),
    "etcgw clearing run 20261123": (1, "the example is of a sale that is not on the books"),
}
"""Commands of `sh` blocks that do not end with status 0 here."""

FENCE = re.compile(r"^```(\w+)(?: ([^\n]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = {"etcgw": get_command(app), "etcbench": get_command(bench)}


@dataclass(frozen=True)
class Block:
    """Fenced block: `name` is the file that its text goes to; with a plus it goes to the file's end."""

    language: str
    name: str
    text: str

    @property
    def file(self):
        return self.name.removesuffix(" +")

    @property
    def commands(self):
        if self.language != "sh":
            return []
        return [words for line in self.text.splitlines() if (words := shlex.split(line, comments=True))]

    @property
    def meaning(self):
        """Content without comments and without what is said to people."""
        if self.language == "toml":
            return tomllib.loads(self.text)
        return self.text if self.language == "csv" else self.commands


def blocks(page):
    return [Block(language, name, text) for language, name, text in FENCE.findall(page.read_text("utf-8"))]


def prose(page):
    return FENCE.sub("", page.read_text("utf-8"))


def known(table, words):
    """Longest entry of a table by which a command begins."""
    command = " ".join(words)
    return max((start for start in table if f"{command} ".startswith(f"{start} ")), key=len, default=None)


def label(page):
    return page.relative_to(ROOT).as_posix()


# --- commands and examples --------------------------------------------------------------------------------------------


@pytest.fixture
def follow(tmp_path, monkeypatch):
    """Do what a page says in an empty folder: write its files, run its commands."""
    monkeypatch.chdir(tmp_path)
    for name in ("LC_ALL", "LC_MESSAGES", "LANG", "ETCGW_CONFIG", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "nice", lambda _: None)  # the command lowers its process's priority for good

    def run(words):
        assert words[0] == "etcgw", f"who runs {words}?"
        expected, _ = ENDS_WITH.get(known(ENDS_WITH, words), (0, ""))
        result = CliRunner().invoke(app, words[1:])
        assert result.exit_code == expected, (words, result.exit_code, result.stdout, result.stderr)

    def follow(page):
        for block in blocks(page):
            if block.name:
                file = tmp_path / block.file
                file.parent.mkdir(exist_ok=True)
                before = file.read_text("utf-8") if block.name != block.file else ""
                file.write_text(before + block.text, "utf-8")
            for words in block.commands:
                if known(NOT_RUN, words) is None:
                    run(words)

    return follow


@pytest.mark.parametrize("page", ENGLISH, ids=label)
def test_the_examples_of_a_page_work(page, follow):
    if page not in BEGINNINGS:
        follow(SITE)
    follow(page)


@pytest.mark.parametrize("page", ENGLISH, ids=label)
def test_every_file_of_a_page_is_given_to_a_command(page):
    commands = [" ".join(words) for block in blocks(page) for words in block.commands]
    for block in blocks(page):
        if block.language in ("toml", "csv"):
            assert block.name, block.text
            readers = [block.name, *(["etcgw check-config --config"] if block.language == "toml" else [])]
            assert any(reader in command for reader in readers for command in commands), block.name


@pytest.mark.parametrize("table", [NOT_RUN, ENDS_WITH], ids=["not run", "ends with"])
def test_no_exception_is_left_over(table):
    found = {known(table, words) for page in ENGLISH for block in blocks(page) for words in block.commands}
    assert set(table) - found == set()


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_every_command_named_exists_with_its_options(page):
    named = [shlex.split(text) for text in re.findall(r"`((?:etcgw|etcbench|make) [^`]+)`", prose(page))]
    named += [words for block in blocks(page) for words in block.commands]
    assert [problem for words in named if (problem := misuse(words))] == []


def misuse(words):
    """Problem of a command as a page gives it; None where there is none."""
    if words[0] == "make":
        target = rf"^{words[1]}:"
        return None if re.search(target, (ROOT / "Makefile").read_text(), re.MULTILINE) else f"no target {words[1]}"
    if words[0] == "python":
        return None if (ROOT / words[1]).exists() else f"no file {words[1]}"
    command, before = PROGRAMS[words[0]], ""
    for word in words[1:]:
        below = getattr(command, "commands", {})
        options = {option for part in command.params for option in (*part.opts, *part.secondary_opts)}
        if word in below:
            command = below[word]
        elif word.startswith("--") and word not in options:
            return f"{' '.join(words)}: no option {word}"
        elif not word.startswith("--") and below and not before.startswith("--"):
            return f"{' '.join(words)}: no command {word}"
        before = word
    return None


# --- files and links --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_the_files_a_page_names_exist_and_its_own_are_named(page):
    own = {block.file for block in blocks(page) if block.name}
    assert [file for file in sorted(own) if f"`{file}`" not in prose(page)] == []
    paths = set(re.findall(r"`([A-Za-z_][\w./-]*/[\w.-]+\.(?:py|toml|svg|md|jsonl))`", prose(page), flags=re.ASCII))
    assert [path for path in sorted(paths - own) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_links_lead_somewhere_and_stay_in_their_language(page):
    links = re.findall(r"\]\(([^)#]+)\)", prose(page))
    assert [link for link in links if not (page.parent / link).exists()] == []
    if page.name.endswith(CHINESE):
        twinned = [link for link in links if link.endswith(".md") and not link.endswith(CHINESE)]
        twinned = [link for link in twinned if (page.parent / link).with_suffix(CHINESE).exists()]
        assert twinned == [page.name.replace(CHINESE, ".md")]


def test_every_page_is_linked_from_the_readme():
    text = (ROOT / "README.md").read_text("utf-8")
    assert [label(page) for page in ENGLISH if page.parent != ROOT and f"({label(page)})" not in text] == []


# --- two languages, and what is generated -----------------------------------------------------------------------------


@pytest.mark.parametrize("page", [page for page in PAGES if page.name.endswith(CHINESE)], ids=label)
def test_both_languages_have_the_same_sections_and_examples(page):
    english = page.with_name(page.name.replace(CHINESE, ".md"))
    assert outline(page) == outline(english)
    assert [(b.language, b.name, b.meaning) for b in blocks(page)] == [
        (b.language, b.name, b.meaning) for b in blocks(english)
    ]


def outline(page):
    """Headings by their level, items of lists, rows of tables and generated parts, in their order."""
    marks = re.findall(r"^(#+ |- |\d\. |\| |!\[|<!-- .*-->)", prose(page), re.MULTILINE)
    return [mark.strip() for mark in marks]


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_generated_parts_are_current(page):
    generate = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    text = page.read_text("utf-8")
    assert text == generate["page_with_parts"](page), "run python docs/generate.py"


LOAD = ROOT / "docs" / "load.svg"


@pytest.fixture
def drawn():
    """Our share in ms by lanes, program and quantile, as the picture of the load has it."""
    runs = {}
    points = re.findall(r"<title>(\w+) (p\d+) at (\d+) lanes: ([\d.]+) ms</title>", LOAD.read_text("utf-8"))
    for program, quantile, lanes, ms in points:
        runs.setdefault(int(lanes), {}).setdefault(program, {})[f"share_{quantile}_ms"] = float(ms)
    return runs


def test_the_picture_of_the_load_is_small_and_as_the_bench_draws_it(drawn):
    assert LOAD.read_text("utf-8") == picture_of(drawn), f"take it again: etcbench load --picture {label(LOAD)}"
    assert LOAD.stat().st_size < 40_000
    assert (min(drawn), max(drawn)) == (1, 200)
    assert all(len(run) == 2 and len(run["gateway"]) == len(run["null"]) == 2 for run in drawn.values())


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem.startswith("README")], ids=label)
def test_a_readme_shows_the_picture_of_the_load(page):
    assert f"]({label(LOAD)})" in page.read_text("utf-8")


def test_the_picture_of_a_debit_has_the_arrows_of_its_table():
    drawn = re.findall(r"<title>(\w+) → (\w+)</title>", (ROOT / "docs" / "debit.svg").read_text("utf-8"))
    moves = {(before, after) for before, afters in DEBIT_MOVES.items() if before for after in afters}
    assert len(drawn) == len(moves)
    assert set(drawn) == moves
