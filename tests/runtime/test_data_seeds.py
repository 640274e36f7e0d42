"""Rows that a seed draws, or puts in an order, are the same ones in sessions with other numbers of CPUs and nodes."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import numpy as np
import pytest

from hpc import data
from hpc.data import ActorPoolStrategy, DataContext
from hpc.data.expressions import col
from hpc.data.expressions import random as random_of
from hpc.data.ordered import ordered_split
from runtime.running import local_nodes, one_node

ROWS = 300_000


class Same:
    """A pool's function that leaves rows out, and gives the others."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"id": batch["id"][batch["id"] % 3 != 0]}


def groups() -> Any:
    some = data.range(ROWS).map_batches(lambda batch: {"id": batch["id"], "k": batch["id"] % 700})
    return some.groupby("k")


def shuffled(seed: int | None = 5) -> Any:
    return data.range(ROWS).random_shuffle(seed=seed)


#: Datasets whose blocks are not the same in each session.
INPUTS = {
    "source": lambda: data.range(ROWS),
    "shuffle": shuffled,
    "filtered shuffle": lambda: shuffled().filter(lambda row: row["id"] % 2 == 0),
    "pool": lambda: data.range(ROWS).map_batches(Same, compute=ActorPoolStrategy(size=1), batch_size=1000),
    "sums": lambda: groups().sum("id").rename_columns({"sum(id)": "s", "k": "id"}),
    "groups": lambda: groups().map_groups(lambda batch: {"id": batch["id"][:2]}, batch_format="numpy"),
    "join": lambda: shuffled().join(data.range(ROWS).map_batches(twice), "inner", 3),
    "mix": lambda: data.range(ROWS).mix(shuffled(6), weights=[0.7, 0.3]),
    "blocks in any order": lambda: shuffled().randomize_block_order(seed=3),
}


def twice(batch: dict[str, Any]) -> dict[str, Any]:
    return {"id": 2 * batch["id"], "more": batch["id"]}


#: Of these an epoch begins in one session, and goes on in another one.
TRAINED = ("pool", "join", "mix")


def drawn(name: str) -> dict[str, tuple[int, str]]:
    """How many rows each way of drawing gives, and their digest in their order."""
    rows = INPUTS[name]()
    train, test = rows.streaming_train_test_split(0.2, seed=7)
    ways = {"train": train, "test": test}
    if name in ("groups", "join"):
        ways["last"] = rows.train_test_split(0.1, shuffle=True, seed=4)[1]
    if name == "filtered shuffle":
        more = rows.with_column("x", random_of(seed=3, reseed_after_execution=False))
        ways |= {"sample": rows.random_sample(0.1, seed=9), "numbers": more.filter(expr=col("x") < 0.1)}
    return {way: of_rows(one) for way, one in ways.items()}


def of_rows(dataset: Any) -> tuple[int, str]:
    rows = [batch["id"] for batch in dataset.iter_batches(batch_size=None)]
    ids = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    return len(ids), hashlib.sha256(ids.astype(np.int64).tobytes()).hexdigest()


def in_all_ways() -> dict[str, Any]:
    return {name: drawn(name) for name in INPUTS}


def trained(name: str, state: dict[str, Any] | None, batches: int | None) -> tuple[list[int], dict[str, Any]]:
    """The rows of an epoch from a position on, and the position behind them."""
    (one,) = ordered_split(INPUTS[name](), 1, 3, 40_000)
    if state is not None:
        one.load_state_dict(state)
    some = itertools.islice(one.iter_batches(batch_size=40_000), batches)
    return [int(row) for batch in some for row in batch["id"]], one.state_dict()


@pytest.fixture(scope="module")
def of_two_cpus() -> tuple[dict[str, Any], dict[str, Any]]:
    DataContext.get_current().enable_progress_bars = False
    with one_node(num_cpus=2):
        return in_all_ways(), {name: [trained(name, None, 2), trained(name, None, None)] for name in TRAINED}


def test_two_sessions_give_the_same_parts_and_orders(of_two_cpus):
    with local_nodes(2, num_cpus=3):
        others = in_all_ways()
        rests = {name: trained(name, first[1], None)[0] for name, (first, _) in of_two_cpus[1].items()}
    for name, ((first, _), (whole, _)) in of_two_cpus[1].items():
        assert first and first + rests[name] == whole, name
    for name, mine in of_two_cpus[0].items():
        assert mine == others[name], name
        assert 0.15 < mine["test"][0] / (mine["train"][0] + mine["test"][0]) < 0.25, name
