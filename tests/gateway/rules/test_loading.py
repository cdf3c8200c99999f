"""Documents of debit rules: the shipped one, a site's over it, and what somebody is told about a wrong one."""

import tomllib
from dataclasses import FrozenInstanceError

import pytest
from pydantic import BaseModel, ValidationError

from gateway.documents import models_of, parameters
from gateway.rules import schema
from gateway.rules.loading import (
    FILE_BYTES_MAX,
    SHIPPED,
    RulesError,
    diff,
    digest_of_body,
    flat,
    load_rules,
    parse_rules,
    shipped_rules,
)
from gateway.rules.schema import Document


@pytest.fixture
def write(tmp_path):
    def put(text):
        path = tmp_path / "rules.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return put


def problems(path):
    with pytest.raises(RulesError) as caught:
        load_rules(path)
    assert caught.value.path == path
    for problem in caught.value.problems:
        assert problem.key
        assert str(problem.problem)
        assert str(problem.cure)
    return {problem.key: problem for problem in caught.value.problems}


def test_the_rules_shipped_are_what_their_version_says():
    """Recorded decisions name the version: changed content needs a new one, and then this line is changed with it."""
    rules = load_rules(None)
    assert (rules.version, rules.digest) == (
        "2026-12-2",
        "e976dd9b71ac9c380008d199045dc5dee61c76dd00b17eac3dfe48b019386486",
    )


def test_the_rules_shipped_state_every_key_in_the_document_itself():
    stated = {key for key, _ in flat(shipped_rules())}
    table = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))

    def keys(part, prefix=""):
        for key, value in part.items():
            yield from keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]

    assert set(keys(table)) == stated
    assert {key for key, _, _ in parameters(Document)} - {"debt.recovery_by_code"} <= stated


def test_every_key_has_a_meaning_and_none_has_a_default():
    for key, default, meaning in parameters(Document):
        assert meaning, key
        assert default == "required", key


def test_rules_cannot_be_changed_in_place():
    rules = shipped_rules()
    with pytest.raises(FrozenInstanceError):
        rules.version = "x"
    with pytest.raises(ValidationError):
        rules.deadline.kept_back_ms = 1


def test_a_site_states_only_what_differs(write):
    rules = load_rules(write('version = "east-2"\n[stand_in.toll]\nper_debit_fen = 5000\n'))
    assert rules.version == "east-2@2026-12-2"
    assert rules.stand_in.toll.per_debit_fen == 5000
    assert rules.stand_in.toll.allowed is True
    assert diff(shipped_rules(), rules) == [
        ("version", "2026-12-2", "east-2@2026-12-2"),
        ("stand_in.toll.per_debit_fen", "unlimited", 5000),
    ]


def test_tables_are_laid_over_each_other_and_lists_are_not(write):
    rules = load_rules(
        write('version = "e"\n[debt.recovery_after_s]\nL = [60]\n[debt.recovery_by_code]\n91 = []\n51 = [7]\n')
    )
    assert rules.debt.recovery_after_s.L == (60,)
    assert rules.debt.recovery_by_code["91"] == ()
    assert rules.debt.recovery_by_code["51"] == (7,)
    assert rules.debt.recovery_by_code["90"] == shipped_rules().debt.recovery_by_code["90"]
    assert ("debt.recovery_by_code.51", None, [7]) in diff(shipped_rules(), rules)
    assert ("debt.recovery_by_code.51", [7], None) in diff(rules, shipped_rules())


def test_words_stand_for_no_limit(write):
    shipped = shipped_rules()
    assert shipped.stand_in.toll.per_debit_fen is None
    assert shipped.stand_in.toll.per_obligor_owed_fen is None
    assert (shipped.retry.reversal.expire_after_s, shipped.retry.reversal.max_tries) == (0, 0)
    words = 'version = "e"\n[stand_in.fuel]\nper_debit_fen = "unlimited"\n[listing]\ndebts_count = "never"\n'
    rules = load_rules(write(words + '[retry.advice]\nmessages_per_s = "unlimited"\n'))
    assert rules.stand_in.fuel.per_debit_fen is None
    assert rules.listing.debts_count is None
    assert rules.retry.advice.messages_per_s == 0


@pytest.mark.parametrize(
    "text",
    [
        "# a remark\nversion = 'e'\ndeadline = { kept_back_ms = 300 }\n",
        'version = "e"\n[deadline]\nbank_worth_asking_ms = 50\nkept_back_ms = 3_00\n',
        'version = "e"\n[retry.advice]\nfirst_pause_s = 1\nmax_tries = 0\n[deadline]\nkept_back_ms = 300\n',
    ],
)
def test_notation_does_not_matter_to_the_digest(write, text):
    plain = load_rules(write('version = "e"\n[deadline]\nkept_back_ms = 300\n'))
    assert load_rules(write(text)) == plain
    assert plain.digest != shipped_rules().digest


def test_content_and_version_matter_to_the_digest(write):
    texts = ('version = "a"', 'version = "b"', 'version = "a"\n[deadline]\nkept_back_ms = 1')
    assert len({load_rules(write(text)).digest for text in texts} | {shipped_rules().digest}) == 4


@pytest.mark.parametrize("text", [None, 'version = "east"\n[stand_in.toll]\nalso_after_codes = ["91"]\n'])
def test_the_stored_text_gives_the_same_rules_again(write, text):
    rules = load_rules(None if text is None else write(text))
    assert parse_rules(rules.body.encode(), SHIPPED) == rules
    assert digest_of_body(rules.body) == rules.digest


def test_the_digest_of_a_stored_text_needs_no_schema():
    body = 'version = "old@1999"\n\n[gone]\nkey = 1\n'
    assert digest_of_body(body) == digest_of_body("gone = { key = 1 }\nversion = 'old@1999' # the same")
    assert digest_of_body(body) != digest_of_body(body.replace("= 1", "= 2"))
    with pytest.raises(ValueError, match="line 1"):
        digest_of_body("no TOML\n")


def test_a_stored_document_has_nothing_laid_under_it(write):
    body = load_rules(write('version = "east"')).body
    found = problems(write(body.replace("kept_back_ms = 250\n", "")))
    assert str(found["deadline.kept_back_ms"].problem) == "is missing"


def test_the_shipped_version_belongs_to_the_shipped_rules(write):
    assert load_rules(write('version = "2026-12-2"\n[deadline]\nkept_back_ms = 250\n')) == shipped_rules()
    found = problems(write('version = "2026-12-2"\n[deadline]\nkept_back_ms = 251\n'))
    assert "shipped" in str(found["version"].problem)


# --- wrong documents ------------------------------------------------------------------------------------------------


def sections(model=Document, prefix=""):
    """Every section with the key it stands under."""
    yield prefix, model
    for name, field in model.model_fields.items():
        for inner in models_of(field.annotation):
            yield from sections(inner, f"{prefix}.{name}" if prefix else name)


SECTIONS = [prefix for prefix, _ in sections()]


def test_the_walk_finds_every_section():
    declared = {
        kind
        for kind in vars(schema).values()
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in (schema.Section, schema.RuleSection)
    }
    assert {model for _, model in sections()} == declared


@pytest.mark.parametrize("section", SECTIONS)
def test_an_unknown_key_is_an_error_in_every_section(write, section):
    heading = f"[{section}]\n" if section else ""
    found = problems(write(f'version = "e"\n{heading}colour = 1\n'))
    key = f"{section}.colour" if section else "colour"
    assert str(found[key].problem) == "is not a known key"
    assert "spelling" in str(found[key].cure)


WRONG = [
    ("version = 7", "version"),
    ('version = "with blank"', "version"),
    ('version = "01234567890123456789"', "version"),
    ('version = "e"\n[stand_in.toll]\nallowed = 1', "stand_in.toll.allowed"),
    ('version = "e"\n[stand_in.toll]\nper_debit_fen = -1', "stand_in.toll.per_debit_fen"),
    ('version = "e"\n[stand_in.toll]\nper_debit_fen = "5"', "stand_in.toll.per_debit_fen"),
    ('version = "e"\n[stand_in.toll]\nper_debit_fen = 5.0', "stand_in.toll.per_debit_fen"),
    ('version = "e"\n[stand_in.toll]\nper_debit_fen = true', "stand_in.toll.per_debit_fen"),
    ('version = "e"\n[stand_in.toll]\nper_debit_fen = "never"', "stand_in.toll.per_debit_fen"),
    ('version = "e"\n[stand_in.toll]\nper_obligor_owed_fen = "unlimited"', "stand_in.toll.per_obligor_owed_fen"),
    ('version = "e"\n[stand_in.toll]\nafter = ["declined"]', "stand_in.toll.after[0]"),
    ('version = "e"\n[stand_in.toll]\nnever_after_codes = ["5 "]', "stand_in.toll.never_after_codes[0]"),
    ('version = "e"\n[deadline]\nkept_back_ms = 5001', "deadline.kept_back_ms"),
    ('version = "e"\n[retry.advice]\nfirst_pause_s = 0', "retry.advice.first_pause_s"),
    ('version = "e"\n[retry.advice]\nfirst_pause_s = nan', "retry.advice.first_pause_s"),
    ('version = "e"\n[retry.advice]\nmax_pause_s = inf', "retry.advice.max_pause_s"),
    ('version = "e"\n[retry.advice]\nfactor = 0.5', "retry.advice.factor"),
    ('version = "e"\n[retry.advice]\nmax_tries = "never"', "retry.advice.max_tries"),
    ('version = "e"\n[debt.recovery_after_s]\nL = [0]', "debt.recovery_after_s.L[0]"),
    ('version = "e"\n[debt.recovery_after_s]\nL = 60', "debt.recovery_after_s.L"),
    ('version = "e"\n[debt.recovery_by_code]\n"5 10" = [60]', "debt.recovery_by_code.5 10"),
    ('version = "e"\n[listing]\ndebts_fen = 0', "listing.debts_fen"),
    ('version = "e"\n[listing.effect]\ntoll = "open"', "listing.effect.toll"),
    ('version = "e"\n[limits.all]\nper_day_count = "none"', "limits.all.per_day_count"),
    ('version = "e"\nlimits = 3', "limits"),
]


@pytest.mark.parametrize(("text", "key"), WRONG)
def test_a_wrong_value_is_named_with_what_is_expected(write, text, key):
    found = problems(write(text))
    assert set(found) == {key}
    assert str(found[key].cure).startswith(("Expected: ", "Correct the value"))


def test_every_problem_is_told_at_once(write):
    found = problems(write("[deadline]\nkept_back_ms = -1\n[reversal]\nx = 1\n"))
    assert set(found) == {"version", "deadline.kept_back_ms", "reversal.x"}
    assert "Add it: name of these rules" in str(found["version"].cure)


def test_a_syntax_error_is_told_with_its_place(write):
    found = problems(write('version = "e"\n[deadline]\nkept_back_ms = \n'))
    assert "line 3" in str(found["file"].problem)


def test_files_that_are_no_documents(write, tmp_path):
    assert str(problems(tmp_path / "nowhere.toml")["file"].cure) == "Name a readable file"
    assert "too large" in str(problems(write("#" * (FILE_BYTES_MAX + 1)))["file"].problem)
    path = tmp_path / "rules.toml"
    path.write_bytes(b"\xff\xfe")
    assert "is not UTF-8" in str(problems(path)["file"].problem)
    path.write_bytes("# 规则".encode("gbk"))
    assert "looks like GBK" in str(problems(path)["file"].problem)
