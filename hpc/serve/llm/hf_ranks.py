"""A model of transformers that is divided over ranks: rank 0 is this process, each other one an actor.

All ranks run the same loop over their parts of the model. Rank 0 has the requests. Before each step its loop says to
the others what is new, and all decide alike what runs: transformers does that, over gloo. The ranks end together: the
first that ends is told by `Ranks.lost`, and whoever holds rank 0 ends then too.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import threading
from collections.abc import Coroutine, Mapping
from typing import Any

import hpc
from hpc import spi
from hpc.serve.context import replica_context
from hpc.serve.llm.engine import EngineError
from hpc.serve.llm.hf_loading import HfConfig, Loaded, begin, device_of
from hpc.util import get_current_placement_group, get_node_ip_address
from hpc.util.scheduling_strategies import PlacementGroupSchedulingStrategy

#: How long ranks wait for each other as they load: files may come from a slow disk.
MEET_S = 1800.0
#: How long the loop of a rank has to end.
STOP_S = 10.0
#: How often a rank looks whether its loop still runs.
LOOK_S = 0.5
#: Threads of a rank's actor: one waits for the loop's end.
CALLS = 4
#: What a rank needs where no placement group says it.
ALONE: Mapping[str, float] = {"CPU": 1}


def join(address: str, store: Any, rank: int, config: HfConfig) -> None:
    """Meet the other ranks in the process group that transformers' layers use."""
    import torch
    import torch.distributed as dist

    device = device_of(config)
    seen = torch.accelerator.is_available()
    if device.startswith("cpu") and seen:
        raise EngineError(
            f"device={config.device!r} with tensor_parallel_size: this rank sees a GPU, which transformers would take: "
            "leave device out, or give the ranks bundles without GPUs"
        )
    interface = spi.interface_of(address)
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        if interface is not None:
            os.environ.setdefault(name, interface)
    # Each rank sees its own device alone.
    os.environ["LOCAL_RANK"] = "0"
    os.environ.setdefault("NCCL_GRAPH_MIXING_SUPPORT", "0")
    if seen:
        torch.accelerator.set_device_index(0)
    dist.init_process_group(
        "nccl" if device.startswith("cuda") else "gloo",
        store=dist.PrefixStore("hpc-llm", store),
        rank=rank,
        world_size=config.tensor_parallel_size,
        timeout=datetime.timedelta(seconds=MEET_S),
    )


def open_store(address: str) -> Any:
    """The store by which ranks find each other. It takes a free port by itself."""
    import torch.distributed as dist

    limit = datetime.timedelta(seconds=MEET_S)
    return dist.TCPStore(address, 0, None, True, limit, wait_for_workers=False)


def leave(manager: Any) -> None:
    """End the loop of this rank, which ends that of all, and the process group."""
    import torch.distributed as dist

    with contextlib.suppress(RuntimeError):  # the others may be gone already
        manager.stop(True, STOP_S)
    # One that hangs in a step that others have left would hang here as well.
    if not manager.is_running() and dist.is_initialized():
        dist.destroy_process_group()


class Rank:
    """Any rank but the first. Its actor has several threads, since one waits for the end."""

    def __init__(self) -> None:
        self._manager: Any = None
        self._stopped = threading.Event()

    def load(self, source: str, config: HfConfig, rank: int, address: str, port: int) -> None:
        """Load this rank's part and begin its loop. Raises what loading raises."""
        import torch.distributed as dist

        limit = datetime.timedelta(seconds=MEET_S)
        store = dist.TCPStore(address, port, None, False, limit, wait_for_workers=False)
        join(get_node_ip_address(), store, rank, config)
        self._manager = begin(source, config).manager

    def wake(self) -> None:
        """A request has come to rank 0: do not sleep on."""
        with contextlib.suppress(AttributeError):  # no part of what transformers promises
            self._manager._wake_up_loop.set()

    def until_end(self) -> None:
        """Wait until this rank has been stopped. Raises EngineError if its loop ends by itself."""
        while not self._stopped.wait(LOOK_S):
            if not self._manager.is_running():
                raise EngineError("its loop has ended: the reason is in the log of its process")

    def stop(self) -> None:
        """End the loop. Rank 0 ends its own at the same time."""
        self._stopped.set()
        leave(self._manager)


class Ranks:
    """All ranks of a model, for the process that is the first of them."""

    def __init__(self, source: str, config: HfConfig) -> None:
        self._source = source
        self._config = config
        self._actors: list[Any] = []
        self._watching: asyncio.Task[str] | None = None
        self._loaded: Loaded | None = None
        self._fate: Any = None

    async def start(self) -> Loaded:
        """Make the other ranks, and load all parts at once. Raises EngineError that says which rank failed, and why."""
        bundles = _bundles(self._config.tensor_parallel_size)
        address = get_node_ip_address()
        store = open_store(address)
        self._actors = [_actor(*bundle) for bundle in bundles]
        names = [f"rank {number}" for number, _ in enumerate(self._actors, 1)]
        self._fate = spi.share_fate(self._actors, names)
        work: dict[asyncio.Future[Any], str] = {asyncio.ensure_future(self._load_own(address, store)): "rank 0"}
        for number, (actor, name) in enumerate(zip(self._actors, names), 1):
            call = actor.load.remote(self._source, self._config, number, address, store.port)
            work[asyncio.ensure_future(_answer(call))] = name
        for task in work:
            task.add_done_callback(_seen)
        done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            if (error := task.exception()) is not None:
                self._kill()
                raise EngineError(f"{work[task]} of {len(work)} did not load the model: {spi.said(error)}") from error
        self._loaded = next(task for task, name in work.items() if name == "rank 0").result()
        self._watching = asyncio.create_task(self._watch(names))
        return self._loaded

    async def _load_own(self, address: str, store: Any) -> Loaded:
        def load() -> Loaded:
            join(address, store, 0, self._config)
            return begin(self._source, self._config)

        return await asyncio.to_thread(load)

    async def _watch(self, names: list[str]) -> str:
        ends = {asyncio.ensure_future(_answer(one.until_end.remote())): n for one, n in zip(self._actors, names)}
        for task in ends:
            task.add_done_callback(_seen)
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        errors = {ends[task]: task.exception() for task in done}
        return "; ".join(f"{name} has ended: {spi.said(error)}" for name, error in errors.items() if error is not None)

    def wake(self) -> None:
        """The other ranks sleep while there is no request: they are not to sleep now."""
        for actor in self._actors:
            actor.wake.remote()

    async def lost(self) -> str:
        """Wait until a rank ends that nobody has stopped; says which one, and why."""
        assert self._watching is not None
        return await asyncio.shield(self._watching)

    async def stop(self) -> None:
        """End all ranks."""
        if self._watching is not None and not self._watching.done():
            self._watching.cancel()
            stops: list[Coroutine[Any, Any, Any]] = [_answer(actor.stop.remote()) for actor in self._actors]
            assert self._loaded is not None
            own = asyncio.to_thread(leave, self._loaded.manager)
            await asyncio.wait([asyncio.ensure_future(one) for one in (*stops, own)], timeout=2 * STOP_S)
        self._kill()

    def _kill(self) -> None:
        for actor in self._actors:
            hpc.kill(actor)
        self._actors = []


def _bundles(size: int) -> list[tuple[Mapping[str, float], Any, int]]:
    """What each rank but the first gets, of which placement group, and of which bundle in it."""
    group = get_current_placement_group() if hpc.is_initialized() else None
    if group is None:
        return [(ALONE, None, 0)] * (size - 1)
    specs, here = group.bundle_specs, replica_context()
    gang = None if here is None else here.gang_context
    count = len(specs) // (1 if gang is None else gang.world_size)
    if count != size:
        raise EngineError(
            f"tensor_parallel_size={size}: each rank needs a bundle of its own, and the placement group has {count} "
            "for this replica (placement_group_config)"
        )
    first = 0 if gang is None else gang.rank * count
    return [(specs[number], group, number) for number in range(first + 1, first + count)]


def _actor(bundle: Mapping[str, float], group: Any, number: int) -> Any:
    rest = {name: amount for name, amount in bundle.items() if name not in ("CPU", "GPU", "memory")}
    options: dict[str, Any] = {"num_cpus": bundle.get("CPU", 0), "num_gpus": bundle.get("GPU", 0), "resources": rest}
    if bundle.get("memory"):
        options["memory"] = bundle["memory"]
    if group is not None:
        options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number)
    return hpc.remote(Rank).options(max_concurrency=CALLS, max_restarts=0, **options).remote()


async def _answer(ref: Any) -> Any:
    return await ref


def _seen(task: asyncio.Future[Any]) -> None:
    """An error that nobody asks for: another one has told it already, or the ranks are over."""
    if not task.cancelled():
        task.exception()
