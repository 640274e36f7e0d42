"""Makes the experiment beside this file with Ray, and what Ray says of it; run it with an interpreter that has Ray.

python tests/unit/ray_experiment/record.py
"""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path

import ray
from ray import tune

HERE = Path(__file__).resolve().parent
KEPT = ("experiment_state-", "params", "progress", "result", "error.txt", "checkpoint_")


def train(config):
    import numpy as np

    for i in range(3):
        if config["lr"] > 0.05 and i == 1:
            raise ValueError("diverged")
        metrics = {"loss": config["lr"] * (3 - i), "eval": {"acc": np.float32(0.5), "top": {"five": i}}, "name": "a,b"}
        if i == 2:
            metrics["late"] = 3
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "weights").write_text(str(i))
            kept = config["lr"] < 0.05
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder) if kept else None)


def main():
    shutil.rmtree("/tmp/ray_recorded", ignore_errors=True)
    ray.init(address="local", num_cpus=2, include_dashboard=False)
    space = {"lr": tune.grid_search([0.01, 0.02, 0.1]), "opt": {"momentum": tune.choice([0.9])}, "layers": [1, 2]}
    keep = tune.CheckpointConfig(num_to_keep=2)
    config = tune.RunConfig(name="recorded", storage_path="/tmp/ray_recorded", checkpoint_config=keep)
    grid = tune.Tuner(train, param_space=space, run_config=config).fit()
    analysis = tune.ExperimentAnalysis("/tmp/ray_recorded/recorded", default_metric="loss", default_mode="min")
    said = {
        "best_trial": str(analysis.best_trial),
        "best_config": analysis.best_config,
        "best_checkpoint": Path(analysis.best_checkpoint.path).name,
        "best_by_max_of_all": str(analysis.get_best_trial("eval/top/five", "max", "all")),
        "last_5_avg": {str(one): one.metric_analysis["loss"]["last-5-avg"] for one in analysis.trials},
        "statuses": {str(one): one.status for one in analysis.trials},
        "columns": {name: list(frame.columns) for name, frame in analysis.trial_dataframes.items()},
        "rows": json.loads(grid.get_dataframe().sort_values("trial_id").to_json(orient="records")),
        "worst_rows": json.loads(
            grid.get_dataframe("loss", "max").sort_values("trial_id").loss.to_json(orient="values")
        ),
        "configs": analysis.get_all_configs(prefix=True),
        "checkpoints": {
            Path(one.path).name: [Path(c.path).name for c, _ in one.best_checkpoints or []] for one in grid
        },
    }
    for old in HERE.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
    source = Path("/tmp/ray_recorded/recorded")
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        if path.is_file() and any(part.startswith(KEPT) for part in inside.parts):
            (HERE / "recorded" / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, HERE / "recorded" / inside)
    for path in HERE.rglob("error.txt"):
        path.write_text(re.sub(r'File "[^"]*/', 'File "', path.read_text()))
    Path(HERE, "said.json").write_text(json.dumps(said, indent=1, default=str) + os.linesep)


if __name__ == "__main__":
    main()
