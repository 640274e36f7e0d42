"""What others are told of a search while it goes on: its trials, the best, curves, decisions. See `hpc.spi.tell_run`.

A result costs the driver an entry in a queue. What is told is made of the queue and of the trials by another thread,
every two seconds. What takes longer than a hundredth of that time is done more seldom.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpc import spi
from hpc.runs.drained import Drained
from hpc.spi import bulletins
from hpc.tune import records
from hpc.tune.courses import Courses, left_s
from hpc.tune.flat import flatten_dict, lookup
from hpc.tune.reporter.trials import best_trial
from hpc.tune.result import TIME_TOTAL_S, TRAINING_ITERATION
from hpc.tune.trial import Trial
from hpc.tune.values import as_number, as_text

if TYPE_CHECKING:
    from hpc.tune.engine import Engine
    from hpc.tune.plan import Plan

#: Results that are taken up at a time; of more the newest are.
MAX_NEWS = 2000
#: The last decisions of the scheduler, and trials, that are told.
MAX_DECISIONS, MAX_TRIALS = 40, 60
#: After this many times of what a look at all trials took the next may come.
PACE = 100
TRIALS = (
    "trial_id", "name", "state", "iteration", "objective", "parameters", "total_s", "failures", "host", "pid", "why",
)  # fmt: skip


class TuneTelling:
    """What is told of one run of an experiment."""

    def __init__(self, plan: Plan, engine: Engine, scheduler: Any, search: Any) -> None:
        self._plan, self._engine = plan, engine
        self._names = type(scheduler).__name__, type(search.algorithm).__name__
        self._search = search
        self._metric, self._mode = plan.tune.metric, plan.tune.mode
        self._courses = Courses(-1.0 if self._mode == "min" else 1.0)
        self._news: deque[tuple[str, dict[str, Any]]] = deque(maxlen=MAX_NEWS)
        self._decisions: deque[bulletins.Decision] = deque(maxlen=MAX_DECISIONS)
        self._decided: Counter[str] = Counter()
        self._began_s = time.time()
        self._ended_s: float | None = None
        self._state: bulletins.RunState = "RUNNING"
        self._why = ""
        self._best: Trial | None = None
        self._best_due = 0.0
        self._told: spi.ToldRun | None = None

    # -------------------------------------------------------------- what happens

    def begin(self) -> None:
        """The experiment begins: from now on it is told of."""
        self._told = spi.tell_run(self.brief, self.detail, {"trials": (TRIALS, self.trial_rows)})

    def end(self, ending: str, error: BaseException | None) -> None:
        """The experiment is over, as the engine says ("" where it did not get that far), or by an error."""
        self._ended_s, self._best_due = time.time(), 0.0
        stops = isinstance(error, (Drained, KeyboardInterrupt))
        if ending == "suspended" or stops:
            self._state, self._why = "STOPPED", "it goes on by the same script with this name"
        elif error is not None or ending == "failed":
            self._state, self._why = "FAILED", spi.said(error) if error is not None else "a trial has failed"
        else:
            self._state, self._why = "FINISHED", "" if ending == "finished" else "its time or its stopper ended it"
        if self._told is not None:
            self._told.end()

    def result(self, trial: Trial, result: dict[str, Any] | None) -> None:
        """A trial has reported."""
        if result is not None:
            self._news.append((trial.trial_id, result))

    def written(self, record: Any) -> None:
        """A fact that is no plain result: what was decided is told."""
        if type(record) is records.Result:
            self._decided[f"{record.decision} by {record.by}"] += 1
            metrics = record.metrics
            row = bulletins.Decision(
                record.at, record.trial_id, record.decision, record.by, _number(metrics.get(TRAINING_ITERATION)),
                _number(lookup(self._metric, metrics)) if self._metric else None,
            )  # fmt: skip
            self._decisions.append(row)
        elif type(record) is records.Cloned:
            self._decided["EXPLOIT by scheduler"] += 1
            what = f"EXPLOIT {record.donor_id}"
            self._decisions.append(bulletins.Decision(record.at, record.trial_id, what, "scheduler"))

    # -------------------------------------------------------------- what is told: in another thread

    def _take(self) -> None:
        """Take up what has come."""
        news, metric = self._news, self._metric
        while news:
            trial, result = news.popleft()
            if metric:
                iteration = as_number(result.get(TRAINING_ITERATION, 0))
                self._courses.add(trial, iteration, as_number(lookup(metric, result)))

    def _trials(self) -> list[Trial]:
        return list(self._engine.cohort.all.values())

    def _find_best(self, trials: Sequence[Trial]) -> Trial | None:
        began = time.monotonic()
        if began >= self._best_due:
            self._best = best_trial(trials, self._metric, self._mode)
            self._best_due = began + PACE * (time.monotonic() - began)
        return self._best

    def brief(self) -> bulletins.Brief:
        """In short."""
        self._take()
        trials = self._trials()
        states = Counter(trial.status for trial in trials)
        over = states[Trial.TERMINATED] + states[Trial.ERROR]
        total = self._search.total
        numbers: dict[str, float] = {state.lower(): count for state, count in sorted(states.items())}
        best = self._find_best(trials)
        if best is not None and self._metric:
            numbers[f"best {self._metric[:60]}"] = as_number(lookup(self._metric, best.last_result))
        budget_s = self._plan.tune.budget_s()
        left = left_s(total, over, states[Trial.RUNNING], self._engine.used_s, budget_s)
        name, why = str(self._plan.run.name), self._why or self._waits(trials)
        return bulletins.Brief(
            "tune", name, self._state, why, self._began_s, self._ended_s,
            done=min(1.0, over / total) if total else None, left_s=left if self._ended_s is None else None,
            numbers=numbers,
        )  # fmt: skip

    def _waits(self, trials: Sequence[Trial]) -> str:
        """Why nothing runs, where nothing does."""
        if self._ended_s is not None or any(trial.status == Trial.RUNNING for trial in trials):
            return ""
        if any(trial.status == Trial.PENDING for trial in trials):
            return "its trials wait for room: hpc why, or what waits on the page Now, says for what"
        return "its searcher makes trials" if self._engine.asking else ""

    def detail(self) -> bulletins.TuneDetail:
        """All that is told."""
        self._take()
        trials = self._trials()
        best = self._find_best(trials)
        names = {trial.trial_id: str(trial) for trial in trials} if len(trials) < MAX_NEWS else {}
        top = self._courses.top()
        ranked = {one[0] for one in top}
        first = sorted(trials, key=lambda trial: (trial.trial_id not in ranked, trial.status != Trial.ERROR))
        return bulletins.TuneDetail(
            self._plan.path, self._metric or "", self._mode or "", *self._names, self._search.total,
            dict(Counter(trial.status for trial in trials)), self._row(best) if best is not None else {},
            [bulletins.Curve(names.get(name, name)[:60], xs, ys) for name, xs, ys in top],
            self._courses.bands(), dict(self._decided), list(self._decisions)[::-1],
            [self._row(trial) for trial in first[:MAX_TRIALS]],
        )  # fmt: skip

    def trial_rows(self) -> Sequence[Mapping[str, Any]]:
        """The table of all trials."""
        return [self._row(trial) for trial in self._trials()]

    def _row(self, trial: Trial) -> dict[str, Any]:
        result = trial.last_result
        value = lookup(self._metric, result) if self._metric else None
        return {
            "trial_id": trial.trial_id,
            "name": str(trial),
            "state": trial.status,
            "iteration": _plain(result.get(TRAINING_ITERATION)),
            "objective": _number(value),
            "parameters": _parameters(trial),
            "total_s": _plain(result.get(TIME_TOTAL_S)),
            "failures": trial.num_failures,
            "host": trial.host or "",
            "pid": trial.pid or 0,
            "why": "" if trial.error is None else as_text(trial.error).strip().rpartition("\n")[2][:300],
        }


def _parameters(trial: Trial) -> str:
    found = flatten_dict(trial.evaluated_params)
    return ", ".join(f"{name}={_short(value)}" for name, value in list(found.items())[:8])[:200]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else as_text(value)[:40]


def _plain(value: Any) -> float | None:
    """A number that trials are ordered by: one of NumPy's is none of Python's."""
    return value if type(value) is int else _number(value)


def _number(value: Any) -> float | None:
    return None if value is None else as_number(value)
