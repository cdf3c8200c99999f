"""The published root keys of the bench. Everybody may know them; no real system uses them.

They are the roots listed in the project's computed vectors (tests/vectors/crypto-vectors.jsonl), so that whatever the
emulated cards, PSAMs and OBUs produce can be recomputed by hand. Real keys never come near this repository.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from protocols.card.psam import KeyKind
from protocols.crypto import Algorithm, diversify

ROOTS: Final[Mapping[tuple[KeyKind, Algorithm], bytes]] = MappingProxyType(
    {
        (KeyKind.PURCHASE, Algorithm.DES3): bytes.fromhex("2B7E151628AED2A6ABF7158809CF4F3C"),
        (KeyKind.PURCHASE, Algorithm.SM4): bytes.fromhex("24ECB15A98DD53629EFD760348F0E47C"),
        (KeyKind.TAC, Algorithm.DES3): bytes.fromhex("3C4FCF098815F7ABA6D2AE2816157E2B"),
        (KeyKind.TAC, Algorithm.SM4): bytes.fromhex("BE2A487352755824C27FAE33C9A212CD"),
        (KeyKind.LOAD, Algorithm.DES3): bytes.fromhex("F0E1D2C3B4A5968778695A4B3C2D1E0F"),
        (KeyKind.LOAD, Algorithm.SM4): bytes.fromhex("46C74485DCB1894E8D17460587D18E28"),
        (KeyKind.MAINTENANCE, Algorithm.DES3): bytes.fromhex("102132435465768798A9BACBDCEDFE0F"),
        (KeyKind.MAINTENANCE, Algorithm.SM4): bytes.fromhex("6A3C420CD923342860BCD6057F579966"),
        (KeyKind.EXTERNAL_AUTH, Algorithm.DES3): bytes.fromhex("000102030405060708090A0B0C0D0E0F"),
        (KeyKind.EXTERNAL_AUTH, Algorithm.SM4): bytes.fromhex("37CA273547265CEC9D04CD98CC7D33D3"),
        (KeyKind.VEHICLE, Algorithm.DES3): bytes.fromhex("8899AABBCCDDEEFF0011223344556677"),
        (KeyKind.VEHICLE, Algorithm.SM4): bytes.fromhex("766B8B95456D84B592B5838D7293B342"),
    }
)


class LeafKeys:
    """The leaf keys of one card or OBU, derived from the published roots when first used."""

    def __init__(self, factors: Sequence[bytes]) -> None:
        """`factors`: region factor first, then inner number or contract serial; 8 bytes each."""
        self._factors = tuple(factors)
        self._leaves: dict[tuple[KeyKind, Algorithm], bytes] = {}

    def __getitem__(self, key: tuple[KeyKind, Algorithm]) -> bytes:
        if key not in self._leaves:
            self._leaves[key] = diversify(ROOTS[key], self._factors, key[1])
        return self._leaves[key]
