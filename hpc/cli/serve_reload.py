"""`hpc serve run --reload`: what is deployed anew when a file of an application's folder changes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event

#: How often files are looked at.
LOOK_S = 0.5
#: Folders whose files are nobody's code.
_PASSED_OVER = frozenset(("__pycache__", "site-packages", "node_modules"))

Stamps = dict[str, tuple[int, int]]


def stamps(places: list[str]) -> Stamps:
    """When each file was changed, and its size: of modules below folders, and of the files that are named."""
    found: Stamps = {}
    for place in places:
        for path in _files(place):
            try:
                there = os.stat(path)
            except OSError:  # it has gone meanwhile
                continue
            found[path] = (there.st_mtime_ns, there.st_size)
    return found


def _files(place: str) -> list[str]:
    if os.path.isfile(place):
        return [place]
    found = []
    for folder, inner, names in os.walk(place):
        inner[:] = [name for name in inner if not _is_passed_over(name)]
        found += [os.path.join(folder, name) for name in names if name.endswith((".py", ".yaml", ".yml", ".json"))]
    return found


def _is_passed_over(folder: str) -> bool:
    return folder.startswith(".") or folder in _PASSED_OVER


def forget(place: str) -> list[str]:
    """Have the modules of a folder be imported anew. Returns their names.

    Installed packages stay, where their environment is in the folder too: some cannot be imported twice."""
    own = Path(place).resolve()
    gone = []
    for name, module in list(sys.modules.items()):
        if name != "__main__" and name.split(".")[0] != "hpc" and _is_below(own, module):
            del sys.modules[name]
            gone.append(name)
    importlib.invalidate_caches()
    return gone


def _is_below(own: Path, module: object) -> bool:
    """Whether a module is of a folder. A package without a file of its own has only the places of its modules."""
    places = [path] if (path := getattr(module, "__file__", None)) else list(getattr(module, "__path__", ()))
    for path in map(Path, places):
        folder = (path.parent if path.suffix else path).resolve()
        if folder.is_relative_to(own):
            return not any(map(_is_passed_over, folder.relative_to(own).parts))
    return False


def follow(places: list[str], again: Callable[[], None], over: Event, every_s: float = LOOK_S) -> None:
    """Call ``again`` after each change of the files, until it is ``over``. What it raises is printed: what was deployed
    before serves on, and the next change is another attempt."""
    before = stamps(places)
    while not over.wait(every_s):
        now = stamps(places)
        if now == before:
            continue
        changed = sorted(path for path in {*now, *before} if now.get(path) != before.get(path))
        before = now
        print(f"{', '.join(changed)}: deployed again", flush=True)
        try:
            again()
        except Exception as error:  # a module in the middle of an edit
            print(f"it was not deployed: {type(error).__name__}: {error}", flush=True)
