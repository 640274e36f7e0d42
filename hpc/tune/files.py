"""The files of a trial, in Ray's formats: their text, and how it gets there with few system calls.

    params.json, params.pkl       its configuration
    result.json                   one line of JSON for each report
    progress.csv                  the same as a table: the columns are those of the first report
    events.out.tfevents.*         the same for TensorBoard
    error.txt, error.pkl          its failures: all as text, the last one as an object

They are written while the experiment goes on if it has at most `EAGER_TRIALS` trials. Beyond, its journal has all, and
``hpc tune export`` writes them when somebody wants them.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import numbers
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import hpc.cloudpickle as cloudpickle
from hpc.runs.files import Files, files_of, join
from hpc.tune.flat import flatten_dict
from hpc.tune.result import (
    CONFIG_PREFIX,
    EXPERIMENT_TAG,
    EXPR_ERROR_FILE,
    EXPR_ERROR_PICKLE_FILE,
    EXPR_PARAM_FILE,
    EXPR_PARAM_PICKLE_FILE,
)
from hpc.tune.values import as_text

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: An experiment of more trials has no files: each trial would make a directory and four of them.
EAGER_TRIALS = 1000
#: What loggers have gathered is written after this time, or earlier when it is this much.
FLUSH_S = 1.0
FLUSH_BYTES = 4_000_000
#: The bytes that wait at most, where nothing can be written.
MOST_BYTES = 64_000_000
#: On slow file systems writing takes at most one part in 20 of the driver's time.
SHARE = 19


def make_directory(path: str) -> None:
    """Make this directory, and those above it; nothing where it is there."""
    os.makedirs(path, exist_ok=True)


def plain(value: Any) -> Any:
    """What JSON has no word for, as something that it has: numbers of numpy, arrays as lists, and texts of the rest."""
    if hasattr(value, "tolist") and type(value).__module__ == "numpy":
        return value.tolist()
    try:
        if isinstance(value, numbers.Integral):
            return int(value)
        if isinstance(value, numbers.Real):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    return as_text(value)


#: What no column of progress.csv has.
_NO_COLUMN = (CONFIG_PREFIX, EXPERIMENT_TAG)
_encoder = json.JSONEncoder(default=plain)


def result_line(result: Mapping[str, Any]) -> str:
    """A line of result.json; the tag of the trial is in the name of its directory."""
    return _json(_encoder, {key: value for key, value in result.items() if key != EXPERIMENT_TAG}) + "\n"


def params_text(config: Mapping[str, Any]) -> str:
    """params.json, whole."""
    try:
        return json.dumps(config, indent=2, sort_keys=True, default=plain)
    except TypeError:  # keys of several types have no order
        return _json(json.JSONEncoder(indent=2, default=plain), config)


def _json(encoder: json.JSONEncoder, value: Any) -> str:
    try:
        return encoder.encode(value)
    except (TypeError, ValueError):  # keys that are no texts or numbers, or a dict within itself
        return encoder.encode(_speakable(value, ()))


def _speakable(value: Any, above: tuple[int, ...]) -> Any:
    if id(value) in above:
        return "..."
    within = (*above, id(value))
    if isinstance(value, Mapping):
        return {str(key): _speakable(one, within) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_speakable(one, within) for one in value]
    return value


class CsvTable:
    """Lines of progress.csv. The columns are those of the first row, or those that the file has already. What a later
    row has beyond is left out, and what it lacks is empty."""

    def __init__(self, columns: list[str] | None = None) -> None:
        self.columns = columns
        self._text = io.StringIO()
        self._write = csv.writer(self._text).writerow

    def lines(self, result: Mapping[str, Any]) -> str:
        """A result's line, the first time with the header before it. Its configuration is no part of it."""
        row = flatten_dict({key: value for key, value in result.items() if key not in _NO_COLUMN})
        if self.columns is None:
            self.columns = list(row)
            self._write(self.columns)
        get = row.get
        values = [get(name, "") for name in self.columns]
        try:
            self._write(values)
        except Exception:  # of one there is no text
            self._write([value if isinstance(value, float) else as_text(value) for value in values])
        found = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return found


def csv_columns(files: Files, path: str) -> list[str] | None:
    """The columns of a progress.csv that is there already; None where there is none, or no line in it."""
    try:
        with files.open(path) as file:
            return next(csv.reader(io.TextIOWrapper(file, newline="")), None) or None
    except FileNotFoundError:
        return None


def write_params(files: Files, folder: str, config: Mapping[str, Any]) -> None:
    """Make or replace params.json and params.pkl in a trial's directory."""
    put(files, join(folder, EXPR_PARAM_FILE), params_text(config).encode())
    put(files, join(folder, EXPR_PARAM_PICKLE_FILE), cloudpickle.dumps(dict(config)))


def failure_text(number: int, date: str, error: BaseException | str) -> str:
    """What error.txt has of one failure."""
    return f"Failure # {number} (occurred at {date})\n{error}\n"


def write_error(files: Files, folder: str, number: int, date: str, error: BaseException | str) -> None:
    """Add a failure to error.txt, and make it error.pkl if it can be pickled."""
    append(files, join(folder, EXPR_ERROR_FILE), failure_text(number, date, error).encode())
    if isinstance(error, BaseException):
        with contextlib.suppress(Exception):
            put(files, join(folder, EXPR_ERROR_PICKLE_FILE), cloudpickle.dumps(error))


def put(files: Files, path: str, data: bytes) -> None:
    """Make or replace a file, with its directory. A local one is not flushed to disk: the journal is."""
    _with_directory(files, path, lambda: _write(path, "wb", data) if files.local else files.write(path, data))


def append(files: Files, path: str, data: bytes) -> None:
    """Write at the end of a file, with its directory. A local one is not flushed to disk: the journal is."""
    _with_directory(files, path, lambda: _write(path, "ab", data) if files.local else files.append(path, data))


def _write(path: str, how: str, data: bytes) -> None:
    with open(path, how, buffering=0) as file:
        begin, view = file.tell(), memoryview(data)
        try:
            while view:
                view = view[file.write(view) or 0 :]
        except OSError:  # the disk is full, perhaps: no part of it stays
            file.truncate(begin)
            raise


def _with_directory(files: Files, path: str, write: Callable[[], None]) -> None:
    try:
        write()
    except FileNotFoundError:
        folder = path.rpartition("/")[0]
        if files.local:
            os.makedirs(folder, exist_ok=True)
        else:
            files.make_dirs(folder)
        write()


class Appender:
    """Text for the ends of many files. It is gathered in memory and written now and then, one file after the other.
    So a report needs no system call, and 10,000 trials need no open file.

    What cannot be written, because the disk is full or a storage does not answer, waits; that is said. The journal has
    it in any case.
    """

    def __init__(self, filesystem: Any = None) -> None:
        self.files = files_of(filesystem)
        self._waiting: dict[str, list[bytes]] = {}
        self._bytes = 0
        self._due = time.monotonic() + FLUSH_S
        self._failing = False

    def add(self, path: str, data: bytes) -> None:
        """Have this at the end of the file before long."""
        self._waiting.setdefault(path, []).append(data)
        self._bytes += len(data)
        if self._bytes >= FLUSH_BYTES and not self._failing:
            self.flush()
        if self._bytes >= MOST_BYTES:
            self._forget()

    def flush_if_due(self, prepare: Callable[[], None] | None = None) -> None:
        """Write what has waited for a second; on a slow file system, for longer. prepare: adds what is to be added
        before."""
        if time.monotonic() >= self._due:
            if prepare is not None:
                prepare()
            self.flush()

    def flush(self, path: str | None = None) -> None:
        """Write what waits, all of it or that of one file."""
        begun = time.monotonic()
        failure: OSError | None = None
        for one in list(self._waiting) if path is None else [path]:
            parts = self._waiting.get(one)
            if parts:
                data = b"".join(parts)
                try:
                    append(self.files, one, data)
                except OSError as error:
                    failure = error
                    continue
                self._bytes -= len(data)
                del self._waiting[one]
        if path is None or failure is not None:
            now = time.monotonic()
            self._due = now + max(FLUSH_S, SHARE * (now - begun))
        if failure is not None and not self._failing:
            logger.warning("files of trials cannot be written: %s. The journal has all; it is tried again", failure)
        self._failing = failure is not None

    def close(self) -> None:
        """Write what waits, for the last time."""
        self.flush()
        if self._waiting:
            self._forget()

    def _forget(self) -> None:
        logger.warning(
            "%d files such as %s lack their ends: `hpc tune export EXPERIMENT` writes them, from the journal",
            len(self._waiting), next(iter(self._waiting)),
        )  # fmt: skip
        self._waiting.clear()
        self._bytes = 0


def tried(call: Callable[[], T], otherwise: T) -> T:
    """What the call returns; where it fails with an OSError that is said, and this is taken."""
    try:
        return call()
    except OSError as error:
        logger.warning("files of a trial cannot be read or written: %s. The journal has all", error)
        return otherwise


def mend_end(path: str) -> None:
    """Cut off a last line that a driver which was killed has not written whole."""
    with contextlib.suppress(FileNotFoundError), open(path, "r+b") as file:
        data = file.read()
        if data and not data.endswith(b"\n"):
            file.truncate(data.rfind(b"\n") + 1)
