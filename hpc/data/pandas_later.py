"""pandas is imported by what wants it, and not by pyarrow for the first array of numpy that becomes a column.

pyarrow asks for pandas then, to know a Series from other values. It costs each process 0.2 s, and most of them never
have a Series. So pyarrow is told here that there is no pandas. It hears of it as soon as anything imports pandas.
"""

from __future__ import annotations

import sys
import threading
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pyarrow as pa

PANDAS = "pandas"


def put_off() -> None:
    """Have pyarrow ask for pandas now, in vain, if nothing has imported it and pyarrow has not asked before."""
    api = getattr(pa.lib, "_pandas_api", None)
    if api is None or PANDAS in sys.modules or any(isinstance(one, Later) for one in sys.meta_path):
        return
    finder = Later(api)
    sys.meta_path.insert(0, finder)
    finder.refused = threading.get_ident()
    try:
        found = api.have_pandas
    finally:
        finder.refused = None
    if found:  # another thread was importing it just now
        finder.end()


class Later(MetaPathFinder):
    """Finds pandas as the finders behind it do, and tells pyarrow when it is imported.

    refused: the thread that does not find it."""

    def __init__(self, api: Any) -> None:
        self._api = api
        self.refused: int | None = None

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """Where pandas is. Raises ModuleNotFoundError for pyarrow's first question."""
        if fullname != PANDAS:
            return None
        if self.refused == threading.get_ident():
            raise ModuleNotFoundError(f"No module named {PANDAS!r}", name=PANDAS)
        for finder in [one for one in sys.meta_path if one is not self]:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Telling(spec.loader, self)
                return spec
        return None

    def end(self) -> None:
        """It has nothing more to do."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def imported(self) -> None:
        """pandas is there: pyarrow imports what it needs of it."""
        self.end()
        try:
            assert self._api.pd is not None
        except ImportError as error:  # too old for this pyarrow
            warnings.warn(f"pyarrow cannot use this pandas: {error}", stacklevel=2)


class _Telling(Loader):
    """The loader of pandas, which says when it has run. Modules keep the loader itself."""

    def __init__(self, loader: Any, finder: Later) -> None:
        self._loader, self._finder = loader, finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the loader does."""
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """As the loader does. Then pyarrow is told."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._finder.imported()
