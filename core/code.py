"""Code objects to other processes, with the name of their file and the lines that they were compiled from.

A traceback names the file and shows the line of each frame. cloudpickle promises neither: a release of it put a fixed
name in place of the file's. So code objects are taken apart here, with all of their fields, whatever cloudpickle does
with them. The lines travel too, because a worker may not be able to read the file. It may be a cell of a notebook,
``python -c``, a program from standard input, or on a local disk of another node. A file that the worker can read comes
first.

Pickled code is for the same version of Python, as it is with cloudpickle.
"""

from __future__ import annotations

import io
import linecache
import os
import sys
from functools import lru_cache
from types import CodeType
from typing import Any

#: All that a code object is made of; Python 3.11 has two fields more than 3.10.
FIELDS = tuple(
    name
    for name in (
        "co_argcount",
        "co_posonlyargcount",
        "co_kwonlyargcount",
        "co_nlocals",
        "co_stacksize",
        "co_flags",
        "co_firstlineno",
        "co_code",
        "co_consts",
        "co_names",
        "co_varnames",
        "co_freevars",
        "co_cellvars",
        "co_filename",
        "co_name",
        "co_qualname",
        "co_linetable",
        "co_exceptiontable",
    )
    if hasattr(CodeType, name)
)
#: Code with more source than this travels without it.
MAX_LINES_CHARS = 256 << 10
_CONSTS = FIELDS.index("co_consts")
_TEMPLATE = compile("", "", "exec")

#: The fields of a code object; the code objects among its constants; where these stand.
Parts = tuple[tuple[Any, ...], tuple["Parts", ...], tuple[int, ...]]


def reduce_code(code: CodeType) -> tuple[Any, ...]:
    """How pickle makes a code object again (the form of ``__reduce__``)."""
    return _restore, (_parts(code), *_source(code))


def _parts(code: CodeType) -> Parts:
    values = [getattr(code, name) for name in FIELDS]
    consts = code.co_consts
    places = tuple([index for index, one in enumerate(consts) if isinstance(one, CodeType)])
    values[_CONSTS] = tuple([None if isinstance(one, CodeType) else one for one in consts])
    return tuple(values), tuple([_parts(consts[index]) for index in places]), places


def _made(parts: Parts) -> CodeType:
    values, inner, places = parts
    if places:
        consts = [*values[_CONSTS]]
        for index, one in zip(places, inner):
            consts[index] = _made(one)
        values = (*values[:_CONSTS], tuple(consts), *values[_CONSTS + 1 :])
    return _TEMPLATE.replace(**dict(zip(FIELDS, values)))


def _restore(parts: Parts, first: int, text: str) -> CodeType:
    code = _made(parts)
    if text:
        remember(code.co_filename, first, text)
    return code


# ---------------------------------------------------------------- source lines


def _source(code: CodeType) -> tuple[int, str]:
    """The number of the first line of this code, and its lines up to the last; no text where nobody knows them."""
    try:
        lines = _lines_of(code)
        if not lines:
            return 0, ""
        numbers = _numbers(code)
        first, last = min(numbers), max(numbers)
        text = "".join(lines[first - 1 : last])
        return (first, text) if len(text) <= MAX_LINES_CHARS else (0, "")
    except Exception:  # a program may put anything into linecache
        return 0, ""


def _numbers(code: CodeType) -> set[int]:
    numbers = {code.co_firstlineno, *(line for _, _, line in code.co_lines() if line)}
    for one in code.co_consts:
        if isinstance(one, CodeType):
            numbers |= _numbers(one)
    return numbers


def _lines_of(code: CodeType) -> list[str]:
    """All lines of the code's file, as far as they are known here."""
    name = code.co_filename
    if name in ("<string>", "<stdin>"):  # names that `exec` gives to other code, too
        text, codes = _program(name)
        return _split(text) if code in codes else []
    lines = linecache.getlines(name)
    if not lines and name[:1] == "<":
        of_code = getattr(linecache, "_getlines_from_code", None)  # Python 3.13: what its prompt was given
        lines = of_code(code) if of_code else []
    return lines


@lru_cache(maxsize=2)
def _program(name: str) -> tuple[str, frozenset[CodeType]]:
    """The text of a program that has no file, and all code in it (``exec`` gives other code the same name)."""
    text = _command() if name == "<string>" else _standard_input()
    found: set[CodeType] = set()
    waiting = [compile(text, name, "exec", dont_inherit=True)]
    while waiting:
        code = waiting.pop()
        found.add(code)
        waiting += [one for one in code.co_consts if isinstance(one, CodeType)]
    return text, frozenset(found)


def _command() -> str:
    """What ``python -c`` was given."""
    words = sys.orig_argv
    for index, word in enumerate(words[1:], 1):
        for at, letter in enumerate(word):
            if letter == "c" and word[0] == "-":
                return word[at + 1 :] or words[index + 1]
            if letter in "mWX":  # what follows is theirs
                break
    return ""


def _standard_input() -> str:
    """The program of ``python < file``; a pipe cannot be read twice."""
    size = os.fstat(0).st_size
    return os.pread(0, size, 0).decode() if size else ""


def _split(text: str) -> list[str]:
    return [*io.StringIO(text)]  # str.splitlines ends lines where Python's own reader does not


_known: dict[str, dict[int, str]] = {}


def remember(name: str, first: int, text: str) -> None:
    """From now on `linecache`, and with it each traceback, knows these lines of a file that cannot be read here."""
    known = _known.setdefault(name, {})
    known.update(enumerate(_split(text), first))
    entry = linecache.cache.get(name)
    if entry is not None and len(entry) == 4 and entry[1] is not None:
        return  # it was read from the file itself
    if name[:1] == "<" and name[-1:] == ">":  # for these, linecache asks nobody
        lines = _split(_joined(name))
        linecache.cache[name] = (len(lines), None, lines, name)
    else:  # asked only where the file cannot be read
        linecache.cache[name] = (lambda: _joined(name),)


def _joined(name: str) -> str:
    known = dict(_known[name])  # another thread may be adding to it
    return "".join([known.get(number, "\n") for number in range(1, max(known) + 1)])
