"""The recorded names of one of Ray's libraries beside those that are here: what the tests of each of them ask."""

from __future__ import annotations

import enum
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from compat.test_public_names import ABSENT, above, remarks, twin


class LibraryNames:
    """The names of a library as they are recorded, and what the remarks in docs say of them. ``hides`` says of a name
    that passes on whatever it gets whether its parameters are not looked at."""

    def __init__(self, library: str, hides: Callable[[str], bool] = lambda name: True) -> None:
        self.recorded: dict[str, dict[str, Any]] = json.loads(
            Path(__file__).with_name(f"recorded_{library}_names.json").read_text()
        )
        self.said = remarks(f"ray_{library}_names")
        self._hides = hides

    def is_here(self, name: str) -> bool:
        """Whether the name is there. Attributes of objects are, where the constructor takes them."""
        if twin(name) is not ABSENT:
            return True
        owner, _, last = name.rpartition(".")
        made = twin(owner)
        if self.recorded[name]["takes"] is not None or not isinstance(made, type):
            return False
        taken = inspect.signature(made).parameters
        return last in taken or any(one.kind is one.VAR_KEYWORD for one in taken.values())

    def has_reason(self, name: str) -> bool:
        """Whether it is said why the name is not there."""
        return bool(set(above(name)) & set(self.said.NO)) or name.rpartition(".")[0] in self.said.MEMBERS

    def signature(self, name: str) -> Any:
        """The parameters of a name that is here and can be called; None of others."""
        if not self.recorded[name]["takes"] or not self.is_here(name):
            return None
        try:
            taken = inspect.signature(twin(name)).parameters
        except (TypeError, ValueError):
            return None
        passes_on = any(one.kind is one.VAR_KEYWORD for one in taken.values())
        return None if passes_on and self._hides(name) else taken

    def unexplained(self) -> list[str]:
        """Names that are not here, and have no reason why not."""
        return [name for name in self.recorded if not self.is_here(name) and not self.has_reason(name)]

    def needless(self) -> list[str]:
        """Names that are said to be missing, and are not; and owners of missing members that have all."""
        lacking = {name.rpartition(".")[0] for name in self.recorded if not self.is_here(name)}
        there = [name for name in self.said.NO if name not in self.recorded or self.is_here(name)]
        return there + [name for name in self.said.MEMBERS if name not in lacking]

    def lost_parameters(self) -> Iterator[tuple[str, str]]:
        """Parameters that a name does not take, and of which that is not said."""
        for name, given in self.recorded.items():
            taken = self.signature(name)
            for word in given["takes"] if taken is not None else ():
                if word not in taken and (name, word) not in self.said.NOT_TAKEN:
                    yield name, word

    def needless_parameters(self) -> list[tuple[str, str]]:
        """Parameters that are said not to be taken, and that Ray's name has not."""
        return [row for row in self.said.NOT_TAKEN if row[1] not in (self.recorded[row[0]]["takes"] or ())]

    def other_defaults(self) -> Iterator[tuple[str, str, Any, Any]]:
        """Defaults that are not Ray's, and of which that is not said: the name, the parameter, Ray's and ours."""
        for name, given in self.recorded.items():
            taken = self.signature(name) or {}
            for word, default in given["defaults"].items():
                is_other = word in taken and plain(taken[word].default) != default
                if is_other and (name, word) not in self.said.OTHER_DEFAULTS:
                    yield name, word, default, taken[word].default


def plain(value: Any) -> Any:
    """A default as it is recorded: of members of an enum that is a text, the text."""
    return value.value if isinstance(value, enum.Enum) else value
