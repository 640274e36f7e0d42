"""Which part of a value cannot be pickled: the lock three attributes deep, named by the way that leads to it.

Pickle's own error names the type that it choked on and not where it was. So the parts of the value are tried, in
halves, until a part fails that has no failing part itself. Parts are those of functions (what they close over, the
globals that they use, their defaults), of classes, containers and objects. Only done after a failure; it costs a few
times as much as the pickling that failed. Rejected: pickle's Python implementation with a trace, which is another
pickler and fails at other places than the one that is used.
"""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import Struct

#: How deep an error message looks.
DEPTH = 12
#: Of a class, these are made anew on the other side.
_MADE_ANEW = {"__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "__annotations__"}

#: Stands for the name of ``(args, kwargs)`` of a call: the arguments are named one by one.
ARGUMENTS = "the arguments"
#: Serializers of single classes, in the form of ``__reduce__`` (see `hpc.core.serialization.register`).
reducers: dict[type, Callable[[Any], tuple[Any, ...]]] = {}

#: What a part is called, and the part.
Part = tuple[str, Any]
CanPickle = Callable[[Any], bool]


class Culprit(Struct, frozen=True, eq=False):
    """A part that cannot be pickled although all of its own parts can; ``path`` leads to it from the outermost."""

    value: Any
    name: str
    parent: Any
    path: tuple[str, ...]

    def __str__(self) -> str:
        kind = type(self.value)
        return f"{' -> '.join(self.path)} (a {kind.__module__}.{kind.__qualname__})"


def find(value: Any, name: str, can_pickle: CanPickle, *, depth: int = DEPTH, most: int | None = None) -> list[Culprit]:
    """The culprits in a value that cannot be pickled, at most ``most`` of them, looking ``depth`` levels deep.

    Below that depth the part that was reached is named. ``can_pickle`` tells of any value whether it can be pickled.
    """
    found: list[Culprit] = []
    seen: dict[int, Any] = {}  # with the parts themselves: the id of one that is gone may be another's

    def walk(value: Any, name: str, parent: Any, path: tuple[str, ...], left: int) -> None:
        seen[id(value)] = value
        innermost = True
        for label, part in _failing(parts_of(value), can_pickle) if left > 0 else ():
            innermost = False
            if id(part) not in seen:
                walk(part, label, value, (*path, label), left - 1)
            if most is not None and len(found) >= most:
                return
        if innermost:
            found.append(Culprit(value, name, parent, path))

    walk(value, name, None, (name,), depth)
    return found


def explain(value: Any, name: str, error: BaseException, can_pickle: CanPickle) -> str:
    """The text of an error, with the part that is to blame. Never raises."""
    try:
        roots = _of_call(*value) if name is ARGUMENTS else [(name, value)]
        culprits = [c for label, root in _failing(roots, can_pickle) for c in find(root, label, can_pickle, most=1)]
    except Exception:  # parts are taken by the value's own code, which may do anything
        culprits = []
    text = str(error) or type(error).__name__
    return f"{text}. To blame: {culprits[0]}" if culprits else text


def _failing(parts: list[Part], can_pickle: CanPickle) -> Iterator[Part]:
    if not parts or can_pickle([part for _, part in parts]):
        return
    if len(parts) == 1:
        yield parts[0]
        return
    middle = len(parts) // 2
    yield from _failing(parts[:middle], can_pickle)
    yield from _failing(parts[middle:], can_pickle)


def parts_of(value: Any) -> list[Part]:
    """What a pickler would go through, one level deep."""
    if isinstance(value, types.FunctionType):
        return _of_function(value)
    if isinstance(value, types.MethodType):
        return [("its instance", value.__self__), ("its function", value.__func__)]
    if isinstance(value, functools.partial):
        named = [(f"argument {key!r}", part) for key, part in value.keywords.items()]
        return [("its function", value.func), *((f"argument {i}", a) for i, a in enumerate(value.args)), *named]
    if isinstance(value, type):
        return _of_class(value)
    kind = type(value)
    if kind in (list, tuple):
        return [(f"[{index}]", part) for index, part in enumerate(value)]
    if kind is dict:
        return [*((f"key {key!r:.60}", key) for key in value), *((f"[{k!r:.60}]", part) for k, part in value.items())]
    if kind in (set, frozenset):
        return [("an element", part) for part in value]
    if isinstance(value, (classmethod, staticmethod)):
        return [("its function", value.__func__)]
    if isinstance(value, property):
        return [("its getter", value.fget), ("its setter", value.fset), ("its deleter", value.fdel)]
    return _of_object(value)


def _of_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Part]:
    named = [(f"argument {key!r}", part) for key, part in kwargs.items()]
    return [*((f"argument {index}", part) for index, part in enumerate(args)), *named]


def _of_function(function: types.FunctionType) -> list[Part]:
    code = function.__code__
    parts: list[Part] = []
    for name, cell in zip(code.co_freevars, function.__closure__ or ()):
        try:
            parts.append((f"variable {name!r} that it closes over", cell.cell_contents))
        except ValueError:  # not assigned yet
            continue
    known = function.__globals__
    parts += [(f"global variable {name!r}", known[name]) for name in sorted(_globals_of(code)) if name in known]
    arguments = code.co_varnames[: code.co_argcount]
    defaults = function.__defaults__ or ()
    named = zip(arguments[len(arguments) - len(defaults) :], defaults)
    parts += [(f"default of argument {name!r}", default) for name, default in named]
    parts += [(f"default of argument {name!r}", default) for name, default in (function.__kwdefaults__ or {}).items()]
    parts += [(f"attribute {name!r}", part) for name, part in function.__dict__.items()]
    return parts


def _globals_of(code: types.CodeType) -> set[str]:
    names = {str(i.argval) for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "STORE_GLOBAL")}
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            names |= _globals_of(const)
    return names


def _of_class(cls: type) -> list[Part]:
    bases = [(f"base class {base.__name__!r}", base) for base in cls.__bases__ if base is not object]
    own = [(_member(name, part), part) for name, part in vars(cls).items() if name not in _MADE_ANEW]
    return bases + [part for part in own if not isinstance(part[1], (types.MemberDescriptorType, type(None)))]


def _member(name: str, part: Any) -> str:
    return f"method {name!r}" if isinstance(part, types.FunctionType) else f"class attribute {name!r}"


def _of_object(value: Any) -> list[Part]:
    """By the object's own account of how it is made again; an object that gives none is to blame itself."""
    try:
        own = reducers.get(type(value))
        made: Any = value.__reduce_ex__(5) if own is None else own(value)
    except Exception:
        return []
    if not isinstance(made, tuple) or len(made) < 2:
        return []
    maker, arguments, state, items, pairs = (*made, None, None, None)[:5]
    if own is not None:
        return [("what its deserializer refers to", maker), ("what its serializer gave", arguments[0])]
    parts: list[Part] = [("what makes it", maker)]
    parts += [(f"constructor argument {index}", part) for index, part in enumerate(arguments or ())]
    if isinstance(state, tuple) and len(state) == 2 and all(isinstance(s, (dict, type(None))) for s in state):
        state = {**(state[0] or {}), **(state[1] or {})}
    if isinstance(state, Mapping):
        parts += [(f"attribute {name!r}", part) for name, part in state.items()]
    elif state is not None:
        parts.append(("its state", state))
    parts += [(f"[{index}]", part) for index, part in enumerate(items or ())]
    for key, part in pairs or ():
        parts += [(f"key {key!r:.60}", key), (f"[{key!r:.60}]", part)]
    return parts
