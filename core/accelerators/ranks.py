"""Which GPUs a rank sees: those of all ranks of its node, so that they reach each other's memory directly."""

from __future__ import annotations

from collections.abc import Container, MutableMapping, Sequence

from hpc.core.accelerators import table
from hpc.core.accelerators.base import Device

#: Instances of divided GPUs: a process of CUDA's has one of them, and none reaches another's memory.
ALONE = "MIG-"


def show_to_rank(
    resource: str,
    visible: Sequence[str],
    own: Sequence[str],
    devices: Sequence[Device],
    environ: MutableMapping[str, str],
    kept: Container[str] = (),
) -> tuple[str, ...]:
    """Make these devices visible, in this order; which are visible then. An instance that has to be alone is visible
    alone. kept: variables that the user has set, which stay as they are."""
    seen = tuple(own if any(ident.startswith(ALONE) for ident in own) else visible)
    vendor = table.vendor_of(resource, devices)
    if vendor.variable not in kept:
        vendor.show(seen, devices, environ)
    return vendor.granted(environ) or seen  # its user may have forbidden to set it


def numbers_of(own: Sequence[str], visible: Sequence[str]) -> tuple[int, ...]:
    """By which numbers libraries know a process's own devices among those that are visible. Raises ValueError for one
    that is not among them."""
    missing = [ident for ident in own if ident not in visible]
    if missing:
        raise ValueError(
            f"device {', '.join(missing)} of this process is not among those that are visible: {', '.join(visible)}"
        )
    return tuple(visible.index(ident) for ident in own)
