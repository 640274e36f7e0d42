"""Which part of a value cannot be pickled, and serializers of one's own."""

from __future__ import annotations

import functools
import io
import threading

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hpc
from hpc.core import serialization
from hpc.core.serializability import ARGUMENTS, find
from hpc.util import deregister_serializer, inspect_serializability, register_serializer
from hpc.util.check_serialize import FailureTuple

LOCK = threading.Lock()


class Holder:
    def __init__(self, **parts):
        self.__dict__.update(parts)


class Slotted:
    __slots__ = ("lock", "other")

    def __init__(self):
        self.lock, self.other = threading.Lock(), 1


class Fine:
    def __init__(self, value):
        self.value = value


def blamed(value, **options):
    return [culprit.path[1:] for culprit in find(value, "it", serialization.can_pickle, **options)]


def closure(held):
    def function():
        return held

    return function


def by_value(function):
    """As if the function stood in the script: then it is pickled with what it refers to."""
    function.__module__ = "__main__"
    function.__qualname__ = "function"
    return function


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (threading.Lock(), ()),
        ([1, 2, threading.Lock()], ("[2]",)),
        ({"a": (0, threading.Lock())}, ("['a']", "[1]")),
        (Holder(model=Holder(lock=threading.Lock()), fine=3), ("attribute 'model'", "attribute 'lock'")),
        (Slotted(), ("attribute 'lock'",)),
        (closure(threading.Lock()), ("variable 'held' that it closes over",)),
        (functools.partial(print, threading.Lock()), ("argument 0",)),
        (functools.partial(print, file=threading.Lock()), ("argument 'file'",)),
        (Holder(lock=threading.Lock()).__repr__, None),
    ],
    ids=str,
)
def test_the_way_to_the_culprit(value, path):
    found = blamed(value)
    assert len(found) == 1
    if path is not None:
        assert found[0] == path


def test_globals_and_defaults_of_a_function():
    def uses_global():
        return [LOCK for _ in range(2)]

    def has_default(a, b=LOCK, *, c=LOCK):
        return a, b, c

    assert blamed(by_value(uses_global)) == [("global variable 'LOCK'",)]
    assert [path[0] for path in blamed(by_value(has_default))] == ["default of argument 'b'"]


def test_the_method_of_a_class_that_refers_to_a_lock():
    class Local:
        limit = 3

        def method(self):
            return LOCK

    Local.method.__module__ = Local.__module__ = "__main__"
    assert blamed(Local)[0][0] == "method 'method'"
    assert blamed(Local)[0][-1] == "global variable 'LOCK'"


def test_all_culprits_and_what_is_shared_only_once():
    lock = threading.Lock()
    assert blamed([lock, 1, threading.Lock(), [lock]]) == [("[0]",), ("[2]",)]
    assert blamed([lock, threading.Lock()], most=1) == [("[0]",)]


def test_cycles_end():
    a, b = Holder(), Holder()
    a.other, b.other, b.lock = b, a, threading.Lock()
    assert blamed(a) == [("attribute 'other'", "attribute 'lock'")]


def test_depth_ends_the_search_at_what_was_reached():
    value = [[[[threading.Lock()]]]]
    assert blamed(value, depth=2) == [("[0]", "[0]")]
    assert blamed(value, depth=4) == [("[0]",) * 4]


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_exactly_the_bad_elements_of_a_list_are_found(bad):
    value = [threading.Lock() if one else 0 for one in bad]
    expected = [(f"[{index}]",) for index, one in enumerate(bad) if one]
    assert (blamed(value) if any(bad) else []) == expected


def test_errors_of_dumps_name_the_part():
    with pytest.raises(TypeError, match=r"the value -> attribute 'lock' \(a _thread.lock\)"):
        serialization.dumps(Holder(lock=threading.Lock()))
    with pytest.raises(TypeError, match=r"To blame: argument 1 -> \['x'\]"):
        serialization.dumps(((1, {"x": threading.Lock()}), {}), ARGUMENTS)
    with pytest.raises(TypeError, match="To blame: argument 'key'"):
        serialization.dumps(((1,), {"key": threading.Lock()}), ARGUMENTS)


def test_an_error_of_the_values_own_stays_as_it_is():
    class Refuses:
        def __reduce__(self):
            raise KeyError("not me")

    with pytest.raises(KeyError, match="not me"):
        serialization.dumps([Refuses()])


def test_inspect_says_yes_and_no():
    out = io.StringIO()
    assert inspect_serializability([1, 2], name="numbers", print_file=out) == (True, set())
    assert out.getvalue() == "numbers can be serialized.\n"
    holder = Holder(lock=LOCK)
    fine, failures = inspect_serializability(by_value(closure(holder)), print_file=out)
    assert not fine
    (failure,) = failures
    assert isinstance(failure, FailureTuple)
    assert failure.obj is LOCK
    assert failure.name == "lock"
    assert failure.parent is holder
    assert "attribute 'lock' (a _thread.lock)" in out.getvalue()


def test_inspect_prints_to_standard_output(capsys):
    inspect_serializability(threading.Lock(), name="the lock")
    assert capsys.readouterr().out.startswith("the lock cannot be serialized")
    with pytest.raises(ValueError, match="depth"):
        inspect_serializability(1, depth=0)


@pytest.fixture
def own_serializer():
    register_serializer(Holder, serializer=lambda h: h.name, deserializer=lambda name: Holder(name=name, lock=None))
    yield
    deregister_serializer(Holder)


def test_a_serializer_of_ones_own(own_serializer):
    back = serialization.loads(serialization.dumps([Holder(name="x", lock=LOCK)]).to_bytes())
    assert back[0].name == "x"
    assert back[0].lock is None
    with pytest.raises(TypeError):  # only where values are sent: pickling elsewhere is as it was
        cloudpickle.dumps(Holder(name="x", lock=LOCK))


def test_it_holds_for_what_functions_close_over(own_serializer):
    blob, _ = serialization.dump_code(by_value(closure(Holder(name="x", lock=LOCK))))
    deregister_serializer(Holder)  # what makes it again has travelled with it
    assert cloudpickle.loads(blob)().name == "x"


def test_until_it_is_taken_back(own_serializer):
    deregister_serializer(Holder)
    deregister_serializer(Holder)
    with pytest.raises(TypeError):
        serialization.dumps(Holder(name="x", lock=LOCK))
    back = serialization.loads(serialization.dumps(Holder(name="x")).to_bytes())
    assert vars(back) == {"name": "x"}


def test_a_serializer_that_gives_what_cannot_be_pickled_is_to_blame():
    register_serializer(Fine, serializer=lambda fine: threading.Lock(), deserializer=Fine)
    try:
        with pytest.raises(TypeError, match="what its serializer gave"):
            serialization.dumps(Fine(1))
    finally:
        deregister_serializer(Fine)


@pytest.mark.parametrize("cls", [int, str, list, dict, tuple, type, type(lambda: 0), "Fine"])
def test_serializers_are_for_classes_that_pickle_asks_about(cls):
    with pytest.raises(TypeError):
        register_serializer(cls, serializer=str, deserializer=int)


def test_serializers_are_functions():
    with pytest.raises(TypeError, match="functions"):
        register_serializer(Fine, serializer=None, deserializer=Fine)


def test_the_names_are_there_and_cost_nothing_before_they_are_used():
    import subprocess
    import sys

    code = "import hpc, hpc.api.options, sys; print([m for m in sys.modules if m.startswith('hpc.util.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
    for name in hpc.util.__all__:
        assert getattr(hpc.util, name) is not None
    with pytest.raises(AttributeError):
        _ = hpc.util.nothing
