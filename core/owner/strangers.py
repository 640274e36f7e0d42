"""References of a session that this process is not in any more: refused where a program hands them in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hpc.core.exceptions import ActorHandleNotFoundError

if TYPE_CHECKING:
    from hpc.core.owner.ports import Holder, Reference


def check_refs(refs: Iterable[Reference], client: Holder | None) -> None:
    """ValueError for the first of the references that did not come to this process by this connection to its session;
    without a client, for any."""
    for ref in refs:
        if ref._client is not client:
            raise ValueError(_why(repr(ref), ref, client))


def check_handle(actor: Reference, client: Holder | None) -> None:
    """The same for the reference that an actor's handle has: ActorHandleNotFoundError, which is a ValueError."""
    if actor._client is not client:
        raise ActorHandleNotFoundError(_why(f"the actor {actor.hex()}", actor, client))


def _why(what: str, ref: Reference, client: Holder | None) -> str:
    now = f"is in session {client.registered.session} now" if client else "has left it"
    return (
        f"{what} is of an earlier session ({ref._client.registered.session}), and this program {now}: objects and "
        "actors end when the program that made them leaves their session. Make it again, or get a detached actor by "
        "its name again"
    )
