"""CRC-16/X-25, the check of `pcrsu-v3` frames (and of air frames and parking antennas)."""

from __future__ import annotations

import binascii

_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
"""Each byte with its bits in the opposite order."""


def crc16_x25(data: bytes) -> int:
    """Check value of `data`, 0..FFFF; v3 sends it high byte first.

    Polynomial 1021 reflected (8408), start FFFF, input and output reflected, final xor FFFF; "123456789" gives 906E.
    The standard library only has the unreflected sum, in C: reflecting every input byte and the result turns one into
    the other, much faster than a table walked in Python when noise makes the deframer check again and again.
    """
    plain = binascii.crc_hqx(data.translate(_REVERSED), 0xFFFF)
    return (_REVERSED[plain & 0xFF] << 8 | _REVERSED[plain >> 8]) ^ 0xFFFF
