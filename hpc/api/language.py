"""Language and modes: constants of Ray's that programs compare with."""

from __future__ import annotations

from typing import ClassVar

#: The mode of a driver.
SCRIPT_MODE = 0
#: The mode of a worker.
WORKER_MODE = 1


class Language:
    """The language of a function or actor: here always ``Language.PYTHON``."""

    __slots__ = ("_name", "_value")
    PYTHON: ClassVar[Language]
    JAVA: ClassVar[Language]
    CPP: ClassVar[Language]

    def __init__(self, name: str, value: int) -> None:
        self._name = name
        self._value = value

    def value(self) -> int:
        """Its number."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Language) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return self._name

    def __reduce__(self) -> tuple[type[Language], tuple[str, int]]:
        return Language, (self._name, self._value)


Language.PYTHON = Language("PYTHON", 0)
Language.JAVA = Language("JAVA", 1)
Language.CPP = Language("CPP", 2)

__all__ = ["SCRIPT_MODE", "WORKER_MODE", "Language"]
