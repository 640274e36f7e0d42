"""CRC-32C (Castagnoli), the checksum of record files: by a package that has it in C where one is installed, else by
numpy."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

POLYNOMIAL = 0x82F63B78
#: Fewer bytes cost less one by one than as rows of numpy.
FEW_BYTES = 4096


def crc32c(data: bytes) -> int:
    """The checksum of some bytes."""
    native = in_c()
    if native is not None:
        return int(native(data))
    return one_by_one(data) if len(data) < FEW_BYTES else by_numpy(data)


def masked(data: bytes) -> int:
    """The checksum as record files keep it."""
    return mask(crc32c(data))


def mask(value: int) -> int:
    """A checksum as record files keep it."""
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


def one_by_one(data: bytes) -> int:
    """The checksum, byte after byte."""
    state, plain = 0xFFFFFFFF, plain_table()
    for byte in data:
        state = plain[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state ^ 0xFFFFFFFF


def of_all(many: Sequence[bytes]) -> list[int]:
    """The checksums of many short records at once: a step takes the next byte of each."""
    if not many:
        return []
    lengths = np.array([len(one) for one in many])
    order = np.argsort(-lengths, kind="stable")
    columns = np.zeros((int(lengths.max()), len(many)), dtype=np.uint8)
    for place, index in enumerate(order):
        columns[: lengths[index], place] = np.frombuffer(many[index], dtype=np.uint8)
    states, step = np.full(len(many), 0xFFFFFFFF, dtype=np.uint32), table()
    long_enough = np.searchsorted(-lengths[order], -np.arange(len(columns)), side="left")
    for column, count in zip(columns, long_enough, strict=True):
        active = states[:count]
        states[:count] = step[(active ^ column[:count]) & 0xFF] ^ (active >> 8)
    found = np.empty(len(many), dtype=np.uint32)
    found[order] = states ^ np.uint32(0xFFFFFFFF)
    return [int(one) for one in found]


def by_numpy(data: bytes) -> int:
    """Rows of a square are checked side by side, and their states are put together. For 32 bytes and more."""
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
