"""The settings that an environment is made with, and where it runs."""

from __future__ import annotations

import copy
from typing import Any


class EnvContext(dict[str, Any]):
    """The ``env_config`` as a dict, with the places of the runner and of the environment in it as attributes."""

    def __init__(
        self,
        env_config: dict[str, Any],
        worker_index: int,
        vector_index: int = 0,
        remote: bool = False,
        num_workers: int | None = None,
        recreated_worker: bool = False,
    ) -> None:
        super().__init__(env_config)
        self.worker_index = worker_index
        self.vector_index = vector_index
        self.remote = remote
        self.num_workers = num_workers
        self.recreated_worker = recreated_worker

    def copy_with_overrides(
        self,
        env_config: dict[str, Any] | None = None,
        worker_index: int | None = None,
        vector_index: int | None = None,
        remote: bool | None = None,
        num_workers: int | None = None,
        recreated_worker: bool | None = None,
    ) -> EnvContext:
        """An equal one, but for what is given."""

        def new(given: Any, own: Any) -> Any:
            return own if given is None else given

        return EnvContext(
            self if env_config is None else copy.deepcopy(env_config),
            new(worker_index, self.worker_index),
            new(vector_index, self.vector_index),
            new(remote, self.remote),
            new(num_workers, self.num_workers),
            new(recreated_worker, self.recreated_worker),
        )

    def __or__(self, other: Any) -> EnvContext:  # type: ignore[override]
        return self.copy_with_overrides({**self, **other})

    def set_defaults(self, defaults: dict[str, Any]) -> None:
        """Add settings that it does not have."""
        for key, value in defaults.items():
            self.setdefault(key, value)

    def __reduce__(self) -> tuple[Any, ...]:
        places = (self.worker_index, self.vector_index, self.remote, self.num_workers, self.recreated_worker)
        return EnvContext, (dict(self), *places)

    def __str__(self) -> str:
        where = f"worker={self.worker_index}/{self.num_workers}, vector_idx={self.vector_index}, remote={self.remote}"
        return f"{super().__str__()[:-1]}, {where}}}"
