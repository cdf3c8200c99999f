"""`etcgw rules`: what is in force, and what a file would change."""

import tomllib

import pytest

from gateway.rules.loading import SHIPPED, shipped_rules

OWN = 'version = "east-2"\n[stand_in.toll]\nper_debit_fen = 5000\n'


@pytest.fixture
def own(site):
    """Put a file of rules in force at the site."""

    def put(text=OWN):
        path = site.parent / "rules.toml"
        path.write_text(text, encoding="utf-8")
        site.write_text(
            site.read_text(encoding="utf-8").replace("[tariffs]", '[rules]\nfile = "rules.toml"\n[tariffs]'),
            encoding="utf-8",
        )
        return path

    return put


def test_show_the_rules_shipped(ask, run, site):
    found = ask("rules", "show", "--config", site)
    assert (found["version"], found["digest"]) == (shipped_rules().version, shipped_rules().digest)
    assert found["file"] is None
    assert found["shipped"]["version"] == found["version"]
    for rule in found["rules"]:
        assert rule["as_shipped"] is True
        assert rule["meaning"]
    text = run("rules", "show", "--config", site).stdout
    assert "0 of " in text
    assert "stand_in.toll.per_debit_fen" in text


def test_show_the_rules_of_a_site(ask, run, site, own):
    path = own()
    found = ask("rules", "show", "--config", site)
    assert found["version"] == "east-2@2026-12-2"
    assert found["file"] == str(path)
    changed = [rule for rule in found["rules"] if not rule["as_shipped"]]
    assert [(r["key"], r["value"], r["shipped"]) for r in changed] == [
        ("stand_in.toll.per_debit_fen", 5000, "unlimited")
    ]
    assert "1 of " in run("rules", "show", "--config", site).stdout
    assert "版本" in run("--lang", "zh", "rules", "show", "--config", site).stdout


def test_shown_as_toml_they_can_be_kept_and_compared(run, ask, site, own, tmp_path):
    own()
    text = run("rules", "show", "--toml", "--config", site).stdout
    assert tomllib.loads(text)["stand_in"]["toll"]["per_debit_fen"] == 5000
    kept = tmp_path / "kept.toml"
    kept.write_text(text, encoding="utf-8")
    assert ask("rules", "diff", kept, "--config", site)["differences"] == []
    assert "no difference" in run("rules", "diff", kept, "--config", site).stderr


def test_check(ask, run, tmp_path):
    path = tmp_path / "new.toml"
    path.write_text(OWN, encoding="utf-8")
    assert ask("rules", "check", path)["version"] == "east-2@2026-12-2"
    assert "in order" in run("rules", "check", path).stdout
    path.write_text(OWN + "x = 1\nallowed = 3\n", encoding="utf-8")
    found = ask("rules", "check", path, code=2)
    assert {problem["key"] for problem in found["problems"]} == {"stand_in.toll.x", "stand_in.toll.allowed"}
    assert all(problem["cure"] for problem in found["problems"])
    text = run("rules", "check", path, code=2).stdout
    assert "2 wrong" in text
    assert "stand_in.toll.x" in text


def test_diff(ask, run, site, own, tmp_path):
    path = own()
    found = ask("rules", "diff", SHIPPED, "--config", site)
    assert found["b"]["version"] == "east-2@2026-12-2"
    assert {"key": "stand_in.toll.per_debit_fen", "a": "unlimited", "b": 5000} in found["differences"]
    turned = ask("rules", "diff", path, SHIPPED)
    assert {"key": "stand_in.toll.per_debit_fen", "a": 5000, "b": "unlimited"} in turned["differences"]
    text = run("rules", "diff", SHIPPED, "--config", site).stdout
    assert "B (in force)" in text
    assert "5000" in text
    assert "in force" not in run("rules", "diff", path, SHIPPED).stdout
    run("rules", "diff", SHIPPED, code=2)


def test_wrong_rules_are_wrong_usage_with_a_next_step(run, site, own):
    own("version = \n")
    result = run("rules", "show", "--config", site, code=2)
    assert "line 1" in result.stderr
    assert "etcgw rules check" in result.stderr


def test_check_config_looks_at_the_rules_too(ask, run, site, own):
    assert ask("check-config", "--config", site)["facts"]["rules"]["version"] == "2026-12-2"
    own(OWN + "x = 1\n")
    (problem,) = ask("check-config", "--config", site, code=2)["problems"]
    assert problem["key"] == "rules.file"
    assert "stand_in.toll.x" in problem["problem"]
    final = 'version = "east-2"\n[stand_in.toll]\nalso_after_codes = ["51", "41"]\n'
    (site.parent / "rules.toml").write_text(final, encoding="utf-8")
    (problem,) = ask("check-config", "--config", site, code=2)["problems"]
    assert (problem["key"], problem["value"]) == ("rules.stand_in.toll.also_after_codes", "41")
    assert "final refusal" in problem["problem"]
