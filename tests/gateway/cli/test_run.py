"""`etcgw run` as a process: ready on stdout, log on stderr, one at a time, ends when told."""

import json
import logging
import signal
import subprocess
import sys

import pytest

from gateway.cli.run import OneLine

pytestmark = pytest.mark.slow


def start(site):
    return subprocess.Popen(
        [sys.executable, "-m", "gateway.cli.main", "run", "--config", str(site)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_run_serves_until_told_to_stop(begun, site, ask, run):
    with start(site) as gateway:
        try:
            assert gateway.stdout.readline() == "ready\n"
            second = subprocess.run(
                [sys.executable, "-m", "gateway.cli.main", "run", "--config", str(site)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert second.returncode == 3, second.stderr
            assert second.stdout == ""
            assert "another gateway" in second.stderr
        finally:
            gateway.send_signal(signal.SIGTERM)
            out, log = gateway.stdout.read(), gateway.stderr.read()
            gateway.wait()
    assert gateway.returncode == 0, log
    assert out == ""
    lines = log.splitlines()
    assert len(lines) > 3
    assert all(line[:4].isdigit() and "T" in line[:12] for line in lines), log
    assert json.loads((site.parent / "state.json").read_text(encoding="utf-8"))["running"] is False
    assert ask("status", "--config", site, code=3)["running"] is False


WITH_IMPORTS = """
import sys
from gateway.cli.main import app
try:
    app(["run", "--config", sys.argv[1]])
finally:
    print("smartcard" in sys.modules)
"""


def test_a_site_without_a_counter_never_imports_the_library_of_card_readers(begun, site):
    command = [sys.executable, "-c", WITH_IMPORTS, str(site)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as gateway:
        try:
            assert gateway.stdout.readline() == "ready\n"
        finally:
            gateway.send_signal(signal.SIGTERM)
        assert gateway.stdout.read() == "False\n"
    assert gateway.returncode == 0


def test_run_without_a_usable_list_is_1_and_says_so(begun, site):
    (site.parent / "lists" / "CURRENT").unlink()
    with start(site) as gateway:
        out, log = gateway.communicate()
    assert gateway.returncode == 1, log
    assert out == ""
    assert "CURRENT" in log.splitlines()[-2]
    assert "etcgw lists show" in log.splitlines()[-1]


def test_run_with_a_bad_site_file_is_2(site, run):
    site.write_text("mode = 1", encoding="utf-8")
    result = run("run", "--config", site, code=2)
    assert result.stdout == ""
    assert "mode" in result.stderr


def test_a_record_is_one_line_even_with_a_traceback():
    try:
        int("two\nlines")
    except ValueError:
        record = logging.LogRecord("a.b", logging.ERROR, "f", 1, "it %s", ("failed",), sys.exc_info())
    record.created = 0.25
    line = OneLine().format(record)
    assert "\n" not in line
    assert "ERROR a.b: it failed | Traceback" in line
    assert "lines" in line
