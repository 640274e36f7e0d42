"""All functions that make a dataset: of files, tables, databases and values in memory."""

from __future__ import annotations

from hpc.data.io.from_api import range, range_tensor
from hpc.data.io.read_files import read_binary_files, read_csv, read_images, read_json, read_numpy, read_text
from hpc.data.io.read_tables import read_parquet

__all__ = [
    "range",
    "range_tensor",
    "read_binary_files",
    "read_csv",
    "read_images",
    "read_json",
    "read_numpy",
    "read_parquet",
    "read_text",
]
