"""A driver that is killed in the middle of its run, again and again: the next one goes on, and no step is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from tables import rows_of

from hpc.train import Result

STEPS, KILLS = 40, 4
SCRIPT = """
    import os, sys, tempfile
    from pathlib import Path
    import hpc, hpc.train
    from hpc.train import Checkpoint, CheckpointConfig, CheckpointUploadMode, RunConfig, ScalingConfig
    from hpc.train.trainer import DataParallelTrainer

    class PlainTrainer(DataParallelTrainer):
        def backend(self):
            return self
        def on_start(self, group):
            pass
        def on_end(self, group):
            pass

    def train(config):
        name, start, first = f"rank{hpc.train.get_context().get_world_rank()}", hpc.train.get_checkpoint(), 0
        if start is not None:
            data = Path(start.path, name).read_bytes()
            assert len(data) == 200_006, len(data)
            first = int(data[:6]) + 1
        for step in range(first, config["steps"]):
            folder = tempfile.mkdtemp(dir=config["folder"])
            Path(folder, name).write_bytes(b"%06d" % step + bytes(200_000))
            mode = CheckpointUploadMode.ASYNC if step % 3 else CheckpointUploadMode.SYNC
            hpc.train.report({"step": step}, Checkpoint(folder), None, mode, True)

    hpc.init(num_cpus=2)
    PlainTrainer(
        train,
        train_loop_config={"folder": sys.argv[1], "steps": int(sys.argv[2])},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(
            name="run", storage_path=sys.argv[1], checkpoint_config=CheckpointConfig(num_to_keep=2)
        ),
    ).fit()
"""


@pytest.mark.skipif(not os.environ.get("HPC_TEST_SLOW"), reason="takes 10 s: HPC_TEST_SLOW=1 runs it")
def test_a_driver_that_is_killed_again_and_again_loses_no_step(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))
    history = tmp_path / "run" / "metrics.jsonl"
    latest = -1
    for turn in range(KILLS + 1):
        driver = subprocess.Popen([sys.executable, str(script), str(tmp_path), str(STEPS)])
        if turn < KILLS:
            deadline = time.monotonic() + 60
            while not history.exists() or len(history.read_bytes().splitlines()) < latest + 5:
                assert time.monotonic() < deadline
                assert driver.poll() is None
                time.sleep(0.001)
            time.sleep(0.003 * turn)  # not always at the same step of a commit
            driver.send_signal(signal.SIGKILL)
        assert driver.wait(60) == (-signal.SIGKILL if turn < KILLS else 0)
        result = Result.from_path(tmp_path / "run")
        steps = [row["step"] for row in rows_of(result.metrics_dataframe)]
        assert steps == list(range(len(steps)))
        assert result.checkpoint is not None
        found = max(metrics["step"] for _, metrics in result.best_checkpoints)
        assert found >= latest
        latest = found
    assert latest == STEPS - 1
