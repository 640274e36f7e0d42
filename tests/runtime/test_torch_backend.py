"""The backend "hpc" of torch.distributed: the same training as with gloo, and torch's operations."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

PROGRAM = """
import json, os, sys
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import hpc.collective.torch_backend

me, ranks, folder = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), sys.argv[1]
torch.set_num_threads(1)


def run(backend, **where):
    dist.init_process_group(backend, **where)
    found = {}
    x = torch.full((5,), me + 1.0); dist.all_reduce(x); found["all_reduce"] = x.tolist()
    x = torch.full((5,), me + 1.0); dist.all_reduce(x, dist.ReduceOp.MAX, async_op=True).wait()
    found["max"] = x.tolist()
    x = torch.full((2,), me + 1.0); dist.reduce(x, 1)
    if me == 1: found["reduce"] = x.tolist()
    x = torch.full((2,), me + 1.0); dist.broadcast(x, 1); found["broadcast"] = x.tolist()
    xs = [torch.zeros(2) for _ in range(ranks)]; dist.all_gather(xs, torch.full((2,), float(me)))
    found["all_gather"] = [x.tolist() for x in xs]
    x = torch.zeros(2 * ranks); dist.all_gather_into_tensor(x, torch.full((2,), float(me))); found["into"] = x.tolist()
    x = torch.zeros(2); dist.reduce_scatter_tensor(x, torch.arange(2.0 * ranks)); found["reduce_scatter"] = x.tolist()
    x = torch.zeros(2 * ranks); dist.all_to_all_single(x, torch.arange(2.0 * ranks) + 10 * me)
    found["to_all"] = x.tolist()
    xs = [torch.zeros(1) for _ in range(ranks)] if me == 0 else None; dist.gather(torch.full((1,), me + 3.0), xs)
    found["gather"] = [x.tolist() for x in xs or ()]
    x = torch.zeros(1); dist.scatter(x, [torch.full((1,), r + 5.0) for r in range(ranks)] if me == 0 else None)
    found["scatter"] = x.tolist()
    x = torch.full((1,), 8.0)
    dist.send(x, 1) if me == 0 else dist.recv(x, 0)
    sizes = [[1, 2], [3, 0]]
    x = torch.zeros(sizes[0][me] + sizes[1][me], 2)
    dist.all_to_all_single(x, torch.arange(6.0).view(3, 2) + 10 * me, [s[me] for s in sizes], sizes[me])
    found["uneven"] = x.tolist()
    xs = [torch.zeros(s[me]) for s in sizes]
    if backend == "hpc":  # gloo's must be equal
        dist.all_to_all(xs, [torch.full((n,), 5.0 + me) for n in sizes[me]])
        found["list"] = [x.tolist() for x in xs]
    mine, theirs = torch.full((1 << 18,), me + 1.0), torch.zeros(1 << 18)
    for work in [dist.isend(mine, 1 - me), dist.irecv(theirs, 1 - me)]: work.wait()
    found["both_ways"] = theirs.sum().item()
    pair = [dist.P2POp(dist.isend, mine + 1, 1 - me), dist.P2POp(dist.irecv, theirs, 1 - me)]
    for work in dist.batch_isend_irecv(pair): work.wait()
    found["batch"] = theirs.sum().item()
    objects = [None] * ranks; dist.all_gather_object(objects, {"rank": me}); found["objects"] = objects
    pair = dist.new_group([0, 1]); x = torch.ones(1); dist.all_reduce(x, group=pair); found["group"] = x.tolist()

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(40, 60), torch.nn.ReLU(), torch.nn.Linear(60, 3))
    wrapped = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.05)
    torch.manual_seed(me + 1)
    for _ in range(20):
        optimizer.zero_grad()
        wrapped(torch.randn(8, 40)).square().mean().backward()
        optimizer.step()
    found["weights"] = [p.double().sum().item() for p in model.parameters()]

    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    torch.manual_seed(0)
    model = torch.nn.Linear(64, 64)
    fully_shard(model, mesh=init_device_mesh("cpu", (ranks,)))
    model(torch.ones(4, 64)).sum().backward()
    found["sharded"] = [p.grad.full_tensor().sum().item() for p in model.parameters()]
    dist.barrier()
    open(f"{folder}/{backend}-{me}.json", "w").write(json.dumps(found))
    dist.destroy_process_group()


run("hpc")
run("gloo", init_method=f"file://{folder}/store", rank=me, world_size=ranks)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, list[dict]]:
    folder = tmp_path_factory.mktemp("torch")
    (folder / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d"]
    command += ["--rdzv-endpoint=127.0.0.1:0", str(folder / "program.py")]
    env = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=150, env=env)
    assert done.returncode == 0, done.stderr
    return {b: [json.loads(Path(folder, f"{b}-{r}.json").read_text()) for r in range(2)] for b in ("gloo", "hpc")}


def test_the_operations_of_torch_give_what_they_give_with_gloo(found):
    for gloo, ours in zip(found["gloo"], found["hpc"]):
        for name in gloo.keys() - {"weights", "sharded"}:
            assert ours[name] == gloo[name], name


def test_tensors_of_any_size_are_exchanged(found):
    assert [of_rank["list"] for of_rank in found["hpc"]] == [[[5.0], [6.0] * 3], [[5.0] * 2, []]]


def test_training_gives_the_weights_that_it_gives_with_gloo(found):
    for name in ("weights", "sharded"):
        assert found["hpc"][0][name] == found["hpc"][1][name]
        assert found["hpc"][0][name] == pytest.approx(found["gloo"][0][name], rel=1e-5)


DEATH = """
import os, signal, sys, time
from datetime import timedelta
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
import hpc.collective.torch_backend

dist.init_process_group(
    "hpc", init_method=sys.argv[1], rank=int(sys.argv[2]), world_size=2, timeout=timedelta(seconds=30)
)
me = dist.get_rank()
torch.set_num_threads(1)
failed = dist.all_reduce(torch.ones(3, dtype=torch.int64), dist.ReduceOp.AVG, async_op=True)
try:
    failed.wait()
except ValueError as error:
    print("refused:", error, failed.is_completed(), failed.is_success())
if me == 0:
    early = dist.all_reduce(torch.ones(1), async_op=True)
    try:
        early.wait(timedelta(seconds=0.1))
    except RuntimeError as error:
        print("early:", error)
    open(sys.argv[1].removeprefix("file://") + "-early", "w").close()
    early.wait()
else:
    while not os.path.exists(sys.argv[1].removeprefix("file://") + "-early"):
        time.sleep(0.01)
    dist.all_reduce(torch.ones(1))
model = DistributedDataParallel(torch.nn.Linear(10, 10))
try:
    for step in range(1000):
        if me == 1 and step == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        model(torch.ones(2, 10)).sum().backward()
except RuntimeError as error:
    print("raised:", error)
sys.stdout.flush()
os._exit(0)
"""


def test_errors_reach_the_caller_and_a_dead_rank_raises_in_the_step_of_the_others(tmp_path):
    (tmp_path / "program.py").write_text(DEATH)
    command = [sys.executable, str(tmp_path / "program.py"), f"file://{tmp_path}/store"]
    ranks = [subprocess.Popen([*command, str(r)], stdout=subprocess.PIPE, text=True) for r in range(2)]
    outputs = [rank.communicate(timeout=100)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, -signal.SIGKILL], outputs
    assert "refused: an average of int64 is no int64: use SUM and divide True False" in outputs[0]
    assert "early: the operation was not done within 0.1 s" in outputs[0]
    raised = outputs[0].partition("raised: ")[2]
    assert "CollectiveError: rank 1 (" in raised and "has died" in raised, outputs[0]
