"""Actor: an account of this machine, told by the kernel. Nobody types a name.

The kernel says whose process is at the other end of a local socket, and whose this one is. Roles come from the groups
of the account; the gateway's own user and root have them all, because they could write the ledger themselves.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_PEER: Final = struct.Struct("3i")
"""`struct ucred` of unix(7): process, user, group."""

NAME_CHARS_MAX: Final = 64
"""Width of a person's or a till's name in the ledger."""

REASON_CHARS_MAX: Final = 200
"""Width of a reason in the ledger."""


class Role(StrEnum):
    """Role of an account: what it may do."""

    CASHIER = "cashier"
    """Take and give money at a till."""
    CLERK = "clerk"
    """Put right what is stuck or different: refunds, adjustments, words of a bank, limits, items."""


@dataclass(frozen=True, slots=True)
class Actor:
    """An account, and the groups it belongs to."""

    uid: int
    name: str
    """Name of the account, as the ledger keeps it."""
    groups: frozenset[str]

    @property
    def is_owner(self) -> bool:
        """True for root and for the user this process runs as."""
        return self.uid in (0, os.geteuid())

    def has(self, role: Role, groups: Mapping[Role, Iterable[str]]) -> bool:
        """True when the account may do what this role may; `groups` of the machine have it."""
        return self.is_owner or not self.groups.isdisjoint(groups.get(role, ()))


def of_account(uid: int, gid: int) -> Actor:
    """Actor of a user and its main group, by the machine's own tables."""
    try:
        account = pwd.getpwuid(uid)
    except KeyError:
        return Actor(uid, f"#{uid}", frozenset(_group_names([gid])))
    return Actor(uid, account.pw_name[:NAME_CHARS_MAX], frozenset(_group_names(os.getgrouplist(account.pw_name, gid))))


def of_this_process() -> Actor:
    """Actor that runs this command."""
    return of_account(os.geteuid(), os.getegid())


def of_peer(peer: socket.socket) -> Actor:
    """Actor that has opened the other end of a local socket."""
    _, uid, gid = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return of_account(uid, gid)


def _group_names(ids: Iterable[int]) -> Iterable[str]:
    for gid in ids:
        try:
            yield grp.getgrgid(gid).gr_name
        except KeyError:
            continue
