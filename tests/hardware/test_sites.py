"""Ready sites, and what `etcgw init` writes: each passes its check, starts, says what is missing, and stops clean."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.config import load
from hardware.bench.waiting import LOOK_S, STUCK_S
from tests.programs import program

SITES = Path(__file__).parents[2] / "hardware/sites"
CHINESE = {**os.environ, "LC_ALL": "zh_CN.UTF-8"}


def etcgw(*arguments, code=0, env=None):
    """Run `etcgw`; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli.main", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def copied(name, folder):
    """Copy of a ready site, made ready as its README says."""
    shutil.copytree(SITES / name, folder)
    folder.chmod(0o700)
    config = folder / "site.toml"
    etcgw("ledger", "key", folder / "chain.key")
    etcgw("lists", "build", folder / "lists.csv", "--version", "1", "--config", config)
    return config


def begun(folder, *, env=None):
    """Site that `etcgw init` writes."""
    return Path(json.loads(etcgw("init", folder, "--json", env=env))["site"])


def missing_of(config, gateway, devices):
    """Parts that `etcgw status` tells of once the running gateway has tried all these devices in vain."""
    end = time.monotonic() + STUCK_S
    while True:
        state = {}
        with contextlib.suppress(FileNotFoundError):  # it comes a moment after "ready"
            state = json.loads((config.parent / "state.json").read_text())
        if state and not any(state["parts"].get(device, {}).get("works", True) for device in devices):
            return json.loads(etcgw("status", "--json", "--config", config))["parts"]
        assert gateway.poll() is None
        assert time.monotonic() < end, state
        time.sleep(LOOK_S)


@pytest.mark.bench
@pytest.mark.parametrize("made", ["one-lane", "plaza", "init", "init zh"])
def test_a_site_to_begin_with_starts_says_what_is_missing_and_stops(made, tmp_path):
    folder = tmp_path / "site"
    env = CHINESE if made == "init zh" else None
    config = begun(folder, env=env) if made.startswith("init") else copied(made, folder)
    assert json.loads(etcgw("check-config", "--json", "--config", config))["ok"] is True
    etcgw("ledger", "create", "--config", config)
    with program("gateway.cli.main", "run", "--config", str(config), stderr=subprocess.DEVNULL) as gateway:
        assert gateway.stdout.readline() == "ready\n"
        site = load(config)
        devices = [f"{point.name}/antenna" for point in site.charge_points]
        devices += [f"board/{board.name}" for board in site.relay_boards] + [f"bank/{bank.name}" for bank in site.banks]
        parts = missing_of(config, gateway, devices)
        assert all(parts[device]["cause"] for device in devices), parts
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(STUCK_S) == 0
    assert json.loads(etcgw("status", "--json", "--config", config, code=3))["running"] is False
    etcgw("ledger", "verify", "--config", config)


def test_the_ready_lane_is_what_init_writes(tmp_path):
    etcgw("init", tmp_path / "site", "--name", "一车道收费站", env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert (tmp_path / "site" / "site.toml").read_text() == (SITES / "one-lane" / "site.toml").read_text()
