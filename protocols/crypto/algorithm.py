"""The two block ciphers ETC cards use, and how a card says which one it wants."""

from __future__ import annotations

from enum import IntEnum

VERSION_UNSET = 0xFF
"""A version byte never written. Such a file belongs to the 3DES generation."""


class Algorithm(IntEnum):
    """Cipher of a key. The values are those of the `algorithm` byte in the answers to 8050 (JT/T card standard)."""

    DES3 = 0
    SM4 = 4

    @property
    def title(self) -> str:
        """Name as people write it."""
        return "3DES" if self is Algorithm.DES3 else "SM4"

    @property
    def block_bytes(self) -> int:
        """Length of one cipher block."""
        return 8 if self is Algorithm.DES3 else 16

    @property
    def purse_key_index(self) -> int:
        """Key index for 8050: 01 names the first 3DES purse key, 41 the first SM4 one (agreed)."""
        return 0x01 if self is Algorithm.DES3 else 0x41

    @property
    def vehicle_key_index(self) -> int:
        """Key index for the encrypted vehicle read of an ESAM: 00 3DES, 40 SM4 (one source)."""
        return 0x00 if self is Algorithm.DES3 else 0x40


def algorithm_of_version(version: int) -> Algorithm:
    """Cipher that a card or OBU of this version byte (0..255) is meant to be used with.

    Lane programs differ: some take only 5x as SM4, others everything from 50 up. Used here: high nibble of 5 or more,
    except FF. A card may carry both key sets; the answer to 8050 decides.
    """
    return Algorithm.SM4 if version >= 0x50 and version != VERSION_UNSET else Algorithm.DES3
