"""Sizes of the outputs of convolutions, and the padding that "same" means."""

from __future__ import annotations

import math
from collections.abc import Sequence

Pair = int | Sequence[int]
Borders = tuple[int, int, int, int]


def pair(value: Pair) -> tuple[int, int]:
    """A number twice, or the two numbers."""
    if isinstance(value, (int, float)):
        return int(value), int(value)
    first, second = value
    return int(first), int(second)


def same_padding(in_size: Sequence[int], kernel: Pair, stride: Pair) -> tuple[Borders, tuple[int, int]]:
    """Padding (left, right, top, bottom) that keeps ceil(size / stride) outputs, and the output's size."""
    out, padding = [], []
    for size, k, s in zip(in_size, pair(kernel), pair(stride)):
        length = math.ceil(size / s)
        total = (length - 1) * s + k - size
        out.append(length)
        padding.append((total // 2, total - total // 2))
    (top, bottom), (left, right) = padding
    return (left, right, top, bottom), (out[0], out[1])


def valid_padding(in_size: Sequence[int], kernel: Pair, stride: Pair) -> tuple[int, int]:
    """The output's size without padding."""
    out = [math.ceil((size - k + 1) / s) for size, k, s in zip(in_size, pair(kernel), pair(stride))]
    return out[0], out[1]


def transpose_padding(size: Sequence[int], kernel: Pair, stride: Pair) -> tuple[Borders, tuple[int, int]]:
    """Padding (left, right, top, bottom) of an image with zeros between its pixels, before a transposed convolution.

    Also the padded size. Without the kernel's border it is the stride times the size before the zeros.
    """
    padding, out = [], []
    for length, k, s in zip(size, pair(kernel), pair(stride)):
        total = k - 1 + s - 1
        after = total // 2
        before = after + total % 2
        padding.append((before, after))
        out.append(length + total - k + 1)
    (left, right), (top, bottom) = padding
    return (left, right, top, bottom), (out[0], out[1])
