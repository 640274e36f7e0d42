"""The public names of functions and actor classes of other languages, which say that nothing here can run them.

They can be named and given options, as under Ray where no cluster for other languages runs; a call is refused.
"""

from __future__ import annotations

from typing import Any, NoReturn


class Foreign:
    """A function or class of another language: ``remote`` says what to do instead."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __call__(self, /, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f"{self._what} is no function of this process")

    def __repr__(self) -> str:
        return f"Foreign({self._what})"

    def options(self, **options: Any) -> Foreign:
        """Itself: options change nothing for what cannot run."""
        return self

    def remote(self, /, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises ValueError: workers are processes of Python."""
        raise ValueError(
            f"{self._what} cannot run: workers are processes of Python. Start its program with subprocess in a task, "
            "or call it in one through a binding (ctypes, pybind11, JPype)"
        )

    _remote = remote


def java_function(class_name: str, function_name: str) -> Foreign:
    """A static method of a Java class. Its ``remote`` raises ValueError."""
    return Foreign(f"the Java function {_text(class_name)}.{_text(function_name)}")


def java_actor_class(class_name: str) -> Foreign:
    """A Java class. Its ``remote`` raises ValueError."""
    return Foreign(f"the Java class {_text(class_name)}")


def cpp_function(function_name: str) -> Foreign:
    """A C++ function. Its ``remote`` raises ValueError."""
    return Foreign(f"the C++ function {_text(function_name)}")


def cpp_actor_class(create_function_name: str, class_name: str) -> Foreign:
    """A C++ class and the function that makes one. Its ``remote`` raises ValueError."""
    return Foreign(f"the C++ class {_text(class_name)} (made by {_text(create_function_name)})")


def _text(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a function or class must be a string, not {type(name).__name__}")
    return name


__all__ = ["cpp_actor_class", "cpp_function", "java_actor_class", "java_function"]
