"""Generators with a fixed number of return values or "dynamic", errors in the middle, and attempts that do not repeat
what was there."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

import hpc
from hpc.exceptions import GeneratorChangedError, TaskError, WorkerCrashedError
from runtime.running import eventually, one_node, settle


@pytest.fixture(autouse=True, scope="module")
def session(no_leaks_of_module: None) -> Iterator[None]:
    with one_node():
        yield


@pytest.fixture(autouse=True)
def nothing_stays(no_leaks: None) -> Iterator[None]:
    yield
    settle()


def outcome(ref):
    try:
        return hpc.get(ref, timeout=60)
    except TaskError as error:
        return type(error.cause)


def outcomes(refs):
    return [outcome(ref) for ref in refs]


def items(n, fail=False):
    yield from range(n)
    if fail:
        raise RuntimeError("stopped")


@hpc.remote
class Actor:
    def items(self, n, fail=False):
        yield from items(n, fail)


@hpc.remote
class AsyncActor:
    def items(self, n, fail=False):
        yield from items(n, fail)

    async def other(self):
        return 1


KINDS = pytest.mark.parametrize("kind", ["task", "actor", "threads", "async"])


def maker(kind):
    """Make the generator, with these options."""
    if kind == "task":
        return lambda **options: hpc.remote(items).options(**options)
    cls = AsyncActor if kind == "async" else Actor
    actor = cls.options(max_concurrency=2).remote() if kind == "threads" else cls.remote()
    return lambda **options: actor.items.options(**options)


@KINDS
def test_values_as_far_as_they_come_and_then_the_error(kind):
    made = maker(kind)
    three = made(num_returns=3)
    assert outcomes(three.remote(3)) == [0, 1, 2]
    assert outcomes(three.remote(4)) == [0, 1, 2]
    assert outcomes(three.remote(1, True)) == [0, RuntimeError, RuntimeError]
    assert outcomes(three.remote(2)) == [0, 1, ValueError]
    assert outcomes(three.remote(0)) == [ValueError] * 3


@KINDS
def test_one_return_value_is_the_first_item(kind):
    made = maker(kind)
    assert outcome(made(num_returns=1).remote(2)) == 0
    assert outcome(made(num_returns=1).remote(0)) is ValueError
    assert made(num_returns=0).remote(2) is None


@KINDS
def test_dynamic_has_its_error_as_the_last_item(kind):
    made = maker(kind)
    dynamic = made(num_returns="dynamic")
    assert outcomes(hpc.get(dynamic.remote(3))) == [0, 1, 2]
    assert outcomes(hpc.get(dynamic.remote(2, True))) == [0, 1, RuntimeError]


@pytest.mark.parametrize("retries", [0, 1])
def test_large_values_and_references_among_them(tmp_path, retries):
    mark = tmp_path / "runs"

    @hpc.remote(num_returns=3, retry_exceptions=True, max_retries=retries)
    def large():
        yield np.full(200_000, 1, np.uint8)
        yield [hpc.put(np.full(200_000, 2, np.uint8))]
        with open(mark, "a") as file:
            file.write(".")
        raise RuntimeError("each time")

    one, box, error = large.remote()
    assert int(hpc.get(one)[0]) == 1
    assert int(hpc.get(hpc.get(box)[0])[0]) == 2
    assert outcome(error) is RuntimeError
    assert len(mark.read_text()) == retries + 1


def test_a_dynamic_generator_whose_worker_dies_after_large_items():
    @hpc.remote(num_returns="dynamic", max_retries=0)
    def dies():
        yield np.zeros(300_000)
        yield np.zeros(300_000)
        os._exit(1)

    with pytest.raises(WorkerCrashedError):
        hpc.get(dies.remote(), timeout=60)


def test_get_of_a_generator_is_the_generator():
    generator = hpc.remote(items).remote(2)
    assert hpc.get(generator) is generator
    assert hpc.get(generator, timeout=1) is generator
    assert outcomes(hpc.get(generator)) == [0, 1]


# ---------------------------------------------------------------- other attempts


@hpc.remote
def again(path, first, second, dies_before_item=3):
    """Give the items of ``first``; its worker dies, and then those of ``second``."""
    begun = path.exists()
    path.touch()
    for at, item in enumerate(second if begun else first):
        if at == dies_before_item and not begun:
            taken = path.with_suffix(".taken")
            while not taken.exists():
                pass
            os._exit(1)
        yield item


def take(generator, path, count=3):
    """The first items, then leave for the worker to die, then the rest."""
    found = [hpc.get(next(generator), timeout=60) for _ in range(count)]
    path.with_suffix(".taken").touch()
    return found + [hpc.get(ref, timeout=60) for ref in generator]


def test_an_attempt_that_repeats_itself_goes_on(tmp_path):
    numbers = [*range(5)]
    assert take(again.remote(tmp_path / "a", numbers, numbers), tmp_path / "a") == numbers
    texts = ["one", b"two", 3, None, ("four", 5)]
    assert take(again.remote(tmp_path / "b", texts, texts), tmp_path / "b") == texts


def test_numbers_that_are_measured_are_not_compared(tmp_path):
    found = take(again.remote(tmp_path / "a", [0.1, 0.2, 0.3, 0.4], [1.1, 1.2, 1.3, 1.4]), tmp_path / "a")
    assert found == [0.1, 0.2, 0.3, 1.4]


@pytest.mark.parametrize("second", [[3, 4, 5, 6], [0, 1, 7, 3, 4], ["zero", 1, 2]], ids=str)
def test_other_items_than_were_there_are_an_error_that_names_the_task(tmp_path, second):
    with pytest.raises(GeneratorChangedError, match="task again: it ran again after 3 items"):
        take(again.remote(tmp_path / "a", [0, 1, 2, 3], second), tmp_path / "a")


def test_fewer_items_than_were_there_are_an_error(tmp_path):
    generator = again.remote(tmp_path / "a", [0, 1, 2, 3], [0, 1])
    with pytest.raises(GeneratorChangedError, match="gave only 2"):
        take(generator, tmp_path / "a")
    with pytest.raises(StopIteration):
        next(generator)
    with pytest.raises(GeneratorChangedError):
        hpc.get(generator.completed())


def test_what_changed_and_does_not_end_is_ended(tmp_path):
    @hpc.remote
    def endless(path):
        begun = path.exists()
        path.touch()
        at = 1000 if begun else 0
        while True:
            yield (at := at + 1)
            if at == 3:
                path.with_suffix(".three").touch()
                while not path.with_suffix(".taken").exists():
                    pass
                os._exit(1)

    generator = endless.remote(tmp_path / "a")
    eventually((tmp_path / "a.three").exists)
    with pytest.raises(GeneratorChangedError):
        take(generator, tmp_path / "a")
