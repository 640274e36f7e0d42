"""Which devices tasks and actors get in a session."""

from __future__ import annotations

import os
from collections import Counter

import hpc
from hpc.util.placement_group import placement_group, remove_placement_group
from runtime.running import local_nodes, on


@hpc.remote(num_cpus=0)
class Holder:
    def where(self):
        context = hpc.get_runtime_context()
        ids = context.get_accelerator_ids()["GPU"]
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(ids)
        return int(context.get_node_id()), tuple(ids)


def hold(amounts, **options):
    """Actors with these amounts of GPU, and where they are."""
    actors = [Holder.options(num_gpus=amount, **options).remote() for amount in amounts]
    return actors, hpc.get([actor.where.remote() for actor in actors], timeout=30)


def test_fractions_are_of_one_device_and_a_node_that_has_only_pieces_gets_no_whole_one():
    with local_nodes(2, num_gpus=2):
        actors, seen = hold([0.3] * 3 + [0.5], scheduling_strategy=on(1))
        assert sorted(Counter(ids for _, ids in seen).values()) == [1, 3]
        late = Holder.options(num_gpus=0.6, scheduling_strategy=on(1)).remote()
        there = late.where.remote()
        assert not hpc.wait([there], timeout=0.3)[0], "0.1 and 0.5 are free: 0.6 is not"
        for actor in (late, *actors):
            hpc.kill(actor)
        actors, seen = hold([0.5] * 4, scheduling_strategy=on(1))
        assert Counter(seen) == {(1, ("0",)): 2, (1, ("1",)): 2}
        hpc.kill(actors[seen.index((1, ("0",)))])
        hpc.kill(actors[seen.index((1, ("1",)))])
        whole, found = hold([1, 1])
        assert sorted(found) == [(2, ("0",)), (2, ("1",))], "the first node has two halves free, and no whole device"
        for actor in whole:
            hpc.kill(actor)
        group = placement_group([{"GPU": 1}] * 2, strategy="PACK")
        assert group.wait(60)
        remove_placement_group(group)
        small = placement_group([{"GPU": 0.3}] * 8, strategy="PACK")
        assert small.wait(60), "one on each half, and three on each whole one"
