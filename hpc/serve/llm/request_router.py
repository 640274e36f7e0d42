"""Requests go where their beginning has been computed: Ray's router of this name, for deployments of models.

LLMConfig(..., deployment_config={"request_router_config": RequestRouterConfig(
    request_router_class=PrefixCacheAffinityRouter, request_router_kwargs={"imbalanced_threshold": 10})})
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hpc.serve.llm.prefixes import Prefixes
from hpc.serve.messages import ReplicaID
from hpc.serve.request_router import (
    LocalityMixin,
    MultiplexMixin,
    PendingRequest,
    PowerOfTwoChoicesRequestRouter,
    RequestRouter,
    RunningReplica,
)

#: Without eviction an index would grow for ever: it is bounded by this many characters then.
MOST_CHARS = 4_000_000


class PrefixCacheAffinityRouter(LocalityMixin, MultiplexMixin, RequestRouter):
    """The replica that has computed the longest beginning of the request's text gets it.

    Where less than ``match_rate_threshold`` of the text is known anywhere, the replica with the least text does. Where
    the numbers of requests differ by more than ``imbalanced_threshold``, two choices decide, as they do where the
    replica has no room."""

    def initialize_state(  # type: ignore[override]  # users name what they give
        self,
        imbalanced_threshold: float | None = float("inf"),
        match_rate_threshold: float | None = 0.1,
        do_eviction: bool | None = False,
        eviction_threshold_chars: int | None = 400_000,
        eviction_target_chars: int | None = 360_000,
        eviction_interval_secs: int | None = 10,
        tree_actor: Any = None,
    ) -> None:
        """Called once with the keyword arguments of the config. With ``do_eviction`` the index is shrunk to
        ``eviction_target_chars`` where it has more than ``eviction_threshold_chars``, at once: the interval has no
        effect. Raises ValueError for a ``tree_actor``, as each process has an index of its own."""
        if tree_actor is not None:
            raise ValueError("PrefixCacheAffinityRouter takes no tree_actor: each process has an index of its own")
        most, target = MOST_CHARS, MOST_CHARS * 9 // 10
        if do_eviction:
            most = eviction_threshold_chars or MOST_CHARS
            target = eviction_target_chars or most
            if target > most:
                raise ValueError("eviction_target_chars must be at most eviction_threshold_chars")
        self._threshold = float("inf") if imbalanced_threshold is None else imbalanced_threshold
        self._rate = 0.1 if match_rate_threshold is None else match_rate_threshold
        self._prefixes = Prefixes(most, target)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """The replicas that there are from now on."""
        super().update_replicas(replicas)
        self._prefixes.set_replicas(one.replica_id.unique_id for one in replicas)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The replicas that know the text best, and behind them two that were drawn."""
        two = await PowerOfTwoChoicesRequestRouter.choose_replicas(self, candidate_replicas, pending_request)  # type: ignore[arg-type]
        text = "" if pending_request is None else text_of(pending_request)
        if not text or not candidate_replicas:
            return two
        lengths = [one.queue_length for one in candidate_replicas]
        if max(lengths) - min(lengths) > self._threshold:
            return two
        names = [one.replica_id.unique_id for one in candidate_replicas]
        found = self._prefixes.match(text, names)
        chosen = set(found.replicas if found.length >= self._rate * len(text) else self._prefixes.smallest(names))
        return [[one for one in candidate_replicas if one.replica_id.unique_id in chosen], *two]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """The replica computes the text from now on."""
        if text := text_of(pending_request):
            self._prefixes.insert(text, replica_id.unique_id)


def text_of(pending: PendingRequest) -> str:
    """The text of a request: of its prompt, or of all its messages; empty where it has none. It is looked for once."""
    known: str | None = getattr(pending, "_text", None)
    if known is None:
        try:
            known = next((text for arg in pending.args if (text := _text_of_argument(arg))), "")
        except RecursionError:  # of a client that nests what it sends without an end
            known = ""
        pending._text = known  # type: ignore[attr-defined]
    return known


def _text_of_argument(arg: Any) -> str:
    """Of the body of a request, of a dict, or of an object with ``messages`` or ``prompt``."""
    if isinstance(arg, bytes):
        try:
            arg = json.loads(arg)
        except ValueError:
            return ""
    for name in ("messages", "prompt"):
        given = arg.get(name) if isinstance(arg, Mapping) else getattr(arg, name, None)
        if given is not None:
            return _plain(given)
    return ""


def _plain(value: Any) -> str:
    """The text in a prompt, in messages, or in the parts of their contents."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        return "".join(map(_plain, value))
    if isinstance(value, Mapping):
        return _plain(value["text"]) if isinstance(value.get("text"), str) else _plain(value.get("content"))
    return _plain(getattr(value, "content", None)) if hasattr(value, "content") else ""
