"""The table of options: reading, origins, what becomes of each, and the texts that are made from it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from hpc.cli import manual
from hpc.launch import jobdir, plan, status_line, submit, work
from hpc.launchers.registry import SCHEDULERS
from hpc.launchers.slurm.commands import directives
from hpc.launchers.units import memory_bytes
from hpc.settings import errors
from hpc.settings.errors import CliError
from hpc.settings.options import REQUESTED, TABLE, Settings, load, parse_words, pass_on, request_of
from hpc.settings.values import READERS, show_value

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder and an environment without anybody's settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in [o.env for o in TABLE] + ["SLURM_JOB_ID", "SBATCH_ACCOUNT"]:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def settings(*argv: str) -> Settings:
    return load(argv)


def test_the_tables_rows_are_whole() -> None:
    assert len({o.name for o in TABLE}) == len(TABLE)
    flags = [flag for o in TABLE for flag in o.flags]
    assert len(set(flags)) == len(flags)
    for option in TABLE:
        assert option.kind in READERS and option.long.startswith("--") and option.help
        assert option.is_switch or option.metavar or option.hidden
        assert option.long[2:].replace("-", "_") == option.name


@pytest.mark.parametrize(
    "argv", [["-N4"], ["-N", "4"], ["-N=4"], ["--nodes=4"], ["--nodes", "4"], ["-v", "-N4"]], ids=shlex.join
)
def test_spellings_of_one_value(argv: list[str]) -> None:
    s = settings(*argv, "train.py", "-N", "9", "--epochs=3")
    assert s["nodes"] == (4, 4) and s.script == "train.py" and s.args == ["-N", "9", "--epochs=3"]


def test_switches() -> None:
    assert settings("--exclusive", "x.py")["exclusive"] is True
    assert settings("--exclusive", "--no-exclusive", "x.py")["exclusive"] is False
    assert settings("--", "-odd.py").script == "-odd.py"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--nodse", "4", "x.py"], ["no such option: --nodse", "--nodes"]),
        (["--wckey=7", "x.py"], ["no such option: --wckey", "--submit-arg=--wckey=7"]),
        (["-N", "0", "x.py"], ["not a number of nodes", "--nodes N|MIN-MAX"]),
        (["-N", "8-2", "x.py"], ["the smaller first"]),
        (["-t", "soon", "x.py"], ["not a time: 'soon'", "30m"]),
        (["--mem", "lots", "x.py"], ["not a size"]),
        (["--scheduler=lsf", "x.py"], ["there are: slurm, pbs, yarn, local"]),
        (["--env", "7=8", "x.py"], ["not a variable"]),
        (["--env", "SURELY_NOT_SET", "x.py"], ["SURELY_NOT_SET is not set here"]),
        (["--time"], ["--time needs a value"]),
    ],
)
def test_usage_errors_name_the_fix(argv: list[str], words: list[str]) -> None:
    with pytest.raises(CliError) as caught:
        load(argv)
    assert caught.value.code == "USAGE" and caught.value.exit_code == 2
    for word in words:
        assert word in caught.value.text()


def test_each_source_in_its_rank(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = alone / "config" / "hpc"
    (user / "sites").mkdir(parents=True)
    (user / "sites" / "big.toml").write_text('account = "a5"\nqos = "q5"\npartition = "p5"\ntime = "5h"\n')
    (user / "config.toml").write_text('site = "big"\nqos = "q4"\npartition = "p4"\ntime = "4h"\n')
    (alone / "hpc.toml").write_text('[launch]\npartition = "p3"\ntime = "3h"\n[runtime]\nheartbeat_s = 2.0\n')
    monkeypatch.setenv("HPC_TIME", "2h")
    s = settings("-N", "1", "x.py")
    got = {name: (s[name], s.origin(name)) for name in ("nodes", "time", "partition", "qos", "account", "grace")}
    assert got == {
        "nodes": ((1, 1), "--nodes"),
        "time": (7200, "HPC_TIME"),
        "partition": ("p3", "./hpc.toml"),
        "qos": ("q4", "~/.config/hpc/config.toml"),
        "account": ("a5", "site profile big"),
        "grace": (5.0, "default"),
    }
    assert s.runtime == {"heartbeat_s": 2.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nodse = 4", ["no such option in ./hpc.toml: nodse", "nodes = ..."]),
        ("nodes = [1, 2]", ["nodes takes one value"]),
        ('time = "soon"', ["./hpc.toml: time: not a time"]),
        ("detach = true", ["no such option"]),
        ("nodes = ", ["not valid TOML"]),
        ('site = "nowhere"', ["no site profile named 'nowhere'"]),
    ],
)
def test_errors_in_a_file_name_it(alone: Path, text: str, words: list[str]) -> None:
    (alone / "hpc.toml").write_text(text)
    with pytest.raises(CliError) as caught:
        load(["x.py"])
    assert caught.value.code == "CONFIG"
    for word in words:
        assert word in caught.value.text()


def test_lists_from_every_source(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (alone / "hpc.toml").write_text('setup = ["module load a", "module load b"]\nexclusive = true\n[env]\nA = "1 2"\n')
    monkeypatch.setenv("HPC_SUBMIT_ARG", "--x='1 2' --y")
    s = settings("--step-arg=-a", "--step-arg", "-b", "x.py")
    assert s["setup"] == ["module load a", "module load b"] and s["env"] == ["A=1 2"] and s["exclusive"] is True
    assert s["submit_arg"] == ["--x=1 2", "--y"] and s["step_arg"] == ["-a", "-b"]


def test_an_error_in_a_variable_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPC_NODES", "many")
    with pytest.raises(CliError, match="HPC_NODES: not a number of nodes"):
        load(["x.py"])


def test_what_becomes_of_options() -> None:
    s = settings(
        "-N2-8",
        "-t",
        "2h",
        "--exclusive",
        "-p",
        "gpu",
        "--min-nodes=3",
        "--interface",
        "hsn0",
        "-v",
        "--env=A=b c",
        "--start-timeout=1m",
        "x.py",
    )
    asked = ["--nodes=2-8", "--time=02:00:00", "--partition=gpu", "--exclusive"]
    assert directives(request_of(s)) == [*asked, "--open-mode=append", "--no-requeue", "--no-kill"]
    inner = pass_on(s)
    assert inner == ["--min-nodes=3", "--start-timeout=60s", "--interface=hsn0", "--env=A=b c", "--verbose"]
    found, rest = parse_words(TABLE, [*inner, "x.py"])
    assert rest == ["x.py"] and found["min_nodes"] == 3 and found["start_timeout"] == 60


def test_what_is_asked_of_a_scheduler_has_the_names_of_options() -> None:
    assert set(REQUESTED) <= {o.name for o in TABLE}
    for scheduler in SCHEDULERS.values():
        assert set(scheduler.column) <= set(REQUESTED)


@pytest.mark.parametrize("option", [o for o in TABLE if o.default not in (None, False)], ids=lambda o: o.name)
def test_defaults_read_back(option: object) -> None:
    kind, default = option.kind, option.default  # type: ignore[attr-defined]
    assert READERS[kind](show_value(kind, default)) == default


def test_memory_in_bytes() -> None:
    assert [memory_bytes(m) for m in ("2", "3K", "1M", "2G")] == [2 << 20, 3 << 10, 1 << 20, 2 << 30]


# ---------------------------------------------------------------- texts


def test_the_page_of_options_is_up_to_date() -> None:
    page = ROOT / "docs" / "cli.md"
    assert page.read_text() == manual.markdown(), "make it anew: python -m hpc.cli.manual > docs/cli.md"


def test_every_option_and_code_is_in_the_texts() -> None:
    page, text = manual.markdown(), manual.help_text()
    for option in TABLE:
        assert option.hidden or (option.long in page and option.long in text)
    for code in errors.CATALOGUE:
        assert code in page and errors.explain(f"error[{code.lower()}]")


def test_an_error_in_its_form() -> None:
    error = CliError("TIME-LIMIT", "too long", where="--time", why="one\ntwo", fix="hpc-launch -t 1h")
    assert error.text().splitlines() == [
        "error[TIME-LIMIT]: too long",
        "  where: --time",
        "  why:   one",
        "         two",
        "  fix:   hpc-launch -t 1h",
    ]
    assert error.exit_code == 120


@pytest.mark.parametrize(
    ("argv", "fix", "expected"),
    [
        ("hpc-launch -N 9 -t5 x.py -N 9", {"--nodes": "4"}, "hpc-launch --nodes=4 -t5 x.py -N 9"),
        ("/v/bin/hpc-launch --nodes=9 x.py", {"--nodes": "4"}, "hpc-launch --nodes=4 x.py"),
        ("hpc doctor -N9 -p p", {"--nodes": "4"}, "hpc doctor --nodes=4 -p p"),
        ("hpc-launch doctor", {"--nodes": "4"}, "hpc-launch --nodes=4 doctor"),
        ("/v/bin/hpc launch -N9 x.py", {"--nodes": "4"}, "hpc launch --nodes=4 x.py"),
        ("hpc-launch --exclusive x.py 'a b'", {"--time": "30m"}, "hpc-launch --time=30m --exclusive x.py 'a b'"),
        ("hpc-launch x.py", {}, ""),
    ],
)
def test_the_corrected_command(argv: str, fix: dict[str, str], expected: str) -> None:
    assert submit.corrected(shlex.split(argv), fix) == expected


# ---------------------------------------------------------------- the plan


def test_a_plan_needs_no_scheduler(alone: Path) -> None:
    (alone / "my train.py").write_text("")
    s = settings("-N4", "-t1h", "-J", "a b", "--submit-arg=--comment=c", "--setup=module load x", "my train.py", "it's")
    made = plan.make_plan(s, SCHEDULERS["slurm"], alone / "7")
    lines = made.text.splitlines()
    assert (
        lines[0] == "#!/bin/bash"
        and '#SBATCH --job-name="a b"' in lines
        and f"#SBATCH --output={alone}/7/driver.log" in lines
    )
    assert lines[-3] == "module load x" and shlex.split(lines[-1])[-2:] == ["my train.py", "it's"]
    assert lines[-1].startswith("exec ") and f"--job={alone}/7" in lines[-1]
    assert made.submit == ("sbatch", "--parsable", "--comment=c", f"{alone}/7/job.sbatch")
    assert plan.cost(s) == "4 nodes x 01:00:00 = 4 node-hours at most"


@pytest.mark.parametrize(
    ("output", "expected"), [("o-%j.txt", "o-4711.txt"), ("%x.out", "x.out"), ("a%%b", "a%b"), ("%N.out", None)]
)
def test_the_real_name_of_the_output(alone: Path, output: str, expected: str | None) -> None:
    (alone / "x.py").write_text("")
    slurm = SCHEDULERS["slurm"]
    made = plan.make_plan(settings("-o", output, "x.py"), slurm, alone / "1")
    assert plan.real_log(made, slurm, "4711") == (alone / expected if expected else None)


def test_commands_of_scripts(alone: Path) -> None:
    (alone / "x.py").write_text("")
    (alone / "run.sh").write_text("")
    assert work.command("x.py", ["1"])[1:] == ["x.py", "1"]
    assert work.command("pkg.mod", [], module=True)[1:] == ["-m", "pkg.mod"]
    for script, code, exit_code in (
        ("y.py", "NO-SCRIPT", 127),
        ("run.sh", "NOT-EXECUTABLE", 126),
        (".", "NOT-EXECUTABLE", 126),
    ):
        with pytest.raises(CliError) as caught:
            work.command(script, [])
        assert (caught.value.code, caught.value.exit_code) == (code, exit_code)
    (alone / "run.sh").chmod(0o755)
    assert work.command("run.sh", []) == [str(alone / "run.sh")]


# ---------------------------------------------------------------- folders of jobs


def test_numbers_selectors_and_scheduler_ids(alone: Path) -> None:
    made = [jobdir.create(alone / "jobs", "default") for _ in range(4)]
    made[1].write("job.json", {"scheduler_id": "4711", "scheduler": "slurm"})
    base = alone / "jobs"

    def chosen(*words: str) -> list[int]:
        return [j.number for j in jobdir.select(base, words)]

    assert (
        chosen() == [4] and chosen("last") == [4] and chosen("all") == [1, 2, 3, 4] and chosen("2-3", "1") == [1, 2, 3]
    )
    assert chosen("4711") == [2] and chosen("slurm:4711") == [2]
    with pytest.raises(CliError, match="no job matches 'pbs:4711'"):
        chosen("pbs:4711")
    assert oct(made[0].path.stat().st_mode & 0o777) == "0o700"


def test_a_reader_never_sees_half_a_file(alone: Path) -> None:
    job = jobdir.create(alone / "jobs", "default")
    job.write("status.json", {"state": "running"})
    (job.path / "job.json").write_text("{")
    assert job.status() == {"state": "running"} and job.job() == {}
    job.event("x", n=1)
    assert json.loads((job.path / "events.jsonl").read_text())["event"] == "x"
    assert sorted(p.name for p in job.path.iterdir()) == ["events.jsonl", "job.json", "status.json"]


def test_a_full_or_missing_file_system_is_told(alone: Path) -> None:
    (alone / "file").write_text("")
    with pytest.raises(CliError) as caught:
        jobdir.create(alone / "file" / "jobs", "HPC_JOB_DIR")
    assert caught.value.code == "JOB-DIR" and "job_dir (HPC_JOB_DIR)" in caught.value.text()


# ---------------------------------------------------------------- the status line


class Stream:
    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        raise OSError


def test_without_a_terminal_only_changes_are_lines() -> None:
    stream = Stream()
    line = status_line.StatusLine(stream=stream)  # type: ignore[arg-type]
    for text, key in (("starting  1 s", "0/2"), ("starting  2 s", "0/2"), ("starting  3 s", "1/2")):
        line.show(text, key=key)
    line.final("ended")
    assert stream.text == "starting  1 s\nstarting  3 s\nended\n"


def test_on_a_terminal_the_line_rewrites_itself_and_goes_before_other_output() -> None:
    stream = Stream()
    line = status_line.StatusLine(stream=stream, terminal=True)  # type: ignore[arg-type]
    line.show("a" * 200)
    line.clear()
    line.clear()
    assert stream.text == "\r\x1b[K" + "a" * 78 + "…" + "\r\x1b[K"


def test_quiet_says_nothing() -> None:
    stream = Stream()
    line = status_line.StatusLine(stream=stream, quiet=True)  # type: ignore[arg-type]
    line.show("x")
    line.final("y")
    assert stream.text == ""


@pytest.mark.parametrize(
    ("word", "instead"),
    [
        ("--nproc-per-node=4", "--ranks-per-node=4"), ("--nproc_per_node=gpu", "--ranks-per-node=R"),
        ("--nnodes=2:4", "--nodes=2-4"), ("--standalone", "leave it out"), ("--rdzv-endpoint=a:1", "leave it out"),
        ("--no-python", "leave it out"), ("--log-dir=x", "hpc logs"),
    ],
)  # fmt: skip
def test_an_option_of_torchrun_is_refused_with_what_to_use_instead(word: str, instead: str):
    with pytest.raises(CliError) as raised:
        load([word, "x.py"])
    assert instead in raised.value.fix
