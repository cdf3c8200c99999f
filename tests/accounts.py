"""Being another account for a while, for tests of who may do what. Only root can."""

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65_534


@contextmanager
def open_folder():
    """A folder that every account may enter; what pytest makes is its user's alone."""
    folder = Path(tempfile.mkdtemp(prefix="etc-open-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


needed = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another account's place")


@contextmanager
def as_another(uid=NOBODY, gid=NOBODY, groups=()):
    """Files and sockets are used as this account until the end. What is imported meanwhile must be its to read."""
    before = os.geteuid(), os.getegid(), os.getgroups()
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(before[0])
        os.setegid(before[1])
        os.setgroups(before[2])
