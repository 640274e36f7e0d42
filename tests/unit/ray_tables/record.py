"""Makes the texts beside this file with Ray's reporter and its tables; run it with an interpreter that has Ray.

python tests/unit/ray_tables/record.py
"""

import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import tune_tables  # noqa: E402


def main():
    from ray._private.thirdparty.tabulate.tabulate import tabulate
    from ray.tune import CLIReporter
    from ray.tune.experimental.output import AIR_TABULATE_TABLEFMT

    def adapted(trial):
        trial.run_metadata = SimpleNamespace(num_failures=trial.num_failures)
        trial.local_experiment_path = "/experiment"
        trial.error_file = f"{trial.path}/error.txt" if trial.num_failures else None
        trial.temporary_state = SimpleNamespace(location="")
        return trial

    texts = []
    for options in tune_tables.REPORTERS:
        reporter = CLIReporter(**options)
        reporter._total_samples, reporter._start_time = 30, time.time()
        for count, done, *info in tune_tables.REPORTS:
            trials = [adapted(trial) for trial in tune_tables.trials(count)]
            texts.append(reporter._progress_str(trials, done, *info))
    reports = re.sub("Current time: .*", "Current time: now", "\n".join(texts))
    (HERE / "reports.txt").write_text(reports)
    drawn = []
    for heads, rows in tune_tables.TABLES:
        for style in ("psql", AIR_TABULATE_TABLEFMT):
            drawn.append(tabulate(rows, headers=heads, tablefmt=style, showindex=False))
    (HERE / "tables.txt").write_text("\n".join(drawn) + "\n")


if __name__ == "__main__":
    main()
