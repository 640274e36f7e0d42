"""What the parts of a router use of it: they know its face alone, so that each can be read without the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from hpc.serve.calls.router import Assigned, RouterMachine, Seat
from hpc.serve.calls.turn import Turn
from hpc.serve.messages import DeploymentID, DeploymentTable, RequestMeta


class Routes(Protocol):
    """The router of a process for one deployment (see `routing.Router`). A request is a `call.Call`."""

    deployment_id: DeploymentID
    id: str
    lock: Turn
    machine: RouterMachine
    table: DeploymentTable | None
    is_closed: bool

    @property
    def replicas(self) -> Mapping[str, Any]:
        """The methods of each replica's actor."""

    @property
    def sent(self) -> Mapping[str, dict[Any, None]]:
        """The requests that each replica has of this router, the oldest first."""

    def begin(
        self, kind: Any, meta: RequestMeta, args: tuple[Any, ...], kwargs: dict[str, Any], is_safe: bool = False
    ) -> Any:
        """A new request, which is not sent yet."""

    def submit(self, call: Any, *, by_parent: bool = True) -> None:
        """Send a request, or have it wait."""

    def soon(self, work: Callable[..., None], *args: Any) -> None:
        """Have something done with the lock held, without waiting for that."""

    def answered(self, call: Any, what: Any) -> None:
        """A replica has answered a request."""

    def cancel(self, call: Any) -> None:
        """A request is not wanted any more."""

    def stream_ended(self, call: Any) -> None:
        """The items of a stream have come to their end."""

    def send(self, call: Any, seat: Seat) -> BaseException | None:
        """Call the replica, with the lock held. Returns what cannot be sent."""

    def send_all(self, assigned: Assigned) -> None:
        """Call the replicas of these requests, with the lock held."""
