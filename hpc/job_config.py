"""The public name `JobConfig`: options of a job as one object, the way older programs hand them to `hpc.init`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class JobConfig:
    """What ``init(job_config=...)`` takes: a runtime environment and a namespace, unless init is given its own.

    metadata: strings that the program keeps here; they are sent nowhere. Raises NotImplementedError for options of
    other languages and for actors that are detached by default.
    """

    def __init__(
        self,
        jvm_options: list[str] | None = None,
        code_search_path: list[str] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        ray_namespace: str | None = None,
        default_actor_lifetime: str = "non_detached",
    ) -> None:
        if jvm_options or code_search_path:
            raise NotImplementedError("jvm_options and code_search_path are not supported: Python only")
        self.metadata = dict(metadata or {})
        self.ray_namespace = ray_namespace
        self.set_runtime_env(runtime_env)
        self.set_default_actor_lifetime(default_actor_lifetime)

    def set_metadata(self, key: str, value: str) -> None:
        """Keep a string under this key."""
        self.metadata[key] = value

    def set_runtime_env(self, runtime_env: Mapping[str, Any] | None) -> None:
        """Replace the runtime environment."""
        self.runtime_env = dict(runtime_env or {})

    def set_ray_namespace(self, ray_namespace: str) -> None:
        """Replace the namespace of actors' names."""
        self.ray_namespace = ray_namespace

    def set_default_actor_lifetime(self, default_actor_lifetime: str) -> None:
        """Only "non_detached". Raises NotImplementedError for "detached", ValueError for anything else."""
        if default_actor_lifetime == "detached":
            raise NotImplementedError('give lifetime="detached" to each actor that is to outlive its program')
        if default_actor_lifetime != "non_detached":
            raise ValueError(f'default_actor_lifetime must be "non_detached", not {default_actor_lifetime!r}')
        self.default_actor_lifetime = default_actor_lifetime


__all__ = ["JobConfig"]
