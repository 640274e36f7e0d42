"""The bytes of files that a column names, read by several threads."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.fs

logger = logging.getLogger(__name__)
#: How many files are read at a time.
THREADS = 16


def contents(names: pa.Array | pa.ChunkedArray, filesystem: Any = None) -> pa.Array:
    """For each name the bytes of its file, null where there is no name or the file cannot be read. The log says why."""
    uris = names.to_pylist()
    with ThreadPoolExecutor(max(1, min(THREADS, len(uris)))) as pool:
        found = list(pool.map(lambda uri: _read(uri, filesystem), uris))
    return pa.array(found, pa.binary())


def _read(uri: str | None, filesystem: Any) -> bytes | None:
    if uri is None:
        return None
    uri = uri.removeprefix("local://")
    try:
        if filesystem is None:
            chosen, path = pa.fs.FileSystem.from_uri(uri) if "://" in uri else (pa.fs.LocalFileSystem(), uri)
        else:
            chosen, path = filesystem, uri.split("://", 1)[-1]
        with chosen.open_input_stream(path) as stream:
            data = stream.read()
    except (OSError, pa.ArrowException) as error:
        logger.warning("download(): %s cannot be read: %s", uri, error)
        return None
    return bytes(data)
