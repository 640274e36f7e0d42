"""What an actor class still is of the class that it was made of, and what its handles let through."""

from __future__ import annotations

import abc
import functools

import pytest

import hpc
from hpc.actor import ActorClassInheritanceException
from runtime.running import one_node, settle


@pytest.fixture(autouse=True, scope="module")
def session(no_leaks_of_module):
    with one_node():
        yield


@pytest.fixture(autouse=True)
def nothing_stays(no_leaks):
    yield
    settle()


def logged(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)

    return inner


class Base:
    LIMIT = 10


@hpc.remote
class Account(Base):
    CURRENCY = "EUR"

    def __init__(self, balance=0):
        self.balance = balance

    def balance(self):
        return self.balance

    def __len__(self):
        return 7

    def __call__(self, x):
        return x + 1

    @staticmethod
    def double(x):
        return 2 * x

    @classmethod
    def of_text(cls, text):
        return cls(int(text))

    def inside(self):
        return Account.CURRENCY, Account.double(4), Account.of_text("3").balance

    @logged
    @hpc.method(num_returns=2)
    def two(self, x):
        return x, x

    @hpc.method
    def bare(self, x, *, key=1):
        return x, key


@hpc.remote
def add(a, b=2):
    return a + b


def test_a_method_is_that_of_the_class_where_the_object_has_an_attribute_of_its_name():
    assert hpc.get(Account.remote(7).balance.remote()) == 7


def test_attributes_of_the_class_are_those_of_the_actor_class_also_inside_the_actor():
    assert (Account.CURRENCY, Account.LIMIT, Account.double(3)) == ("EUR", 10, 6)
    assert Account.of_text("5").balance == 5
    assert hpc.get(Account.remote().inside.remote()) == ("EUR", 8, 3)
    with pytest.raises(AttributeError, match="nothing"):
        _ = Account.nothing


def test_special_methods_static_and_class_methods_are_called_through_a_handle():
    account = Account.remote()
    assert hpc.get([account.__len__.remote(), account.__call__.remote(1), account.double.remote(4)]) == [7, 2, 8]


def test_a_decorated_method_keeps_its_options():
    assert hpc.get(Account.remote().two.remote(5)) == [5, 5]


def test_inheriting_from_an_actor_class_says_that_it_cannot():
    with pytest.raises(ActorClassInheritanceException, match="cannot inherit from the actor class 'Account'"):

        class Sub(Account):
            pass

    class Derived(Account.__ray_actor_class__):
        pass

    assert hpc.get(hpc.remote(Derived).remote(3).balance.remote()) == 3


def test_what_is_remote_already_is_no_target_of_remote():
    for target in (Account, add):
        with pytest.raises(TypeError, match="for functions and classes"):
            hpc.remote(target)


def test_an_abstract_class_is_refused_where_it_is_decorated():
    class Animal(abc.ABC):
        @abc.abstractmethod
        def sound(self): ...

    with pytest.raises(TypeError, match=r"'Animal'.* must have sound"):
        hpc.remote(Animal)


def test_a_coroutine_function_is_refused_where_it_is_decorated():
    with pytest.raises(ValueError, match="async def"):

        @hpc.remote
        async def task():
            pass


def test_wrong_arguments_are_refused_where_they_are_given():
    account = hpc.get(hpc.put(Account.remote()))  # signatures travel with a handle
    wrong = {
        "missing a required argument: 'a'": lambda: add.remote(),
        "unexpected keyword argument 'c'": lambda: add.remote(1, c=3),
        "too many positional arguments": lambda: add.options(num_cpus=0).remote(1, 2, 3),
        "multiple values for argument 'a'": lambda: add.remote(1, a=2),
        "too many positional": lambda: Account.remote(1, 2),
        "missing a required argument: 'x'": lambda: account.bare.remote(),
        "unexpected keyword argument 'other'": lambda: account.bare.options(name="n").remote(1, other=2),
        "missing a required": lambda: hpc.get_actor("named").bare.remote(),
    }
    named = Account.options(name="named").remote()
    for words, call in wrong.items():
        with pytest.raises(TypeError, match=words):
            call()
    assert hpc.get([add.remote(b=1, a=3), account.bare.remote(5, key=2), named.bare.remote(1)]) == [4, (5, 2), (1, 1)]


def test_remote_with_lists_of_arguments_takes_options_too():
    account = Account._remote(args=[4], num_cpus=0)
    assert hpc.get(account.bare._remote((1,), {"key": 2})) == (1, 2)
    assert hpc.get(account.bare._remote([1], num_returns=2)) == [1, 1]
    assert hpc.get(add._remote(args=[1], kwargs={"b": 5}, num_cpus=0)) == 6


def test_names_and_namespaces_that_are_none_are_refused_where_they_are_given():
    for wrong, error in ((5, TypeError), ("", ValueError)):
        for use in (
            lambda wrong=wrong: hpc.get_actor(wrong),
            lambda wrong=wrong: hpc.get_actor("a", namespace=wrong),
            lambda wrong=wrong: Account.options(name="a", namespace=wrong),
            lambda wrong=wrong: hpc.util.get_placement_group(wrong),
        ):
            with pytest.raises(error, match=r"must (be a string|not be empty)"):
                use()
    with pytest.raises(TypeError, match="name of a resource"):
        Account.options(resources={5: 1})
