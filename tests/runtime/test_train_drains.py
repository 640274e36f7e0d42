"""A training run saves before the session ends, and goes on in the next one: the result is that of one long run."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

import hpc
from hpc.train import Checkpoint, Drained, ScalingConfig, get_checkpoint, get_context, report
from runtime.running import eventually, local_nodes
from runtime.test_train import PlainTrainer, RunConfig, UserCallback

STEPS = 12


def train(config: dict[str, int]) -> list[int]:
    """Each step adds to what there is; a checkpoint is made only where one is asked for."""
    context, start = get_context(), get_checkpoint()
    rank = context.get_world_rank()
    seen: list[int] = [] if start is None else json.loads((Path(start.path) / f"{rank}").read_text())
    for step in range(len(seen), config["steps"]):
        seen.append(step * (rank + 1))
        checkpoint = None
        if context.should_checkpoint():
            folder = Path(tempfile.mkdtemp())
            (folder / f"{rank}").write_text(json.dumps(seen))
            checkpoint = Checkpoint(str(folder))
        report({"step": step, "sum": sum(seen)}, checkpoint)
    return seen


def run(tmp_path: Path, name: str | None, drain_at: int | None) -> object:
    """One session; it drains when a step has been reported."""
    with local_nodes(2) as running:

        class Drain(UserCallback):
            def after_report(self, run_context, metrics, checkpoint):
                if metrics[0]["step"] == drain_at:
                    noticed = hpc.get_runtime_context().draining
                    running.tell_head({"op": "time", "left_s": 60.0, "drain": "the test ends"})
                    eventually(lambda: noticed() is not None)

        return PlainTrainer(
            train,
            train_loop_config={"steps": STEPS},
            scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(storage_path=str(tmp_path), name=name, callbacks=[Drain()]),
        ).fit()


def test_a_run_in_three_sessions_has_the_result_of_one(tmp_path: Path, no_leaks: None) -> None:
    for drain_at in (3, 7):
        with pytest.raises(Drained, match="the run goes on from it") as ended:
            run(tmp_path, "long", drain_at)
        assert ended.value.code == 75, "a script that does not catch it says that it goes on"
    result = run(tmp_path, "long", None)
    assert result.return_value == list(range(STEPS))
    assert result.metrics == {"step": STEPS - 1, "sum": sum(range(STEPS))}
    assert len(list((tmp_path / "long").glob("checkpoint_*"))) == 2, "it saves when it has to"


def test_ranks_save_while_there_is_time_also_where_nothing_warns(tmp_path: Path, no_leaks: None) -> None:
    """The scheduler sends nothing, and the session does not drain: the time that is left is known all the same."""
    asked: list[bool] = []
    with local_nodes(1) as running:

        class Watch(UserCallback):
            def after_report(self, run_context, metrics, checkpoint):
                asked.append(checkpoint is not None)
                if metrics[0]["step"] == 2:
                    running.tell_head({"op": "time", "left_s": 9.0})
                    eventually(lambda: hpc.get_runtime_context().time_left_s() is not None)

        PlainTrainer(
            train,
            train_loop_config={"steps": 6},
            run_config=RunConfig(storage_path=str(tmp_path), name="late", callbacks=[Watch()]),
        ).fit()
    assert asked == [False, False, False, True, True, True]


def test_a_run_without_a_name_would_not_be_found_again_and_goes_on_to_its_end(tmp_path: Path, no_leaks: None) -> None:
    assert run(tmp_path, None, 3).return_value == list(range(STEPS))
