"""Runtime environments without processes: checks, merging, packages, and what raylet and owner do about a failure."""

from __future__ import annotations

import io
import os
import threading
import time
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc.api import runtime_env_checks
from hpc.api.worker_env import worker_env
from hpc.core.ids import Address
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.tables import Shape
from hpc.core.process.context import process
from hpc.core.raylet.leasing import MAX_STARTING, Leasing
from hpc.core.resources import UNIT, NodeResources
from hpc.core.runenv import package
from hpc.core.runenv.once_per_node import Deadline, SetupError, made_once
from hpc.core.runenv.package import PackageError, files_of, is_ignored, make_zip, parse_rules, unpack_zip
from hpc.core.runenv.spec import KEY, expand, pack, unpack
from hpc.core.wire import SYSTEM, CreateActor, LeaseFailed, LeaseGrant, LeaseRequest, Task
from hpc.core.worker.threads import wanted
from hpc.runtime_env import RuntimeEnv, RuntimeEnvConfig

CPU = {"CPU": UNIT}
DRIVER = Address(1, 1)


# ---------------------------------------------------------------- checks


@pytest.mark.parametrize(
    ("env", "error", "text"),
    [
        (7, TypeError, "must be a dict"),
        ({"work_dir": "."}, ValueError, "no field 'work_dir'; there are: working_dir"),
        ({"env_vars": {"A": 1}}, TypeError, "strings to strings"),
        ({"env_vars": {KEY: "{}"}}, ValueError, "cannot have the name"),
        ({"env_vars": ["A"]}, TypeError, "must be a dict"),
        ({"working_dir": "/no/such/place"}, ValueError, "does not exist"),
        ({"working_dir": "s3://bucket/a.zip"}, ValueError, "cannot be fetched"),
        ({"working_dir": "file://relative"}, ValueError, "absolute path"),
        ({"py_modules": "x"}, TypeError, "must be a list"),
        ({"py_modules": [3]}, TypeError, "paths and modules"),
        ({"excludes": [3]}, TypeError, "list of strings"),
        ({"pip": "requests"}, ValueError, "a package goes into a list"),
        ({"pip": {"requirements": []}}, ValueError, "can have packages"),
        ({"pip": {"pip_check": True}}, ValueError, "needs 'packages'"),
        ({"pip": [1]}, TypeError, "list of strings"),
        ({"uv": {"packages": ["a"], "uv_check": "yes"}}, TypeError, "must be a bool"),
        ({"pip": ["a"], "conda": "b"}, ValueError, "only one of pip, uv, conda, container"),
        ({"conda": {"dependencies": []}}, ValueError, "make it ahead"),
        ({"conda": "environment.yml"}, ValueError, "make it ahead"),
        ({"container": {"run_options": ["--nv"]}}, ValueError, "either an image or a prefix"),
        ({"container": {"image": "a", "worker_path": "b"}}, ValueError, "can have image"),
        ({"image_uri": "a", "container": {"image": "b"}}, ValueError, "without a container"),
        ({"config": {"timeout": 1}}, ValueError, "setup_timeout_seconds"),
        ({"config": {"setup_timeout_seconds": 0}}, ValueError, "positive or -1"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(env, error, text):
    with pytest.raises(error, match=text):
        runtime_env_checks.check(env)


def test_a_runtime_env_is_a_dict_of_what_was_given():
    env = RuntimeEnv(env_vars={"A": "1"}, config=RuntimeEnvConfig(setup_timeout_seconds=5), conda="tools")
    assert env.to_dict() == {
        "env_vars": {"A": "1"},
        "config": {"setup_timeout_seconds": 5, "eager_install": True, "log_files": []},
        "conda": "tools",
    }
    with pytest.raises(ValueError, match="no field 'java_jars'"):
        RuntimeEnv(java_jars=["x"])


def test_a_runtime_env_stays_one_that_makes_sense_when_fields_are_set():
    env = RuntimeEnv(env_vars={"A": "1"})
    env.set("conda", "tools")
    env["env_vars"] = {"B": "2"}
    with pytest.raises(TypeError, match="must map strings"):
        env.set("env_vars", {"B": 2})
    with pytest.raises(ValueError, match="only one of"):
        env["pip"] = ["six"]
    assert env == {"conda": "tools", "env_vars": {"B": "2"}}


def test_a_runtime_env_comes_back_from_its_json_on_a_machine_without_its_paths(tmp_path):
    env = RuntimeEnv(working_dir=str(tmp_path), env_vars={"A": "1"})
    text = env.serialize()
    tmp_path.rmdir()
    back = RuntimeEnv.deserialize(text)
    assert back == env and back.working_dir() == str(tmp_path)
    with pytest.raises(ValueError, match="does not exist"):
        back.serialize()


def test_names_of_log_files_make_no_other_environment():
    config = {"setup_timeout_seconds": 5, "log_files": ["a"]}
    plain, named = (worker_env(None, {"config": c, "conda": "x"}) for c in ({"setup_timeout_seconds": 5}, config))
    assert plain == named
    with pytest.raises(ValueError, match="not nonsense"):
        RuntimeEnv(config={"nonsense": 1})


def test_variables_are_merged_and_other_fields_replaced(monkeypatch):
    parent = pack({"A": "1", "B": "1"}, {"working_dir": "pkg:aa", "pip": {"packages": ["x"], "options": []}})
    monkeypatch.setattr(process, "env", parent)
    assert worker_env(None, None) == parent
    env = worker_env(None, {"env_vars": {"B": "2"}, "conda": "tools"})
    assert unpack(env) == ({"A": "1", "B": "2"}, {"working_dir": "pkg:aa", "conda": "tools"})
    monkeypatch.setattr(process, "env", {})
    assert worker_env(None, {"config": {"eager_install": False}}) == {}, "nothing to set up: any worker will do"


def test_equal_environments_are_equal_strings():
    one = pack({}, {"conda": "a", "config": {"eager_install": True, "setup_timeout_seconds": 5}})
    two = pack({}, {"config": {"setup_timeout_seconds": 5, "eager_install": True}, "conda": "a"})
    assert one == two


def test_requirements_are_read_with_the_files_they_include(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "env", {})
    (tmp_path / "more.txt").write_text("six>=1\n# nothing\n")
    (tmp_path / "requirements.txt").write_text("numpy\n-r more.txt\n-c limits.txt\n./local.whl\n")
    (tmp_path / "local.whl").write_bytes(b"one")
    given = {"pip": {"packages": str(tmp_path / "requirements.txt"), "pip_check": True, "pip_version": "==25.0"}}
    runtime_env_checks.check(given)
    first = worker_env(None, given)
    wish = unpack(first)[1]["pip"]
    assert wish["packages"] == ["numpy", "six>=1", f"-c {tmp_path}/limits.txt", f"{tmp_path}/local.whl"]
    assert (wish["check"], wish["version"]) == (True, "==25.0")
    (tmp_path / "local.whl").write_bytes(b"two")
    assert worker_env(None, given) != first, "the content of a local file is part of the environment"


def test_values_can_use_the_variables_of_the_node():
    assert expand({"X": "${HOME}/lib:${NONE}:$HOME"}, {"HOME": "/h"}) == {"X": "/h/lib::$HOME"}


def test_a_variable_may_name_others_that_are_given_in_any_order_and_its_own_earlier_value():
    given = {"C": "${B}c", "B": "${A}b", "A": "a", "PATH": "${PATH}:/${C}", "D": "${PATH}"}
    assert expand(given, {"PATH": "/bin", "A": "node"}) == {
        "A": "a", "B": "ab", "C": "abc", "PATH": "/bin:/abc", "D": "/bin:/abc",
    }  # fmt: skip
    assert expand({"X": "${Y}x", "Y": "${X}y"}, {"X": "0", "Y": "1"}) == {"X": "1x", "Y": "1xy"}


def test_thread_variables_are_read_as_libraries_do():
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
    assert wanted({"OMP_NUM_THREADS": "4,2"}, names) == 4
    assert wanted({"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "2"}, names) == 2
    assert wanted({"OMP_NUM_THREADS": "all"}, names) == wanted({}, names) == 0


# ---------------------------------------------------------------- packages


@pytest.mark.parametrize(
    ("pattern", "path", "is_dir", "ignored"),
    [
        ("*.bin", "a/b/c.bin", False, True),
        ("/*.bin", "a/c.bin", False, False),
        ("data/", "x/data", True, True),
        ("data/", "x/data", False, False),
        ("a/*.txt", "a/b.txt", False, True),
        ("a/*.txt", "z/a/b.txt", False, False),
        ("**/cache", "x/y/cache", True, True),
        ("logs/**", "logs/a/b", False, True),
        ("a/**/b", "a/b", False, True),
        ("a/**/b", "a/x/y/b", False, True),
        ("file?.py", "file1.py", False, True),
        ("file[0-9].py", "fileA.py", False, False),
        ("file[!0-9].py", "fileA.py", False, True),
        ("\\#odd", "#odd", False, True),
        ("# comment", "# comment", False, False),
    ],
)
def test_ignore_patterns_mean_what_git_means(pattern, path, is_dir, ignored):
    assert is_ignored(path, is_dir, parse_rules([pattern])) is ignored


def test_files_that_are_excluded_stay_out(tmp_path):
    for name in ("keep.py", "a.log", "important.log", "sub/b.log", "sub/c.tmp", ".git/config", "__pycache__/x.pyc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".gitignore").write_text("*.log\n!important.log\n")
    (tmp_path / "sub" / ".hpcignore").write_text("*.tmp\n")
    (tmp_path / "link.py").symlink_to("keep.py")
    found = files_of(str(tmp_path))
    assert found == [".gitignore", "important.log", "keep.py", "link.py", "sub/.hpcignore"]
    assert files_of(str(tmp_path), ["sub/", "*.py"]) == [".gitignore", "important.log"]


@given(st.dictionaries(st.sampled_from(["a.py", "b/c.txt", "b/d", "e/f/g"]), st.binary(max_size=40), min_size=1))
@settings(max_examples=30, deadline=None)
def test_equal_directories_are_equal_packages_and_come_back_whole(tmp_path_factory, contents):
    zips = []
    for order in (sorted(contents), sorted(contents, reverse=True)):
        root = tmp_path_factory.mktemp("root")
        for name in order:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(contents[name])
            os.utime(root / name, (len(zips) * 1e6, len(zips) * 1e6))
        zips.append(make_zip(str(root), files_of(str(root))))
    assert zips[0] == zips[1]
    back = tmp_path_factory.mktemp("back")
    unpack_zip(zips[0], str(back / "x"))
    assert {name: (back / "x" / name).read_bytes() for name in contents} == contents


def test_execute_bits_are_kept_and_change_the_name(tmp_path):
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    plain = make_zip(str(tmp_path), ["run.sh"])
    (tmp_path / "run.sh").chmod(0o755)
    executable = make_zip(str(tmp_path), ["run.sh"], "pkg/")
    assert package.digest_of(plain) != package.digest_of(executable)
    unpack_zip(executable, str(tmp_path / "out"))
    assert os.access(tmp_path / "out" / "pkg" / "run.sh", os.X_OK)


def test_what_is_too_large_is_refused_and_says_which_files(tmp_path):
    (tmp_path / "large.bin").write_bytes(os.urandom(1 << 20))
    with pytest.raises(PackageError, match=r"large\.bin \(1\.0 MiB\)(.*)\.hpcignore"):
        make_zip(str(tmp_path), ["large.bin"], limit_bytes=1 << 19)


def test_a_package_cannot_write_outside_of_its_directory(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../evil", "x")
    with pytest.raises(PackageError, match="outside"):
        unpack_zip(buffer.getvalue(), str(tmp_path / "x"))
    with pytest.raises(PackageError, match="not a zip"):
        unpack_zip(b"nothing", str(tmp_path / "y"))


# ---------------------------------------------------------------- once per node


def test_many_wait_and_one_makes(tmp_path):
    made = []
    path = str(tmp_path / "cache" / "thing")

    def make():
        time.sleep(0.05)
        made.append(1)
        os.mkdir(path)

    threads = [threading.Thread(target=made_once, args=(path, make, Deadline(30))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_a_failure_is_shared_by_those_who_waited_and_tried_again_by_those_who_come_later(tmp_path):
    path, tries, failures = str(tmp_path / "thing"), [], []
    begun, go_on = threading.Event(), threading.Event()

    def make():
        tries.append(1)
        begun.set()
        go_on.wait(10)
        if len(tries) == 1:
            raise SetupError("no network")
        os.mkdir(path)

    def attempt():
        try:
            made_once(path, make, Deadline(30))
        except SetupError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    threads[0].start()
    begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    time.sleep(0.5)  # until all of them wait for the lock
    go_on.set()
    for thread in threads:
        thread.join()
    assert (failures, len(tries)) == (["no network"] * 4, 1)
    made_once(path, make, Deadline(30))
    assert len(tries) == 2


def test_waiting_for_somebody_else_is_limited_too(tmp_path):
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        begun.set()
        go_on.wait(10)

    thread = threading.Thread(target=made_once, args=(str(tmp_path / "x"), slow, Deadline(-1)))
    thread.start()
    begun.wait(10)
    with pytest.raises(SetupError, match=r"longer than 0\.1 s"):
        made_once(str(tmp_path / "x"), lambda: None, Deadline(0.1))
    go_on.set()
    thread.join()


# ---------------------------------------------------------------- raylet and owner


def request(req: int, count: int, env: dict[str, str]) -> LeaseRequest:
    return LeaseRequest(req, DRIVER, CPU, CPU, count, 0, False, "DEFAULT", env)


SLOW = {KEY: '{"conda":"x"}'}


def test_a_lease_whose_environment_is_being_set_up_holds_up_nobody():
    leasing = Leasing(1, NodeResources({"CPU": 64 * UNIT}))
    leasing.on_lease_request(DRIVER, request(1, 30, SLOW))
    assert len(leasing.to_start) == MAX_STARTING
    leasing.on_lease_request(DRIVER, request(2, 1, {}))
    plain = leasing.to_start[-1]
    assert plain.env == ()
    leasing.worker_ready(plain)
    assert [m.req for _, m in leasing.outbox if isinstance(m, LeaseGrant)] == [2]


def test_a_failed_environment_frees_its_resources_and_tells_each_request_once():
    leasing = Leasing(1, NodeResources({"CPU": 2 * UNIT}))
    leasing.on_lease_request(DRIVER, request(1, 3, SLOW))
    leasing.on_lease_request(DRIVER, request(2, 1, {}))
    first = leasing.to_start[0]
    leasing.env_failed(first.env, "no such environment")
    leasing.worker_gone(first, "it ended")
    failed = [m for _, m in leasing.outbox if isinstance(m, LeaseFailed)]
    assert failed == [LeaseFailed(1, "no such environment")]
    assert leasing.resources.free["CPU"] == UNIT, "the other request has its worker's resources now"
    assert [le.req for le in leasing.leases.values()] == [2]


def owner_with_a_shape(actor: bool) -> tuple[OwnerMachine, Shape]:
    machine = OwnerMachine(DRIVER)
    machine.state.functions[b"f" * 16] = b"code"
    return machine, machine.leases.add_shape(Shape(CPU, CPU, "DEFAULT", SLOW, actor))


def test_all_that_waits_for_a_failed_environment_fails_and_later_work_asks_anew():
    machine, shape = owner_with_a_shape(actor=False)
    tasks = [machine.new_ids() for _ in range(3)]
    for task in tasks[:2]:
        machine.tasks.submit(Task(task, 0, b"f" * 16, "f", b"", 1), shape, 3, False, [])
    req = shape.req
    machine.handle(Address(1, 0), [LeaseFailed(req, "pip said no"), LeaseFailed(req, "late news")])
    for task in tasks[:2]:
        result = machine.state.entries[task].result
        assert result is not None
        assert result.kind == SYSTEM
        assert b"RuntimeEnvSetupError" in result.data
        assert b"pip said no" in result.data
    machine.tasks.submit(Task(tasks[2], 0, b"f" * 16, "f", b"", 1), shape, 3, False, [])
    machine.handle(Address(2, 0), [LeaseFailed(req, "late news of another node")])
    assert machine.state.entries[tasks[2]].result is None
    asked = [m for _, box in machine.take_outbox(True) for m in box if isinstance(m, LeaseRequest)]
    assert (asked[-1].req, asked[-1].count, asked[-1].seen) == (shape.req, 1, 0)
    assert shape.req != req


def test_an_actor_whose_environment_failed_is_dead_and_its_calls_say_why():
    machine, shape = owner_with_a_shape(actor=True)
    ident = machine.new_ids()
    actor = machine.actors.create(CreateActor(ident, 0, b"f" * 16, "A", b"", {}), shape, 5, [])
    machine.handle(Address(1, 0), [LeaseFailed(shape.req, "pip said no")])
    assert actor.state == "dead"
    error = machine.calls.dead_error(machine.state.clients[ident])
    assert error.kind == SYSTEM
    assert b"RuntimeEnvSetupError" in error.data
