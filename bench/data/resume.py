"""Training that is stopped in the middle of an epoch goes on with other ranks: ``python -m bench.data.resume``.

10,000 parquet files in a random order. 4 ranks get SIGTERM, as at the end of a job; 2 ranks go on until all of their
processes are ended, as those of a job whose time is over; 8 ranks go on to the end of the epoch. The hash of the order
of all samples is that of one run without a break, and the first batch is there 2 s after a loop has begun.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import hpc
from hpc.train import DataConfig, DataParallelTrainer, RunConfig, ScalingConfig

#: Rows of a file, and of all ranks in a step.
ROWS, BATCH = 100, 800
RESUME_S = 2.0
PHASE_S = 120.0


def make(folder: Path, files: int) -> None:
    """Files of numbers, each of which is there once."""
    for number in range(files):
        table = pa.table({"id": np.arange(number * ROWS, (number + 1) * ROWS), "x": np.zeros(ROWS)})
        pq.write_table(table, folder / f"{number:06d}.parquet", compression="none", use_dictionary=False)


def loop(config: dict[str, Any]) -> None:
    """What a rank runs: it writes down the rows of each step. From the step ``slow`` on it takes its time."""
    from hpc import train

    context = train.get_context()
    rank, ranks = context.get_world_rank(), context.get_world_size()
    shard = train.get_dataset_shard("train")
    began = time.monotonic()
    if config["state"] is not None:
        shard.load_state_dict(config["state"])
    out = f"{config['out']}/{rank}"
    with open(f"{out}.ids", "wb", buffering=0) as ids, open(f"{out}.states", "w", buffering=1) as states:
        for step, batch in enumerate(shard.iter_batches(batch_size=BATCH // ranks)):
            if step == 0:
                Path(f"{out}.first").write_text(str(time.monotonic() - began))
            ids.write(batch["id"].astype("<i8").tobytes())
            states.write(json.dumps(shard.state_dict()) + "\n")
            if step >= config["slow"]:
                time.sleep(0.05)


def inside(told: dict[str, Any]) -> None:
    """One job."""
    hpc.init(address="local", num_cpus=2, object_store_memory=256 << 20)
    hpc.data.DataContext.get_current().enable_progress_bars = False
    DataParallelTrainer(
        loop,
        train_loop_config=told,
        scaling_config=ScalingConfig(num_workers=told["ranks"], resources_per_worker={"CPU": 0.1}),
        run_config=RunConfig(storage_path=f"{told['out']}/runs"),
        datasets={"train": hpc.data.read_parquet(told["folder"])},
        dataset_config=DataConfig(shuffle_seed=11, shuffle_window=4096),
    ).fit()
    hpc.shutdown()


class Job:
    """A process with a session, and what its ranks have written down."""

    def __init__(self, base: Path, name: str, ranks: int, state: Any, slow: int = 1 << 60) -> None:
        self.ranks, self.out = ranks, base / name
        self.out.mkdir()
        told = {"folder": str(base / "data"), "out": str(self.out), "ranks": ranks, "state": state, "slow": slow}
        command = [sys.executable, "-m", "bench.data.resume", "--inside", json.dumps(told)]
        self.process = subprocess.Popen(
            command, cwd=Path(__file__).parents[2], start_new_session=True, stdout=subprocess.DEVNULL
        )

    def steps(self) -> int:
        """How many steps all ranks have done."""
        sizes = [path.stat().st_size for path in self.out.glob("*.ids")]
        return min(sizes) // (BATCH // self.ranks * 8) if len(sizes) == self.ranks else 0

    def until(self, steps: int) -> None:
        """Wait for so many steps."""
        deadline = time.monotonic() + PHASE_S
        while self.steps() < steps:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"{self.out.name} ended or stands at step {self.steps()} of {steps}")
            time.sleep(0.02)

    def end(self, *, by_force: bool = False) -> None:
        """The job ends: with SIGTERM, and all processes by force a little later."""
        os.kill(self.process.pid, signal.SIGTERM)
        if by_force:
            time.sleep(0.3)
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60.0)

    def order(self) -> np.ndarray:
        """The rows of all steps that all ranks have done, as one would take them."""
        steps, each = self.steps(), BATCH // self.ranks
        parts = [np.fromfile(self.out / f"{rank}.ids", "<i8") for rank in range(self.ranks)]
        whole = np.stack([part[: steps * each].reshape(steps, each) for part in parts], axis=1).ravel()
        # The last batch of an epoch may be shorter.
        return np.concatenate([whole, *(part[steps * each :] for part in parts)]) if self.is_over else whole

    @property
    def is_over(self) -> bool:
        """Whether it has come to the end of the epoch."""
        return self.process.returncode == 0

    def state(self) -> Any:
        """The position behind the last step that all have done."""
        return json.loads((self.out / "0.states").read_text().splitlines()[self.steps() - 1])

    def first_s(self) -> float:
        """Seconds until the first batch, of the slowest rank."""
        return max(float(path.read_text()) for path in self.out.glob("*.first"))


def resume(files: int, say: Callable[[str], None] = print) -> list[str]:
    """The check; what is wrong."""
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="hpc-resume-") as folder:
        base = Path(folder)
        (base / "data").mkdir()
        make(base / "data", files)
        steps = files * ROWS // BATCH
        whole = Job(base, "whole", 1, None)
        whole.process.wait(PHASE_S)
        wanted = whole.order()
        first = Job(base, "first", 4, None, steps // 3)
        first.until(steps // 3 + 3)
        first.end()
        second = Job(base, "second", 2, first.state(), steps // 3)
        second.until(steps // 3 + 3)
        second.end(by_force=True)
        third = Job(base, "third", 8, second.state())
        third.process.wait(PHASE_S)
        order = np.concatenate([first.order(), second.order(), third.order()])
        hashes = [hashlib.sha256(one.tobytes()).hexdigest()[:16] for one in (wanted, order)]
        if hashes[0] != hashes[1] or len(set(order.tolist())) != files * ROWS:
            wrong.append(
                f"{len(order):,} samples, {len(set(order.tolist())):,} different ones, and not {files * ROWS:,}"
            )
        seconds = [job.first_s() for job in (whole, first, second, third)]
        if max(seconds[2:]) > RESUME_S:
            wrong.append(f"the first batch came after {max(seconds[2:]):.2f} s")
        say(
            f"{files:,} files, {len(order):,} samples: order {hashes[1]}, of one run {hashes[0]}; ranks 4, 2, 8 did "
            f"{first.steps()}, {second.steps()}, {third.steps()} steps; first batch after {seconds[1]:.2f}, then "
            f"{seconds[2]:.2f} and {seconds[3]:.2f} s (whole run: {seconds[0]:.2f})"
        )
    return wrong


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.data.resume", description="Training that goes on.")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--inside", type=json.loads, help="one job, as JSON says")
    given = parser.parse_args(argv)
    if given.inside:
        inside(given.inside)
        return 0
    wrong = resume(given.files)
    print(*(wrong or ["ok"]), sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
