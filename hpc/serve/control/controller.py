"""The controller of a service: a detached actor around the machine of the control plane.

What has changed is written to the head's keys before anything is done about it. The head starts another controller when
this one dies, which reads the keys, finds the replicas by their names, and goes on. Requests need no controller.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import string
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import msgspec

import hpc
from hpc import spi
from hpc.exceptions import ActorError, HpcError
from hpc.serve.canary import AppOutcomes, Split
from hpc.serve.config import AggregationFunction, HTTPOptions, LoggingConfig, ProxyLocation, gRPCOptions
from hpc.serve.control import actors, commands, state
from hpc.serve.control.actors import GoneError, Replicas
from hpc.serve.control.keys import Keys, put_all, read_blob, read_state
from hpc.serve.control.machine import Machine
from hpc.serve.control.shared import Shared
from hpc.serve.control.statuses import status_of
from hpc.serve.control.tables import routes_of, table_of
from hpc.serve.control.telling import Telling
from hpc.serve.exceptions import RayServeException
from hpc.serve.messages import (
    DOORS_KEY,
    NAMESPACE,
    ROUTES_KEY,
    DeploymentID,
    HandleMetrics,
    ProxyLoad,
    ReplicaID,
    ReplicaLoad,
    deployment_key,
    encoded,
)
from hpc.serve.policies import Policies
from hpc.serve.schema import ServeStatus
from hpc.serve.specs import AppSpec

log = logging.getLogger("hpc.serve")
#: How often the nodes of the session are looked at.
NODES_EVERY_S = 1.0
#: How long a controller that has failed waits before it ends, so that one that always fails costs little.
PAUSE_S = 1.0
#: How long a replica's destructor may take.
END_S = 5.0
_LETTERS = string.ascii_lowercase + string.digits


@dataclass
class ServiceOptions:
    """What `serve.start` has been told."""

    http: HTTPOptions
    grpc: gRPCOptions | None = None
    logging: LoggingConfig | None = None
    location: ProxyLocation = ProxyLocation.EveryNode


class Controller:
    """The actor. All methods run on one event loop; each change is one event of the machine."""

    def __init__(self, options: ServiceOptions) -> None:
        self._options = options
        self._guarded: set[ReplicaID] = set()
        self._writer = state.Writer()
        self._replicas = Replicas()
        self._proxies: dict[str, Any] = {}
        self._told_doors: dict[str, list[str]] | None = None
        self._policies = Policies()
        self._machine = Machine(_new_id, self._policies.policy_of, self._policies.imported)
        self._machine.proxies.location = options.location
        self._keys = Keys()
        self._shared = Shared(self._machine, self._turn, self._act)
        self._telling = Telling(self._machine)
        self._changed = asyncio.Event()
        self._settled = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: list[asyncio.Task[None]] = []
        #: What makes an actor and what ends it wait for each other.
        self._turns: weakref.WeakValueDictionary[Any, asyncio.Lock] = weakref.WeakValueDictionary()
        self._began = False
        self._steps = 0
        self._is_stepping = False
        self._spawn(self._live())

    # -------------------------------------------------------------- what others ask

    async def ready(self) -> ServiceOptions:
        """What it was started with, once it knows what there was before."""
        await self._until(lambda: self._began)
        return self._options

    async def deploy(self, specs: list[AppSpec], only: bool = False) -> None:
        """Applications shall be so; ``only``: and no others of files.

        Raises RayServeException where two would have the same route, or the head has no room for them."""
        await self._until(lambda: self._began)
        await self._keep_code(specs)
        if self._machine.is_ending:
            raise RuntimeError("the service is being shut down")
        self._policies.renew()
        self._machine.deploy(specs, time.time(), only)
        await self._kept()

    async def delete(self, names: list[str]) -> None:
        """Applications shall end."""
        await self._until(lambda: self._began)
        self._machine.delete(names, time.time())
        await self._kept()

    async def shutdown(self) -> None:
        """All shall end, the controller at last."""
        await self._until(lambda: self._began)
        self._machine.shutdown(time.time())
        await self._kept()

    async def split(self, app: str, split: Split | None) -> None:
        """The requests of a route are divided so."""
        await self._until(lambda: self._began)
        self._machine.split(app, split, time.time())
        await self._kept()

    async def splits(self) -> dict[str, Split]:
        """How the requests of each route that is split are divided."""
        await self._until(lambda: self._began)
        return self._machine.splits

    async def promote(self, app: str, to: str) -> None:
        """The route of an application is another one's from now on."""
        await self._until(lambda: self._began)
        self._machine.promote(app, to, time.time())
        await self._kept()

    async def scale(self, app: str, deployment: str, count: int) -> None:
        """An external scaler decides how many replicas there are."""
        await self._until(lambda: self._began)
        self._machine.scale(app, deployment, count, time.time())
        await self._kept()

    async def set_capacity(self, percent: float | None) -> None:
        """The share of the replicas that all deployments have, in percent."""
        await self._until(lambda: self._began)
        self._machine.set_capacity(percent, time.time())
        await self._kept()

    async def status(self) -> ServeStatus:
        """How all stands."""
        await self._until(lambda: self._began)
        return status_of(self._machine)

    async def app(self, name: str) -> AppSpec | None:
        """An application; None if there is none."""
        await self._until(lambda: self._began)
        found = self._machine.apps.table.get(name)
        return None if found is None or found.deleting else found.spec

    async def wait_for(self, name: str) -> tuple[str, str]:
        """How an application stands, and why, once that is final: it runs, has failed, or is gone."""

        def is_final() -> bool:
            status = self._began and self._status(name)[0]
            if status == "DEPLOY_FAILED":  # those that could not begin are gone then
                own = [one for one in self._machine.deployments.values() if one.id.app_name == name]
                return not any(replica.ended for one in own for replica in one.replicas.values())
            return status not in (False, "DEPLOYING", "DELETING", "NOT_STARTED")

        await self._until(is_final)
        return self._status(name)

    def _status(self, name: str) -> tuple[str, str]:
        app = self._machine.apps.table.get(name)
        if app is None:
            return "", "it was deleted"
        own = [one for one in self._machine.deployments.values() if one.id.app_name == name]
        status, why = self._machine.apps.status(app, own)
        return status.value, why

    async def wait_gone(self, names: list[str]) -> None:
        """Return when these applications are gone."""

        def is_gone() -> bool:
            table = self._machine.apps.table
            return self._began and not any(name in table and table[name].deleting for name in names)

        await self._until(is_gone)

    async def wait_proxies(self) -> dict[str, list[str]]:
        """Where the doors are, once each proxy that shall be there listens."""
        await self._until(
            lambda: self._began and all(one.status.value != "STARTING" for one in self._machine.proxies.table.values())
        )
        return self._doors()

    async def note_handle(self, metrics: HandleMetrics) -> None:
        """A caller tells how many requests it has."""
        if self._began:
            self._machine.note_handle(metrics, time.time())
            self._act()

    async def note_replica_dead(self, replica: str, why: str = "") -> None:
        """A caller could not reach a replica: it is asked at once."""
        for one in self._machine.deployments.values():
            found = one.replicas.get(replica)
            if found is not None and found.serves and not found.is_asked:
                found.is_asked = True
                self._spawn(self._check(commands.Check(found.id, one.spec.config.health_check_timeout_s)))

    async def note_outcomes(self, rows: list[AppOutcomes]) -> None:
        """A proxy tells how requests went."""
        if self._began:
            self._machine.outcomes(rows, time.time())
            self._act()

    async def note_load(self, told: ReplicaLoad | ProxyLoad) -> None:
        """A replica tells what it has done, or a proxy what waits there."""
        self._telling.loads.note(told, time.monotonic())

    async def until_end(self) -> None:
        """Never returns: the call breaks when the service is over."""
        await asyncio.get_running_loop().create_future()

    async def loads(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Requests that wait and that run, of each deployment."""
        return {
            (one.id.app_name, one.id.name): one.load.totals(AggregationFunction.MEAN)
            for one in self._machine.deployments.values()
        }

    # -------------------------------------------------------------- its life

    async def _live(self) -> None:
        """Read what another controller has left, then follow the machine until the service is over."""
        try:
            await asyncio.to_thread(self._recover)
            await self._look_at_nodes()
            self._machine.adopt(time.time())
            self._began = True
            self._spawn(self._watch_nodes())
            self._act()
            while not self._machine.is_over:
                await self._wait_for_change()
                self._changed.clear()
                self._machine.tick(time.time())
                self._is_stepping = True
                await self._step()
                self._is_stepping = False
            await self._end()
        except Exception:
            log.exception("the controller of the service has failed: the head starts another one")
            logging.shutdown()
            await asyncio.sleep(PAUSE_S)
            os._exit(1)

    async def _wait_for_change(self) -> None:
        due = self._machine.next_at()
        left = None if due is None else max(due - time.time(), 0.0)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._changed.wait(), left)

    async def _step(self) -> None:
        """Write the state, then do what the machine says."""
        said = self._machine.take()
        if said or self._machine.is_unsaved:
            self._machine.is_unsaved = False
            data = self._writer.state_of(self._machine, self._options)
            await asyncio.to_thread(self._keys.write, data, dict(self._writer.blobs))
            pushed: dict[Any, None] = {}
            for command in said:
                if isinstance(command, (commands.Push, commands.PushRoutes)):
                    pushed[command] = None
            await self._push(list(pushed))
            for command in said:
                if not isinstance(command, (commands.Push, commands.PushRoutes)):
                    task = self._spawn(self._do(command))
                    if isinstance(command, commands.KillProxy):
                        self._ends = [*(one for one in self._ends if not one.done()), task]
        await self._tell_doors()
        self._telling.look()
        self._steps += 1
        async with self._settled:
            self._settled.notify_all()

    def _act(self) -> None:
        self._changed.set()

    async def _kept(self) -> None:
        """Return when what was changed is in the keys."""
        self._act()
        step = self._steps + (2 if self._is_stepping else 1)
        await self._until(lambda: self._steps >= step)

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            async with self._settled:
                if is_so():
                    return
                await self._settled.wait()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _turn(self, what: Any) -> asyncio.Lock:
        return self._turns.setdefault(what, asyncio.Lock())

    async def _end(self) -> None:
        """The service is over: nothing of it stays."""
        self._telling.end()
        if self._ends:
            await asyncio.wait(self._ends, timeout=END_S)
        try:  # another controller may have died between what it kept and what it did
            await asyncio.to_thread(actors.end_all)
        except Exception:
            log.exception("proxies may be left of the service")
        await asyncio.to_thread(spi.kv_delete, NAMESPACE, "", prefix=True)
        async with self._settled:
            self._settled.notify_all()
        hpc.kill(hpc.get_runtime_context().current_actor)

    # -------------------------------------------------------------- keys

    def _recover(self) -> None:
        kept = read_state()
        if kept is not None:
            self._options = state.restore(self._machine, kept, read_blob)

    async def _keep_code(self, specs: list[AppSpec]) -> None:
        """Write what replicas will run, before anything changes: it may be too much for the head."""
        kept = set(self._writer.blobs)
        blobs = self._writer.blobs_of(one for spec in specs for one in spec.deployments)
        try:
            await asyncio.to_thread(self._keys.write_blobs, blobs)
        except (HpcError, ValueError) as error:
            await asyncio.to_thread(self._keys.drop_blobs, set(blobs) - kept)
            names, size = ", ".join(spec.name for spec in specs), sum(map(len, blobs.values()))
            raise RayServeException(
                f"the code and the arguments of {names} are too large to be kept ({size >> 20} MiB; {error}): have the "
                "constructor load what is large from a file"
            ) from None

    async def _push(self, pushed: list[Any]) -> None:
        rows: dict[str, bytes | None] = {}
        for command in pushed:
            if isinstance(command, commands.PushRoutes):
                machine = self._machine
                timeout_s = self._options.http.request_timeout_s
                table = routes_of(
                    machine.routes_version, machine.apps.table, machine.deployments, machine.splits, timeout_s
                )
                rows[ROUTES_KEY] = encoded(table)
            else:
                ident: DeploymentID = command.deployment
                one = self._machine.deployments.get(ident)
                rows[deployment_key(ident.app_name, ident.name)] = None if one is None else encoded(table_of(one))
        if rows:
            await asyncio.to_thread(put_all, rows)

    # -------------------------------------------------------------- replicas

    async def _do(self, command: Any) -> None:
        try:
            how = self._how.get(type(command))
            await (self._shared.do(command) if how is None else how(self, command))
        except Exception as error:  # a defect here is a failure of the replica, and not a wait without an end
            log.exception("the controller could not do %s", type(command).__name__)
            if isinstance(command, (commands.Start, commands.Adopt, commands.Reconfigure)):
                self._machine.replica_failed(command.replica, spi.said(error), time.time())
                self._act()

    async def _start(self, command: commands.Start) -> None:
        try:
            async with self._turn(command.replica):
                actor = await asyncio.to_thread(self._replicas.make, command)
        except Exception as error:
            self._machine.replica_failed(command.replica, spi.said(error), time.time())
            self._act()
            return
        self._watch(command.replica, actor)
        await self._begin(command.replica, actor, command.spec.config.user_config, command.rank, command.world_size)

    async def _adopt(self, command: commands.Adopt) -> None:
        try:
            actor = await asyncio.to_thread(self._replicas.get, command.replica)
        except GoneError as error:
            await self._gone(command.replica, str(error), is_missing=True)
            return
        self._watch(command.replica, actor)
        await self._begin(command.replica, actor, command.spec.config.user_config, command.rank, command.world_size)

    async def _begin(self, replica: ReplicaID, actor: Any, user_config: Any, rank: int, world_size: int) -> None:
        try:
            facts = await actors.begin(actor, user_config, rank, world_size)
        except ActorError:
            return  # the guard says so
        except Exception as error:
            self._machine.replica_failed(replica, str(error), time.time())
        else:
            self._machine.replica_begun(replica, facts, self._replicas.pickled(replica), time.time())
        self._act()

    def _watch(self, replica: ReplicaID, actor: Any) -> None:
        if replica not in self._guarded:
            self._guarded.add(replica)
            self._spawn(self._guard(replica, actor))

    async def _guard(self, replica: ReplicaID, actor: Any) -> None:
        """Wait until the actor ends."""
        why = "it has ended"
        try:
            await actor.until_end.remote()
        except Exception as error:
            why = spi.said(error)
        self._guarded.discard(replica)
        await self._gone(replica, why)

    async def _gone(self, replica: ReplicaID, why: str, is_missing: bool = False) -> None:
        """A replica has ended: its placement group goes too, whoever has made it."""
        try:
            await asyncio.to_thread(self._replicas.forget, replica)
        except Exception:
            log.exception("what %s has left could not be taken away", replica)
        self._machine.replica_dead(replica, why, time.time(), is_missing)
        self._act()

    async def _reconfigure(self, command: commands.Reconfigure) -> None:
        why = ""
        try:
            actor = self._replicas.get(command.replica)
            await actor.reconfigure.remote(command.config, command.rank, command.world_size)
        except (ActorError, GoneError):
            return  # the guard says so
        except Exception as error:
            why = str(error)
        self._machine.reconfigured(command.replica, why, time.time())
        self._act()

    async def _check(self, command: commands.Check) -> None:
        is_well, why, stats = True, "", None
        try:
            actor = self._replicas.get(command.replica)
            await actors.within(command.timeout_s, actor.check_health.remote())
            stats = await actors.within(command.timeout_s, actor.stats.remote())
        except (ActorError, GoneError):
            return  # the guard says so
        except asyncio.TimeoutError:
            is_well, why = False, f"no answer within {command.timeout_s:g} s"
        except Exception as error:
            is_well, why = False, spi.said(error)
        self._machine.checked(command.replica, is_well, why, stats, time.time())
        self._act()

    async def _drain(self, command: commands.Drain) -> None:
        try:
            actor = await asyncio.to_thread(self._replicas.get, command.replica)
            self._watch(command.replica, actor)
            await actor.drain.remote(command.wait_loop_s, command.timeout_s)
        except GoneError as error:
            await self._gone(command.replica, str(error))
            return
        except ActorError:
            return  # the guard says so
        except Exception:
            log.exception("%s could not be drained", command.replica)
        self._machine.drained(command.replica, time.time())
        self._act()

    async def _kill(self, command: commands.Kill) -> None:
        """End a replica. The guard says when it has ended."""
        try:
            async with self._turn(command.replica):
                actor = await asyncio.to_thread(self._replicas.get, command.replica)
        except GoneError as error:
            await self._gone(command.replica, str(error))
            return
        self._watch(command.replica, actor)
        if command.gently:
            try:
                await actors.within(END_S, actor.stop.remote())
            except (ActorError, asyncio.TimeoutError):
                pass
            except Exception:
                log.exception("the destructor of %s has failed", command.replica)
        hpc.kill(actor)

    # -------------------------------------------------------------- proxies and nodes

    async def _start_proxy(self, command: commands.StartProxy) -> None:
        options, node = self._options, command.node
        try:
            async with self._turn(node):
                actor = self._proxies[node] = await asyncio.to_thread(
                    actors.make_proxy, node, options.http, options.grpc
                )
            doors = await actor.begin.remote()
        except Exception as error:
            log.error("the proxy of node %s could not begin: %s", node, spi.said(error))
            self._machine.proxies.failed(node, time.time())
        else:
            self._machine.proxies.ready(node, tuple(doors), time.time())
            self._spawn(self._guard_proxy(node, actor))
        self._act()

    async def _guard_proxy(self, node: str, actor: Any) -> None:
        """Wait until the proxy's process ends, and have it begin again: the actor has another one then."""
        try:
            await actor.until_end.remote()
        except Exception as error:
            log.warning("the proxy of node %s has ended: %s", node, spi.said(error))
        if self._proxies.get(node) is actor:
            self._machine.proxies.ended(node)
            self._act()

    async def _check_proxy(self, command: commands.CheckProxy) -> None:
        try:
            is_well = bool(await actors.within(command.timeout_s, self._proxies[command.node].check_health.remote()))
        except Exception:
            is_well = False
        self._machine.proxies.checked(command.node, is_well, time.time())
        self._act()

    async def _drain_proxy(self, command: commands.DrainProxy) -> None:
        try:
            actor: Any = self._proxies.get(command.node)
            if actor is None:
                actor = await asyncio.to_thread(actors.find_proxy, command.node)
            await actors.within(command.timeout_s, actor.drain.remote(command.timeout_s))
        except Exception as error:
            log.warning("the proxy of node %s was not drained: %s", command.node, spi.said(error))
        self._machine.proxies.drained(command.node)
        self._act()

    async def _kill_proxy(self, command: commands.KillProxy) -> None:
        async with self._turn(command.node):
            actor = self._proxies.pop(command.node, None)
            with contextlib.suppress(GoneError):
                hpc.kill(actor if actor is not None else await asyncio.to_thread(actors.find_proxy, command.node))
        self._act()

    def _doors(self) -> dict[str, list[str]]:
        return {node: list(one.doors) for node, one in self._machine.proxies.table.items() if one.doors}

    async def _tell_doors(self) -> None:
        """Write where the doors are: those of proxies that are gone are there no more."""
        doors = self._doors()
        if doors != self._told_doors:
            await asyncio.to_thread(spi.kv_put, NAMESPACE, DOORS_KEY, msgspec.msgpack.encode(doors))
            self._told_doors = doors

    async def _watch_nodes(self) -> None:
        while True:
            await asyncio.sleep(NODES_EVERY_S)
            try:
                await self._look_at_nodes()
                await self._shared.look()
            except Exception:
                log.exception("the nodes of the session could not be looked at")

    async def _look_at_nodes(self) -> None:
        rooms = await asyncio.to_thread(spi.rooms)
        alive = {str(room.node) for room in rooms}
        leaving = {str(room.node) for room in rooms if not room.is_open}
        head = str(min((room.node for room in rooms), default=""))
        machine = self._machine
        if (alive, leaving, head) != (machine.alive, machine.leaving, machine.proxies.head):
            machine.nodes(alive, leaving, head, time.time())
            self._act()

    _how: dict[type, Callable[[Controller, Any], Awaitable[None]]] = {
        commands.Start: _start,
        commands.Adopt: _adopt,
        commands.Reconfigure: _reconfigure,
        commands.Check: _check,
        commands.Drain: _drain,
        commands.Kill: _kill,
        commands.StartProxy: _start_proxy,
        commands.CheckProxy: _check_proxy,
        commands.DrainProxy: _drain_proxy,
        commands.KillProxy: _kill_proxy,
    }


def _new_id() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(8))
