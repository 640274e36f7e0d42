"""Errors of users' code on their way: what get() raises is of the class that was raised, with all that it held."""

from __future__ import annotations

import builtins
import errno
import pickle
import sys
import threading

import pytest

from hpc.core import serialization
from hpc.core.exceptions import HpcError, TaskError, UnserializableException, WorkerCrashedError
from hpc.core.failures import MAX_BEHIND, error_of, pack_error
from hpc.core.passing import MAX_PASSED_BYTES, passed_on
from hpc.core.shorten import MAX_ERROR_BYTES
from hpc.core.wire import ERROR, Result, system_error


def sent(error):
    """What get() raises for an exception that a task raised."""
    try:
        raise error
    except BaseException as raised:
        return error_of(Result(ERROR, pack_error("work", raised, "pid=1, node=2")))


class Slots(Exception):
    __slots__ = ("code", "never")

    def __init__(self, code):
        super().__init__("slots")
        self.code = code


class BadStr(Exception):
    def __str__(self):
        raise RuntimeError("str broken")

    __repr__ = __str__


class OtherArguments(ValueError):
    def __init__(self, where, *, why):
        super().__init__(f"{where}: {why}")
        self.where, self.why = where, why


class ArgsProperty(Exception):
    def __init__(self):
        super().__init__("kept")
        self.extra = 7

    @property
    def args(self):
        return ("its own",)


class NoSubclasses(Exception):
    def __init_subclass__(cls, **options):
        raise RuntimeError("final")


class Picky(Exception):
    def __reduce__(self):
        raise RuntimeError("not to be pickled")


class Both(OSError, ValueError):
    pass


class Dull(Exception):
    cause = "class attribute"

    def __init__(self):
        super().__init__("dull")
        self.where, self.function_name = "my own", "mine"


FIELDS = (
    "errno",
    "strerror",
    "filename",
    "filename2",
    "start",
    "end",
    "object",
    "reason",
    "lineno",
    "name",
    "path",
    "value",
)
BUILT_IN = [
    MemoryError("too much"),
    OSError(errno.ENOSPC, "full", "/scratch/x"),
    FileNotFoundError(errno.ENOENT, "not there", "a", None, "b"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad byte"),
    UnicodeEncodeError("ascii", "ä", 0, 1, "no"),
    SyntaxError("bad", ("file.py", 3, 4, "x = (", 3, 5)),
    ImportError("none", name="a.b", path="/x"),
    StopIteration(7),
    KeyError("k"),
    ZeroDivisionError(),
    RecursionError("deep"),
    KeyboardInterrupt("stop"),
]


@pytest.mark.parametrize("error", BUILT_IN, ids=lambda e: type(e).__name__)
def test_pythons_own_keep_their_fields(error):
    got = sent(error)
    assert isinstance(got, type(error)) and isinstance(got, TaskError)
    for name in FIELDS:
        assert getattr(got, name, None) == getattr(error, name, None)
    assert got.args == error.args and type(got.cause) is type(error)
    again = pickle.loads(pickle.dumps(got))
    assert isinstance(again, type(error)) and str(again) == str(got)
    assert "work (pid=1, node=2) raised:" in str(got) and "Traceback" in str(got)


def test_each_exception_of_python_can_be_raised():
    for kind in vars(builtins).values():
        if isinstance(kind, type) and issubclass(kind, BaseException) and "Group" not in kind.__name__:
            error = kind("utf-8", b"x", 0, 1, "r") if kind.__name__ == "UnicodeDecodeError" else None
            if error is None:
                try:
                    error = kind("text")
                except TypeError:
                    continue
            assert isinstance(sent(error), kind), kind


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups of exceptions are Python 3.11's")
def test_groups_keep_their_members():
    group = builtins.ExceptionGroup  # not in 3.10

    class Mine(group):
        pass

    got = sent(group("several", [ValueError("a"), OSError(2, "b")]))
    assert isinstance(got, group) and got.message == "several"
    assert [type(one) for one in got.exceptions] == [ValueError, FileNotFoundError]
    matched, rest = got.split(ValueError)
    assert len(matched.exceptions) == len(rest.exceptions) == 1
    assert isinstance(sent(Mine("m", [Picky()])).exceptions[0], Picky)


def test_slots_several_bases_and_arguments_that_nobody_knows():
    got = sent(Slots(5))
    assert isinstance(got, Slots) and got.code == 5 and not hasattr(got, "never")
    got = sent(OtherArguments("here", why="so"))
    assert isinstance(got, OtherArguments) and (got.where, got.why, got.args) == ("here", "so", ("here: so",))
    got = sent(Both(2, "x"))
    assert isinstance(got, Both) and got.errno == 2
    got = sent(Dull())
    assert (got.where, got.function_name) == ("my own", "mine") and isinstance(got.cause, Dull)
    assert "work (pid=1, node=2) raised" in str(got)


def test_what_misbehaves_is_raised_all_the_same():
    got = sent(BadStr())
    assert isinstance(got, BadStr) and "BadStr" in str(got)
    got = sent(ArgsProperty())
    assert isinstance(got, ArgsProperty) and got.args == ("its own",) and got.extra == 7
    got = sent(NoSubclasses("x"))
    assert type(got) is TaskError and isinstance(got.cause, NoSubclasses) and "NoSubclasses: x" in str(got)
    assert isinstance(sent(Picky("x")), Picky)


def test_what_cannot_be_pickled_is_left_out_and_said():
    error = ValueError("it", threading.Lock())
    error.lock, error.number = threading.Lock(), 3
    got = sent(error)
    assert isinstance(got, ValueError) and got.number == 3 and got.args[0] == "it"
    assert got.lock.startswith("<lock, left out: it cannot be sent") and got.args[1] == got.lock


def test_what_cannot_be_unpickled_shows_its_text(monkeypatch):
    class Gone(Exception):
        pass

    Gone.__module__, Gone.__qualname__ = __name__, "Gone"
    monkeypatch.setattr(sys.modules[__name__], "Gone", Gone, raising=False)
    data = pack_error("work", Gone("why"), "")
    monkeypatch.delattr(sys.modules[__name__], "Gone")
    got = error_of(Result(ERROR, data))
    assert isinstance(got, TaskError) and isinstance(got.cause, UnserializableException)
    assert "Gone: why" in str(got) and "Gone" in str(got.cause)


def test_serializers_hold_for_exceptions():
    class Locked(Exception):
        def __init__(self, number):
            super().__init__(number)
            self.lock = threading.Lock()

    serialization.register(Locked, lambda error: error.args[0], lambda number: Locked(number + 1))
    try:
        got = sent(Locked(1))
    finally:
        serialization.deregister(Locked)
    assert got.args == (2,) and type(got.cause).__name__ == "Locked"


def test_an_error_that_passes_through_a_task_has_both_names():
    inner = sent(KeyError("k"))
    try:
        raise inner
    except TaskError as error:
        got = error_of(Result(ERROR, pack_error("outer", error, "pid=3, node=2")))
    assert isinstance(got, KeyError) and type(got.cause) is KeyError
    assert "outer (pid=3" in str(got) and "work (pid=1" in str(got)
    got = sent(WorkerCrashedError("it ended"))
    assert isinstance(got, TaskError) and isinstance(got, WorkerCrashedError) and "it ended" in str(got)


def test_a_task_whose_argument_failed_says_so():
    failed = Result(ERROR, pack_error("first", ValueError("bad"), "pid=1, node=2"))
    got = error_of(passed_on(passed_on(failed, "second"), "third"))
    text = str(got)
    assert isinstance(got, ValueError) and type(got.cause) is ValueError and got.function_name == "third"
    assert 0 <= text.index("third did not run") < text.index("second did not run") < text.index("first (pid=1")
    got = error_of(passed_on(system_error("WorkerCrashedError", "it ended"), "second"))
    assert isinstance(got, TaskError) and isinstance(got, WorkerCrashedError) and "second did not run" in str(got)
    assert type(error_of(system_error("WorkerCrashedError", "it ended"))) is WorkerCrashedError


def test_a_long_failure_is_shared_by_those_through_which_it_passes():
    failed = Result(ERROR, bytes(MAX_PASSED_BYTES + 1))
    assert passed_on(failed, "second") is failed
    step = passed_on(system_error("HpcError", "x"), "é" * 1000)
    for _ in range(1000):
        step = passed_on(step, "another")
    assert len(step.data) < MAX_PASSED_BYTES + 1000 and isinstance(error_of(step), HpcError)


def raised_from(error, *causes, way="cause"):
    for cause in causes:
        setattr(error, f"__{way}__", cause)
        error = cause


def test_the_exceptions_behind_one_travel_with_it():
    first, second = KeyError("k"), OSError(2, "no")
    error = ValueError("v")
    raised_from(error, second, first)
    got = sent(error)
    for one in (got, got.cause):
        assert type(one.__cause__) is FileNotFoundError and one.__cause__.errno == 2 and one.__suppress_context__
        assert type(one.__cause__.__cause__) is KeyError and one.__cause__.__cause__.args == ("k",)

    error = ValueError("v")
    raised_from(error, KeyError("k"), way="context")
    got = sent(error)
    assert type(got.__context__) is KeyError and got.__cause__ is None and not got.__suppress_context__

    error = ValueError("v")
    error.__context__, error.__suppress_context__ = KeyError("k"), True  # raise ... from None
    got = sent(error)
    assert got.__cause__ is None and got.__context__ is None


def test_exceptions_in_a_circle_and_in_a_long_row_travel_as_far_as_they_can():
    error, other = ValueError("v"), KeyError("k")
    raised_from(error, other, error)
    assert sent(error).__cause__.__cause__ is None
    error = ValueError("v")
    raised_from(error, *[KeyError(n) for n in range(5000)])
    numbers = []
    got = sent(error).__cause__
    while got is not None:
        numbers.append(got.args[0])
        got = got.__cause__
    assert numbers == list(range(MAX_BEHIND))


def test_what_is_behind_does_no_harm_where_it_cannot_be_sent():
    large, bad, locked = KeyError("x" * (8 << 20)), Picky("a", "b"), OSError("o")
    locked.lock = threading.Lock()
    error = ValueError("v")
    raised_from(error, locked, bad, large)
    got = sent(error)
    assert got.args == ("v",) and type(got.__cause__) is OSError and "left out" in got.__cause__.lock
    assert len(pack_error("work", error, "")) < 2 * MAX_ERROR_BYTES


def test_an_error_that_goes_on_through_a_task_keeps_what_is_behind_it():
    error = ValueError("v")
    raised_from(error, KeyError("k"))
    again = sent(sent(error))
    assert type(again.__cause__) is KeyError and isinstance(again, ValueError)
    outer = OSError("outer")
    outer.__cause__ = sent(error)
    got = sent(outer)
    assert isinstance(got.__cause__, TaskError) and isinstance(got.__cause__, ValueError)
    assert type(got.__cause__.__cause__) is KeyError
