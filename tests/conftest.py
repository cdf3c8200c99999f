"""Property tests draw the same examples on every machine; what a failed test leaves open fails no other one."""

import gc
import logging
import sys
import warnings

import pytest
from hypothesis import settings

from gateway import private_files
from tests import accounts
from tests.pcsc import name_socket, pcsc, pcsc_service  # noqa: F401 - fixtures of all

# As every program of ours does: folders that tests make for a gateway are its user's alone.
private_files.make_private()

name_socket()

# What fails for one fails for all, and can be looked at.
settings.load_profile("ci")

FAILED = pytest.StashKey[bool]()


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    """A command run inside a test sets up logging on that test's standard error, which is closed afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def open_folder():
    """A folder that every account may enter."""
    with accounts.open_folder() as folder:
        yield folder


def pytest_collection_finish():
    """Thousands of tests stay until the end: the collector need not look through them again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """A traceback keeps processes, sockets and loops; let go of them now, or the collector blames a later test."""
    ran = yield
    if item.stash.get(FAILED, False):
        for name in ("last_exc", "last_type", "last_value", "last_traceback"):
            sys.__dict__.pop(name, None)
        with warnings.catch_warnings(action="ignore"):
            gc.collect()
    return ran
