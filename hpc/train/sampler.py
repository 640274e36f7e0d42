"""Which samples a rank takes, where the number of ranks may change: none is lost, and none comes twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hpc.train.loop import get_context


class ElasticSampler:
    """Batches of indices of a dataset for this rank, which go on where a checkpoint says, also with other ranks.

    It is a batch sampler of torch's DataLoader, ``DataLoader(data, batch_sampler=sampler)``, and knows nothing of
    torch. All ranks together go through one order of the samples. After each step the training function says `step`,
    and `state_dict` goes into the checkpoint. It tells how many samples of the order all ranks are done with: any
    number of ranks takes the rest of them.

    All ranks have equally many batches, and each batch a sample at least. So the last batches of an epoch may be
    smaller, or one sample larger. Fewer samples than ranks may be left when a run is resized at the very end of an
    epoch: they come first in the next one.

    size: the number of samples. batch_size: that many per rank and step. shuffle: another order in each epoch, from
    ``seed``. rank, world_size: this rank's, where they are not given. Raises ValueError for fewer samples than ranks.
    """

    def __init__(
        self,
        size: int,
        batch_size: int = 1,
        *,
        shuffle: bool = True,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        context = get_context() if rank is None or world_size is None else None
        self.rank = context.get_world_rank() if rank is None and context else int(rank or 0)
        self.world_size = context.get_world_size() if world_size is None and context else int(world_size or 1)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"the rank must be one of {self.world_size}, not {self.rank}")
        if size < self.world_size:
            raise ValueError(f"{self.world_size} ranks need as many samples at least, and there are {size}")
        self.size, self.batch_size, self.shuffle, self.seed = size, batch_size, shuffle, seed
        self.epoch = 0
        #: Samples of this epoch's order that all ranks are done with.
        self.done = 0
        self._carried: list[int] = []
        self._order: Any = None

    def __iter__(self) -> Iterator[list[int]]:
        """This rank's batches of the rest of the epoch. They may be taken ahead of the steps."""
        order, at = self._ordered(), self.done
        while take := self._take(len(order) - at):
            yield [int(index) for index in order[at + self.rank : at + take : self.world_size]]
            at += take

    def __len__(self) -> int:
        """How many batches are left in the epoch."""
        left, count = len(self._ordered()) - self.done, 0
        while take := self._take(left):
            left, count = left - take, count + 1
        return count

    def step(self) -> None:
        """All ranks are done with a batch. Raises RuntimeError if the epoch has none left."""
        take = self._take(len(self._ordered()) - self.done)
        if not take:
            raise RuntimeError("step() was called more often than there are batches in the epoch")
        self.done += take

    def epochs(self, count: int) -> Iterator[int]:
        """The epochs from the present one to ``count`` - 1; the next one begins when the loop comes round."""
        while self.epoch < count:
            yield self.epoch
            self._next_epoch()

    def state_dict(self) -> dict[str, Any]:
        """Where the samples are, for a checkpoint: plain numbers, the same on all ranks."""
        return {
            "epoch": self.epoch,
            "done": self.done,
            "carried": list(self._carried),
            "size": self.size,
            "seed": self.seed,
            "shuffle": self.shuffle,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises ValueError for the state of another order: of another size, seed or shuffle."""
        for name in ("size", "seed", "shuffle"):
            if state[name] != getattr(self, name):
                raise ValueError(
                    f"the checkpoint's samples had {name}={state[name]}, and now it is {getattr(self, name)}"
                )
        self.epoch, self.done, self._carried = int(state["epoch"]), int(state["done"]), list(state["carried"])
        self._order = None

    def _take(self, left: int) -> int:
        """How many samples the next step takes of those that are left; 0 where some rank would get none."""
        if left < self.world_size:
            return 0
        full = self.world_size * self.batch_size
        return left if left < full + self.world_size and left != full else full

    def _next_epoch(self) -> None:
        order = self._ordered()
        if self._take(len(order) - self.done):
            raise RuntimeError(
                f"epoch {self.epoch} ended with batches left: call step() after each of them, so that the checkpoint "
                "knows them"
            )
        self._carried = [int(index) for index in order[self.done :]]
        self.epoch, self.done, self._order = self.epoch + 1, 0, None

    def _ordered(self) -> Any:
        """The order of this epoch: what the last one has left, then all samples."""
        import numpy as np

        if self._order is None:
            random = np.random.default_rng([self.seed, self.epoch])
            order = random.permutation(self.size) if self.shuffle else np.arange(self.size)
            self._order = np.concatenate([np.array(self._carried, dtype=order.dtype), order])
        return self._order
