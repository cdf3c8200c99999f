"""Being another account for a while, for tests of who may do what. Only root can."""

import os
from contextlib import contextmanager

import pytest

NOBODY = 65_534

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
