"""Starting, finding and leaving sessions."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

import hpc
from runtime.running import local_nodes, one_node


@hpc.remote
def double(x):
    return 2 * x


def run_script(text: str, **env: str) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(text)
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("HPC_SESSION", "HPC_ADDRESS"))}
    return subprocess.run(
        [sys.executable, "-c", code], env={**environ, **env}, capture_output=True, text=True, timeout=60
    )


def test_a_session_ends_with_shutdown_and_another_can_follow():
    for value in (1, 2):
        with hpc.init(address="local", num_cpus=1) as context:
            assert hpc.is_initialized()
            node_dir = context["node_dir"]
            assert hpc.get(double.remote(value)) == 2 * value
        assert not hpc.is_initialized()
        assert not os.path.exists(node_dir)
    hpc.shutdown()


def test_init_twice_is_an_error_unless_allowed():
    with hpc.init(address="local", num_cpus=1) as first:
        with pytest.raises(RuntimeError, match="ignore_reinit_error"):
            hpc.init()
        assert hpc.init(ignore_reinit_error=True) is first


def test_first_use_connects_by_itself_and_the_session_ends_with_the_interpreter():
    result = run_script("""
        import hpc as ray
        f = ray.remote(lambda x: x + 1)
        print(ray.get(f.remote(1)), ray.get_runtime_context().get_node_id())
    """)
    assert result.stdout.split() == ["2", "1"], result.stderr


def test_what_actors_printed_last_is_shown_before_the_driver_ends():
    result = run_script("""
        import hpc
        hpc.init(num_cpus=2, address="local")
        @hpc.remote
        class A:
            def say(self):
                print("hello from the actor")
        a = A.remote()
        hpc.get(a.say.remote())
    """)
    assert "hello from the actor" in result.stdout, result.stderr


def test_an_exception_at_the_top_of_a_script_ends_the_session_too():
    result = run_script("""
        import hpc
        hpc.init(address="local", num_cpus=1)
        raise SystemExit(7)
    """)
    assert result.returncode == 7


def test_resources_of_a_new_session():
    with hpc.init(address="local", num_cpus=3, num_gpus=2, resources={"widget": 1.5}, labels={"rack": "a"}):
        resources = hpc.cluster_resources()
        assert (resources["CPU"], resources["GPU"], resources["widget"]) == (3, 2, 1.5)
        labels = hpc.nodes()[0]["Labels"]
        assert labels["rack"] == "a" and labels["hpc.io/node-id"] == labels["ray.io/node-id"] == "1"


def test_gpus_are_handed_out_by_number_and_not_twice():
    @hpc.remote(num_gpus=1)
    class Holder:
        def gpus(self):
            return hpc.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES")

    @hpc.remote(num_gpus=0.5)
    def half():
        return hpc.get_gpu_ids()

    @hpc.remote
    def none():
        return hpc.get_gpu_ids()

    with hpc.init(address="local", num_cpus=2, num_gpus=2):
        holder = Holder.remote()
        ids, visible = hpc.get(holder.gpus.remote())
        assert len(ids) == 1
        assert visible == str(ids[0])
        others = hpc.get([half.remote(), half.remote()])
        assert others[0] == others[1] == [1 - ids[0]]
        assert hpc.get(none.remote()) == []


def test_a_second_driver_joins_by_the_address_of_the_first():
    with hpc.init(address="local", num_cpus=2) as context:
        script = """
            import hpc, sys
            hpc.init(address={!r})
            f = hpc.remote(lambda: "from the second driver")
            print(hpc.get(f.remote()))
        """
        for address in (context["session"], context["node_dir"]):
            result = run_script(script.format(address))
            assert result.stdout.strip() == "from the second driver", result.stderr
        assert hpc.get(double.remote(4)) == 8


def test_addresses_that_lead_nowhere_say_what_there_is():
    with pytest.raises(ConnectionError, match="no session of yours runs"):
        hpc.init(address="auto")
    with pytest.raises(ConnectionError, match="the session has ended"):
        hpc.init(address="/nonexistent/hpc-0-0-1")
    with hpc.init(address="local", num_cpus=1) as context:
        result = run_script("import hpc; hpc.init(address='0123456789ab')")
        assert "no session '0123456789ab' of yours runs" in result.stderr
        result = run_script("import hpc; print(hpc.init(address='auto')['session'])")
        assert result.stdout.strip() == context["session"], result.stderr


def test_resources_belong_to_the_start_of_a_session():
    with local_nodes(1) as session:
        hpc.shutdown()
        for late in ({"num_cpus": 4}, {"labels": {"zone": "a"}}, {"object_store_memory": 2e8}, {"resources": {"x": 1}}):
            with pytest.raises(ValueError, match=f"{next(iter(late))} belong to a session's start"):
                hpc.init(address=session.local_dir(), **late)
        assert not hpc.is_initialized()


def test_sizes_may_be_floats():
    with hpc.init(address="local", num_cpus=1, object_store_memory=1.2e8):
        assert 1.1e8 < hpc.cluster_resources()["object_store_memory"] <= 1.2e8
    for wrong in (-1, 0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="object_store_memory must be a number of bytes"):
            hpc.init(address="local", object_store_memory=wrong)
    with pytest.raises(TypeError, match="object_store_memory must be a number of bytes, not str"):
        hpc.init(address="local", object_store_memory="1e9")


@pytest.mark.parametrize("name", ["HPC_MEMORY_USAGE_THRESHOLD", "RAY_memory_usage_threshold"])
def test_a_number_out_of_its_range_is_an_error_of_the_start(monkeypatch, name):
    monkeypatch.setenv(name, "95")
    with pytest.raises(ValueError, match=f"{name} is '95'; it takes a share of the memory from 0 to 1"):
        hpc.init(address="local", num_cpus=1)
    assert not hpc.is_initialized()


def test_rays_address_is_not_taken_for_ours(monkeypatch):
    monkeypatch.delenv("HPC_SESSION_DIR", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(ConnectionError, match="a cluster of Ray's"):
        hpc.init()
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with hpc.init(num_cpus=1) as context:
        monkeypatch.setenv("RAY_ADDRESS", "auto")
        result = run_script("import hpc; print(hpc.init()['session'])")
        assert result.stdout.strip() == context["session"], result.stderr


@pytest.mark.parametrize("name", ["HPC_TASK_MAX_RETRIES", "RAY_TASK_MAX_RETRIES"])
def test_the_environment_says_how_often_tasks_are_retried(monkeypatch, tmp_path, name):
    monkeypatch.setenv(name, "1")

    @hpc.remote
    def crash(path):
        with open(path, "a") as file:
            file.write("x")
        os._exit(1)

    with hpc.init(address="local", num_cpus=1):
        for function, times in ((crash, 2), (crash.options(max_retries=0), 1)):
            path = tmp_path / f"{times}"
            with pytest.raises(hpc.exceptions.WorkerCrashedError):
                hpc.get(function.remote(path))
            assert path.read_text() == "x" * times
        monkeypatch.setenv(name, "many")
        with pytest.raises(ValueError, match=f"{name} is 'many'"):
            hpc.remote(lambda: 1).remote()


def test_runtime_context_says_where_code_runs():
    @hpc.remote
    class Named:
        def who(self):
            context = hpc.get_runtime_context()
            return context.get_actor_name(), context.get_actor_id(), context.get_node_id(), context.namespace

    @hpc.remote(num_cpus=2)
    def task():
        context = hpc.get_runtime_context()
        return context.get_task_name(), context.get_assigned_resources(), context.get_actor_id()

    with hpc.init(address="local", num_cpus=2, namespace="lab"):
        context = hpc.get_runtime_context()
        assert context.get_task_id() is None
        assert context.namespace == "lab"
        name, resources, actor = hpc.get(task.remote())
        assert name.endswith("task")
        assert resources == {"CPU": 2.0}
        assert actor is None
        named = Named.options(name="n").remote()
        who = hpc.get(named.who.remote())
        assert (who[0], who[2], who[3]) == ("n", "1", "lab")
        assert who[1] == named._actor_id.hex()
        assert hpc.get(Named.remote().who.remote())[0] == ""


def test_the_namespace_of_the_environment_is_the_drivers_unless_init_names_one():
    with one_node(env={"RAY_NAMESPACE": "theirs"}):
        assert hpc.get_runtime_context().namespace == "theirs"
    with one_node(env={"RAY_NAMESPACE": "theirs", "HPC_NAMESPACE": "ours"}):
        assert hpc.get_runtime_context().namespace == "ours"
    with one_node(env={"RAY_NAMESPACE": "theirs"}, namespace="mine"):
        assert hpc.get_runtime_context().namespace == "mine"


def test_a_hook_of_the_environment_changes_the_runtime_env_of_init(tmp_path, monkeypatch):
    (tmp_path / "hook_of_a_site.py").write_text(
        "def hook(env):\n    return {**(env or {}), 'env_vars': {**(env or {}).get('env_vars', {}), 'SITE': 'here'}}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    @hpc.remote
    def variables():
        return os.environ.get("SITE"), os.environ.get("OWN")

    env = {"RAY_RUNTIME_ENV_HOOK": "hook_of_a_site.hook"}
    with one_node(env=env, runtime_env={"env_vars": {"OWN": "mine"}}):
        assert hpc.get(variables.remote()) == ("here", "mine")
    with one_node(env=env, _skip_env_hook=True):
        assert hpc.get(variables.remote()) == (None, None)


def test_the_first_use_does_not_connect_where_the_environment_says_so(monkeypatch):
    monkeypatch.setenv("RAY_ENABLE_AUTO_CONNECT", "0")
    with pytest.raises(RuntimeError, match=r"call hpc\.init\(\) first"):
        hpc.put(1)
