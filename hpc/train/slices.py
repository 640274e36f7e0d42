"""Slices of TPUs for the ranks of a run: how many there are, and whole ones taken."""

from __future__ import annotations

from hpc import spi
from hpc.runs.reservation import NoRoom, Request, Reservation
from hpc.train.config import ScalingConfig
from hpc.util.tpu import SlicePlacementGroup, get_num_ready_tpu_slices, get_num_tpu_slices, get_tpu_version_from_type


class Slices:
    """For one run, whose workers fill whole slices. ``each``: the workers of one."""

    def __init__(self, scaling: ScalingConfig) -> None:
        self.each = scaling.workers_per_slice
        self._topology, self._kind = str(scaling.topology), str(scaling.accelerator_type)

    def check_possible(self, request: Request) -> None:
        """Raise NoRoom for more workers than there are slices for, idle or not, where no further nodes may join."""
        there = get_num_tpu_slices(self._topology, self._kind)
        if there * self.each < request.count and not spi.may_grow():
            wanted = request.count // self.each
            raise NoRoom(
                f"there will never be room for {request}: there are {there} whole slices {self._kind} "
                f"{self._topology}, and {wanted} are needed"
            )

    def idle_workers(self) -> int:
        """How many workers have room on slices that nobody uses."""
        return self.each * get_num_ready_tpu_slices(self._topology, self._kind)

    def take(self, request: Request, timeout_s: float) -> Reservation | None:
        """Slices for these workers, all or none; None where they are not free in time."""
        try:
            slices = SlicePlacementGroup(
                self._topology,
                get_tpu_version_from_type(self._kind),
                dict(request.each),
                request.strategy,
                num_slices=request.count // self.each,
                head_reservation_timeout_s=timeout_s,
            )
        except TimeoutError:
            return None
        return Reservation.of_slices(request, slices)
