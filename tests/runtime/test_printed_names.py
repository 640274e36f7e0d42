"""Lines of workers at the driver: with the name, the process and another node in front; equal ones as a number."""

import json
import logging
import os
import re
import subprocess
import sys

import pytest

import hpc
from hpc.core.worker import logformat
from hpc.util.state import get_log
from runtime.running import local_nodes, on, one_node


@pytest.fixture
def printed(capfd):
    """What the driver shows of a program in a session that ends with it: the lines of stdout and those of stderr."""

    def run(program, env=None, **options):
        with one_node(env=env, **options):
            hpc.get(program())
        out, err = capfd.readouterr()
        return out.splitlines(), err.splitlines()

    return run


@hpc.remote
class Counter:
    def __init__(self):
        print("made")

    def count(self):
        print("counted")
        logging.getLogger("counter").warning("look")
        return os.getpid()


@hpc.remote
class Bee:
    def __init__(self, number):
        self.number = number
        print("made")

    def __repr__(self):
        return f"Bee({self.number})"

    async def buzz(self):
        print("buzz")
        return os.getpid()


@hpc.remote
class Odd:
    def __repr__(self):
        raise ValueError("no text for this one")

    def speak(self):
        print("spoken")
        return os.getpid()


@hpc.remote
def talk():
    print("out of a task")
    print("on stderr", file=sys.stderr)
    return os.getpid()


@hpc.remote
def shell():
    subprocess.run("echo from a shell", shell=True, check=True)
    return os.getpid()


def test_a_line_has_the_name_of_its_task_or_what_its_options_say(printed):
    pids = []

    def program():
        @hpc.remote
        def inner():
            print("inside")

        hpc.get(inner.remote())
        pids.extend(hpc.get([talk.remote()]) + hpc.get([talk.options(name="named").remote()]))
        return []

    out, err = printed(program, num_cpus=1)
    assert [line for line in out if "out of" in line] == [
        f"(talk pid={pids[0]}) out of a task", f"(named pid={pids[1]}) out of a task"
    ]  # fmt: skip
    assert f"(talk pid={pids[0]}) on stderr" in err and f"(inner pid={pids[0]}) inside" in out


def test_a_line_of_an_actor_has_its_class_or_what_its_objects_say_of_themselves(printed):
    pids = {}

    def program():
        counter, bee, odd = Counter.options(name="a").remote(), Bee.remote(7), Odd.remote()
        pids["c"], pids["b"], pids["o"] = hpc.get([counter.count.remote(), bee.buzz.remote(), odd.speak.remote()])
        return []

    out, err = printed(program, num_cpus=3)
    assert {f"(Counter pid={pids['c']}) made", f"(Counter pid={pids['c']}) counted"} <= set(out)
    assert f"(Counter pid={pids['c']}) look" in err
    assert {f"(Bee pid={pids['b']}) made", f"(Bee(7) pid={pids['b']}) buzz"} <= set(out)
    assert f"(Odd pid={pids['o']}) spoken" in out and "no text for this one" in "".join(err)


def test_what_another_program_writes_after_a_task_has_not_the_name_of_the_task_before(printed):
    pids = []

    def program():
        pids.append(hpc.get(talk.remote()))
        pids.append(hpc.get(shell.remote()))
        return []

    out, _ = printed(program, num_cpus=1)
    [line] = [line for line in out if "from a shell" in line]
    assert line in (f"(pid={pids[1]}) from a shell", f"(shell pid={pids[1]}) from a shell")


def test_what_a_program_writes_has_the_name_of_its_task_if_that_runs_for_long_enough_and_that_of_its_actor(printed):
    @hpc.remote
    def program():
        """Goes on until the driver has its line: it is read while the task runs."""
        for _ in range(3):
            subprocess.run("sleep 0.3; echo a program", shell=True, check=True)
        return os.getpid()

    @hpc.remote
    class Runs:
        def run(self):
            subprocess.run("echo a short one", shell=True, check=True)
            return os.getpid()

    pids = []

    def run():
        runs = Runs.remote()
        pids.extend(hpc.get([program.remote(), runs.run.remote()]))
        return []

    out, _ = printed(run, num_cpus=2)
    assert out.count(f"(program pid={pids[0]}) a program") >= 2
    assert f"(Runs pid={pids[1]}) a short one" in out


def test_the_node_is_named_where_it_is_another_than_the_drivers(capfd):
    with local_nodes(2):
        pids = hpc.get([talk.options(scheduling_strategy=on(n)).remote() for n in (1, 2)])
    out = capfd.readouterr().out
    assert re.search(rf"\(talk pid={pids[0]}\) out of|\(talk pid={pids[1]}, node=2\) out of", out)
    assert f"(talk pid={pids[0]}, node=1)" not in out and f"(talk pid={pids[1]})" not in out


def many(count):
    @hpc.remote
    class Says:
        def say(self, number):
            print(f"step {number} of all")
            print("to be left out")

    says = [Says.remote() for _ in range(count)]
    return [one.say.remote(number) for number, one in enumerate(says)]


def test_equal_lines_of_several_workers_are_one_and_a_number_that_comes_at_the_end_of_the_program(printed):
    out, _ = printed(lambda: many(4), num_cpus=4, env={"RAY_DEDUP_LOGS_AGG_WINDOW_S": "1000"})
    steps = [line for line in out if "of all" in line]
    assert len(steps) == 2 and re.fullmatch(r"\(Says pid=\d+\) step \d of all", steps[0])
    assert " of all [repeated 3x across cluster]" in steps[1]
    assert "".join(out).count("HPC_DEDUP_LOGS=0") == 1


def test_equal_lines_are_shown_when_the_window_is_over_though_nothing_more_comes(capfd):
    with one_node(num_cpus=3, env={"HPC_DEDUP_LOGS_AGG_WINDOW_S": "0.2"}):
        hpc.get(many(3))
        out = ""
        while "of all [repeated 2x" not in out:
            out += capfd.readouterr().out
    assert "[repeated" not in capfd.readouterr().out


def test_each_line_is_shown_where_folding_is_switched_off_and_some_are_left_out_where_that_is_said(printed):
    out, _ = printed(lambda: many(3), num_cpus=3, env={"RAY_DEDUP_LOGS": "0"})
    assert sum("of all" in line for line in out) == 3
    env = {"RAY_DEDUP_LOGS_SKIP_REGEX": "left out", "HPC_DEDUP_LOGS_ALLOW_REGEX": "step"}
    out, _ = printed(lambda: many(3), num_cpus=3, env=env)
    assert sum("of all" in line for line in out) == 3 and not any("left out" in line for line in out)


def test_lines_can_come_without_a_prefix_or_not_at_all(printed):
    out, _ = printed(lambda: [talk.remote()], env={"RAY_DISABLE_WORKER_LOG_PREFIX": "1"})
    assert out == ["out of a task"]
    out, _ = printed(lambda: [talk.remote()], env={"RAY_LOG_TO_DRIVER": "0"})
    assert out == []
    out, _ = printed(lambda: [talk.remote()], env={"RAY_LOG_TO_DRIVER": "0"}, log_to_driver=True)
    assert len(out) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("RAY_DEDUP_LOGS", "perhaps"), ("HPC_DEDUP_LOGS_AGG_WINDOW_S", "-1"), ("RAY_DEDUP_LOGS_SKIP_REGEX", "(")],
)
def test_what_makes_no_sense_in_the_environment_is_said_before_a_session_starts(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=name):
        hpc.init(address="local")
    assert not hpc.is_initialized()


def test_the_log_of_a_task_is_its_text_alone(tmp_path):
    with one_node(num_cpus=1):
        refs = [talk.remote(), talk.options(name="other").remote()]
        pid = hpc.get(refs)[0]
        node = hpc.nodes()[0]["NodeID"]
        assert "".join(get_log(pid=pid, node_id=node)) == "out of a task\n" * 2
        assert "".join(get_log(pid=pid, node_id=node, tail=1)) == "out of a task\n"


def test_a_progress_bar_is_shown_by_its_last_state_and_a_color_ends_with_its_line(printed):
    @hpc.remote
    def bar():
        for done in range(0, 101, 10):
            print(f"\rdone {done}%", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        print("\x1b[31mred")

    out, err = printed(lambda: [bar.remote()])
    states = [line.partition(") ")[2] for line in err if "%" in line]
    assert states[-1] == "done 100%" and len(states) < 5
    assert out[0].endswith(") \x1b[31mred\x1b[0m")


def test_a_worker_in_an_interpreter_of_its_own_says_its_names_too(printed):
    env = {"container": {"prefix": ["env"], "python": sys.executable}}
    out, _ = printed(lambda: [talk.options(runtime_env=env).remote()])
    assert len(out) == 1 and out[0].startswith("(talk pid=")


@hpc.remote
def logs(level):
    logging.getLogger("mine").log(level, "a record", extra={"part": {1, 2}})


def test_records_of_all_workers_are_objects_of_json_that_say_where_they_come_from(printed):
    config = hpc.LoggingConfig("JSON", "INFO")
    program = lambda: [logs.remote(level) for level in (logging.DEBUG, logging.INFO, logging.ERROR)]  # noqa: E731
    level = logging.getLogger().level
    try:
        out, err = printed(program, num_cpus=3, logging_config=config)
    finally:
        logformat.apply(None)
    records = [json.loads(line) for line in err]
    assert out == [] and sorted(record["levelname"] for record in records) == ["ERROR", "INFO"]
    for record in records:
        assert record["message"] == "a record" and record["part"] == "{1, 2}" and record["task_name"] == "logs"
        assert len({*record, "job_id", "node_id", "worker_id", "task_id"}) == len(record)
    assert logging.getLogger().level == level


def test_the_environment_says_how_jobs_log_too(printed):
    try:
        _, err = printed(lambda: [logs.remote(logging.ERROR)], env={"RAY_LOGGING_CONFIG_ENCODING": "TEXT"})
    finally:
        logformat.apply(None)
    assert re.search(r"\tERROR test_printed_names.py:\d+ -- a record part=\{1, 2\} job_id=", err[0])
    with pytest.raises(ValueError, match="HPC_LOGGING_CONFIG_ENCODING is 'XML'"):
        printed(list, env={"HPC_LOGGING_CONFIG_ENCODING": "XML"})
    with pytest.raises(TypeError, match="must be a LoggingConfig, not dict"):
        hpc.init(address="local", logging_config={"encoding": "JSON"})


def test_what_a_task_writes_into_a_file_of_its_own_through_standard_output_is_its_text_alone(printed, tmp_path):
    @hpc.remote
    def capture(path):
        before, own = os.dup(1), os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(own, 1)
        print("captured")
        os.dup2(before, 1)
        print("logged")

    out, _ = printed(lambda: [capture.remote(str(tmp_path / "own"))])
    assert (tmp_path / "own").read_text() == "captured\n"
    assert out[0].startswith("(capture pid=") and out[0].endswith(") logged") and len(out) == 1
