"""`etcgw init`: a site that passes its check, from options, answers or defaults, and nothing overwritten."""

import stat
import tomllib

import pytest

from gateway.config import load

QUOTES = 'say "hi" \\ 站'


def test_what_it_writes_passes_the_check(ask, run, tmp_path):
    made = ask("init", tmp_path / "new" / "site")
    assert ask("check-config", "--config", made["site"])["ok"] is True
    assert all((tmp_path / "new/site" / name).exists() for name in ("site.toml", "chain.key", "lists", "tariffs"))
    assert made["next"][-2] == f"etcgw run --config {made['site']}"
    assert stat.S_IMODE((tmp_path / "new/site/chain.key").stat().st_mode) == 0o600
    assert "stale" in str(ask("lists", "show", "--config", made["site"]))


def test_options_answer_every_question(run, tmp_path):
    options = {
        "station": "1101000a",
        "region": "北京",
        "antenna": "serial:/dev/ttyS0?baud=115200",
        "board": "board.local:502",
        "fare": "12.5",
        "name": QUOTES + "x" * (80 - len(QUOTES)),
    }
    run("init", tmp_path / "site", *(part for key, text in options.items() for part in (f"--{key}", text)))
    site = load(tmp_path / "site" / "site.toml")
    (lane,) = site.charge_points
    assert (site.site.name, site.issuers[0].region, site.mode) == (options["name"], "B1B1BEA9", "production")
    assert (lane.station, lane.gantry, lane.antenna.address) == ("1101000A", "11000A", options["antenna"])
    assert (lane.antenna.dialect, site.relay_boards[0].address) == ("legacy-serial-bj", "board.local:502")
    (tariff,) = (tmp_path / "site" / "tariffs").iterdir()
    assert tomllib.loads(tariff.read_text("utf-8"))["class_table"] == {"1101000A": {"1": 1250}}
    assert tariff.name.startswith("11")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_comments_are_in_the_language_chosen_and_no_translation_is_left_over(run, tmp_path, language):
    run("--lang", language, "init", tmp_path / "site")
    for file in ("site.toml", *(f"tariffs/{path.name}" for path in (tmp_path / "site" / "tariffs").iterdir())):
        comments = [line for line in (tmp_path / "site" / file).read_text("utf-8").splitlines() if line.startswith("#")]
        assert comments
        assert all("¦" not in line for line in comments)
        assert all(line.isascii() == (language == "en") for line in comments)


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("--station", "9901010"),
        ("--station", "9901010g"),
        ("--region", "京"),
        ("--region", "ab"),
        ("--antenna", "somewhere"),
        ("--board", "127.0.0.1"),
        ("--board", "127.0.0.1:70000"),
        ("--name", ""),
        ("--name", "x" * 81),
        ("--name", "two\nlines"),
        ("--fare", "0"),
        ("--fare", "-1"),
        ("--fare", "1.234"),
    ],
)
def test_a_wrong_answer_is_told_and_nothing_is_written(run, tmp_path, option, wrong):
    result = run("init", tmp_path / "site", option, wrong, code=2)
    assert option in result.stderr
    assert not (tmp_path / "site").exists()


def test_a_terminal_is_asked_five_times_and_again_after_a_wrong_answer(run, tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.cli.init.at_terminal", lambda: True)
    answers = "nowhere\n99010102\n\n\n\n20\n"
    result = run("init", tmp_path / "site", stdin=answers)
    assert "'nowhere' is not 8 hex digits" in result.stderr
    assert result.stderr.count("]:") == 6
    site = load(tmp_path / "site" / "site.toml")
    assert site.charge_points[0].station == "99010102"
    assert site.issuers[0].region == "B2E2CAD4"


@pytest.mark.parametrize("there", ["site.toml", "chain.key", "tariffs", "lists"])
def test_nothing_is_overwritten(run, tmp_path, there):
    (tmp_path / there).write_text("mine")
    result = run("init", tmp_path, code=1)
    assert "is there already" in result.stderr
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(there, "mine")]


def test_a_folder_that_cannot_be_made_is_told(run, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file" in run("init", tmp_path / "file" / "site", code=3).stderr
