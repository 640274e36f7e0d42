"""Reporters show what Ray's do, cost little however many trials there are, and give the terminal back."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import pytest
import tune_tables
from tune_trials import make_trial, tell

from hpc.tune import progress_reporter
from hpc.tune.default_callbacks import callbacks_for
from hpc.tune.progress_reporter import CLIReporter, JupyterNotebookReporter, ProgressReporter
from hpc.tune.reporter.output import About, ExperimentOutput, verbosity
from hpc.tune.reporter.table import draw, draw_html
from hpc.tune.reporter.trials import usage_text

RECORDED = Path(__file__).parent / "ray_tables"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def __init__(self, tty: bool = False) -> None:
        super().__init__()
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


def about(**changes):
    return About("sweep", "/storage/sweep", "BasicVariantGenerator", "FIFOScheduler", 3, "loss", "min")._replace(
        **changes
    )


def test_tables_are_those_that_ray_prints():
    drawn = [draw(heads, rows, style) for heads, rows in tune_tables.TABLES for style in ("psql", "rounded")]
    assert "\n".join(drawn) + "\n" == (RECORDED / "tables.txt").read_text()


def test_the_cli_reporter_prints_what_rays_does():
    texts = []
    for options in tune_tables.REPORTERS:
        reporter = CLIReporter(**options)
        reporter.setup(time.time(), 30)
        for count, done, *info in tune_tables.REPORTS:
            texts.append(reporter._progress_str(tune_tables.trials(count), done, *info))
    found = re.sub("Current time: .*", "Current time: now", "\n".join(texts))
    assert found == (RECORDED / "reports.txt").read_text()


def test_a_reporter_reports_every_few_seconds_and_at_the_end():
    reporter = CLIReporter(max_report_frequency=60)
    assert reporter.should_report([])
    assert not reporter.should_report([])
    assert reporter.should_report([], done=True)


def test_columns_are_added_once_and_with_a_head_only_to_a_dict():
    reporter = CLIReporter(metric_columns=["loss"], parameter_columns={"lr": "rate"})
    reporter.add_metric_column("acc")
    reporter.add_parameter_column("wd", "decay")
    with pytest.raises(ValueError, match="already"):
        reporter.add_metric_column("acc")
    with pytest.raises(ValueError, match="give it a dict"):
        reporter.add_metric_column("f1", "F1")
    assert reporter._rows(tune_tables.trials(1), None)[0][3:] == ["rate", "decay", "loss", "acc"]


def test_a_reporter_with_another_metric_than_the_experiment_is_refused():
    with pytest.raises(ValueError, match="leave it out of one of them"):
        CLIReporter(metric="a", mode="min").setup(metric="b", mode="min")
    CLIReporter(metric="a", mode="min").setup(metric="a", mode="min")


def test_what_is_printed_at_the_start_and_the_end_is_as_under_ray(tmp_path):
    out = Terminal()
    output = ExperimentOutput(about(resources=lambda: "Logical resource usage: 1.0/2 CPUs, 0/0 GPUs"), out=out)
    output.setup(total_num_samples=3)
    assert out.getvalue().splitlines()[:7] == [
        "╭────────────────────────────────────────────────────────╮",
        "│ Configuration for experiment     sweep                 │",
        "├────────────────────────────────────────────────────────┤",
        "│ Search algorithm                 BasicVariantGenerator │",
        "│ Scheduler                        FIFOScheduler         │",
        "│ Number of trials                 3                     │",
        "╰────────────────────────────────────────────────────────╯",
    ]
    assert "View detailed results here: /storage/sweep" in out.getvalue()
    trials = [make_trial(tmp_path, number) for number in range(3)]
    for number, trial in enumerate(trials):
        trial.num_failures, trial.error = (1, ValueError("diverged")) if number == 2 else (0, None)
        result = {
            "training_iteration": 1,
            "loss": 0.5 - 0.1 * number,
            "config": trial.config,
            "trial_id": trial.trial_id,
        }
        tell(output, trial, [result], failed=number == 2)
    out.truncate(0)
    output.on_experiment_end(trials=trials)
    text = out.getvalue()
    assert "Trial status: 2 TERMINATED | 1 ERROR" in text
    assert "Logical resource usage: 1.0/2 CPUs" in text
    assert "Current best trial: abcde_00002 with loss=0.3" in text
    assert re.search(r"│ train_abcde_00000 +TERMINATED +0\.1 +1 +0\.5 │", text)
    assert "Number of errored trials: 1" in text and f"{trials[2].path}/error.txt" in text


def test_lines_without_a_terminal_come_at_most_every_five_seconds(tmp_path, monkeypatch):
    out, clock = Terminal(), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    output = ExperimentOutput(about(), out=out)
    output.setup()
    begun = len(out.getvalue())
    trials = [make_trial(tmp_path, number) for number in range(3)]
    for turn in range(200):
        clock[0] += 0.1
        trials[turn % 3].status = ("RUNNING", "TERMINATED")[turn // 100]
        output.on_step_end(iteration=turn, trials=trials)
    lines = out.getvalue()[begun:].splitlines()
    assert 2 <= len(lines) <= 4 and all(line.startswith("Trial status: ") for line in lines)
    for turn in range(100):
        clock[0] += 0.1
        output.on_step_end(iteration=turn, trials=trials)
    assert len(out.getvalue()[begun:].splitlines()) <= len(lines) + 1, "nothing has changed"


def test_a_terminal_has_a_live_table_and_is_given_back(tmp_path):
    out = Terminal(tty=True)
    output = ExperimentOutput(about(), out=out)
    output.setup()
    trials = [make_trial(tmp_path, number) for number in range(3)]
    trials[0].status = "RUNNING"
    output.on_step_end(iteration=0, trials=trials)
    text = out.getvalue()
    assert "Trial name" in text and "train_abcde_00000" in text and "RUNNING" in text
    drawn = len(text)
    output.on_step_end(iteration=1, trials=trials)
    assert len(out.getvalue()) == drawn, "it is not drawn more than four times a second"
    assert "\x1b[?25l" in text
    output.close()
    output.close()
    assert "\x1b[?25h" in out.getvalue(), "the cursor is there again"


def test_errors_are_always_shown_and_more_only_when_it_is_wanted(tmp_path):
    shown = {}
    for verbose in (0, 1, 2):
        out = Terminal()
        output = ExperimentOutput(about(), verbose=verbose, out=out)
        output.setup()
        good, bad = make_trial(tmp_path), make_trial(tmp_path, 1)
        bad.error, bad.num_failures = ValueError("Traceback ...\nValueError: diverged"), 1
        result = {"training_iteration": 1, "loss": 0.25, "time_total_s": 1.5, "pid": 7}
        tell(output, good, [result])
        tell(output, bad, [], failed=True)
        output.on_experiment_end(trials=[good, bad])
        shown[verbose] = out.getvalue()
    assert shown[0].strip().startswith("Trial train_abcde_00001 errored after 0 iterations at")
    assert "Error: ValueError: diverged" in shown[0] and "Trial status" not in shown[0]
    assert "started with" not in shown[1] and "Trial status" in shown[1]
    assert "Trial train_abcde_00000 started with configuration:" in shown[2]
    assert "finished iteration 1" in shown[2] and "completed after 1 iterations" in shown[2]
    assert re.search(r"│ loss +0\.25 │", shown[2]) and "pid" not in shown[2]


def test_a_reporter_of_the_users_takes_the_place_of_the_tables(tmp_path):
    class Counting(ProgressReporter):
        told = []

        def setup(self, **kwargs):
            self.told.append(("setup", kwargs.get("total_samples")))

        def should_report(self, trials, done=False):
            return True

        def report(self, trials, done, *sys_info):
            self.told.append((len(trials), done, sys_info))

    out = Terminal()
    output = ExperimentOutput(about(resources=lambda: "used"), reporter=Counting(), out=out)
    output.setup(total_num_samples=7)
    trial = make_trial(tmp_path)
    output.on_step_end(iteration=0, trials=[trial])
    output.on_experiment_end(trials=[trial])
    assert Counting.told == [("setup", 7), (1, False, ("used",)), (1, True, ("used",))]
    assert out.getvalue() == ""


def test_verbosity_is_a_number_from_nothing_to_everything():
    assert [verbosity(one) for one in (None, 0, 1, 2, 3)] == [1, 0, 1, 2, 2]
    for wrong in (True, -1, 4, "1"):
        with pytest.raises(ValueError, match="verbose"):
            verbosity(wrong)


def test_a_notebook_gets_html(monkeypatch):
    with pytest.warns(UserWarning, match="notebooks"):
        reporter = JupyterNotebookReporter(metric="loss", mode="min")
    shown = []
    monkeypatch.setattr(reporter, "display", shown.append)
    reporter.report(tune_tables.trials(5), False, "used <1>")
    assert "<td>train_ab12_00000</td>" in shown[0] and "used &lt;1&gt;" in shown[0]
    assert "Current best trial: ab12_00004" in shown[0] and "Number of errored trials: 2" in shown[0]
    assert draw_html(["a<b"], [[1.5]]).count("text-align: right") == 2
    monkeypatch.setattr(progress_reporter, "in_notebook", lambda: True)
    assert isinstance(JupyterNotebookReporter(overwrite=False), ProgressReporter)


class Looked(list):
    """Trials, and how often somebody has gone through all of them."""

    looks = 0

    def __iter__(self):
        self.looks += 1
        return super().__iter__()


def test_ten_thousand_trials_cost_a_turn_nothing_and_the_end_shows_the_best(tmp_path, monkeypatch):
    trials = Looked(make_trial(tmp_path, number) for number in range(10_000))
    for trial in trials:
        trial.status = "TERMINATED"
        trial.update_last_result({"training_iteration": 1, "loss": float(trial.trial_id[-5:])}, 1.0)
    out = Terminal()
    output = ExperimentOutput(about(mode="max"), out=out)
    output.setup()
    before = trials.looks
    for turn in range(2000):
        output.on_step_end(iteration=turn, trials=trials)
    assert trials.looks - before < 20
    output.on_experiment_end(trials=trials)
    text = out.getvalue()
    assert "train_abcde_09999" in text and "train_abcde_00001 " not in text
    assert "... 9900 more trials not shown" in text


def test_the_output_of_an_experiment_is_one_of_its_callbacks(capsys):
    told = callbacks_for(None, about=about(), verbose=1)
    told.setup(total_num_samples=3)
    assert "Configuration for experiment" in capsys.readouterr().out


def test_what_trials_hold_is_said_as_under_ray():
    total = {"CPU": 2.0, "memory": 7.0, "tpu": 4.0}
    assert usage_text([], total) == "Logical resource usage: 0/2 CPUs, 0/0 GPUs"
    held = [{"CPU": 1.0, "GPU": 0.1}, {"CPU": 0.5, "GPU": 0.2, "tpu": 2.0}]
    assert usage_text(held, {**total, "GPU": 1.0}) == ("Logical resource usage: 1.5/2 CPUs, 0.3/1 GPUs (2.0/4.0 tpu)")
