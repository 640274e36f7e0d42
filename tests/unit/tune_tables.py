"""Trials and tables that Ray and this package show alike: for the recording of Ray's texts, and for the comparison."""

from __future__ import annotations

import math

TABLES = (
    (
        ["Trial name", "status", "lr", "opt/momentum", "iter", "total time (s)", "loss", "x"],
        [
            ["train_32bea_00000", "TERMINATED", 0.01, 0.9, 3, 0.00243497123, 0.01, None],
            ["t", "ERROR", 1e-7, None, None, 12345678.9, math.nan, True],
            ["t2", "RUNNING", 100.0, 3, 10, None, -1.5, "abc"],
        ],
    ),
    (["n"], [[0.25], [3]]),
    (["Trial name", "# failures", "error file"], [["a", "one", "/x"], ["b", "12*", "/yy"]]),
)
REPORTERS: tuple[dict, ...] = (
    {},
    {"metric": "loss", "mode": "min"},
    {
        "metric_columns": ["loss", "nested/a"], "parameter_columns": {"opt/momentum": "mom"}, "metric": "loss",
        "mode": "max", "sort_by_metric": True, "max_progress_rows": 6, "max_error_rows": 1,
    },
)  # fmt: skip
#: How many trials there are, whether it is the last report, lines about the scheduler.
REPORTS = ((5, False, "FIFO", "used 1/2"), (30, False), (30, True))
STATUSES = ("RUNNING", "TERMINATED", "PENDING", "ERROR", "TERMINATED")


class ShownTrial:
    """What a reporter looks at."""

    def __init__(self, number: int) -> None:
        self.trial_id = f"ab12_{number:05d}"
        self.status = STATUSES[number % 5]
        self.config = {"lr": 0.1 * number, "opt": {"momentum": 0.9}, "long_name_of_a_parameter_here": "adam"}
        self.evaluated_params = {"lr": 0.1 * number, "long_name_of_a_parameter_here": 1}
        self.num_failures = 1 if self.status == "ERROR" or number == 4 else 0
        self.path = f"/experiment/t{number}"
        self.error = ValueError("no") if self.num_failures else None
        self.node_ip = self.pid = None
        self.last_result: dict = {"trial_id": self.trial_id}
        if self.status != "PENDING":
            self.last_result = {
                "loss": 1 / (number + 1), "training_iteration": number, "time_total_s": 1.2345678 * number,
                "node_ip": "10.0.0.1", "pid": 100 + number, "config": self.config, "nested": {"a": number},
                "acc": None if number % 2 else 0.5, "name": "text", "done": False, "flag": True,
            }  # fmt: skip

    def __str__(self) -> str:
        return f"train_{self.trial_id}"


def trials(count: int) -> list[ShownTrial]:
    """Some trials of each status."""
    return [ShownTrial(number) for number in range(count)]
