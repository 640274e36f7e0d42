"""CRC-32C (Castagnoli), by a package that has it in C where one is installed, else by numpy."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import numpy as np

POLYNOMIAL = 0x82F63B78


def crc32c(data: bytes) -> int:
    """The checksum of some bytes."""
    native = in_c()
    return native(data) if native is not None else by_numpy(data)


def masked(data: bytes) -> int:
    """The checksum as record files keep it."""
    value = crc32c(data)
    return (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@cache
def in_c() -> Any:
    for module, name in (("google_crc32c", "value"), ("crc32c", "crc32c")):
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            pass
    return None


@cache
def table() -> np.ndarray:
    """What each byte does to the state."""
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, (values >> 1) ^ np.uint32(POLYNOMIAL), values >> 1)
    return values


@cache
def plain_table() -> list[int]:
    return [int(value) for value in table()]


@cache
def skip(count: int) -> list[list[int]]:
    """For each byte of the state: what it becomes after so many zero bytes."""
    states = np.concatenate([np.arange(256, dtype=np.uint32) << np.uint32(8 * place) for place in range(4)])
    step = table()
    for _ in range(count):
        states = step[states & 0xFF] ^ (states >> np.uint32(8))
    return [[int(value) for value in part] for part in states.reshape(4, 256)]


def by_numpy(data: bytes) -> int:
    """Rows of a square are checked side by side, and their states are put together."""
    if len(data) < 64:
        state, plain = 0xFFFFFFFF, plain_table()
        for byte in data:
            state = plain[(state ^ byte) & 0xFF] ^ (state >> 8)
        return state ^ 0xFFFFFFFF
    width = 1 << max(3, (len(data).bit_length() + 1) // 2)
    height = -(-len(data) // width)
    square = np.zeros(width * height, np.uint8)
    square[-len(data) :] = np.frombuffer(data, np.uint8)
    square[width * height - len(data) :][:4] ^= 0xFF  # A state of ones before the first byte, in the bytes themselves.
    columns = np.ascontiguousarray(square.reshape(height, width).T)
    states, step = np.zeros(height, np.uint32), table()
    for column in columns:
        states = step[(states ^ column) & 0xFF] ^ (states >> np.uint32(8))
    first, second, third, fourth = skip(width)
    state = 0
    for value in states.tolist():
        moved = first[state & 0xFF] ^ second[(state >> 8) & 0xFF] ^ third[(state >> 16) & 0xFF] ^ fourth[state >> 24]
        state = moved ^ value
    return state ^ 0xFFFFFFFF
