"""What others are told of a run while it goes on: its ranks, metrics, checkpoints and starts. See `hpc.spi.tell_run`.

The driver notes what happens in fields, which costs a microsecond a report. What is told is made of them by another
thread, every two seconds, and is bounded.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpc import spi
from hpc.runs.drained import Drained
from hpc.runs.thinned import Thinned
from hpc.spi import bulletins
from hpc.train.events import Gone, Reported, Returned

if TYPE_CHECKING:
    from hpc.runs.ranking import Stored
    from hpc.runs.storage import RunStorage
    from hpc.train.group import RankGroup
    from hpc.train.room import Room
    from hpc.train.rounds import Round, Rounds

#: Metrics that have a curve, and its points; ranks, checkpoints and attempts in what is told.
MAX_CURVES, MAX_POINTS = 8, 150
MAX_RANKS, MAX_CHECKPOINTS, MAX_ATTEMPTS = 128, 50, 20
#: Of this many reports the rate is that of now.
LATELY = 20
#: Columns of the table of ranks.
RANKS = ("rank", "node_id", "host", "devices", "state", "reports", "report_age_s", "steps_s", "doing")


class _Rank:
    """How far a rank is. Times are those of a clock that does not go back."""

    __slots__ = ("first_s", "last_s", "reports", "state")

    def __init__(self) -> None:
        self.reports = 0
        self.first_s = self.last_s = 0.0
        self.state: Any = "RUNNING"


class TrainTelling:
    """What is told of one call of ``fit``."""

    def __init__(self, name: str, storage: RunStorage, room: Room) -> None:
        self._name, self._storage, self._room = name, storage, room
        self._began_s = time.time()
        self._ended_s: float | None = None
        self._state: bulletins.RunState = "WAITING"
        self._why = ""
        self._attempts: deque[bulletins.AttemptRow] = deque(maxlen=MAX_ATTEMPTS)
        self._curves: dict[str, Thinned] = {}
        self._checkpoints: deque[bulletins.CheckpointRow] = deque(maxlen=MAX_CHECKPOINTS)
        self._times: deque[float] = deque(maxlen=LATELY)
        self._ranks: list[_Rank] = []
        self._group: RankGroup | None = None
        self._rounds: Rounds | None = None
        self._reports = 0
        self._told: spi.ToldRun | None = None

    # -------------------------------------------------------------- what happens

    def begin(self) -> None:
        """The run begins: from now on it is told of."""
        for stored in self._storage.ranking.kept:
            self.stored(stored)
        self._told = spi.tell_run(self.brief, self.detail, {"ranks": (RANKS, self.rank_rows)})

    def end(self, error: BaseException | None) -> None:
        """The run is over, well or not."""
        self._close_attempt("" if error is None else spi.said(error))
        self._ended_s, self._why = time.time(), "" if error is None else spi.said(error)
        if error is None:
            self._state = "FINISHED"
        else:
            self._state = "STOPPED" if isinstance(error, (Drained, KeyboardInterrupt)) else "FAILED"
        if self._told is not None:
            self._told.end()
        self._group = self._rounds = None

    def attempt(self, number: int) -> None:
        """Room is looked for, and workers are started."""
        self._state = "WAITING" if number == 0 else "RESTARTING"
        self._group = self._rounds = None
        self._attempts.append(bulletins.AttemptRow(number, time.time()))

    def started(self, group: RankGroup, rounds: Rounds) -> None:
        """All ranks run."""
        self._ranks = [_Rank() for _ in group.identities]
        self._group, self._rounds, self._state, self._why = group, rounds, "RUNNING", ""
        if self._attempts:
            self._attempts[-1].ranks = len(group.identities)

    def again(self, why: str, reports: int) -> None:
        """The workers are started again, after so many reports that count."""
        self._close_attempt(why)
        self._state, self._why = "RESTARTING", why
        self._reports = reports
        for curve in self._curves.values():
            curve.rewind(reports)

    def _close_attempt(self, why: str) -> None:
        if self._attempts and self._attempts[-1].ended_s is None:
            self._attempts[-1].ended_s, self._attempts[-1].why = time.time(), why[:300]

    def event(self, rank: int, event: Any) -> None:
        """A rank has told something."""
        if type(event) is Reported:
            one, now = self._ranks[rank], time.monotonic()
            one.last_s = now
            one.first_s = one.first_s or now
            one.reports += 1
        elif type(event) is Returned:
            self._ranks[rank].state = "RETURNED"
        elif type(event) is Gone:
            self._ranks[rank].state = "GONE"

    def reported(self, one: Round, stored: Stored | None, reports: int) -> None:
        """A report of all ranks is complete: the one of this number that counts."""
        self._reports = reports
        self._times.append(time.monotonic())
        for name, value in one.reports[0].metrics.items():
            kind, name = type(value), str(name)  # keys may be numbers
            if kind is float or kind is int:
                self._point(name, value)
            elif kind is dict:
                for inner, number in value.items():
                    self._point(f"{name}/{inner}", number)
            elif kind.__module__ == "numpy":
                self._point(name, value)
        if stored is not None:
            self.stored(stored)

    def _point(self, name: str, value: Any) -> None:
        curve = self._curves.get(name)
        if curve is None:
            if len(self._curves) >= MAX_CURVES or isinstance(value, (bool, str)):
                return
            curve = self._curves[name] = Thinned(MAX_POINTS)
        try:
            curve.add(self._reports, float(value))
        except Exception:  # an array, a text, an integer beyond all floats, or a class of the user's
            if curve.last is None:
                del self._curves[name]

    def stored(self, stored: Stored) -> None:
        """A checkpoint is stored."""
        manifest = stored.manifest
        told = ", ".join(f"{name}={_short(value)}" for name, value in list(manifest.metrics.items())[:4])
        row = bulletins.CheckpointRow(
            manifest.name, manifest.reports, manifest.stored_s, "KEPT", stored.checkpoint.path, told[:200]
        )
        self._checkpoints.append(row)

    # -------------------------------------------------------------- what is told: in another thread

    def brief(self) -> bulletins.Brief:
        """In short."""
        why = self._why
        if self._group is None and self._state in ("WAITING", "RESTARTING"):
            why = self._room.waits_for or why or "its workers are being started"
        elif self._state == "RUNNING" and self._group is not None and self._group.watch is not None:
            watch = self._group.watch
            why = watch.hang or "; ".join(watch.slow[-3:])
        numbers: dict[str, float] = {"reports": self._reports, "ranks": len(self._ranks)}
        if (rate := self._rate()) is not None:
            numbers["reports_per_second"] = round(rate, 4)
        for name, curve in list(self._curves.items())[:4]:
            if curve.last is not None and math.isfinite(curve.last[1]):
                numbers[name[:80]] = curve.last[1]
        if self._checkpoints:
            numbers["checkpoints"] = len(self._storage.ranking.kept)
        attempt = self._attempts[-1].number if self._attempts else 0
        return bulletins.Brief(
            "train", self._name, self._state, why, self._began_s, self._ended_s, attempt=attempt, numbers=numbers
        )

    def detail(self) -> bulletins.TrainDetail:
        """All that is told."""
        watch = self._group.watch if self._group is not None else None
        kept = {one.manifest.name for one in list(self._storage.ranking.kept)}
        checkpoints = list(self._checkpoints)
        for row in checkpoints:
            row.state = "KEPT" if row.name in kept else "DELETED"
        return bulletins.TrainDetail(
            self._storage.path, self._reports, self._rate(),
            [bulletins.RankRow(**row) for row in self.rank_rows()[:MAX_RANKS]], len(self._ranks),
            list(watch.slow) if watch is not None else [],
            [bulletins.Curve(name[:80], *curve.points()) for name, curve in list(self._curves.items())],
            checkpoints[::-1], list(self._attempts)[::-1],
        )  # fmt: skip

    def rank_rows(self) -> Sequence[Mapping[str, Any]]:
        """The table of ranks."""
        group, rounds, now = self._group, self._rounds, time.monotonic()
        if group is None or rounds is None:
            return []
        watch = group.watch
        rows = []
        for number, (identity, one) in enumerate(zip(group.identities, list(self._ranks), strict=False)):
            state = one.state
            if state == "RUNNING" and watch is not None and watch.is_silent(number):
                state = "SILENT"
            elif state == "RUNNING" and rounds.is_waiting(number):
                state = "IN REPORT"
            passed_s = one.last_s - one.first_s
            rows.append(
                {
                    "rank": number, "node_id": identity.node, "host": identity.host,
                    "devices": ", ".join(f"GPU {device}" for device in identity.devices), "state": state,
                    "reports": one.reports, "report_age_s": now - one.last_s if one.reports else None,
                    "steps_s": (one.reports - 1) / passed_s if passed_s > 0 else None,
                    "doing": watch.doing(number) if watch is not None else "",
                }
            )  # fmt: skip
        return rows

    def _rate(self) -> float | None:
        """Reports in a second, lately."""
        times = list(self._times)
        passed_s = times[-1] - times[0] if len(times) > 1 else 0.0
        return (len(times) - 1) / passed_s if passed_s > 0 else None


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:40]
