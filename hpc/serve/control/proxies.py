"""Which nodes have a proxy, and how each stands: a part of the machine of the control plane."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hpc.serve.config import ProxyLocation
from hpc.serve.control.commands import CheckProxy, Command, DrainProxy, KillProxy, StartProxy
from hpc.serve.schema import ProxyStatus

#: How often a proxy is asked, how long it may take, and how many times in a row it may fail: Ray's numbers.
CHECK_EVERY_S, CHECK_TIMEOUT_S, MISSES = 10.0, 10.0, 3
#: A proxy of a node without replicas stays this long, so that a load balancer notices.
MIN_DRAIN_S = 30.0
MAX_DRAIN_S = 3600.0


@dataclass(slots=True)
class Proxy:
    """The proxy of a node."""

    node: str
    status: ProxyStatus = ProxyStatus.STARTING
    doors: tuple[str, ...] = ()
    misses: int = 0
    is_asked: bool = False
    next_check: float = 0.0
    leave_at: float = 0.0

    @property
    def is_up(self) -> bool:
        """Whether it is to be asked now and then."""
        return self.status in (ProxyStatus.HEALTHY, ProxyStatus.UNHEALTHY)


class Proxies:
    """All proxies. ``say``: takes a command."""

    def __init__(self, say: Callable[[Command], None]) -> None:
        self._say = say
        self.location = ProxyLocation.Disabled
        self.table: dict[str, Proxy] = {}
        self.head = ""

    def wanted(self, busy: Iterable[str]) -> set[str]:
        """The nodes that shall have a proxy. ``busy``: those that have replicas."""
        if self.location is ProxyLocation.Disabled:
            return set()
        head = {self.head} if self.head else set()
        return head | set(busy) if self.location is ProxyLocation.EveryNode else head

    def settle(self, busy: Iterable[str], alive: set[str], now: float) -> None:
        """Begin and end proxies, so that they are where they shall be."""
        wanted = {node for node in self.wanted(busy) if node in alive or not alive}
        for node in sorted(wanted):
            proxy = self.table.get(node)
            if proxy is None:
                self.table[node] = Proxy(node)
                self._say(StartProxy(node))
            else:
                proxy.leave_at = 0.0
        for node, proxy in sorted(self.table.items()):
            if node in wanted or proxy.status in (ProxyStatus.DRAINING, ProxyStatus.DRAINED):
                continue
            if alive and node not in alive:
                self.gone(node)
            elif not proxy.leave_at:
                proxy.leave_at = now + MIN_DRAIN_S
            elif now >= proxy.leave_at:
                self._drain(proxy)

    def _drain(self, proxy: Proxy) -> None:
        proxy.status = ProxyStatus.DRAINING
        self._say(DrainProxy(proxy.node, MAX_DRAIN_S))

    def ready(self, node: str, doors: tuple[str, ...], now: float) -> None:
        """A proxy listens."""
        proxy = self.table.get(node)
        if proxy is not None and proxy.status is not ProxyStatus.DRAINING:
            proxy.status, proxy.doors, proxy.misses, proxy.is_asked = ProxyStatus.HEALTHY, doors, 0, False
            proxy.next_check = now + CHECK_EVERY_S

    def checked(self, node: str, is_well: bool, now: float) -> None:
        """A proxy has answered whether it is well, or has not."""
        proxy = self.table.get(node)
        if proxy is None or not proxy.is_up:
            return
        proxy.is_asked, proxy.next_check = False, now + CHECK_EVERY_S
        proxy.misses = 0 if is_well else proxy.misses + 1
        if proxy.misses >= MISSES:
            self._again(proxy)

    def _again(self, proxy: Proxy) -> None:
        proxy.status, proxy.misses, proxy.is_asked = ProxyStatus.UNHEALTHY, 0, True
        self._say(KillProxy(proxy.node))
        self._say(StartProxy(proxy.node))

    def failed(self, node: str, now: float) -> None:
        """A proxy could not begin, or died: another one begins."""
        proxy = self.table.get(node)
        if proxy is None:
            return
        if proxy.status in (ProxyStatus.DRAINING, ProxyStatus.DRAINED):
            self.gone(node)
        else:
            proxy.status, proxy.is_asked, proxy.next_check = ProxyStatus.UNHEALTHY, False, now + 1.0
            proxy.misses = MISSES - 1

    def ended(self, node: str) -> None:
        """The process of a proxy is gone. Its actor begins another one, which is told what it has to do."""
        proxy = self.table.get(node)
        if proxy is not None and proxy.is_up:
            proxy.status, proxy.misses, proxy.is_asked = ProxyStatus.UNHEALTHY, 0, True
            self._say(StartProxy(node))

    def drained(self, node: str) -> None:
        """The last request of a proxy has its answer."""
        proxy = self.table.get(node)
        if proxy is not None and proxy.status is ProxyStatus.DRAINING:
            proxy.status = ProxyStatus.DRAINED
            self._say(KillProxy(node))
            self.gone(node)

    def gone(self, node: str) -> None:
        """A proxy has ended for good."""
        self.table.pop(node, None)

    def adopt(self) -> None:
        """Another controller has left these: each is asked whether it is there."""
        for node, proxy in sorted(self.table.items()):
            if proxy.status is ProxyStatus.DRAINING:
                self._drain(proxy)
                continue
            proxy.is_asked = proxy.status is not ProxyStatus.STARTING
            self._say(StartProxy(node))

    def end(self) -> None:
        """End them all."""
        for node in sorted(self.table):
            self._say(KillProxy(node))
        self.table.clear()

    def tick(self, now: float) -> None:
        """Time has gone on."""
        for proxy in self.table.values():
            if proxy.is_up and not proxy.is_asked and now >= proxy.next_check:
                proxy.is_asked = True
                self._say(CheckProxy(proxy.node, CHECK_TIMEOUT_S))

    def next_at(self) -> float | None:
        """When it has to be told of the time."""
        times = [one.next_check for one in self.table.values() if one.is_up and not one.is_asked]
        times += [
            one.leave_at for one in self.table.values() if one.leave_at and one.status is not ProxyStatus.DRAINING
        ]
        return min(times, default=None)
