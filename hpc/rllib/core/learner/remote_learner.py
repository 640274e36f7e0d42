"""The actor that holds one of several learners: it updates with its share, and averages gradients with the others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import hpc
from hpc import collective
from hpc.collective import CollectiveError, ReduceOp
from hpc.rllib.env.fragment import Sample
from hpc.rllib.utils.trees import map_tree

#: How long a rank waits for the others to come to a group: they may be in the middle of an update.
MEET_S = 120.0


@dataclass(frozen=True)
class Share:
    """What one learner gets of an update: samples, a batch or episodes. With a sample may be the reference to the whole
    of it, and a batch may be a reference. ``part`` (rank, ranks) means that only this share of the columns of samples,
    or of the rows of a batch, is the learner's."""

    samples: Sequence[tuple[Sample, Any]] | None = None
    part: tuple[int, int] = (0, 1)
    batch: Any = None
    episodes: Sequence[Any] | None = None

    def open(self) -> dict[str, Any]:
        """The data as `Learner.update` takes it."""
        if self.batch is not None:
            whole = hpc.get(self.batch) if isinstance(self.batch, hpc.ObjectRef) else self.batch
            return {"batch": whole if self.part[1] == 1 else rows_of_rank(whole, *self.part)}
        if self.samples is None:
            return {"episodes": list(self.episodes or ())}
        values = iter(hpc.get([ref for _, ref in self.samples if ref is not None]))
        found: list[Sample] = [sample if ref is None else next(values) for sample, ref in self.samples]
        return {"samples": found if self.part[1] == 1 else [self._cut(sample) for sample in found]}

    def wire(self) -> tuple[Any, ...]:
        """The same of plain types, without what references lead to: pickled in a third of the time."""
        samples: Any = self.samples
        if samples is not None:
            samples = [(None if ref is not None else sample, ref) for sample, ref in samples]
        return samples, self.part, self.batch, self.episodes

    def _cut(self, sample: Sample) -> Sample:
        rank, ranks = self.part
        modules = {
            name: fragment.select(range(rank, fragment.width, ranks))
            for name, fragment in sample.modules.items()
            if rank < fragment.width
        }
        steps = max((fragment.valid_steps for fragment in modules.values()), default=0)
        return replace(sample, modules=modules, env_steps=min(steps, sample.env_steps))


def rows_of_rank(batch: Mapping[str, Any], rank: int, ranks: int) -> dict[str, Any]:
    """A rank's rows of each module: one piece of them, so that the ranks' results one behind the other are in order."""

    def cut(leaf: Any) -> Any:
        return leaf[len(leaf) * rank // ranks : len(leaf) * (rank + 1) // ranks]

    return {name: map_tree(cut, rows) for name, rows in batch.items()}


class RemoteLearner:
    """A learner in a process of its own."""

    def __init__(self, cls: type, config: Any, module_spec: Any, index: int, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.learner = cls(config=config, module_spec=module_spec)
        self.learner._set_learner_index_and_placement_group(learner_index=index, placement_group=None)
        self.learner.build()
        self._group = self._backend = ""
        self._is_out = False
        """Whether it must not update until it is in a group again: its gradients would be its own"""
        self._is_whole = True
        """Whether it has the state of the others"""

    def join(self, name: str, rank: int, ranks: int, backend: str) -> None:
        """Be a rank of this group from now on, and of no other."""
        self._leave()
        if ranks > 1:
            meet_ms = int(MEET_S * 1000)
            collective.init_collective_group(ranks, rank, backend, name, meet_ms)
            self._group = name
            self.learner.reduce_gradients = self._average
        self._backend, self._is_out = backend, False

    def take_state(self, state: list[Any]) -> None:
        """Have the state that a reference leads to. Should that fail, it makes no update until it has one."""
        self._is_whole = False
        self.learner.set_state(hpc.get(state[0]))
        self._is_whole = True

    def _leave(self) -> None:
        group, self._group, self._is_out = self._group, "", True
        self.learner.reduce_gradients = None
        if group:
            with contextlib.suppress(CollectiveError):
                collective.destroy_collective_group(group)

    def _average(self, flat: Any) -> None:
        """The mean over the ranks. Ranks that share a GPU cannot use NCCL: they go through the memory of the node."""
        own = flat if self._backend == "nccl" or not flat.is_cuda else flat.cpu()
        collective.allreduce(own, self._group, ReduceOp.AVERAGE)
        if own is not flat:
            flat.copy_(own)

    @hpc.method(num_returns=2)
    def update(self, share: tuple[Any, ...], kwargs: Mapping[str, Any], wants_weights: bool) -> tuple[Any, Any]:
        """Update with this share. The results, and the weights of acting if they are wanted."""
        try:
            if self._is_out or not self._is_whole:
                raise CollectiveError("this learner is in no group, or has not the others' state: it waits for both")
            results = self.learner.update(**Share(*share).open(), **kwargs)
        except BaseException:
            # The others wait for this rank's gradients otherwise.
            self._leave()
            raise
        return results, self.learner.get_weights(inference_only=True) if wants_weights else None

    def call(self, function: Callable[..., Any] | str, kwargs: Mapping[str, Any]) -> Any:
        """A function with the learner, or the learner's method of that name."""
        if isinstance(function, str):
            return getattr(self.learner, function)(**kwargs)
        return function(self.learner, **kwargs)
