"""Values that cannot be made again: one error for all of them, with the reason behind it."""

import pickle

import pytest

from hpc.core import serialization
from hpc.core.exceptions import ObjectLostError, SystemFailure


def broken(error):
    raise error


class Broken:
    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return broken, (self.error,)


class Unspoken(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def loaded(value, outer=None):
    return serialization.loads(serialization.dumps(value).to_bytes(), outer)


@pytest.mark.parametrize("beside", [None, b"x" * 100_000, pickle.PickleBuffer(b"x" * 100_000)])
@pytest.mark.parametrize("outer", [None, b"an object"])
def test_what_loading_raises_is_a_failure_of_the_runtime_with_the_reason_behind_it(beside, outer):
    with pytest.raises(SystemFailure, match="ValueError: too old") as caught:
        loaded([Broken(ValueError("too old")), beside], outer)
    assert type(caught.value.__cause__) is ValueError


def test_an_error_of_the_runtime_stays_itself():
    with pytest.raises(ObjectLostError, match="gone"):
        loaded(Broken(ObjectLostError("gone")))


def test_a_reason_without_a_text_is_named_by_its_class():
    with pytest.raises(SystemFailure, match=r"Unspoken$"):
        loaded(Broken(Unspoken()))


def test_an_interruption_is_none():
    with pytest.raises(KeyboardInterrupt):
        loaded(Broken(KeyboardInterrupt()))
