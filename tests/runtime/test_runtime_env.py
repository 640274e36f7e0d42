"""Runtime environments with real processes."""

from __future__ import annotations

import os
import sys
import threading
import zipfile
from pathlib import Path

import pytest

import hpc
from hpc.core.process.current import need_client
from hpc.core.runenv.spec import NAMESPACE
from hpc.core.wire import KvKeys
from hpc.exceptions import RuntimeEnvSetupError
from runtime.running import eventually, local_nodes, one_node


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Environments of these tests are made here and nowhere else."""
    monkeypatch.setenv("HPC_ENV_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def colour():
    return os.environ.get("HPCX_COLOUR")


def make_wheel(folder: Path, name: str = "hpctiny", version: str = "1.0", value: int = 42) -> str:
    """A pure wheel, written by hand: no index and no build tools are needed to install it."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VALUE = {value}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: by-hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in files) + f"{info}/RECORD,,\n"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(member, text)
    return str(path)


PIP = {"pip_install_options": ["--no-deps", "--no-index"]}


# ---------------------------------------------------------------- variables


def test_variables_of_job_task_and_actor_are_merged_and_inherited(monkeypatch):
    @hpc.remote
    def variables():
        return {k: v for k, v in os.environ.items() if k.startswith("HPCX_")}

    @hpc.remote(runtime_env={"env_vars": {"HPCX_B": "task", "HPCX_P": "${HPC_OUTER}:more"}})
    def parent():
        child = variables.options(runtime_env={"env_vars": {"HPCX_C": "child"}})
        return hpc.get(variables.remote()), hpc.get(child.remote()), hpc.get_runtime_context().runtime_env

    @hpc.remote(runtime_env=hpc.runtime_env.RuntimeEnv(env_vars={"HPCX_B": "actor"}))
    class Holder:
        def see(self):
            return hpc.get(variables.remote())

    monkeypatch.setenv("HPC_OUTER", "outer")
    with one_node(runtime_env={"env_vars": {"HPCX_A": "job", "HPCX_B": "job"}}):
        assert hpc.get(variables.remote()) == {"HPCX_A": "job", "HPCX_B": "job"}
        inherited, child, shown = hpc.get(parent.remote())
        mine = {"HPCX_A": "job", "HPCX_B": "task", "HPCX_P": "outer:more"}
        assert inherited == mine
        assert child == {**mine, "HPCX_C": "child"}
        assert shown == {"env_vars": {**mine, "HPCX_P": "${HPC_OUTER}:more"}}
        assert hpc.get(Holder.remote().see.remote()) == {"HPCX_A": "job", "HPCX_B": "actor"}
        assert hpc.get_runtime_context().runtime_env == {"env_vars": {"HPCX_A": "job", "HPCX_B": "job"}}
        assert '"HPCX_A": "job"' in hpc.get_runtime_context().get_runtime_env_string()


def test_a_worker_follows_the_threads_that_its_variables_ask_for():
    @hpc.remote
    def blas_threads():
        import ctypes

        import numpy  # noqa: F401

        from hpc.core.worker.threads import LIBRARIES, loaded

        for path in loaded("openblas"):
            for name in LIBRARIES["openblas"][1]:
                function = getattr(ctypes.CDLL(path), name.replace("set_num", "get_num"), None)
                if function is not None:
                    return function()
        return None

    with one_node():
        if hpc.get(blas_threads.remote()) is None:
            pytest.skip("this numpy has no OpenBLAS")
        assert hpc.get(blas_threads.remote()) == 1
        two = blas_threads.options(runtime_env={"env_vars": {"OMP_NUM_THREADS": "2"}})
        assert hpc.get(two.remote()) == 2


# ---------------------------------------------------------------- files


def test_a_working_dir_is_unpacked_once_per_node_and_tasks_work_in_it(tmp_path):
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    (project / "hpc_test_reader.py").write_text("def read():\n    return open('data/words.txt').read()\n")
    (project / "data" / "words.txt").write_text("hello")
    (project / "big.bin").write_text("not wanted")
    (project / ".hpcignore").write_text("*.bin\n")
    here = os.getcwd()

    @hpc.remote
    def read():
        import hpc_test_reader

        inode = os.stat("data/words.txt").st_ino
        return hpc_test_reader.read(), os.getcwd(), inode, os.path.exists("big.bin"), os.getpid()

    @hpc.remote(num_cpus=0)
    def where():
        return os.getcwd()

    with local_nodes(2, num_cpus=2):
        env = {"working_dir": str(project)}
        remote = read.options(runtime_env=env, num_cpus=1)
        nodes = [n["NodeID"] for n in hpc.nodes()]
        refs = [
            remote.options(scheduling_strategy=hpc.util.scheduling_strategies.NodeAffinitySchedulingStrategy(n, False))
            for n in nodes
            for _ in range(2)
        ]
        found = hpc.get([one.remote() for one in refs])
        assert {text for text, *_ in found} == {"hello"}
        assert not any(big for *_, big, _ in found)
        directories = {(cwd, inode) for _, cwd, inode, _, _ in found}
        assert len(directories) == 2, "one directory on each node, made once"
        assert all(cwd != here and "/env/" in cwd for cwd, _ in directories)
        keys = need_client().conversation.ask_head(lambda req: KvKeys(req, NAMESPACE, b"pkg/"))
        assert keys.data.count(b"pkg/") == 2, "one package: its number of chunks, and one chunk"
        assert hpc.get(where.remote()) == here, "workers without the environment are not touched by it"


def test_modules_travel_as_packages_files_and_wheels(tmp_path):
    package = tmp_path / "hpc_test_pkg"
    package.mkdir()
    (package / "__init__.py").write_text("from .inner import NAME\n")
    (package / "inner.py").write_text("NAME = 'package'\n")
    single = tmp_path / "hpc_test_single.py"
    single.write_text("NAME = 'file'\n")
    shared = tmp_path / "shared" / "hpc_test_shared"
    shared.mkdir(parents=True)
    (shared / "__init__.py").write_text("NAME = 'in place'\n")
    modules = [str(package), str(single), make_wheel(tmp_path), f"file://{shared}"]

    @hpc.remote(runtime_env={"py_modules": modules})
    class Importer:
        def names(self):
            import hpc_test_pkg
            import hpc_test_shared
            import hpc_test_single
            import hpctiny

            return (
                hpc_test_pkg.NAME,
                hpc_test_single.NAME,
                hpctiny.VALUE,
                hpc_test_shared.NAME,
                hpc_test_shared.__file__,
            )

    with one_node():
        *names, path = hpc.get(Importer.remote().names.remote())
        assert names == ["package", "file", 42, "in place"]
        assert path == str(shared / "__init__.py")


def test_a_remote_function_that_travels_takes_its_files_along(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "note.txt").write_text("travelled")
    monkeypatch.chdir(tmp_path)

    @hpc.remote(runtime_env={"working_dir": "project"})
    def inner():
        return Path("note.txt").read_text()

    @hpc.remote
    def outer():
        os.chdir("/")
        return hpc.get(inner.remote())

    with one_node():
        assert hpc.get(outer.remote()) == "travelled"


# ---------------------------------------------------------------- other interpreters


def test_pip_installs_once_and_the_package_is_there_for_the_task_only(tmp_path, cache):
    wheel = make_wheel(tmp_path)

    @hpc.remote
    def value():
        import hpctiny
        import numpy as np

        return hpctiny.VALUE, sys.prefix, int(np.arange(3).sum()), hpc.__file__

    @hpc.remote
    def without():
        import importlib.util

        return importlib.util.find_spec("hpctiny") is None

    with one_node():
        env = {"pip": {"packages": [wheel], **PIP}}
        found = hpc.get([value.options(runtime_env=env).remote() for _ in range(3)])
        assert {(v, s, where) for v, _, s, where in found} == {(42, 3, hpc.__file__)}
        assert {prefix for _, prefix, _, _ in found} == {str(next(cache.glob("pip-*/bin")).parent)}
        assert hpc.get(without.remote())
        actor = hpc.remote(Counting).options(runtime_env=env).remote()
        assert hpc.get(actor.add.remote(2)) == 44
        make_wheel(tmp_path, value=43)
        assert hpc.get(value.options(runtime_env=env).remote())[0] == 43, "a local file that changed is another one"
    assert len(list(cache.glob("pip-*.done"))) == 2


class Counting:
    def __init__(self):
        import hpctiny

        self.value = hpctiny.VALUE

    def add(self, amount):
        self.value += amount
        return self.value


def test_a_failing_installer_is_shown_and_the_node_lives_on(tmp_path):
    wheel = tmp_path / "late" / "hpctiny-1.0-py3-none-any.whl"
    env = {"pip": {"packages": [str(wheel)], **PIP}}

    @hpc.remote(runtime_env=env)
    def value():
        import hpctiny

        return hpctiny.VALUE

    @hpc.remote
    def plain():
        return "alive"

    with one_node():
        refs = [value.remote() for _ in range(8)]
        for ref in refs:
            with pytest.raises(RuntimeEnvSetupError, match=r"late/hpctiny(?s:.*)[Nn]o such file"):
                hpc.get(ref)
        actor = hpc.remote(Counting).options(runtime_env=env).remote()
        with pytest.raises(RuntimeEnvSetupError, match="late/hpctiny"):
            hpc.get(actor.add.remote(1))
        assert hpc.get([plain.remote() for _ in range(4)]) == ["alive"] * 4
        make_wheel(wheel.parent)
        assert hpc.get(value.remote()) == 42, "what is submitted later tries again"


def test_others_do_not_wait_for_a_slow_set_up_and_its_time_is_limited(tmp_path):
    slow = {
        "container": {
            "prefix": ["sh", "-c", 'while [ ! -e "$0" ]; do sleep 0.05; done; exec "$@"', str(tmp_path / "go")]
        }
    }
    slow["container"]["python"] = sys.executable

    @hpc.remote
    def plain():
        return os.getpid()

    with one_node(num_cpus=2):
        waiting = plain.options(runtime_env=slow).remote()
        hpc.get([plain.remote() for _ in range(10)])
        actor = hpc.remote(Plain).remote()
        hpc.get(actor.pid.remote())
        assert hpc.wait([waiting], timeout=0)[0] == []
        (tmp_path / "go").touch()
        assert hpc.get(waiting) > 0


class Plain:
    def pid(self):
        return os.getpid()


def test_a_command_in_front_of_the_worker(tmp_path):
    env = {"container": {"prefix": ["env", "HPCX_COLOUR=green"], "python": sys.executable}}
    (tmp_path / "here.txt").write_text("here")

    @hpc.remote(runtime_env={**env, "working_dir": str(tmp_path), "env_vars": {"OMP_NUM_THREADS": "2"}})
    def see():
        return colour(), Path("here.txt").read_text(), os.environ["OMP_NUM_THREADS"]

    wrong = {"container": {"prefix": ["sh", "-c", "echo no such image >&2; exit 3"], "python": "python3"}}
    missing = {"container": {"prefix": ["/nowhere/apptainer", "exec"], "python": "python3"}}
    with one_node():
        assert hpc.get(see.remote()) == ("green", "here", "2")
        with pytest.raises(RuntimeEnvSetupError, match=r"code 3(?s:.*)no such image"):
            hpc.get(see.options(runtime_env=wrong).remote())
        with pytest.raises(RuntimeEnvSetupError, match="/nowhere/apptainer: No such file"):
            hpc.get(see.options(runtime_env=missing).remote())


def test_a_conda_environment_is_activated(tmp_path, monkeypatch):
    prefix = tmp_path / "envs" / "tools"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "python").symlink_to(sys.executable)
    (prefix / "bin" / "hpc-test-tool").write_text("#!/bin/sh\necho tool\n")
    (prefix / "bin" / "hpc-test-tool").chmod(0o755)
    (prefix / "etc/conda/activate.d").mkdir(parents=True)
    (prefix / "etc/conda/activate.d/colour.sh").write_text("export HPCX_COLOUR=violet\n")
    monkeypatch.setenv("CONDA_ENVS_PATH", str(tmp_path / "envs"))

    @hpc.remote(runtime_env={"conda": "tools"})
    def see():
        import subprocess

        said = subprocess.run(["hpc-test-tool"], capture_output=True, text=True, check=True).stdout
        return colour(), said.strip(), os.environ["CONDA_PREFIX"], sys.executable

    with one_node():
        assert hpc.get(see.remote()) == ("violet", "tool", str(prefix), str(prefix / "bin/python"))
        with pytest.raises(RuntimeEnvSetupError, match="no conda environment 'nosuch'"):
            hpc.get(see.options(runtime_env={"conda": "nosuch"}).remote())


def test_a_job_sets_its_environment_up_before_the_first_task(tmp_path, cache):
    env = {"pip": {"packages": [make_wheel(tmp_path)], **PIP}}
    with one_node(runtime_env=env):
        eventually(lambda: list(cache.glob("pip-*.done")))
        assert hpc.util.state.list_tasks() == [] and need_client().machine.state.made == 0, "no task was submitted"
        assert hpc.get(hpc.remote(lambda: __import__("hpctiny").VALUE).remote()) == 42


def test_a_job_whose_environment_cannot_be_set_up_hears_of_it_by_its_first_task(tmp_path):
    with one_node(runtime_env={"pip": {"packages": ["./no-such.whl"], **PIP}}):
        task = hpc.remote(lambda: 1)
        for _ in range(2):
            with pytest.raises(RuntimeEnvSetupError, match=r"no-such\.whl"):
                hpc.get(task.remote(), timeout=60)


def slow_package(folder: Path) -> str:
    """A package whose build says that it has begun and does not end."""
    package = folder / "slow"
    package.mkdir()
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "slow"\nbackend-path = ["."]\n'
    )
    begun = str(folder / "begun")
    (package / "slow.py").write_text(f"import time\nopen({begun!r}, 'w').close()\ntime.sleep(600)\n")
    return str(package)


BUILD = {"pip_install_options": ["--no-deps", "--no-index", "--no-build-isolation"]}


def test_an_installer_that_takes_too_long_is_ended(tmp_path):
    env = {"pip": {"packages": [slow_package(tmp_path)], **BUILD}, "config": {"setup_timeout_seconds": 2}}
    with one_node(), pytest.raises(RuntimeEnvSetupError, match="took longer than 2 s"):
        hpc.get(hpc.remote(colour).options(runtime_env=env).remote())


def test_a_session_can_end_while_an_installer_runs(tmp_path):
    env = {"pip": {"packages": [slow_package(tmp_path)], **BUILD}}
    with one_node():
        waiting = hpc.remote(colour).options(runtime_env=env).remote()
        eventually((tmp_path / "begun").exists)
        assert hpc.wait([waiting], timeout=0)[0] == []


# ---------------------------------------------------------------- the hook


@hpc.remote
def hooked():
    return os.environ.get("HPCX_HOOKED"), os.getpid()


@hpc.remote
class Hooked:
    def __init__(self):
        self.seen = os.environ.get("HPCX_HOOKED")

    def see(self):
        return self.seen


def count_up():
    os.environ["HPCX_HOOKED"] = str(int(os.environ.get("HPCX_HOOKED", "0")) + 1)


def test_a_hook_runs_once_in_each_worker_before_its_first_task():
    with one_node(runtime_env={"worker_process_setup_hook": count_up}):
        assert {count for count, _ in hpc.get([hooked.remote() for _ in range(20)])} == {"1"}
        assert hpc.get(Hooked.remote().see.remote()) == "1"
        more = {"env_vars": {"HPCX_HOOKED": "10"}}
        assert hpc.get(hooked.options(runtime_env=more).remote())[0] == "11", "it is inherited"
    assert "HPCX_HOOKED" not in os.environ


def test_a_task_has_a_hook_of_its_own_by_name_and_speaks_to_the_session_in_it(tmp_path, monkeypatch):
    (tmp_path / "hpcx_hooks.py").write_text(
        "import os, hpc\ndef tell():\n    os.environ['HPCX_HOOKED'] = hpc.get(hpc.get_actor('teller').see.remote())\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    @hpc.remote
    class Teller:
        def see(self):
            return "told"

    with one_node():
        teller = Teller.options(name="teller").remote()
        own = hooked.options(runtime_env={"worker_process_setup_hook": "hpcx_hooks.tell"})
        assert hpc.get(own.remote(), timeout=60)[0] == "told"
        assert hpc.get(hooked.remote())[0] is None
        assert hpc.get(teller.see.remote()) == "told"


def test_a_hook_that_raises_fails_what_needed_it_and_its_process_is_not_used_again():
    @hpc.remote
    class Count:
        def __init__(self):
            self.pids = []

        def add(self, pid):
            self.pids.append(pid)
            return len(self.pids)

    with one_node():
        counter = Count.options(name="count").remote()

        def only_the_third_time():
            if hpc.get(hpc.get_actor("count").add.remote(os.getpid())) < 3:
                raise ValueError("too early")

        own = hooked.options(runtime_env={"worker_process_setup_hook": only_the_third_time})
        for _ in range(2):
            with pytest.raises(
                RuntimeEnvSetupError, match="hook of the runtime environment failed: ValueError: too early"
            ):
                hpc.get(own.remote())
        pid = hpc.get(own.remote())[1]
        assert hpc.get(own.remote())[1] == pid
        with pytest.raises(hpc.exceptions.ActorDiedError, match=r"'os.nothing' of the runtime environment failed"):
            hpc.get(Hooked.options(runtime_env={"worker_process_setup_hook": "os.nothing"}).remote().see.remote())
        assert hpc.get(counter.add.remote(0)) == 4, "it ran once in each of the three processes"


def test_what_cannot_be_a_hook_is_refused_where_it_is_given():
    for wrong, error in (
        (5, TypeError),
        (int, TypeError),
        ("word", ValueError),
        (".f", ValueError),
        ("m.", ValueError),
    ):
        with pytest.raises(error, match="worker_process_setup_hook"):
            hooked.options(runtime_env={"worker_process_setup_hook": wrong})
    lock = threading.Lock()
    with one_node():
        own = hooked.options(runtime_env={"worker_process_setup_hook": lambda: lock})
        with pytest.raises(RuntimeEnvSetupError, match="worker_process_setup_hook cannot be pickled"):
            own.remote()
        held = hpc.put(1)
        own = hooked.options(runtime_env={"worker_process_setup_hook": lambda: held})
        with pytest.raises(RuntimeEnvSetupError, match="references"):
            own.remote()
