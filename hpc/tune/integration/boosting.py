"""What the callbacks of libraries of boosted trees share: which metrics a trial reports, and when with a model."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpc.runs.checkpoint import Checkpoint
from hpc.tune.context import report

Metrics = str | Sequence[str] | Mapping[str, str] | None
Change = Callable[[dict[str, Any]], dict[str, Any]]


class BoostedReports:
    """Reports each iteration, with the model every ``frequency`` iterations and at the end. See the subclasses."""

    #: The module of the library, and its package.
    LIBRARY = ("", "")

    def _settle(
        self, metrics: Metrics, filename: str, frequency: int, checkpoint_at_end: bool, change: Change | None
    ) -> None:
        """Take the arguments. Raises ImportError where the library is missing."""
        module, package = self.LIBRARY
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ImportError(
                f"this callback needs the package {package}, which is not installed: pip install {package}", name=module
            ) from error
        self._names = names_of(metrics)
        self._filename = filename
        self._frequency = frequency
        self._at_end = checkpoint_at_end
        self._change = change
        self._saved: int | None = None

    def _iteration(self, number: int, found: dict[str, Any], model: Any, is_last: bool = False) -> None:
        """Report iteration ``number``, from 0; with the model where it is due."""
        due = (self._frequency and (number + 1) % self._frequency == 0) or (is_last and self._at_end)
        if due:
            self._saved = number
        self._send(found, model if due else None)

    def _end(self, last: int, found: dict[str, Any], model: Any) -> None:
        """Training is over: report the model, unless that of its last iteration is reported."""
        if self._at_end and self._saved != last:
            self._saved = last
            self._send(found, model)

    def _send(self, found: dict[str, Any], model: Any) -> None:
        chosen = selected(found, self._names, type(self).__module__)
        if self._change is not None:
            chosen = self._change(chosen)
        if model is None:
            report(chosen)
            return
        with tempfile.TemporaryDirectory() as folder:
            model.save_model(os.path.join(folder, self._filename))
            report(chosen, checkpoint=Checkpoint(folder))


def names_of(metrics: Metrics) -> dict[str, str] | None:
    """The library's name of each metric by the name under which it is reported; None: all as they are."""
    if not metrics:
        return None
    if isinstance(metrics, str):
        return {metrics: metrics}
    return dict(metrics) if isinstance(metrics, Mapping) else {name: name for name in metrics}


def selected(found: Mapping[str, Any], names: Mapping[str, str] | None, where: str) -> dict[str, Any]:
    """The metrics of these names. Raises KeyError, which says what there is, for one that is missing."""
    if names is None or not found:
        return dict(found)
    lost = [name for name in names.values() if name not in found]
    if lost:
        raise KeyError(f"{where}: there is no metric {', '.join(lost)}; there are {', '.join(found) or 'none'}")
    return {name: found[known] for name, known in names.items()}
