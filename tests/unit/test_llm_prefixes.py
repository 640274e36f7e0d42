"""Requests go where their beginning was computed: the index of beginnings, and the router that asks it."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.serve.llm.prefixes import BLOCK, Prefixes
from hpc.serve.llm.request_router import MOST_CHARS, PrefixCacheAffinityRouter, text_of
from hpc.serve.messages import DeploymentID, ReplicaID, RequestMeta
from hpc.serve.request_router import PendingRequest

NAMES = ("r1", "r2", "r3")
DEPLOYMENT = DeploymentID("model")


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.lists(st.sampled_from("ab"), max_size=6)), max_size=12),
    st.lists(st.sampled_from("ab"), max_size=6),
)
def test_a_match_is_the_longest_beginning_that_any_replica_has(inserted: list[Any], asked: list[str]) -> None:
    """Against all texts that were inserted, compared one by one; each letter is a block."""
    index = Prefixes(10**6, 10**6)
    index.set_replicas(NAMES)
    for name, letters in inserted:
        index.insert("".join(letter * BLOCK for letter in letters), name)

    def common(letters: list[str]) -> int:
        pairs = list(zip(letters, asked))
        return next((at for at, (one, other) in enumerate(pairs) if one != other), len(pairs))

    lengths = {name: max((common(text) for one, text in inserted if one == name), default=0) for name in NAMES}
    best = max(lengths.values())
    found = index.match("".join(letter * BLOCK for letter in asked) + "rest", NAMES)
    assert found.length == best * BLOCK
    assert set(found.replicas) == ({name for name in NAMES if lengths[name] == best} if best else set())


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.text(st.sampled_from("abc"), max_size=200)), max_size=60))
def test_an_index_is_bounded_and_counts_what_it_has(inserted: list[tuple[str, str]]) -> None:
    index = Prefixes(20 * BLOCK, 10 * BLOCK)
    index.set_replicas(NAMES)
    for name, text in inserted:
        index.insert(text, name)
        assert len(index) <= 20 * BLOCK
        assert len(index) == BLOCK * sum(len(blocks) for blocks in index._blocks.values())
    index.set_replicas(["r1"])
    assert index.match("a" * BLOCK, NAMES).replicas in ((), ("r1",))
    index.insert("a" * BLOCK, "r2")
    assert not index.match("a" * BLOCK, ["r2"]).length, "it is there no more"


def test_the_beginning_of_a_text_is_forgotten_last() -> None:
    index = Prefixes(4 * BLOCK, 2 * BLOCK)
    index.set_replicas(["r1"])
    text = "".join(letter * BLOCK for letter in "abcde")
    index.insert(text, "r1")
    assert index.match(text, ["r1"]).length == 2 * BLOCK


class Replica:
    """A replica as the router sees it."""

    def __init__(self, name: str, queue: int = 0) -> None:
        self.replica_id = ReplicaID(name, DEPLOYMENT)
        self.queue_length = queue
        self.node_id = ""
        self.availability_zone = None
        self.multiplexed_model_ids: set[str] = set()


def a_router(replicas: list[Replica], **options: Any) -> PrefixCacheAffinityRouter:
    router = PrefixCacheAffinityRouter(DEPLOYMENT)
    router.initialize_state(**options)
    router.update_replicas(replicas)  # type: ignore[arg-type]
    return router


def pending(text: str) -> PendingRequest:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    return PendingRequest(["/v1/chat/completions", body], {}, RequestMeta("r"))


def chosen(router: PrefixCacheAffinityRouter, replicas: list[Replica], text: str) -> list[set[str]]:
    ranks = asyncio.run(router.choose_replicas(replicas, pending(text)))  # type: ignore[arg-type]
    return [{one.replica_id.unique_id for one in rank} for rank in ranks]


def test_a_request_goes_to_the_replica_that_knows_its_beginning() -> None:
    replicas = [Replica(name) for name in NAMES]
    router = a_router(replicas)
    system = "You are a helpful assistant of a machine. " * 4
    router.on_request_routed(pending(system + "first"), replicas[1].replica_id, None)
    first, two = chosen(router, replicas, system + "second question")
    assert first == {"r2"} and len(two) == 2, "and two others where it has no room"
    first, _ = chosen(router, replicas, "Something else altogether, of which nobody knows the beginning")
    assert first == {"r1", "r3"}, "those that have the least"
    replicas[1].queue_length = 9
    assert chosen(a_router(replicas, imbalanced_threshold=8), replicas, system)[0] != {"r2"}
    router.update_replicas([replicas[0]])  # type: ignore[arg-type]
    assert chosen(router, replicas[:1], system) == [{"r1"}, {"r1"}]
    router.update_replicas([])
    assert asyncio.run(router.choose_replicas([], pending(system))) == []


def test_hits_are_more_than_with_two_choices() -> None:
    """Conversations of 40 users: a turn is computed where the last one was, but where nobody has room."""
    replicas = [Replica(name) for name in NAMES]
    router = a_router(replicas, imbalanced_threshold=4)
    where: dict[int, str] = {}
    hits = turns = 0
    for turn in range(5):
        for user in range(40):
            text = f"user {user:04d} asks " * (turn + 2)
            (ident, *_), *_ = asyncio.run(router.choose_replicas(replicas, pending(text)))  # type: ignore[arg-type]
            name = ident.replica_id.unique_id
            hits += where.get(user) == name
            turns += turn > 0
            where[user] = name
            router.on_request_routed(pending(text), ident.replica_id, None)
    assert hits == turns, "two choices would find a third"


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        (b'{"prompt": "one"}', "one"),
        (b'{"prompt": ["one", "two"]}', "onetwo"),
        ({"messages": [{"content": "a"}, {"content": [{"type": "text", "text": "b"}, {"type": "image"}]}]}, "ab"),
        (SimpleNamespace(messages=[SimpleNamespace(content="c")]), "c"),
        (SimpleNamespace(prompt="d"), "d"),
        (b"no json", ""),
        (b'{"input": "e"}', ""),
        ("/v1/completions", ""),
    ],
)
def test_the_text_of_a_request(argument: Any, text: str) -> None:
    assert text_of(PendingRequest(["/path", argument], {}, RequestMeta("r"))) == text
    assert text_of(PendingRequest([], {}, RequestMeta("r"))) == ""


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="tree_actor"):
        a_router([], tree_actor=object())
    with pytest.raises(ValueError, match="eviction_target_chars"):
        a_router([], do_eviction=True, eviction_threshold_chars=10, eviction_target_chars=20)
    assert a_router([])._prefixes._most == MOST_CHARS
