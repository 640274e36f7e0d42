"""What the ranks of a gang tell each other before they have a communicator: by keys of the session's head.

Each gives something and gets what all have given. Rank 0 collects, so that all others wait for one key. So the head
has a few messages for each rank and step, whatever the size of the gang.
"""

from __future__ import annotations

import json
from typing import Any

from hpc import spi

NAMESPACE = "mpi"


class Exchange:
    """One rank's side. All ranks take the same steps in the same order."""

    def __init__(self, gang: str, rank: int, size: int) -> None:
        self.gang, self.rank, self.size = gang, rank, size
        self._step = 0

    def all_gather(self, mine: Any) -> list[Any]:
        """What all have given in this step, by rank. Values are what JSON can say."""
        self._step += 1
        place = f"{self.gang}/{self._step}"
        if self.rank:
            spi.kv_put(NAMESPACE, f"{place}/in/{self.rank}", json.dumps(mine).encode())
            return self._result(f"{place}/out")
        found = {0: mine}
        with spi.watch(NAMESPACE, f"{place}/in/", prefix=True) as watch:
            while len(found) < self.size:
                for change in watch.next():
                    if change.value is not None:
                        found[int(change.key.rpartition("/")[2])] = json.loads(change.value)
        values = [found[rank] for rank in range(self.size)]
        if self.size > 1:
            spi.kv_put(NAMESPACE, f"{place}/out", json.dumps(values).encode())
        return values

    def _result(self, key: str) -> list[Any]:
        with spi.watch(NAMESPACE, key) as watch:
            while True:
                for change in watch.next():
                    if change.value is not None:
                        values: list[Any] = json.loads(change.value)
                        return values


def forget(gang: str) -> None:
    """Nobody of this gang reads its keys any more."""
    spi.kv_delete(NAMESPACE, f"{gang}/", prefix=True)
