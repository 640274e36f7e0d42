"""The workers of one attempt: actors, one for each rank. Started together, and ended together whatever happens."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cloudpickle

import hpc
from hpc import spi
from hpc.actor import ActorHandle
from hpc.exceptions import HpcError, SessionLostError
from hpc.runs.storage import Place
from hpc.train.errors import WorkerGroupError
from hpc.train.loop import Event, Loop, Raised, state
from hpc.train.ranks import Identity, Slot, Worker, identify
from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy

#: Threads of the actor: one waits for events, the others stay free for calls.
WORKER_THREADS = 3
#: How long the wait for something to happen lasts before it looks around.
LOOK_S = 1.0
#: After this time without enough room the driver says what it waits for.
PATIENCE_S = 10.0
#: When a rank has failed, so long others may fail too: the first report need not be the cause.
GRACE_S = 0.5
END_TIMEOUT_S = 10.0
#: Of the errors of further ranks so much is shown.
BRIEF_CHARS = 100


class TrainWorker:
    """The actor that runs one rank."""

    def describe(self, index: int) -> Worker:
        """Where this worker is."""
        context = hpc.get_runtime_context()
        gpus = tuple(context.get_accelerator_ids()["GPU"])
        return Worker(index, context.get_node_id(), os.getpid(), gpus)

    def become(
        self, identity: Identity, env: Mapping[str, str], place: Place, attempt: int, checkpoint: str | None
    ) -> None:
        """Be this rank from now on. The user's own thread and interface settings stay."""
        os.environ.update(env)
        os.environ.setdefault("OMP_NUM_THREADS", str(identity.threads))
        interface = spi.interface_of(identity.address)
        if interface is not None:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={interface}")
        if identity.visible_gpus:
            # All GPUs of the node's ranks, so that LOCAL_RANK counts them as a plain script expects.
            visible = ",".join(identity.visible_gpus)
            os.environ["CUDA_VISIBLE_DEVICES"] = visible
            if "HIP_VISIBLE_DEVICES" in os.environ:
                os.environ["HIP_VISIBLE_DEVICES"] = visible
        state.loop = Loop(identity, place, attempt, checkpoint)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function here."""
        return function(*args)

    def start(self, work: tuple[Callable[..., Any], dict[str, Any] | None]) -> None:
        """Start the training function. Returns at once."""
        assert state.loop is not None
        state.loop.start(*work)

    def next(self, accepted: int, checkpoint: str | None, must_save: bool = False) -> Event:
        """All reports up to this number are done with; wait for what comes next. ``must_save``: the session ends."""
        assert state.loop is not None
        state.loop.accept(accepted, checkpoint, must_save)
        return state.loop.events.get()


class WorkerGroup:
    """The actors of all ranks, in the order of the ranks once `start` has returned."""

    def __init__(self, slots: Sequence[Slot], each: Mapping[str, float], runtime_env: dict[str, Any] | None) -> None:
        self.each = each
        self.identities: list[Identity] = []
        cls = hpc.remote(TrainWorker)
        self.actors: list[ActorHandle] = []
        try:
            for slot in slots:
                where = NodeAffinitySchedulingStrategy(slot.node, soft=not slot.hard)
                self.actors.append(cls.options(**_actor_options(each, where, runtime_env)).remote())
        except BaseException:
            self.kill()
            raise

    def start(
        self, make_env: Callable[[Identity], dict[str, str]], place: Place, attempt: int, resume: str | None
    ) -> None:
        """Wait until all workers are there, and make ranks of them."""
        workers: list[Worker] = self.gather([a.describe.remote(i) for i, a in enumerate(self.actors)], PATIENCE_S)
        ranked = identify(workers, hpc.nodes(), self.each)
        self.actors = [self.actors[index] for index, _ in ranked]
        self.identities = [identity for _, identity in ranked]
        calls = [
            actor.become.remote(identity, make_env(identity), place, attempt, resume)
            for actor, identity in zip(self.actors, self.identities)
        ]
        self.gather(calls)

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Call the function on every rank at the same time; its results by rank."""
        return self.gather([actor.call.remote(function, *args) for actor in self.actors])

    def gather(self, refs: Sequence[Any], patience_s: float | None = None) -> list[Any]:
        """The values, in order. Raises WorkerGroupError as soon as one rank has failed."""
        ranks = {ref: rank for rank, ref in enumerate(refs)}
        values: dict[int, Any] = {}
        patient_until = time.monotonic() + patience_s if patience_s is not None else None
        while ranks:
            for ref in _ready(list(ranks)):
                rank = ranks.pop(ref)
                try:
                    values[rank] = hpc.get(ref)
                except SessionLostError:
                    raise
                except Exception as error:
                    raise failure({rank: (error, str(error))}, self.identities) from error
            if patient_until is not None and ranks and time.monotonic() > patient_until:
                patient_until += 6 * PATIENCE_S
                _say(f"waiting for resources: {len(values)} of {len(refs)} workers have been placed")
        return [values[rank] for rank in range(len(refs))]

    def events(self, pending: dict[Any, int]) -> Iterator[tuple[int, Event]]:
        """What has come from the ranks whose calls are pending, at most a moment later; the calls are taken out.

        Raises WorkerGroupError if a rank has failed.
        """
        ready = _ready(list(pending))
        failed: dict[int, tuple[Exception, str]] = {}
        good: list[tuple[int, Event]] = []
        deadline = 0.0
        while True:
            for ref in ready:
                rank = pending.pop(ref)
                event, error = _take(ref)
                if error is not None:
                    failed[rank] = error
                elif event is not None:
                    good.append((rank, event))
            if not failed or not pending:
                break
            deadline = deadline or time.monotonic() + GRACE_S
            left = deadline - time.monotonic()
            if left <= 0:
                break
            ready = hpc.wait(list(pending), num_returns=1, timeout=left)[0]
        if failed:
            raise failure(failed, self.identities)
        yield from good

    def end(self) -> None:
        """Let the workers end in order, with their exit handlers; those that do not are killed."""
        refs = [actor.__getattr__("__ray_terminate__").remote() for actor in self.actors]
        hpc.wait(refs, num_returns=len(refs), timeout=END_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """End the workers at once."""
        for actor in self.actors:
            try:
                hpc.kill(actor)
            except (HpcError, OSError):
                continue
        self.actors = []


def _actor_options(each: Mapping[str, float], where: Any, runtime_env: dict[str, Any] | None) -> dict[str, Any]:
    others = {name: amount for name, amount in each.items() if name not in ("CPU", "GPU", "memory")}
    options: dict[str, Any] = {
        "num_cpus": each.get("CPU", 0.0),
        "num_gpus": each.get("GPU", 0.0),
        "resources": others,
        "scheduling_strategy": where,
        "max_concurrency": WORKER_THREADS,
    }
    if each.get("memory"):
        options["memory"] = each["memory"]
    if runtime_env is not None:
        options["runtime_env"] = runtime_env
    return options


def _ready(refs: list[Any]) -> list[Any]:
    """The workers that are done; waits a moment for one."""
    if hpc.wait(refs, num_returns=1, timeout=LOOK_S)[0]:
        return list(hpc.wait(refs, num_returns=len(refs), timeout=0)[0])
    return []


def _take(ref: Any) -> tuple[Event | None, tuple[Exception, str] | None]:
    """An event, or how the rank has failed: the exception and the text that says it best."""
    try:
        event: Event = hpc.get(ref)
    except SessionLostError:
        raise
    except Exception as error:
        return None, (error, f"{type(error).__name__}: {error}")
    if not isinstance(event, Raised):
        return event, None
    cause: Exception = RuntimeError(event.text)
    if event.error is not None:
        try:
            loaded = cloudpickle.loads(event.error)
            cause = loaded if isinstance(loaded, Exception) else cause
        except Exception:
            pass
    return None, (cause, event.traceback)


def failure(failed: Mapping[int, tuple[Exception, str]], identities: Sequence[Identity] = ()) -> WorkerGroupError:
    """The error for these ranks' failures. A process that died comes first: what others saw may follow from it."""
    order = sorted(failed, key=lambda rank: not isinstance(failed[rank][0], HpcError))
    first = order[0]
    where = f" on node {identities[first].node}" if first < len(identities) else ""
    text = f"rank {first}{where} failed:\n{failed[first][1].rstrip()}"
    if len(order) > 1:
        others = "; ".join(f"rank {rank}: {_brief(failed[rank][0])}" for rank in order[1:4])
        more = f"; and {len(order) - 4} more" if len(order) > 4 else ""
        text += f"\n{len(order) - 1} other rank{'s' if len(order) > 2 else ''} failed as well ({others}{more})"
    error = WorkerGroupError(text, {rank: failed[rank][0] for rank in sorted(failed)})
    error.__cause__ = failed[first][0]
    return error


def _brief(error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first[:BRIEF_CHARS]}{'...' if len(first) > BRIEF_CHARS else ''}"


def _say(text: str) -> None:
    print(f"train: {text}", file=sys.stderr, flush=True)
