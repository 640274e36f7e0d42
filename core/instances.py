"""Instances of exception classes, made from what another instance holds and without calling the class.

A user's class may want arguments that nobody knows any more. An exception's state is in more than one place: its
``args``, its ``__dict__``, its ``__slots__``, and the fields of Python's own classes. Such fields are the errno of an
OSError, the position in a UnicodeDecodeError, the members of an ExceptionGroup.
"""

from __future__ import annotations

import copyreg
import types
from typing import Any, NamedTuple

_ARGS: Any = vars(BaseException)["args"]
_CAUSE: Any = vars(BaseException)["__cause__"]
_CONTEXT: Any = vars(BaseException)["__context__"]
_SUPPRESS: Any = vars(BaseException)["__suppress_context__"]
_FIELDS = (types.MemberDescriptorType, types.GetSetDescriptorType)
_OBJECT = vars(AttributeError)["obj"]
_HEAP_TYPE = 1 << 9
_OWN_WAYS = frozenset(
    ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__")
)


def args_of(error: BaseException) -> tuple[Any, ...]:
    """The arguments that Python keeps, also where the class has an ``args`` of its own."""
    args: tuple[Any, ...] = _ARGS.__get__(error)
    return args


def fields_of(error: BaseException) -> dict[str, Any]:
    """The fields outside ``__dict__`` and ``args`` that have a value; not the object that lacks an attribute, which may
    be all that a program has."""
    found: dict[str, Any] = {}
    for kind in type(error).__mro__:
        if kind is BaseException:
            break
        for name, field in vars(kind).items():
            if type(field) in _FIELDS and name[:2] != "__" and name not in found and field is not _OBJECT:
                try:
                    value = field.__get__(error)
                except AttributeError:  # a slot without a value
                    continue
                if (
                    value is not None
                ):  # a field of C that is empty reads as None, and is no longer empty when that is set
                    found[name] = value
    return found


def state_of(error: BaseException) -> dict[str, Any]:
    """What is in its ``__dict__``."""
    return dict(object.__getattribute__(error, "__dict__"))


def instance(
    kind: type[BaseException], args: tuple[Any, ...], fields: dict[str, Any], state: dict[str, Any]
) -> BaseException:
    """An instance of the class with these parts. Raises TypeError where Python cannot make one."""
    error = _empty(kind, fields)
    _ARGS.__set__(error, args)
    for name, value in fields.items():
        for one in kind.__mro__:
            field: Any = vars(one).get(name)
            if type(field) in _FIELDS:
                try:
                    field.__set__(error, value)
                except (AttributeError, TypeError):  # read-only: it was given to __new__
                    pass
                break
    object.__getattribute__(error, "__dict__").update(state)
    return error


class ErrorLinks(NamedTuple):
    """What an exception says of those before it."""

    cause: BaseException | None
    context: BaseException | None
    suppress: bool


def links_of(error: BaseException) -> ErrorLinks:
    """The exceptions behind this one, also where its class has attributes of those names."""
    return ErrorLinks(_CAUSE.__get__(error), _CONTEXT.__get__(error), _SUPPRESS.__get__(error))


def set_links(error: BaseException, links: ErrorLinks) -> None:
    """Give an exception the links of another one."""
    _CONTEXT.__set__(error, links.context)
    _CAUSE.__set__(error, links.cause)
    _SUPPRESS.__set__(error, links.suppress)


def link(error: BaseException, before: BaseException, is_cause: bool) -> BaseException:
    """Put an exception behind another one, as its cause or its context; returns it."""
    if isinstance(before, BaseException):
        (_CAUSE if is_cause else _CONTEXT).__set__(error, before)
    return before


def _empty(kind: type[BaseException], fields: dict[str, Any]) -> BaseException:
    """An instance by the ``__new__`` of that one of Python's own classes among its bases that has the fields."""
    refused = TypeError(f"no instance of {kind.__name__} can be made")
    given = (fields["message"], fields["exceptions"]) if "exceptions" in fields and "message" in fields else ()
    for base in kind.__mro__:
        if not base.__flags__ & _HEAP_TYPE:
            new: Any = base.__new__
            try:
                error: BaseException = new(kind, *given)
                return error
            except TypeError as why:
                refused = why
    raise refused


def has_own_way(kind: type) -> bool:
    """Whether the class says how its instances are pickled."""
    return kind in copyreg.dispatch_table or any(
        base.__flags__ & _HEAP_TYPE and not _OWN_WAYS.isdisjoint(vars(base)) for base in kind.__mro__
    )


class Rebuilt:
    """Pickled in place of an exception; unpickled, it is the exception.

    Python's own way is to call the class again with ``args``. That fails, or gives other fields, where the class takes
    other arguments than it hands on.
    """

    __slots__ = ("parts",)

    def __init__(
        self, kind: type[BaseException], args: tuple[Any, ...], fields: dict[str, Any], state: dict[str, Any]
    ) -> None:
        self.parts = (kind, args, fields, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return instance, self.parts
