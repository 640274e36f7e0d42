"""Reinforcement learning: seconds and steps until tasks are learned, rates of parts, kills, restores, searches.

Beside RLlib with the same configuration and Stable-Baselines3 with the same sizes. Rejected: their own
defaults (they try different things, so that their times compare nothing). Each check can be run by itself
(`--only rl --checks 5 9`): a whole run takes hours.
"""

from __future__ import annotations

import datetime
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine
from bench.children import Children, MeasureError
from bench.metrics import HPC, RAY
from bench.parts import table
from bench.peers import RL_PEERS, PeerError, find
from bench.table import NOTHING, number

TITLE = "Reinforcement learning"
HEAD = ["check", "what", "hpc", "RLlib", "SB3", "wanted", "reached", "measured"]
SB3 = "sb3"
MORE_S = 120.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
PLACE = Path("rl")

Record = Mapping[str, Any]
Row = list[str]


@dataclass(frozen=True)
class Task:
    """What is learned: its title, the most seconds of a run, who learns it, and what is wanted: most seconds, most
    steps, and most of RLlib's seconds."""

    title: str
    limit_s: float
    peers: tuple[str, ...] = (HPC, RAY)
    seconds: float | None = None
    steps: float | None = None
    share: float | None = None

    def wanted(self) -> str:
        """In words."""
        parts = [] if self.seconds is None else [f"{self.seconds:g} s"]
        parts += [] if self.steps is None else [f"{self.steps:,.0f} steps"]
        parts += [] if self.share is None else [f"{self.share:g} × RLlib's time"]
        return "at most " + ", ".join(parts) if parts else "to learn it"

    def is_reached(self, found: Mapping[str, Sequence[Record]]) -> bool:
        """Whether most runs learned it, and their medians keep within the bounds."""
        ours = reached(found.get(HPC, ()), "seconds")
        if 2 * len(ours) <= len(found.get(HPC, ())) or not ours:
            return False
        theirs = reached(found.get(RAY, ()), "seconds")
        seconds, steps = statistics.median(ours), statistics.median(reached(found[HPC], "steps"))
        bounds = [(seconds, self.seconds), (steps, self.steps)]
        if self.share is not None and theirs:
            bounds.append((seconds, self.share * statistics.median(theirs)))
        return all(bound is None or value <= bound for value, bound in bounds)


TASKS: Mapping[str, Task] = {
    "cartpole_ppo": Task("PPO, CartPole to 450", 60, (HPC, RAY, SB3), 60, 100_000, 0.5),
    "cartpole_dqn": Task("DQN without its parts, CartPole to 450", 120, (HPC, RAY, SB3), 120, 200_000),
    "cartpole_rainbow": Task("DQN, double, dueling, n-step, prioritised, to 450", 120, (HPC, RAY), 120, 200_000),
    "pendulum_sac": Task("SAC, Pendulum to -250", 180, (HPC, RAY, SB3), 180, 20_000),
    "cartpole_impala": Task("IMPALA, CartPole to 450", 180, (HPC, RAY), None, 2_000_000),
    "cartpole_appo": Task("APPO, CartPole to 450", 180, (HPC, RAY), None, 2_000_000),
    "stateless_ppo": Task("PPO with LSTM, CartPole without velocities to 350", 280, (HPC, RAY), None, 2_000_000),
    "truncated_ppo": Task("PPO trained on 50 steps, evaluation to 80", 60, (HPC, RAY), None, 500_000),
    "two_agents_ppo": Task("PPO, two agents to 900", 120, (HPC, RAY), None, 400_000),
}
#: Rates of one core that are wanted.
RUNNER_RATE, LEARNER_RATE, COORDINATOR_MS = 25_000, 60_000, 0.3
LAG, RATIO_OFF, STALL_S, RETURN_OFF = 2.0, 0.05, 1.0, 0.05


def reached(records: Sequence[Record], key: str) -> list[float]:
    """The values of the runs that came to the goal."""
    return [record[key] for record in records if record.get(key) is not None]


def middle(records: Sequence[Record]) -> str:
    """The medians over runs, and how many of them came to the goal where not all did."""
    if not records:
        return NOTHING
    seconds, steps = reached(records, "seconds"), reached(records, "steps")
    if not seconds:
        best = max((record["best"] for record in records if record.get("best") is not None), default=None)
        return "not reached" if best is None else f"not reached (best {number(best)})"
    said = "" if len(seconds) == len(records) else f" ({len(seconds)} of {len(records)})"
    return f"{number(statistics.median(seconds))} s, {number(statistics.median(steps))} steps{said}"


class Measuring:
    """The probes of this part under each of the libraries that are there. ``say`` prints a figure once it is there."""

    def __init__(self, children: Children, quick: bool, say: Callable[[str], None], seeds: int | None = None) -> None:
        self._children, self._say = children, say
        self.quick = quick
        self.seeds = seeds or (1 if quick else 5)
        self.seconds = "2" if quick else "10"
        self.pythons = {HPC: sys.executable}
        self.said: list[str] = []
        self.curves: list[dict[str, Any]] = []
        """All that runs of tasks said, with their curves"""
        self.rows: list[Row] = []
        self._check = ""
        about = machine.describe()
        self._when = f"{datetime.date.today():%Y-%m-%d}, {about['commit'] or 'unknown'}"

    def find_peers(self, are_wanted: bool) -> None:
        """Look for the other libraries."""
        for peer, name in RL_PEERS.items() if are_wanted else ():
            try:
                self.pythons[peer] = find(name).python
            except PeerError as error:
                self.said.append(f"{name}: {error}")

    def run(self, check: str) -> None:
        """All lines of a check."""
        self._check = PARTS_OF_OTHERS.get(check, check)
        CHECKS[check](self)

    def line(self, what: str, cells: Mapping[str, str], wanted: str = NOTHING, is_reached: bool | None = None) -> None:
        """Keep a line of the table, and say it."""
        verdict = {True: "yes", False: "NO", None: NOTHING}[is_reached]
        found = [cells.get(peer, NOTHING) for peer in (HPC, RAY, SB3)]
        self.rows.append([self._check, what, *found, wanted, verdict, self._when])
        text = ", ".join(f"{peer} {cell}" for peer, cell in cells.items())
        self._say(f"  check {self._check}, {what}: {text} (wanted: {wanted}; reached: {verdict})")

    def probe(self, peer: str, script: str, *args: str, timeout_s: float = MORE_S) -> Record | None:
        """What a probe says; None where it failed, which is told below the table."""
        try:
            (record,) = self._children.probe(
                self.pythons[peer], str(PLACE / script), *args, timeout_s=timeout_s, env=ONE_THREAD
            ).records
        except MeasureError as error:
            text = f"{peer}, {script} {' '.join(args)}: {error}"
            self.said.append(text)
            self._say(f"  failed: {text}")
            return None
        return record

    def task(self, name: str) -> dict[str, list[Record]]:
        """All runs of a task, the libraries in turns, as a line. What each run said."""
        task = TASKS[name]
        found: dict[str, list[Record]] = {peer: [] for peer in task.peers if peer in self.pythons}
        for seed in range(self.seeds):
            for peer, records in found.items():
                args = (peer, name, str(seed), str(task.limit_s))
                record = self.probe(peer, "learn.py", *args, timeout_s=task.limit_s + MORE_S)
                if record is None:
                    continue
                records.append(record)
                self.curves.append({"task": name, "peer": peer, "seed": seed, **record})
                self._say(f"    {name}, {peer}, seed {seed}: {middle([record])}")
        cells = {peer: middle(records) for peer, records in found.items()}
        self.line(task.title, cells, task.wanted(), task.is_reached(found))
        return found


# ---------------------------------------------------------------- checks


def ppo(measuring: Measuring) -> None:
    """CartPole by PPO."""
    measuring.task("cartpole_ppo")


def dqn(measuring: Measuring) -> None:
    """CartPole by DQN, its parts on and off."""
    measuring.task("cartpole_dqn")
    measuring.task("cartpole_rainbow")


def sac(measuring: Measuring) -> None:
    """Pendulum by SAC."""
    measuring.task("pendulum_sac")


def asynchronous(measuring: Measuring) -> None:
    """CartPole by IMPALA and APPO, and how old weights were."""
    for name in ("cartpole_impala", "cartpole_appo"):
        said = [record["said"] for record in measuring.task(name).get(HPC, ())]
        if not said:
            continue
        lag = statistics.median(one["policy_lag_mean"] for one in said)
        dropped = max(one["num_fragments_dropped_lifetime"] for one in said)
        title = TASKS[name].title.partition(",")[0]
        measuring.line(f"{title}: versions between acting and learning", {HPC: number(lag)}, "at most 2", lag <= LAG)
        measuring.line(f"{title}: fragments dropped", {HPC: number(dropped)}, "0", dropped == 0)


def replay(measuring: Measuring) -> None:
    """APEX with more and more runners: rates, and whether the ratio of replay is held."""
    for runners in ("1", "2", "4"):
        if record := measuring.probe(HPC, "replay.py", runners, measuring.seconds):
            text = f"{number(record['rate'])} steps/s, ratio {record['ratio']:.3f}"
            is_held = abs(record["ratio"] - 1) <= RATIO_OFF
            measuring.line(f"APEX, CartPole, {runners} runners", {HPC: text}, "ratio 1 ± 5 %", is_held)


def rates(measuring: Measuring) -> None:
    """Rates of runners, learners and the coordinator, of each second of CPU time."""
    for title, args, peers, least in (
        ("steps/s of a runner, native vector", ("runner", "native"), (HPC,), RUNNER_RATE),
        ("steps/s of a runner, sync vector", ("runner", "sync"), (HPC, RAY), None),
        ("steps/s of a runner, EnvPool", ("runner", "envpool"), (HPC,), None),
        ("samples/s of a learner, separate critic", ("learner", "separate"), (HPC, RAY), LEARNER_RATE),
        ("samples/s of a learner, shared layers", ("learner", "shared"), (HPC, RAY), None),
    ):
        found: dict[str, float] = {}
        for peer in peers:
            if peer not in measuring.pythons:
                continue
            if record := measuring.probe(peer, "rates.py", peer, *args, measuring.seconds):
                found[peer] = record["cpu_rate"]
        wanted = NOTHING if least is None else f"at least {least:,}"
        ok = None if least is None or HPC not in found else found[HPC] >= least
        measuring.line(title, {peer: number(rate) for peer, rate in found.items()}, wanted, ok)
    coordinator(measuring)


def coordinator(measuring: Measuring) -> None:
    """What a fragment costs the process that asks for it."""
    if record := measuring.probe(HPC, "rates.py", HPC, "coordinator", measuring.seconds):
        ms = record["cpu_ms"]
        measuring.line(
            "CPU time of the coordinator for a fragment of 50 x 16, ms",
            {HPC: f"{ms:.3f}"}, f"at most {COORDINATOR_MS}", ms <= COORDINATOR_MS,
        )  # fmt: skip


def shapes(measuring: Measuring) -> None:
    """Tasks with memory, cut episodes and two agents; masks."""
    for name in ("stateless_ppo", "truncated_ppo", "two_agents_ppo"):
        measuring.task(name)
    masks(measuring)


def masks(measuring: Measuring) -> None:
    """Actions against their mask."""
    steps = "10000" if measuring.quick else "100000"
    for name in ("PPO", "DQN", "APPO"):
        if record := measuring.probe(HPC, "whole.py", "masks", name, steps):
            text = f"{record['invalid']} of {record['steps']:,}"
            ok = record["invalid"] == 0 and record["seen"] > 0
            measuring.line(f"{name}: actions against their mask", {HPC: text}, "0", ok)


def restores(measuring: Measuring) -> None:
    """Saved, and restored on half the runners; the next update of a restored learner."""
    if record := measuring.probe(HPC, "whole.py", "restore"):
        before, after = record["before"], record["after"]
        text, ok = f"{before:.0f}, {after:.0f}", abs(after - before) <= RETURN_OFF * before
        measuring.line("return of 200 episodes, restored on half the runners", {HPC: text}, "5 % apart at most", ok)
        same = record["counters"] == record["restored"]
        text = "equal" if same else f"{record['counters']}, {record['restored']}"
        measuring.line("counters after that", {HPC: text}, "equal", same)
    for name in ("PPO", "DQN", "SAC", "IMPALA", "APPO"):
        if record := measuring.probe(HPC, "whole.py", "bits", name):
            text = f"{record['different']} of {record['weights']:,} weights differ"
            ok = record["different"] == 0 and record["moved"] > 0
            measuring.line(f"{name}: next update after a restore, bit by bit", {HPC: text}, "0", ok)


def deaths(measuring: Measuring) -> None:
    """Processes killed in the middle of a run."""
    if record := measuring.probe(HPC, "deaths.py", "runners"):
        stall(measuring, "2 of 8 runners killed", record)
        lost = record["lost"]
        text = f"{lost:.0f} fragments lost, {record['healthy']} of 8 runners after {record['back_s']:.1f} s"
        ok = lost <= 2 and record["healthy"] == 8
        measuring.line("2 of 8 runners killed: what it costs", {HPC: text}, "at most 2", ok)
    for name in ("PPO", "IMPALA"):
        if record := measuring.probe(HPC, "deaths.py", "learners", name):
            stall(measuring, f"{name}, 1 of 2 learners killed", record)
            lost = record["lost"]
            text = f"{lost:.0f} fragments lost, {record['learners']} learners after {record['back_s']:.1f} s"
            ok = lost <= 1 and record["learners"] == 2 and record["equal"]
            measuring.line(f"{name}, 1 of 2 learners killed: what it costs", {HPC: text}, "at most 1", ok)


def stall(measuring: Measuring, what: str, record: Record) -> None:
    """How long nothing was done."""
    text = f"{record['after_s']:.2f} (before: {record['before_s']:.2f})"
    measuring.line(f"{what}: longest iteration, s", {HPC: text}, f"at most {STALL_S:g}", record["after_s"] <= STALL_S)


def searches(measuring: Measuring) -> None:
    """A search whose driver is killed; scripts for RLlib of which only the imports are changed."""
    trials = "4" if measuring.quick else "16"
    if record := measuring.probe(HPC, "search.py", "killed", trials, timeout_s=4 * MORE_S):
        text = (
            f"{record['done']} of {trials} trials, best {record['best']:.0f}; {record['before']} iterations before "
            f"the kill, {record['again']} of them again"
        )
        ok = record["done"] == int(trials) and record["before"] > 0 and record["again"] <= int(trials)
        measuring.line("Tuner, PPO, ASHA, driver killed: goes on", {HPC: text}, "all trials, from where they were", ok)
    for name in ("cartpole_ppo", "cartpole_dqn", "pendulum_sac"):
        record = measuring.probe(HPC, "search.py", "script", name, timeout_s=4 * MORE_S)
        text = "failed" if record is None else f"{record['seconds']:.1f} s"
        wanted = "its goal" if record is None else f"return {record['goal']:g}"
        measuring.line(f"{name}.py, only its imports changed", {HPC: text}, wanted, record is not None)


CHECKS: Mapping[str, Callable[[Measuring], None]] = {
    "1": ppo,
    "2": dqn,
    "3": sac,
    "4": asynchronous,
    "5": replay,
    "6": rates,
    "7": shapes,
    "8": restores,
    "9": deaths,
    "10": searches,
    "coordinator": coordinator,
    "masks": masks,
}
#: Parts of other checks, which are not run again where those are.
PARTS_OF_OTHERS = {"coordinator": "6", "masks": "7"}
QUICK = ("1", "6", "8")


def chosen(checks: Sequence[str], quick: bool) -> list[str]:
    """The checks that are run, in order. Raises ValueError for one that there is not."""
    unknown = [name for name in checks if name not in CHECKS]
    if unknown:
        raise ValueError(f"there is no check {' or '.join(unknown)} of reinforcement learning, but {', '.join(CHECKS)}")
    if checks:
        return [name for name in CHECKS if name in checks]
    return list(QUICK) if quick else [name for name in CHECKS if name not in PARTS_OF_OTHERS]


def rl(
    children: Children,
    quick: bool,
    *,
    checks: Sequence[str] = (),
    seeds: int | None = None,
    peers: bool = True,
    keep: Callable[[dict[str, Any]], None],
    say: Callable[[str], None],
) -> None:
    """Lines of reinforcement learning. ``keep`` gets their table at the beginning, which then grows line by line: a
    run that is stopped has what it found."""
    names = chosen(checks, quick)
    measuring = Measuring(children, quick, say, seeds)
    found = table(TITLE, note_of(measuring), HEAD, measuring.rows)
    found |= {"curves": measuring.curves, "partial": 2 if checks or quick else 0}
    keep(found)
    measuring.find_peers(peers)
    for name in names:
        measuring.run(name)
        found["note"] = note_of(measuring)


def note_of(measuring: Measuring) -> str:
    """What is said above the table."""
    note = (
        f"Of tasks the medians of {measuring.seeds} seeds, of all else one run; the same configuration for hpc and "
        "RLlib, the same sizes for SB3, a mean of 20 episodes, one thread. Rates are for a second of CPU time, with a "
        "network of 2 x 256 and 64 environments."
    )
    return " ".join([note, *measuring.said])
