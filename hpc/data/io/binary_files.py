"""Files as they are, or as images or numpy arrays: formats whose value is the whole file."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block import build
from hpc.data.io.formats import Format, ValueFormat
from hpc.data.io.grouping import Piece
from hpc.data.io.opened import OpenFile

#: A table of a large array has about so many bytes.
TABLE = 8 << 20


@dataclass(frozen=True)
class BinaryFormat(ValueFormat):
    """The bytes of each file, decompressed where the name says that they are compressed."""

    name = "Binary"
    column = "bytes"
    is_content = True

    def value(self, file: OpenFile) -> tuple[bytes, int]:
        data = file.content()
        return data, len(data)

    def table(self, values: list[bytes]) -> pa.Table:
        return pa.table({"bytes": pa.array(values, pa.binary())})

    def schema(self, file: OpenFile) -> pa.Schema:
        return pa.schema([("bytes", pa.binary())])


@dataclass(frozen=True)
class ImageFormat(ValueFormat):
    """Images as arrays of height x width (x channels).

    ``size`` is (height, width), ``colors`` a mode of Pillow: what all images are brought to.

    A JPEG that will be made smaller is decoded at a reduced size at once.
    """

    size: tuple[int, int] | None = None
    colors: str | None = None

    name = "Image"
    column = "image"
    factor = 8.0

    def __post_init__(self) -> None:
        try:
            import PIL  # noqa: F401
        except ImportError:
            raise ImportError("images are read by Pillow: pip install pillow") from None
        if self.size is not None and len(self.size) != 2:
            raise ValueError(f"the size of images is (height, width), and not {self.size}")
        if self.size is not None and min(self.size) <= 0:
            raise ValueError(f"the size of images is positive, and not {self.size}")

    def value(self, file: OpenFile) -> tuple[np.ndarray, int]:
        array = image_array(file.raw(), self.size, self.colors)
        return array, array.nbytes

    def table(self, values: list[np.ndarray]) -> pa.Table:
        return pa.table({"image": build.column(values)})


def image_array(data: bytes, size: tuple[int, int] | None = None, mode: str | None = None) -> np.ndarray:
    """An image as an array. Raises ValueError for bytes that are no image."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            if size is not None:
                image.draft(mode if mode in ("L", "RGB", "YCbCr") else None, (size[1], size[0]))
            found: Any = image
            if size is not None and image.size != (size[1], size[0]):
                found = found.resize((size[1], size[0]), resample=Image.Resampling.BILINEAR)
            if mode is not None and found.mode != mode:
                found = found.convert(mode)
            return np.array(found)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"this is no image that Pillow reads: {error}") from error


@dataclass(frozen=True)
class NumpyFormat(Format):
    """The rows of the array of each .npy file: the steps along its first axis, read a part at a time."""

    allow_pickle: bool = False
    options: tuple[tuple[str, Any], ...] = ()

    name = "Numpy"

    def tables(self, file: OpenFile, piece: Piece, columns: list[str] | None) -> Iterator[pa.Table]:
        with file.random() if file.compression is None else pa.BufferReader(file.content()) as opened:
            start = opened.read(6)
            opened.seek(0)
            header = npy_header(opened) if start == b"\x93NUMPY" and not self.options else None
            if header is None:
                array = np.load(opened, allow_pickle=self.allow_pickle, **dict(self.options))
                if not isinstance(array, np.ndarray):
                    raise ValueError(f"the file is an archive of the arrays {array.files}: save each one as .npy")
                yield self.table(array)
                return
            shape, dtype = header
            row = dtype.itemsize * math.prod(shape[1:])
            step = max(1, TABLE // max(1, row))
            for first in range(0, shape[0], step):
                count = min(step, shape[0] - first)
                data = opened.read(count * row)
                if len(data) < count * row:
                    raise file.error("the file ends within the array", (first, None))
                yield self.table(np.frombuffer(data, dtype).reshape(count, *shape[1:]))

    def table(self, array: np.ndarray) -> pa.Table:
        if array.ndim == 0:
            raise ValueError("the array has no axis, so there are no rows")
        return build.table({"data": array}, "read_numpy")


def npy_header(opened: Any) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
    """The shape and type of an array in C order without Python objects, and the file after its header; else None."""
    version = np.lib.format.read_magic(opened)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(opened)
    if (fortran and len(shape) > 1) or dtype.hasobject or not shape or version > (2, 0):
        opened.seek(0)
        return None
    return shape, dtype
