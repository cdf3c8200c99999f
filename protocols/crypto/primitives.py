"""Block ciphers and the three MAC chains. Nothing here knows about cards.

Triple DES has left the main name space of the cryptography library; cards in the field still use it.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import SM4

from protocols.crypto.algorithm import Algorithm
from protocols.errors import LocalProtocolError

KEY_BYTES: Final = 16
"""Length of every stored key: two DES keys, or one SM4 key."""

DES_KEY_BYTES: Final = 8
DES_BLOCK_BYTES: Final = 8
SM4_BLOCK_BYTES: Final = 16


def expect_length(name: str, data: bytes, *lengths: int) -> bytes:
    """Return `data` if it has one of `lengths`. Raises LocalProtocolError, without showing data: it may be a key."""
    if len(data) not in lengths:
        wanted = " or ".join(str(length) for length in lengths)
        raise LocalProtocolError(f"{len(data)} bytes given, {wanted} wanted", field=name)
    return data


def encrypt(key: bytes, data: bytes, algorithm: Algorithm) -> bytes:
    """ECB with a 16-byte key; `data` is whole blocks. 3DES is EDE with keys left, right, left."""
    return _ecb(_cipher(key, algorithm), data, decrypting=False)


def decrypt(key: bytes, data: bytes, algorithm: Algorithm) -> bytes:
    """Inverse of `encrypt`."""
    return _ecb(_cipher(key, algorithm), data, decrypting=True)


def pad(data: bytes, block_bytes: int) -> bytes:
    """Append 80 and as many 00 as needed. Always adds something, also to whole blocks (verified for MACs)."""
    padded = data + b"\x80"
    return padded + bytes(-len(padded) % block_bytes)


def des_cbc_mac(key: bytes, data: bytes, iv: bytes = bytes(DES_BLOCK_BYTES)) -> bytes:
    """Last block (8 bytes) of single-DES CBC over the padded data, 8-byte key."""
    expect_length("key", key, DES_KEY_BYTES)
    return des_cbc_mac_blocks(key, pad(data, DES_BLOCK_BYTES), iv)


def des_cbc_mac_blocks(key: bytes, blocks: bytes, iv: bytes = bytes(DES_BLOCK_BYTES)) -> bytes:
    """Same as `des_cbc_mac` over data the caller has padded already (PSAM command 80FA 05)."""
    expect_length("key", key, DES_KEY_BYTES)
    return _cbc_last(TripleDES(key * 3), blocks, iv)


def sm4_cbc_mac(key: bytes, data: bytes, iv: bytes = bytes(SM4_BLOCK_BYTES)) -> bytes:
    """Last block (16 bytes) of SM4 CBC over the padded data, 16-byte key."""
    return sm4_cbc_mac_blocks(key, pad(data, SM4_BLOCK_BYTES), iv)


def sm4_cbc_mac_blocks(key: bytes, blocks: bytes, iv: bytes = bytes(SM4_BLOCK_BYTES)) -> bytes:
    """Same as `sm4_cbc_mac` over data the caller has padded already."""
    return _cbc_last(SM4(expect_length("key", key, KEY_BYTES)), blocks, iv)


def retail_mac(key: bytes, data: bytes, iv: bytes = bytes(DES_BLOCK_BYTES)) -> bytes:
    """ISO 9797-1 algorithm 3 over the padded data: 8 bytes.

    Single-DES CBC with the left half of the key; the last block is decrypted with the right half and encrypted again
    with the left one.
    """
    return retail_mac_blocks(key, pad(data, DES_BLOCK_BYTES), iv)


def retail_mac_blocks(key: bytes, blocks: bytes, iv: bytes = bytes(DES_BLOCK_BYTES)) -> bytes:
    """Same as `retail_mac` over data the caller has padded already."""
    expect_length("key", key, KEY_BYTES)
    left, right = key[:DES_KEY_BYTES], key[DES_KEY_BYTES:]
    chained = _cbc_last(TripleDES(left * 3), blocks, iv)
    return _ecb(TripleDES(left * 3), _ecb(TripleDES(right * 3), chained, decrypting=True), decrypting=False)


def _cipher(key: bytes, algorithm: Algorithm) -> BlockCipherAlgorithm:
    expect_length("key", key, KEY_BYTES)
    if algorithm is Algorithm.DES3:
        return TripleDES(key + key[:DES_KEY_BYTES])  # 24 bytes: shorter keys are deprecated by the library
    return SM4(key)


def _ecb(cipher: BlockCipherAlgorithm, data: bytes, *, decrypting: bool) -> bytes:
    _expect_blocks(data, cipher.block_size // 8)
    ecb = Cipher(cipher, modes.ECB())  # noqa: S305 - the cards' own construction; each block is diversified data
    context = ecb.decryptor() if decrypting else ecb.encryptor()
    return context.update(data) + context.finalize()


def _cbc_last(cipher: BlockCipherAlgorithm, blocks: bytes, iv: bytes) -> bytes:
    block_bytes = cipher.block_size // 8
    expect_length("iv", iv, block_bytes)
    _expect_blocks(blocks, block_bytes)
    context = Cipher(cipher, modes.CBC(iv)).encryptor()
    return (context.update(blocks) + context.finalize())[-block_bytes:]


def _expect_blocks(data: bytes, block_bytes: int) -> None:
    if not data or len(data) % block_bytes:
        raise LocalProtocolError(f"{len(data)} bytes are not whole blocks of {block_bytes}", field="data")
