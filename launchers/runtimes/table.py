"""Which runtimes there are besides our own. Each is imported when it is asked for: others pay nothing for it."""

from __future__ import annotations

from hpc.launchers.runtimes.face import ClusterRuntime, RuntimeFault, missing

OWN, RAY, DASK, TORCHRUN, MPI = "hpc", "ray", "dask", "torchrun", "mpi"
#: The values of --runtime.
NAMES = (OWN, RAY, DASK, TORCHRUN, MPI)
CLUSTERS = (RAY, DASK)
#: Runtimes that run the user's program several times on each node.
GANGS = (TORCHRUN, MPI)


def cluster(name: str) -> ClusterRuntime:
    """The runtime with processes of its own."""
    if name == RAY:
        from hpc.launchers.runtimes.ray_cluster import RayCluster

        return RayCluster()
    from hpc.launchers.runtimes.dask_cluster import DaskCluster

    return DaskCluster()


def why_not(name: str) -> RuntimeFault | None:
    """Why this Python cannot start a runtime, if it cannot."""
    if name in CLUSTERS:
        found = cluster(name)
        return missing(found.module, found.title, found.installs)
    return missing("torch", "torchrun", "torch") if name == TORCHRUN else None
