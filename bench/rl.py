"""Reinforcement learning: seconds and steps until tasks are learned, rates of parts, kills, a restore.

Beside RLlib with the same configuration and Stable-Baselines3 with the same sizes. Rejected: their own
defaults (they try different things, so that their times compare nothing).
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.children import Children, MeasureError
from bench.metrics import HPC, RAY
from bench.parts import table
from bench.peers import RL_PEERS, PeerError, find
from bench.table import NOTHING, number

SB3 = "sb3"
#: Tasks with their goal, the limit of seconds, and who learns them.
TASKS: Mapping[str, tuple[str, float, tuple[str, ...]]] = {
    "cartpole_ppo": ("PPO, CartPole to 450", 60, (HPC, RAY, SB3)),
    "cartpole_dqn": ("DQN without its parts, CartPole to 450", 120, (HPC, RAY, SB3)),
    "cartpole_rainbow": ("DQN, double, dueling, n-step, prioritised, to 450", 120, (HPC, RAY)),
    "pendulum_sac": ("SAC, Pendulum to -250", 180, (HPC, RAY, SB3)),
    "cartpole_impala": ("IMPALA, CartPole to 450", 120, (HPC, RAY)),
    "cartpole_appo": ("APPO, CartPole to 450", 120, (HPC, RAY)),
    "cartpole_apex": ("APEX, CartPole to 450", 120, (HPC,)),
    "stateless_ppo": ("PPO with LSTM, CartPole without velocities to 350", 300, (HPC, RAY)),
    "truncated_ppo": ("PPO trained on 50 steps, evaluation to 80", 60, (HPC, RAY)),
    "two_agents_ppo": ("PPO, two agents to 900", 120, (HPC, RAY)),
}
QUICK = ("cartpole_ppo", "cartpole_dqn")
MORE_S = 120.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
PLACE = Path("rl")

Record = Mapping[str, Any]


def middle(records: Sequence[Record], key: str) -> str:
    """The median over runs, and how many of them came to it where not all did."""
    found = [record[key] for record in records if record.get(key) is not None]
    if not found:
        return "not reached" if records else NOTHING
    said = "" if len(found) == len(records) else f" ({len(found)} of {len(records)})"
    return number(statistics.median(found)) + said


def task_row(title: str, found: Mapping[str, Sequence[Record]]) -> list[str]:
    """A task as cells: what, then seconds and steps of each library, and what a flow said of hpc's."""
    cells = [title]
    for peer in (HPC, RAY, SB3):
        cells += [middle(found.get(peer, ()), "seconds"), middle(found.get(peer, ()), "steps")]
    said = [record["said"] for record in found.get(HPC, ()) if "policy_lag_mean" in record.get("said", {})]
    if not said:
        return [*cells, NOTHING]
    lag = statistics.median(one["policy_lag_mean"] for one in said)
    dropped = max(one.get("num_fragments_dropped_lifetime", 0) for one in said)
    return [*cells, f"lag {number(lag)}, dropped {number(dropped)}"]


class Measuring:
    """The probes of this part under each of the libraries that are there."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self.pythons = {HPC: sys.executable}
        self.said: list[str] = []
        for peer, name in RL_PEERS.items():
            try:
                self.pythons[peer] = find(name).python
            except PeerError as error:
                self.said.append(f"{name}: {error}")

    def probe(self, peer: str, script: str, *args: str, timeout_s: float) -> Record | None:
        """What a probe says; None where it failed, which is told below the table."""
        try:
            (record,) = self._children.probe(
                self.pythons[peer], str(PLACE / script), *args, timeout_s=timeout_s, env=ONE_THREAD
            ).records
        except MeasureError as error:
            self.said.append(f"{peer}, {' '.join(args)}: {error}")
            return None
        return record

    def task(self, name: str, seeds: int) -> list[str]:
        """All runs of a task, the libraries in turns."""
        title, limit_s, peers = TASKS[name]
        found: dict[str, list[Record]] = {peer: [] for peer in peers if peer in self.pythons}
        for seed in range(seeds):
            for peer, records in found.items():
                args = (peer, name, str(seed), str(limit_s))
                record = self.probe(peer, "learn.py", *args, timeout_s=limit_s + MORE_S)
                records += [record] if record else []
        return task_row(title, found)

    def rates(self, seconds: str) -> list[list[str]]:
        """Rates of runners and learners, of each second of CPU time."""
        rows = []
        for title, args, peers in (
            ("steps/s of a runner, native vector", ("runner", "native"), (HPC,)),
            ("steps/s of a runner, sync vector", ("runner", "sync"), (HPC, RAY)),
            ("steps/s of a runner, EnvPool", ("runner", "envpool"), (HPC,)),
            ("samples/s of a learner", ("learner",), (HPC, RAY)),
        ):
            cells = [title]
            for peer in (HPC, RAY):
                record = None
                if peer in peers and peer in self.pythons:
                    record = self.probe(peer, "rates.py", peer, *args, seconds, timeout_s=MORE_S)
                cells += [number(record["cpu_rate"]) if record else NOTHING, NOTHING]
            rows.append([*cells, NOTHING, NOTHING, NOTHING])
        return rows

    def whole(self, steps: str) -> list[list[str]]:
        """Masks, a restore on half the runners, and kills."""
        rows = []
        if record := self.probe(HPC, "rates.py", HPC, "masks", steps, timeout_s=MORE_S):
            rows.append(["actions against their mask", f"{record['invalid']} of {number(record['steps'])}"])
        if record := self.probe(HPC, "rates.py", HPC, "restore", timeout_s=MORE_S):
            rows.append(
                [
                    "return of 100 episodes, restored on half the runners",
                    f"{record['before']:.0f}, {record['after']:.0f}",
                ]
            )
        if record := self.probe(HPC, "deaths.py", timeout_s=MORE_S):
            lost = record["num_fragments_lost_lifetime"]
            text = f"{record['before_s']:.2f}, {record['after_s']:.2f}; lost {lost:.0f} fragments"
            rows.append(["longest iteration before and after 2 of 8 runners were killed, s", text])
        return [[*row, *[NOTHING] * 6] for row in rows]


def rl(children: Children, quick: bool) -> dict[str, Any]:
    """All lines of reinforcement learning."""
    measuring = Measuring(children)
    seeds = 1 if quick else 5
    rows = [measuring.task(name, seeds) for name in (QUICK if quick else TASKS)]
    rows += measuring.rates("2" if quick else "10")
    rows += measuring.whole("10000" if quick else "100000")
    note = (
        f"Medians of {seeds} seeds; the same configuration for hpc and RLlib, the same sizes for SB3, a mean of 20 "
        "episodes, one thread. Rates are for a second of CPU time, with a network of 2 x 256 and 64 environments."
    )
    head = ["what", "hpc", "steps", "RLlib", "steps", "SB3", "steps", "flow"]
    return table("Reinforcement learning", " ".join([note, *measuring.said]), head, rows)
