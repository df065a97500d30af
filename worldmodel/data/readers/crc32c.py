"""CRC-32C (Castagnoli) of bytes, as TFRecord files store it, in NumPy.

A CRC is linear: the data are split into lanes of 256 bytes whose CRCs are computed side by side,
eight bytes at a time, and then combined in a tree. Sources: RFC 3720, appendix B.4 (polynomial);
Kounavis and Berry, A Systematic Approach to Building High Performance, Software-based, CRC
Generators, 2005 (slicing by eight).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]
POLYNOMIAL = 0x82F63B78
"""Castagnoli's polynomial, reflected."""
MASK_DELTA = 0xA282EAD8
LANE = 32
"""Words of 8 bytes of a lane."""
LEVELS = 12
"""Depth of the tree: 2^12 lanes (1 MiB) are computed side by side."""


@lru_cache(maxsize=1)
def _byte_table() -> list[int]:
    """Return the CRC register after each byte, starting from zero."""
    table = list(range(256))
    for _ in range(8):
        table = [(value >> 1) ^ (POLYNOMIAL if value & 1 else 0) for value in table]
    return table


def _append_zeros(register: Words, count: int) -> Words:
    """Return registers after `count` zero bytes."""
    table = np.array(_byte_table(), np.uint32)
    for _ in range(count):
        register = table[register & 0xFF] ^ (register >> np.uint32(8))
    return register


def _linear_table(basis: Words) -> Words:
    """Return the table [65536] of a linear map from the images of the 16 single bits."""
    table = np.zeros(1, np.uint32)
    for image in basis:
        table = np.concatenate([table, table ^ image])
    return table


@lru_cache(maxsize=1)
def _tables() -> tuple[list[Words], list[tuple[Words, Words]]]:
    """Return the tables of the four 16-bit parts of a word, and of the shifts of each tree level.

    A part's table holds the register after it and the rest of its word. A level's two tables, of
    the low and the high half of a register, append 256 bytes of zeros, or twice those of the
    level before.
    """
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    parts = [_linear_table(_append_zeros(bits[:16], 8 - 2 * part)) for part in range(4)]
    shifted, levels = _append_zeros(bits, 8 * LANE), []
    for _ in range(LEVELS):
        low, high = _linear_table(shifted[:16]), _linear_table(shifted[16:])
        levels.append((low, high))
        shifted = low[shifted & 0xFFFF] ^ high[shifted >> np.uint32(16)]
    return parts, levels


def _lanes(register: int, words_LN: NDArray[np.uint64]) -> int:
    """Return the register after up to 2^LEVELS lanes of words."""
    parts, levels = _tables()
    state_L = np.zeros(len(words_LN), np.uint64)
    state_L[0] = register
    for word_L in np.ascontiguousarray(words_LN.T):
        # indices of NumPy's own type: others are converted at each look-up, at twice the time
        part_4L = (word_L ^ state_L).view("<u2").reshape(-1, 4).T.astype(np.intp)
        mixed_L = parts[0][part_4L[0]] ^ parts[1][part_4L[1]]
        mixed_L ^= parts[2][part_4L[2]] ^ parts[3][part_4L[3]]
        state_L = mixed_L.astype(np.uint64)
    left = state_L.astype(np.uint32)
    for low, high in levels:
        if len(left) == 1:
            break
        if len(left) % 2:
            left = np.concatenate([np.zeros(1, np.uint32), left])  # zeros in front change nothing
        first, second = left[0::2], left[1::2]
        left = low[first & 0xFFFF] ^ high[first >> np.uint32(16)] ^ second
    return int(left[0])


def crc32c(data: bytes | memoryview) -> int:
    """Return the CRC-32C of some bytes."""
    register, step = 0xFFFFFFFF, 1 << LEVELS
    whole = len(data) // (8 * LANE)
    words_LN = np.frombuffer(data, "<u8", whole * LANE).reshape(whole, LANE)
    for first in range(0, whole, step):
        register = _lanes(register, words_LN[first : first + step])
    table = _byte_table()
    for byte in bytes(data[whole * 8 * LANE :]):
        register = table[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | memoryview) -> int:
    """Return the CRC-32C of some bytes as TFRecord files store it: rotated, plus a constant."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF
