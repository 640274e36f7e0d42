"""This machine as a source of nodes: always there, and it takes no jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from hpc.launchers.scheduler import Allocation

if TYPE_CHECKING:
    from hpc.launchers.local.group import LocalGroup
    from hpc.launchers.node_group import Surroundings


class Local:
    """The part of the face that this machine has."""

    name: ClassVar[str] = "local"
    title: ClassVar[str] = "This machine"

    def here(self, env: Mapping[str, str]) -> Allocation | None:
        return None

    def configured(self, env: Mapping[str, str]) -> bool:
        return False

    def group(
        self,
        alloc: Allocation | None,
        nodes: int | None = None,
        *,
        fork: bool = False,
        step_args: Sequence[str] = (),
        base_dir: str | None = None,
        around: Surroundings | None = None,
    ) -> LocalGroup:
        from hpc.launchers.local.group import LocalGroup

        return LocalGroup(nodes or 1, fork=fork, around=around)
