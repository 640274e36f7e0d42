"""The journal of an experiment: one file that only grows, with a record after the other.

A record is its length, its checksum and msgpack. What msgpack does not give back as it was (tuples, numbers of numpy,
functions) is a pickle inside. A last record that a crash cut off is ignored, and overwritten by the next driver. What
is written is with the operating system after `Journal.commit`, and on disk about a second later: a thread sees to that.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import struct
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import msgspec

from hpc import cloudpickle
from hpc.tune.error import TuneError
from hpc.tune.records import SET_BY_ENGINE, Added, AnyRecord, Cloned, Failure, Record, Result, Shaped

FILE, STATE_FILE = "experiment.journal", "experiment.state"
MAGIC = b"hpc.tune 1\n"
_HEAD = struct.Struct("<II")
#: Bytes that are collected before they are written, and seconds between two times that they are brought to disk.
BUFFER_BYTES = 1 << 16
SYNC_S = 1.0
_PICKLE, _ERROR = 1, 2
_PLAIN = (str, bool, float, type(None))


class Unreadable:
    """Stands for a value that could not be pickled, or whose class is not there any more. text: what it was."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"<{self.text}>"


# ---------------------------------------------------------------- records as bytes


def exact(value: Any) -> Any:
    """The value, or a pickle of it where msgpack would not give the same back."""
    return value if _is_plain(value) else _ext(value)


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind is int:
        return bool(-(1 << 63) <= value < 1 << 63)
    if kind is dict:
        return all(type(key) is str and _is_plain(one) for key, one in value.items())
    return bool(kind is list and all(map(_is_plain, value)))


def _ext(value: Any) -> msgspec.msgpack.Ext:
    try:
        data = cloudpickle.dumps(value)
    except Exception as error:
        data = pickle.dumps(Unreadable(f"{value!r:.200}, which could not be pickled: {error}"))
    return msgspec.msgpack.Ext(_PICKLE, data)


def _error(error: BaseException) -> msgspec.msgpack.Ext:
    text = f"{type(error).__name__}: {error}"
    try:
        data = cloudpickle.dumps(error)
        pickle.loads(data)
    except Exception:
        data = b""
    return msgspec.msgpack.Ext(_ERROR, msgspec.msgpack.encode([text, data]))


def _odd(value: Any) -> Any:
    """A number of numpy is stored as a number."""
    item = getattr(value, "item", None)
    if item is not None and getattr(value, "shape", None) == ():
        number = item()
        if type(number) in (bool, int, float, str):
            return number
    return _ext(value)


def _known(code: int, data: memoryview) -> Any:
    if code == _ERROR:
        text, pickled = msgspec.msgpack.decode(data)
        try:
            return pickle.loads(pickled)
        except Exception:
            return TuneError(text)
    try:
        return pickle.loads(data)
    except Exception as error:
        return Unreadable(f"a value that cannot be read here: {type(error).__name__}: {error}")


_encoder = msgspec.msgpack.Encoder(enc_hook=_odd)
_decoder = msgspec.msgpack.Decoder(AnyRecord, ext_hook=_known)


def encode(record: Record) -> bytes:
    """A record as it is stored, without its head."""
    if isinstance(record, Result):
        metrics = {key: value for key, value in record.metrics.items() if key not in SET_BY_ENGINE}
        plain = Result(record.at, record.trial_id, metrics, record.decision, record.by, record.checkpoint)
        try:
            return _encoder.encode(plain)
        except (TypeError, OverflowError, ValueError):  # a key that is no text, or a number beyond 64 bits
            plain.metrics = _ext(metrics)
            return _encoder.encode(plain)
    fields: dict[str, Any] = {}
    if isinstance(record, (Added, Cloned)):
        fields["config"] = exact(record.config)
    if isinstance(record, Added):
        fields["evaluated_params"] = exact(record.evaluated_params)
    if isinstance(record, (Added, Shaped)):
        fields["shape"] = exact(record.shape)
    if isinstance(record, Failure):
        fields["error"] = _error(record.error)
    return _encoder.encode(msgspec.structs.replace(record, **fields) if fields else record)


def decode(data: bytes | memoryview) -> AnyRecord:
    """The record that was stored."""
    record: AnyRecord = _decoder.decode(data)
    return record


# ---------------------------------------------------------------- the file


def read(path: str) -> Iterator[tuple[int, AnyRecord]]:
    """The records of a journal, each with the position of its end. Raises FileNotFoundError and TuneError."""
    with open(path, "rb") as file:
        data = memoryview(file.read())
    yield from _records(data, path)


def parse(data: bytes, path: str) -> Iterator[tuple[int, AnyRecord]]:
    """The same of the bytes of a journal; path is for messages."""
    yield from _records(memoryview(data), path)


def _records(data: memoryview, path: str) -> Iterator[tuple[int, AnyRecord]]:
    if data[: len(MAGIC)] != MAGIC:
        if len(data) < len(MAGIC) and MAGIC.startswith(bytes(data)):
            return  # its driver was killed as it began
        raise TuneError(f"{path} is no journal of this version of hpc.tune")
    place, end = len(MAGIC), len(data)
    unpack, checksum, decoded = _HEAD.unpack_from, zlib.crc32, _decoder.decode
    while place + _HEAD.size <= end:
        length, total = unpack(data, place)
        start = place + _HEAD.size
        payload = data[start : start + length]
        if start + length > end or checksum(payload) != total:
            if _goes_on(data, start + length):
                raise TuneError(
                    f"{path} is damaged at byte {place}: restore it from a backup, or cut it off there "
                    f"(truncate -s {place}), which loses what came later"
                )
            return
        place = start + length
        yield place, decoded(payload)


def _goes_on(data: memoryview, place: int) -> bool:
    """Whether a whole record is at this place, so that what is before it is damaged and no torn end."""
    if place + _HEAD.size > len(data):
        return False
    length, total = _HEAD.unpack_from(data, place)
    payload = data[place + _HEAD.size : place + _HEAD.size + length]
    return bool(len(payload) == length > 0 and zlib.crc32(payload) == total)


def locked(path: str) -> int:
    """The descriptor of the journal, which is made if it is not there. Nobody else has it, until it is closed.

    Raises TuneError where another driver has it, or where it cannot be written.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise TuneError(f"the journal {path} cannot be written: {error}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise TuneError(
            f"another driver runs the experiment of {path}: wait for its end, or give this one another name"
        ) from None
    except OSError:
        pass  # a file system without locks
    return file


class Journal:
    """The journal of an experiment that goes on. One driver has it at a time.

    Raises TuneError where another driver has it, or where it cannot be written.
    """

    def __init__(self, path: str, end: int = 0, file: int | None = None) -> None:
        """path: made if it is not there. end: of the last whole record, as `read` gives it; the rest is cut off. file:
        of `locked`, which whoever reads the journal first needs, so that nobody writes in between."""
        self.path = path
        self._file = locked(path) if file is None else file
        if not end:
            for position, _ in read(path):
                end = position
        os.ftruncate(self._file, end)
        os.lseek(self._file, 0, os.SEEK_END)
        #: The position of what has been appended, and of what is on disk.
        self.end = self.synced = end
        self._written = end
        self._buffer = bytearray()
        if not end:
            self._buffer += MAGIC
            self.end += len(MAGIC)
        self._wake = threading.Condition()
        self._closing = self._hurry = False
        self._failure: OSError | None = None
        self._states: bytes | None = None
        self._thread = threading.Thread(target=self._sync, name="hpc-tune-journal", daemon=True)
        self._thread.start()

    def write(self, record: Record) -> int:
        """Add a record; returns the position of its end: it is on disk once `synced` is as much."""
        data = encode(record)
        self._buffer += _HEAD.pack(len(data), zlib.crc32(data))
        self._buffer += data
        self.end += _HEAD.size + len(data)
        if len(self._buffer) >= BUFFER_BYTES:
            self.flush()
        return self.end

    def flush(self) -> None:
        """Give what was appended to the operating system: a driver that is killed from now on loses nothing of it."""
        if self._failure is not None:
            raise self._full(self._failure)
        if not self._buffer:
            return
        view = memoryview(self._buffer)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            raise self._full(error) from None
        self._buffer = bytearray()
        with self._wake:
            self._written = self.end
            self._wake.notify()

    def keep(self, states: dict[str, Any]) -> None:
        """Keep the states of the scheduler, the searcher, and so on, as they are with what has been appended so far.

        They take the place of those kept before, once the journal is on disk that far. What cannot be pickled is left
        out.
        """
        data = pickle.dumps((self.end, {name: _pickled(state) for name, state in states.items()}))
        self.flush()
        with self._wake:
            self._states = data
            self._wake.notify()

    def commit(self, now: bool) -> None:
        """The same, and with now wait until it is on disk; else it is about a second later."""
        self.flush()
        if now:
            with self._wake:
                self._hurry = True
                self._wake.notify_all()
                self._wake.wait_for(lambda: self.synced == self._written or self._failure is not None)
                self._hurry = False
            self.flush()  # says what went wrong

    def close(self) -> None:
        """Bring all to disk, and let another driver have it."""
        try:
            self.flush()
        finally:
            with self._wake:
                self._closing = True
                self._wake.notify()
            self._thread.join()
            os.close(self._file)
        if self._failure is not None:
            raise self._full(self._failure)

    def _full(self, error: OSError) -> TuneError:
        return TuneError(
            f"the journal {self.path} cannot be written: {error}. What it has so far is whole: make room, and start "
            "the experiment again, which goes on from there"
        )

    def _sync(self) -> None:
        while True:
            with self._wake:
                while self._written == self.synced and self._states is None and not self._closing:
                    self._wake.wait()
                written, states, self._states = self._written, self._states, None
                if written == self.synced and states is None:
                    return
            try:
                os.fdatasync(self._file)
                self.synced = written
                if states is not None:
                    _replace(os.path.join(os.path.dirname(self.path), STATE_FILE), states)
            except OSError as error:
                self._failure = error
                written = -1
            with self._wake:
                self._wake.notify_all()
                if written < 0:
                    return
                self._wake.wait_for(lambda: self._closing or self._hurry, SYNC_S)


# ---------------------------------------------------------------- states beside it


def _replace(path: str, data: bytes) -> None:
    temporary = f"{path}.new"
    with open(temporary, "wb") as file:
        file.write(_HEAD.pack(len(data), zlib.crc32(data)) + data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_states(path: str) -> tuple[int, dict[str, Any]]:
    """What `Journal.keep` has kept, and the length of the journal then; (0, {}) where there is nothing whole."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return 0, {}
    if len(data) < _HEAD.size or _HEAD.unpack_from(data) != (len(data) - _HEAD.size, zlib.crc32(data[_HEAD.size :])):
        return 0, {}
    end, packed = pickle.loads(data[_HEAD.size :])
    states = {}
    for name, state in packed.items():
        with contextlib.suppress(Exception):
            states[name] = pickle.loads(state)
    return end, states


def _pickled(state: Any) -> bytes:
    try:
        return bytes(cloudpickle.dumps(state))
    except Exception:
        return b""
