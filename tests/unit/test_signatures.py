"""Signatures say what inspect says, in a form that is cheap to check."""

from __future__ import annotations

import functools
import inspect
import pickle

import pytest

from hpc.api.signatures import constructor_of, method_of, signature_of


def plain(a, b=2):
    return None


def alone(a, *, key, other=3):
    return None


def places(a, b=1, /, c=2):
    return None


def places_and_more(a, /, **rest):
    return None


def everything(*args, **kwargs):
    return None


def star(a, *args, key=1):
    return None


CALLS = [
    *(((1, 2, 3, 4)[:count], {}) for count in range(5)), ((), {"a": 1}), ((1,), {"a": 1}), ((1,), {"b": 1}),
    ((1,), {"key": 1}), ((1, 2), {"key": 1}), ((), {"key": 1}), ((1,), {"other": 1}), ((1,), {"c": 1}),
    ((1, 2), {"c": 1}), ((1, 2, 3), {"c": 1}), ((1,), {"key": 1, "other": 2, "new": 3}), ((), {"b": 1}),
    ((), {"a": 1, "b": 2}),
]  # fmt: skip


@pytest.mark.parametrize("function", [plain, alone, places, places_and_more, everything, star])
@pytest.mark.parametrize(("args", "kwargs"), CALLS)
def test_a_call_is_refused_with_the_words_of_inspect_or_fits(function, args, kwargs):
    expected = found = ""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        expected = str(error)
    known = pickle.loads(pickle.dumps(signature_of(function)))
    if kwargs or not known.low <= len(args) <= known.high:  # as remote() does
        try:
            known.check(args, kwargs)
        except TypeError as error:
            found = str(error)
    assert found == expected


def test_a_method_takes_what_comes_after_self():
    class Kind:
        def plain(self, x):
            return x

        @staticmethod
        def static(x):
            return x

        @classmethod
        def of_class(cls, x):
            return x

        @functools.lru_cache(maxsize=2)  # noqa: B019 - a wrapper in C
        def cached(self, x):
            return x

    for name in ("plain", "static", "of_class", "cached"):
        known = method_of(Kind, name)
        assert (known.low, known.high) == (1, 1), name


def test_a_constructor_takes_what_init_or_new_takes_and_one_in_c_takes_all():
    class Empty:
        pass

    class WithNew:
        def __new__(cls, x):
            return object.__new__(cls)

    class InC(dict):
        pass

    assert constructor_of(Empty)[:2] == (0, 0)
    assert constructor_of(WithNew)[:2] == (1, 1)
    constructor_of(InC).check((1, 2), {"any": 3})
