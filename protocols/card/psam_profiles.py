"""Makers' and provinces' ways with a PSAM, as data: what files and APDUs leave open, one profile for each.

Sources agree on 8070 and 8072. The P1 and P2 of 801A, the functions of 80FA and the length of file 0017 are makers'
choices, most of them known from one source: a site whose PSAM answers 6A86 or 6A88 needs another profile, not other
code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from protocols.card.apdu import Command
from protocols.card.psam import (
    APPLICATION_BYTES,
    PSAM_APPLICATION,
    Crypt,
    KeyKind,
    KeyUsage,
    crypt,
)
from protocols.crypto.algorithm import Algorithm
from protocols.crypto.keys import FACTOR_BYTES
from protocols.crypto.primitives import expect_length
from protocols.errors import LocalProtocolError

Usages = Mapping[tuple[int, int], KeyUsage]
"""Key uses by the P1 and P2 of 801A that ask for them."""


@dataclass(frozen=True, slots=True)
class PsamProfile:
    """One kind of PSAM."""

    name: str
    usages: Usages
    functions: frozenset[Crypt]
    """Functions of 80FA that it has."""
    application: int = PSAM_APPLICATION
    """Directory whose purchase key is used."""
    local_application: int | None = None
    """Second directory with a purse of the province's own; nothing here pays with it."""
    application_bytes: tuple[int, ...] = APPLICATION_BYTES
    """Lengths of file 0017, in the order to try them."""
    levels: int = 2
    """Factors a leaf is derived with: region and card, or the card's alone."""
    authorisation_needed: bool = False
    """True where a centre must authorise the PSAM after each power-on (one source)."""

    def factors(self, leaf_factor: bytes, region: bytes) -> bytes:
        """Factors as commands carry them: the one nearest to the leaf first, the region last where there is one."""
        expect_length("leaf_factor", leaf_factor, FACTOR_BYTES)
        expect_length("region", region, FACTOR_BYTES)
        return leaf_factor + region if self.levels == 2 else leaf_factor

    def usage_of(self, kind: KeyKind, algorithm: Algorithm, *, p2: int | None = None) -> tuple[int, int] | None:
        """P1 and P2 of 801A for a use: the first that fits, of those with this `p2` if given. None: no such use."""
        wanted = KeyUsage(kind, algorithm, self.levels)
        return next((key for key, use in self.usages.items() if use == wanted and p2 in (None, key[1])), None)

    def derive(
        self, kind: KeyKind, algorithm: Algorithm, leaf_factor: bytes, region: bytes, *, p2: int | None = None
    ) -> Command:
        """801A: derive the leaf that the following 80FA uses. Raises LocalProtocolError for a use it does not have."""
        usage = self.usage_of(kind, algorithm, p2=p2)
        if usage is None:
            raise LocalProtocolError(
                f"PSAM profile {self.name} has no {kind.value} key use for {algorithm.title}",
                field="801A",
                hint="name the profile of this PSAM's maker",
            )
        return Command(0x80, 0x1A, *usage, self.factors(leaf_factor, region))

    def crypt(self, function: Crypt, data: bytes, answer_bytes: int) -> Command:
        """80FA with the key derived before. Raises LocalProtocolError for a function it does not have."""
        if function not in self.functions:
            raise LocalProtocolError(f"PSAM profile {self.name} has no function {function.name}", field="80FA")
        return crypt(function, data, answer_bytes)


NATIONAL: Final = PsamProfile(
    name="national",
    # P1: top three bits = levels, low five = usage. Each line is from one source.
    usages=MappingProxyType(
        {
            (0x44, 0x00): KeyUsage(KeyKind.TAC, Algorithm.DES3, 2),  # a published command
            (0x48, 0x00): KeyUsage(KeyKind.EXTERNAL_AUTH, Algorithm.DES3, 2),
            (0x28, 0x00): KeyUsage(KeyKind.EXTERNAL_AUTH, Algorithm.DES3, 1),
            (0x48, 0x41): KeyUsage(KeyKind.EXTERNAL_AUTH, Algorithm.SM4, 2),
            (0x28, 0x41): KeyUsage(KeyKind.EXTERNAL_AUTH, Algorithm.SM4, 1),
            (0x46, 0x01): KeyUsage(KeyKind.MAINTENANCE, Algorithm.DES3, 2),
            (0x46, 0x02): KeyUsage(KeyKind.MAINTENANCE, Algorithm.DES3, 2),
            (0x26, 0x01): KeyUsage(KeyKind.MAINTENANCE, Algorithm.DES3, 1),
            (0x27, 0x01): KeyUsage(KeyKind.MAINTENANCE, Algorithm.DES3, 1),
            (0x59, 0x03): KeyUsage(KeyKind.VEHICLE, Algorithm.DES3, 2),
            (0x59, 0x43): KeyUsage(KeyKind.VEHICLE, Algorithm.SM4, 2),
            (0x39, 0x03): KeyUsage(KeyKind.VEHICLE, Algorithm.DES3, 1),
            (0x39, 0x43): KeyUsage(KeyKind.VEHICLE, Algorithm.SM4, 1),
        }
    ),
    functions=frozenset(Crypt),  # the vehicle MAC is from one source
)
"""Default: what most sources have."""

ONE_LEVEL: Final = replace(NATIONAL, name="one-level", levels=1)
"""Systems whose keys know no region (agreed for 8070, whose data is then 8 bytes shorter)."""

GUANGDONG: Final = replace(
    NATIONAL,
    name="guangdong",
    local_application=0x3F01,
    # The local PSAM asks for maintenance keys with 27 01 (one source).
    usages=MappingProxyType({(0x27, 0x01): KeyUsage(KeyKind.MAINTENANCE, Algorithm.DES3, 1), **NATIONAL.usages}),
)
"""Guangdong, with a purse of its own beside the national one (one source)."""

AUTHORISED: Final = replace(NATIONAL, name="authorised", authorisation_needed=True)
"""Provinces that lock a PSAM until a centre has authorised it (one source)."""

PROFILES: Final[Mapping[str, PsamProfile]] = MappingProxyType(
    {one.name: one for one in (NATIONAL, ONE_LEVEL, GUANGDONG, AUTHORISED)}
)
