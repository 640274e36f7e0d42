"""The workers of one attempt: actors, one for each rank. Started together, and ended together whatever happens."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import hpc
from hpc import spi
from hpc.exceptions import ActorError, HpcError, SessionLostError, UnserializableException
from hpc.runs.reservation import Reservation
from hpc.runs.uploading import Place
from hpc.runs.worker_group import WorkerGroup, ready
from hpc.train import loop
from hpc.train.errors import WorkerGroupError
from hpc.train.events import Event, Gone, Joined, Leaving, Order, Raised, Reported, Returned
from hpc.train.loop import Loop, Work, state
from hpc.train.ranks import Identity, Worker, identify
from hpc.train.watched import WatchedRank
from hpc.train.watching import RankWatch

#: Threads of the actor: one waits for events, the others stay free for calls.
WORKER_THREADS = 4
#: When a rank has failed, so long others may fail too: the first report need not be the cause.
GRACE_S = 0.5
#: Of the errors of further ranks so much is shown.
BRIEF_CHARS = 100


class TrainWorker(WatchedRank):
    """The actor that runs one rank."""

    def describe(self, index: int) -> Worker:
        """Where this worker is."""
        context = hpc.get_runtime_context()
        gpus = tuple(context.get_accelerator_ids()["GPU"])
        return Worker(index, context.get_node_id(), gpus)

    def become(
        self, identity: Identity, env: Mapping[str, str], place: Place, attempt: int, checkpoint: str | None
    ) -> None:
        """Be this rank from now on. The user's own setting of threads stays."""
        os.environ.update(env)
        os.environ.setdefault("OMP_NUM_THREADS", str(identity.threads))
        # torch asks a name server for the name of each peer's address, to have it in messages. Where none answers, as
        # on nodes without a way out, each question takes 10 s, and a start several of them.
        for name, value in spi.NAME_LOOKUPS.items():
            os.environ.setdefault(name, value)
        if identity.visible_gpus:
            # All GPUs of the node's ranks, so that LOCAL_RANK counts them as a plain script expects.
            identity = replace(identity, devices=spi.show_devices("GPU", identity.visible_gpus))
        loop = state.loop = Loop(identity, place, attempt, checkpoint)
        hpc.on_drain(lambda notice: loop.events.put(Leaving(notice.left_s)))

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function here."""
        return function(*args)

    def start(self, work: Work, own_datasets: Mapping[str, Any] | None = None) -> None:
        """Start the training function. Returns at once."""
        assert state.loop is not None
        state.loop.start(work, own_datasets)
        self.begin_watch("train", loop.__file__)

    def next(self, orders: Sequence[Order]) -> Event:
        """What the driver has to say; wait for what comes next."""
        self.tell(orders)
        assert state.loop is not None
        return state.loop.events.get()

    def tell(self, orders: Sequence[Order]) -> None:
        """What the driver has to say, while another call waits."""
        assert state.loop is not None
        state.loop.tell(orders)


class RankGroup(WorkerGroup):
    """The workers of all ranks, in the order of the ranks once `start` has returned."""

    def __init__(self, reservation: Reservation, runtime_env: dict[str, Any] | None) -> None:
        self.identities: list[Identity] = []
        self.watch: RankWatch | None = None
        options: dict[str, Any] = {"max_concurrency": WORKER_THREADS}
        if runtime_env is not None:
            options["runtime_env"] = runtime_env
        super().__init__(TrainWorker, reservation, options)

    def start(
        self,
        make_env: Callable[[Identity], dict[str, str]],
        place: Place,
        attempt: int,
        resume: str | None,
        look: Callable[[int], None] | None = None,
    ) -> None:
        """Wait until all workers are there, and make ranks of them. ``look``: see `WorkerGroup.gather`."""
        workers: list[Worker] = self.gather([a.describe.remote(i) for i, a in enumerate(self.actors)], look)
        ranked = identify(workers, hpc.nodes(), self.reservation.request.each, self.reservation.nodes())
        self.actors = [self.actors[index] for index, _ in ranked]
        self.identities = [identity for _, identity in ranked]
        calls = [
            actor.become.remote(identity, make_env(identity), place, attempt, resume)
            for actor, identity in zip(self.actors, self.identities)
        ]
        self.gather(calls)

    def begin_watch(self, report_s: float, end_s: float | None, say: Callable[[str], None]) -> None:
        """The training functions run from now on: notice ranks that hang (see `RankWatch`)."""
        where = [(place_of(identity), identity.node) for identity in self.identities]
        self.watch = RankWatch(self.actors, where, report_s, end_s, say)

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Call the function on every rank at the same time; its results by rank."""
        return self.gather([actor.call.remote(function, *args) for actor in self.actors])

    def failed(self, failures: Mapping[int, Exception]) -> Exception:
        """What the driver raises for ranks that failed."""
        return failure({rank: (error, spi.said(error)) for rank, error in failures.items()}, self.identities)

    def events(
        self, pending: dict[Any, int], others: Sequence[Any] = (), spared: Collection[int] = ()
    ) -> Iterator[tuple[int, Event]]:
        """What has come from the ranks whose calls are pending, at most a moment later; the calls are taken out. It
        comes back earlier, too, when one of the ``others`` is done. The death of a ``spared`` rank is an event.

        Raises WorkerGroupError if a rank has failed.
        """
        if self.watch is not None:
            self.watch.look()
        done = [ref for ref in ready([*pending, *others]) if ref in pending]
        failed: dict[int, tuple[Exception, str]] = {}
        good: list[tuple[int, Event]] = []
        deadline = 0.0
        while True:
            for ref in done:
                rank = pending.pop(ref)
                event, error = _take(ref)
                if error is not None and rank in spared and isinstance(error[0], ActorError):
                    good.append((rank, Gone()))
                elif error is not None:
                    failed[rank] = error
                elif event is not None:
                    good.append((rank, event))
                    self._tell_watch(rank, event)
            if not failed or not pending:
                break
            deadline = deadline or time.monotonic() + GRACE_S
            left = deadline - time.monotonic()
            if left <= 0:
                break
            done = hpc.wait(list(pending), num_returns=1, timeout=left)[0]
        if failed:
            raise failure(failed, self.identities)
        yield from good

    def _tell_watch(self, rank: int, event: Event) -> None:
        if self.watch is None:
            return
        if isinstance(event, Reported):
            self.watch.come(rank, "report()", event.number)
        elif isinstance(event, Joined):
            self.watch.come(rank, f"{event.what}()" if event.what.isidentifier() else event.what, event.number)
        elif isinstance(event, Returned):
            self.watch.returned(rank)


def _take(ref: Any) -> tuple[Event | None, tuple[Exception, str] | None]:
    """An event, or how the rank has failed: the exception and the text that says it best."""
    try:
        event: Event = hpc.get(ref)
    except SessionLostError:
        raise
    except Exception as error:
        return None, (error, spi.said(error))
    if not isinstance(event, Raised):
        return event, None
    cause = spi.unpickled_error(event.error)
    if isinstance(cause, UnserializableException) or not isinstance(cause, Exception):
        cause = RuntimeError(event.text)
    return None, (cause, event.traceback)


def place_of(identity: Identity) -> str:
    """Where a rank is, for people: "node 3 (nid0042)"."""
    return f"node {identity.node} ({identity.host})" if identity.host else f"node {identity.node}"


def failure(failed: Mapping[int, tuple[Exception, str]], identities: Sequence[Identity] = ()) -> WorkerGroupError:
    """The error for these ranks' failures, which are in the order in which they were heard of.

    The first is told: a process that died, else an exception that does not only say that another rank has gone.
    """
    ends = [
        spi.FailedRank(rank, place if isinstance(error, HpcError) else len(failed) + place, _own_words(error, text))
        for place, (rank, (error, text)) in enumerate(failed.items())
    ]
    order = [one.rank for one in spi.failures_in_order(ends)]
    first = order[0]
    where = f" on {place_of(identities[first])}" if first < len(identities) else ""
    text = f"rank {first}{where} failed:\n{failed[first][1].rstrip()}"
    if len(order) > 1:
        others = "; ".join(f"rank {rank}: {_brief(failed[rank][0])}" for rank in order[1:4])
        more = f"; and {len(order) - 4} more" if len(order) > 4 else ""
        came = f"{len(order) - 1} other rank{'s' if len(order) > 2 else ''} failed as well ({others}{more})"
        text = f"{came}\n{text}"
    return WorkerGroupError(text, {rank: failed[rank][0] for rank in sorted(failed)})


def _own_words(error: Exception, text: str) -> str:
    return "" if isinstance(error, HpcError) else text


def _brief(error: Exception) -> str:
    name, _, words = spi.said(error).partition(": ")
    first = next(iter(words.strip().splitlines()), "")
    return f"{name}: {first[:BRIEF_CHARS]}{'...' if len(first) > BRIEF_CHARS else ''}"
