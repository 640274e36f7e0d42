"""What a checkpoint costs the training: steps without one, with one that is stored at once, and with one beside them.

    python checkpoint.py ROUNDS FOLDER

Prints ``@bench {"kind": "none" | "sync" | "async", "call_s": ..., "extra_s": ..., "mb": ..., "step_s": ...}`` for each
kind. call_s: how long the report took; extra_s: how much longer the block of steps was that began with it. Both are
medians over the rounds.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from typing import Any

#: The weights: 4096 × 4096 numbers. With Adam's two there are three times as many in a checkpoint.
WIDTH, ROWS = 4096, 64
#: A block of steps is so many times as long as a checkpoint that is stored at once: one beside it has ended by then.
TIMES, LEAST_STEPS, MOST_STEPS = 4.0, 8, 40


def train(config: dict[str, Any]) -> list[dict[str, Any]]:
    import torch

    import hpc.train.collective
    from hpc.train import CheckpointConsistencyMode, CheckpointUploadMode
    from hpc.train.torch import prepare_model, report_state

    model = prepare_model(torch.nn.Linear(WIDTH, WIDTH, bias=False))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    state = {"model": model, "optimizer": optimizer}
    data = torch.randn(ROWS, WIDTH)
    modes = {"none": None, "sync": CheckpointUploadMode.SYNC, "async": CheckpointUploadMode.ASYNC}

    def step() -> None:
        optimizer.zero_grad()
        model(data).square().mean().backward()
        optimizer.step()

    def save(kind: str) -> float:
        mode, began = modes[kind], time.perf_counter()
        if mode is None:
            hpc.train.report({})
        else:
            report_state({}, state, checkpoint_upload_mode=mode)
        return time.perf_counter() - began

    def settle() -> None:
        hpc.train.get_all_reported_checkpoints(CheckpointConsistencyMode.COMMITTED)
        hpc.train.collective.barrier()

    for kind in modes:  # the first of each kind finds its memory, and makes its group
        step()
        save(kind)
        settle()
    began = time.perf_counter()
    save("sync")
    saving = time.perf_counter() - began
    began = time.perf_counter()
    for _ in range(3):
        step()
    length = (time.perf_counter() - began) / 3
    steps = hpc.train.collective.broadcast_from_rank_zero(
        min(MOST_STEPS, max(LEAST_STEPS, round(TIMES * saving / length)))
    )
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in modes}
    for _ in range(config["rounds"]):
        for kind in modes:
            settle()
            began = time.perf_counter()
            call = save(kind)
            for _ in range(steps):
                step()
            found[kind].append((call, time.perf_counter() - began))
    settle()
    plain = statistics.median(block for _, block in found["none"])
    mb = 3 * 4 * WIDTH * WIDTH / 1e6
    return [
        {
            "kind": kind,
            "call_s": statistics.median(call for call, _ in rows),
            "extra_s": statistics.median(block for _, block in rows) - plain,
            "mb": mb,
            "step_s": plain / steps,
            "steps": steps,
        }
        for kind, rows in found.items()
    ]


def main() -> None:
    import hpc
    from hpc.train import CheckpointConfig, RunConfig, ScalingConfig
    from hpc.train.torch import TorchTrainer

    ranks = max(1, len(os.sched_getaffinity(0)) // 2)
    hpc.init(num_cpus=2 * ranks)
    result = TorchTrainer(
        train,
        train_loop_config={"rounds": int(sys.argv[1])},
        scaling_config=ScalingConfig(num_workers=ranks),
        run_config=RunConfig(name="run", storage_path=sys.argv[2], checkpoint_config=CheckpointConfig(num_to_keep=1)),
    ).fit()
    for record in result.return_value:
        print("@bench " + json.dumps({**record, "ranks": ranks}), flush=True)


if __name__ == "__main__":
    main()
