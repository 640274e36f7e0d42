"""How far a run is, on the driver's terminal: a bar where there is a terminal, else a line every few seconds."""

from __future__ import annotations

import sys
import time
from typing import Any

from hpc.runs.callbacks import UserCallback
from hpc.runs.checkpoint import Checkpoint
from hpc.train.config import TrainRunContext

LINE_EVERY_S = 5.0


class Progress(UserCallback):
    """Shows the metrics of rank 0 as they are reported. Give it to ``fit(progress=...)``.

    total: how many steps there will be, if known. key: the metric that counts steps; without it reports are counted.
    """

    def __init__(self, total: int | None = None, key: str | None = None, description: str = "training") -> None:
        self.total = total
        self.key = key
        self.description = description
        self._reports = 0
        self._bar: Any = None
        self._task: Any = None
        self._started_s = self._shown_s = 0.0
        self._unshown = ""

    def start(self) -> None:
        """The run begins."""
        self._reports = 0
        self._started_s = time.monotonic()
        self._shown_s = self._started_s - LINE_EVERY_S
        self._unshown = ""
        if sys.stdout.isatty():
            self._bar = _make_bar()
            self._task = self._bar.add_task(self.description, total=self.total, text="")
            self._bar.start()

    def after_report(
        self, run_context: TrainRunContext, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None
    ) -> None:
        """Show the report; without a terminal only when the last line is some seconds old."""
        self._reports += 1
        mine = metrics[0]
        done = mine.get(self.key, self._reports) if self.key else self._reports
        text = "  ".join(f"{name}={_short(value)}" for name, value in mine.items() if self._is_shown(name, value))
        if self._bar is not None:
            self._bar.update(self._task, completed=done, text=text)
            return
        of = f"/{self.total}" if self.total is not None else ""
        self._unshown = f"{self.description}: {self.key or 'report'} {done}{of}  {text}"
        if time.monotonic() - self._shown_s >= LINE_EVERY_S:
            self._show()

    def stop(self) -> None:
        """The run has ended, well or not."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        elif self._unshown:
            self._show()

    def _is_shown(self, name: str, value: Any) -> bool:
        return name != self.key and isinstance(value, (int, float, str))

    def _show(self) -> None:
        print(f"{self._unshown}  ({time.monotonic() - self._started_s:.1f} s)", flush=True)
        self._unshown = ""
        self._shown_s = time.monotonic()


def _make_bar() -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}"),
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
