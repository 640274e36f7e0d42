"""Experiments under hpc.tune and Ray Tune, and searches beside Optuna alone.

    python tune.py rates PEER FRESH REUSED LOGGED PLAIN ALONE FOLDER   how fast trials, and their reports, go by
    python tune.py many TRIALS REPORTS FOLDER                   hpc: a driver that is killed near its end, and goes on
    python tune.py search hpc|optuna tpe|cmaes TRIALS FIRST SEEDS FOLDER    what searches of a known function find

Each prints ``@bench {...}``. FRESH and REUSED trials report once; LOGGED and PLAIN are how often each of 96 trials
reports (of 4, with Ray), with and without loggers; ALONE is how often a trial reports whose scheduler judges each of
them. Rates leave out the start of the session, and a small experiment before.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CORES = len(os.sched_getaffinity(0))
NO_LOGGERS = "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"
WARM_TRIALS = 2 * CORES
#: Of the trials of an experiment that is killed, so many are left; the memory is measured from the second share on.
LEFT, FIRST_SHARE = 100, 0.2
#: The trials that report often: ours, and those of Ray, where each takes long to start.
REPORTING, REPORTING_PEER = 96, 4
#: A trial of a search takes so long.
TRIAL_S = 0.02
#: Where the known function has its least value, which is 0.
LEAST_AT = (1.2, -0.7, 2.4, 0.3)
BOUND = 5.0


def known(at: Any) -> float:
    """A valley that is narrow in some directions and not along the axes."""
    moved = [x - least for x, least in zip(at, LEAST_AT)]
    mixed = [a + 0.5 * b for a, b in zip(moved, [*moved[1:], moved[0]])]
    return sum(3.0**i * x * x for i, x in enumerate(mixed))


def once(config: dict[str, Any]) -> dict[str, Any]:
    return {"score": config["x"]}


def many_times(config: dict[str, Any]) -> None:
    """The last report says how long one took, from the second one on."""
    report = importlib.import_module(config["library"]).report
    began = 0.0
    for i in range(config["reports"]):
        began = time.perf_counter() if i == 1 else began
        spent = {} if i < config["reports"] - 1 else {"us": (time.perf_counter() - began) / max(1, i - 1) * 1e6}
        report({"score": config["x"] + i, **spent})


def valley(config: dict[str, Any]) -> dict[str, Any]:
    time.sleep(TRIAL_S)
    return {"value": known([config[f"x{i}"] for i in range(len(LEAST_AT))])}


class Library:
    """hpc.tune or ray.tune, under the same names."""

    def __init__(self, peer: str) -> None:
        self.name = f"{peer}.tune"
        self._peer = importlib.import_module(peer)
        self.tune = importlib.import_module(self.name)
        if peer == "hpc":
            self._peer.init(address="local", num_cpus=CORES)
        else:
            self._peer.init(address="local", num_cpus=CORES, include_dashboard=False, log_to_driver=False)

    def close(self) -> None:
        self._peer.shutdown()

    def tuner(self, trainable: Any, space: dict[str, Any], folder: str, name: str, how: dict[str, Any],
              callbacks: Any = None) -> Any:  # fmt: skip
        tune = self.tune
        run = tune.RunConfig(name=name, storage_path=folder, verbose=0, callbacks=callbacks)
        return tune.Tuner(trainable, param_space=space, tune_config=tune.TuneConfig(**how), run_config=run)

    def timed(self, trainable: Any, space: dict[str, Any], folder: str, name: str, **how: Any) -> dict[str, Any]:
        """Seconds, and the driver's CPU time, of an experiment; raises if a trial has failed."""
        tuner = self.tuner(trainable, space, folder, name, how)
        cpu, began = time.process_time(), time.perf_counter()
        found = tuner.fit()
        took = {"s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
        if found.num_errors:
            raise RuntimeError(f"{found.num_errors} trials have failed: {found.errors[0]!r}")
        return {**took, "found": found}


def rates(peer: str, fresh: str, reused: str, logged: str, plain: str, alone: str, folder: str) -> dict[str, Any]:
    library = Library(peer)
    uniform = library.tune.uniform(0.0, 1.0)
    found = {}
    os.environ[NO_LOGGERS] = "1"
    for kind, count in (("fresh", int(fresh)), ("reused", int(reused))):
        space, how = {"x": uniform}, {"reuse_actors": kind == "reused"}
        library.timed(once, space, folder, f"{kind}-warm", num_samples=WARM_TRIALS, **how)
        took = library.timed(once, space, folder, kind, num_samples=count, **how)
        found |= {kind: count / took["s"], f"{kind}_cpu_us": took["cpu_s"] / count * 1e6}
    trials = REPORTING if peer == "hpc" else REPORTING_PEER
    for kind, each in (("logged", int(logged)), ("plain", int(plain))):
        os.environ[NO_LOGGERS] = "0" if kind == "logged" else "1"
        space = {"x": uniform, "reports": each, "library": library.name}
        took = library.timed(many_times, space, folder, kind, num_samples=trials, reuse_actors=True)
        found |= {kind: trials * each / took["s"], f"{kind}_cpu_us": took["cpu_s"] / (trials * each) * 1e6}
    found["logged_files"] = files(folder, "logged") / trials
    judge = library.tune.schedulers.ASHAScheduler(metric="score", mode="max", max_t=10**9, grace_period=10**8)
    space = {"x": 0.0, "reports": int(alone), "library": library.name}
    took = library.timed(many_times, space, folder, "alone", scheduler=judge)
    found["alone_us"] = took["found"][0].metrics["us"]
    library.close()
    return found


# ---------------------------------------------------------------- an experiment of many trials, twice


def many(trials: str, each: str, folder: str) -> dict[str, Any]:
    records = []
    for step, status in (("killed", -signal.SIGKILL), ("goes_on", 0)):
        done = subprocess.run(
            [sys.executable, __file__, step, trials, each, folder], stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode != status:
            raise RuntimeError(f"{step}: exit status {done.returncode}, not {status}: {done.stdout[-500:]}")
        records.append(json.loads(done.stdout.strip().splitlines()[-1]))
    first, second = records
    return {**first, **second, "files": files(folder, "many")}


def killed(trials: str, each: str, folder: str) -> None:
    from hpc.tune import Callback

    count, ended, rss = int(trials), 0, {}
    early = int(count * FIRST_SHARE)
    began = time.perf_counter()

    class Kill(Callback):
        def on_trial_complete(self, *_: Any, **__: Any) -> None:
            nonlocal ended
            ended += 1
            if ended in (early, count - LEFT):
                rss[ended] = resident()
            if ended == count - LEFT:
                kept = (rss[ended] - rss[early]) / (ended - early)
                print(json.dumps({"bytes_each": kept, "rate": ended / (time.perf_counter() - began)}), flush=True)
                time.sleep(1.1)  # all that is older than a second is kept
                os.kill(os.getpid(), signal.SIGKILL)

    fit_many(Library("hpc"), count, int(each), folder, Kill())


def goes_on(trials: str, each: str, folder: str) -> None:
    from hpc.tune import Callback

    started: list[float] = []

    class First(Callback):
        def on_trial_start(self, *_: Any, **__: Any) -> None:
            started.append(time.perf_counter() - began)

    library = Library("hpc")
    began = time.perf_counter()
    found = fit_many(library, int(trials), int(each), folder, First())
    ended = sum(result.metrics.get("training_iteration") == int(each) for result in found)
    library.close()
    print(json.dumps({"first_s": started[0], "ran": len(started), "ended": ended}), flush=True)


def fit_many(library: Library, count: int, each: int, folder: str, callback: Any) -> Any:
    space = {"x": library.tune.uniform(0.0, 1.0), "reports": each, "library": library.name}
    how = {"num_samples": count, "reuse_actors": True}
    return library.tuner(many_times, space, folder, "many", how, [callback]).fit()


def resident() -> int:
    """Bytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def files(folder: str, name: str) -> int:
    """How many files and directories an experiment has."""
    return sum(1 for _ in Path(folder, name).rglob("*"))


# ---------------------------------------------------------------- a search


def search(peer: str, sampler: str, trials: str, first: str, seeds: str, folder: str) -> dict[str, Any]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    kind = {"tpe": optuna.samplers.TPESampler, "cmaes": optuna.samplers.CmaEsSampler}[sampler]
    names = [f"x{i}" for i in range(len(LEAST_AT))]
    samplers = [kind(seed=seed) for seed in range(int(first), int(first) + int(seeds))]
    if peer == "hpc":
        return of_ours(samplers, names, int(trials), folder)

    def objective(trial: Any) -> float:
        return float(valley({name: trial.suggest_float(name, -BOUND, BOUND) for name in names})["value"])

    best, began = [], time.perf_counter()
    for one in samplers:
        study = optuna.create_study(sampler=one)
        study.optimize(objective, n_trials=int(trials), n_jobs=CORES)
        best.append(study.best_value)
    return {"best": best, "s": (time.perf_counter() - began) / len(samplers)}


def of_ours(samplers: list[Any], names: list[str], trials: int, folder: str) -> dict[str, Any]:
    from hpc.tune.search.optuna import OptunaSearch
    from hpc.tune.searching import Searching

    asking = 0.0

    def timed(method: Any) -> Any:
        def run(*args: Any, **named: Any) -> Any:
            nonlocal asking
            began = time.perf_counter()
            try:
                return method(*args, **named)
            finally:
                asking += time.perf_counter() - began

        return run

    library = Library("hpc")
    space = {name: library.tune.uniform(-BOUND, BOUND) for name in names}
    library.timed(valley, space, folder, "warm", num_samples=WARM_TRIALS, metric="value", mode="min")
    for name in ("ask", "answers", "on_trial_result", "on_trial_complete"):  # what the driver's loop calls
        setattr(Searching, name, timed(getattr(Searching, name)))
    best, spent_s = [], 0.0
    for i, sampler in enumerate(samplers):
        took = library.timed(
            valley, space, folder, f"search-{i}", num_samples=trials, metric="value", mode="min", reuse_actors=True,
            max_concurrent_trials=CORES, search_alg=OptunaSearch(sampler=sampler),
        )  # fmt: skip
        best.append(took["found"].get_best_result().metrics["value"])
        spent_s += took["s"]
    library.close()
    return {"best": best, "s": spent_s / len(samplers), "share": asking / spent_s}


def main() -> None:
    what, *args = sys.argv[1:]
    if what in ("killed", "goes_on"):
        {"killed": killed, "goes_on": goes_on}[what](*args)
        return
    found = {"rates": rates, "many": many, "search": search}[what](*args)
    print("@bench " + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
