"""Which process runs what, and that what a task puts stays while somebody holds it, whatever becomes of its worker."""

from __future__ import annotations

import os
import time

import pytest

import hpc
from runtime.running import eventually, one_node

BIG = 300_000


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node(num_cpus=2, num_gpus=2, resources={"TPU": 2}):
        yield


@hpc.remote
def make():
    return [hpc.put(b"x" * BIG), hpc.put("small")], os.getpid()


@hpc.remote
class Actor:
    def pid(self):
        return os.getpid()

    def keep(self, refs):
        self.refs = refs

    def kept(self):
        return self.refs


def is_there(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def check(refs) -> None:
    assert [len(value) for value in hpc.get(refs, timeout=60)] == [BIG, 5]


def test_a_worker_that_has_made_its_last_call_stays_while_its_objects_are_held():
    once = make.options(max_calls=1)
    refs, pid = hpc.get(once.remote())
    holder = Actor.remote()
    hpc.get(holder.keep.remote(refs))
    del refs
    assert hpc.get(make.remote())[1] != pid
    check(hpc.get(holder.kept.remote()))
    assert is_there(pid)
    del holder
    eventually(lambda: not is_there(pid))


def test_a_worker_that_stays_runs_nothing_and_holds_no_resources():
    once = make.options(max_calls=1, num_cpus=2)
    made = hpc.get([once.remote() for _ in range(3)])
    assert len({pid for _, pid in made}) == 3  # each with both CPUs, while the others stay
    for refs, _ in made:
        check(refs)


def test_an_actor_made_by_a_worker_that_ends_lives_on():
    @hpc.remote(max_calls=1)
    def makes_actor():
        actor = Actor.remote()
        hpc.get(actor.pid.remote())
        return [actor]

    actor = hpc.get(makes_actor.remote())[0]
    time.sleep(0.3)  # its creator is told to end meanwhile
    pid = hpc.get(actor.pid.remote())
    del actor
    eventually(lambda: not is_there(pid))


def test_what_a_worker_has_submitted_runs_to_its_end(tmp_path):
    @hpc.remote
    def later(path):
        time.sleep(0.3)
        path.touch()

    @hpc.remote(max_calls=1)
    def submits(path):
        later.remote(path)
        return os.getpid()

    pid = hpc.get(submits.remote(tmp_path / "ran"))
    eventually((tmp_path / "ran").exists)
    eventually(lambda: not is_there(pid))


def test_an_actor_gets_a_process_that_has_run_no_task():
    made = hpc.get([make.remote() for _ in range(6)])
    actors = [Actor.options(num_cpus=0).remote() for _ in range(3)]
    assert not {pid for _, pid in made} & set(hpc.get([actor.pid.remote() for actor in actors]))
    del actors
    for refs, _ in made:
        check(refs)


@pytest.mark.parametrize("accelerator", [{"num_gpus": 1}, {"num_gpus": 0.5}, {"resources": {"TPU": 1}}])
def test_accelerators_go_to_processes_that_have_run_without_none(accelerator):
    @hpc.remote
    def visible():
        return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES", "")

    for _ in range(2):
        before = {hpc.get(visible.remote())[0] for _ in range(4)}
        pid, seen = hpc.get(visible.options(**accelerator).remote())
        assert pid not in before and bool(seen) == ("num_gpus" in accelerator)
        assert pid not in {hpc.get(visible.remote())[0] for _ in range(4)}


def test_what_a_task_with_a_gpu_put_stays_when_its_process_is_not_used_again():
    refs, pid = hpc.get(make.options(num_gpus=2).remote())
    assert hpc.get(make.options(num_gpus=2, num_cpus=0).remote())[1] is not None
    eventually(lambda: hpc.available_resources().get("GPU") == 2)
    check(refs)
    assert is_there(pid)
    del refs
    eventually(lambda: not is_there(pid))
