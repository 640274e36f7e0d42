"""What cannot be sent says so with the name of the part; serializers of one's own, across processes; metrics there."""

from __future__ import annotations

import threading

import pytest

import hpc
from hpc.util import deregister_serializer, register_serializer
from hpc.util.metrics import Counter, snapshot
from runtime.running import one_node


@pytest.fixture(autouse=True, scope="module")
def session(no_leaks_of_module):
    with one_node():
        yield


class Holder:
    def __init__(self, name):
        self.name = name
        self.lock = threading.Lock()


def test_a_function_that_closes_over_a_lock():
    held = Holder("x")

    @hpc.remote
    def work():
        return held.name

    with pytest.raises(TypeError, match=r"variable 'held' that it closes over -> attribute 'lock' \(a _thread.lock\)"):
        work.remote()


def test_an_argument_and_a_put_value_with_a_lock():
    @hpc.remote
    def work(*args, **kwargs):
        return 1

    with pytest.raises(TypeError, match="To blame: argument 1 -> attribute 'lock'"):
        work.remote(1, Holder("x"))
    with pytest.raises(TypeError, match="To blame: argument 'held' -> attribute 'lock'"):
        work.remote(hpc.put(1), held=Holder("x"))
    with pytest.raises(TypeError, match=r"the value -> \['a'\] -> attribute 'lock'"):
        hpc.put({"a": Holder("x")})
    assert hpc.get(work.remote()) == 1


def test_a_result_and_an_actor_class_with_a_lock():
    @hpc.remote
    def work():
        return [Holder("x")]

    with pytest.raises(TypeError, match=r"the value -> \[0\] -> attribute 'lock'"):
        hpc.get(work.remote())

    lock = threading.Lock()

    @hpc.remote
    class Actor:
        def method(self):
            return lock

    with pytest.raises(TypeError, match="method 'method' -> variable 'lock' that it closes over"):
        Actor.remote()


def test_references_inside_do_not_disturb_the_search():
    with pytest.raises(TypeError, match=r"the value -> \[1\]"):
        hpc.put([hpc.put(1), threading.Lock()])


def test_a_serializer_holds_for_arguments_put_and_code():
    register_serializer(Holder, serializer=lambda holder: holder.name, deserializer=Holder)
    try:
        held = Holder("closed over")

        @hpc.remote
        def names(*holders):
            return [held.name, *(holder.name for holder in holders)]

        @hpc.remote
        def back():
            return Holder("made there")

        assert hpc.get(names.remote(Holder("a"), hpc.put(Holder("b")))) == ["closed over", "a", "b"]
        assert hpc.get(hpc.put([Holder("c")]))[0].name == "c"
        with pytest.raises(TypeError, match="attribute 'lock'"):  # that process has none
            hpc.get(back.remote())
    finally:
        deregister_serializer(Holder)
    with pytest.raises(TypeError):
        hpc.put(Holder("d"))


def test_metrics_count_in_the_process_where_they_are():
    counter = Counter("seen", tag_keys=("who",))

    @hpc.remote(num_cpus=0)
    class Actor:
        def count(self):
            counter.inc(tags={"who": "actor"})

        def shown(self):
            return [metric for metric in snapshot() if metric["name"] == "seen"]

    actor = Actor.remote()
    hpc.get([actor.count.remote() for _ in range(3)])
    assert hpc.get(actor.shown.remote())[0]["values"] == [{"tags": {"who": "actor"}, "value": 3.0}]
    assert not [metric for metric in snapshot() if metric["name"] == "seen" and metric["values"]]
