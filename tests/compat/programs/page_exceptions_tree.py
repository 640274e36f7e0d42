"""The classes of exceptions and what they are."""

import hpc as ray

ray.init(num_cpus=2)

import hpc.exceptions as exceptions

names = [
    "RayError",
    "RayTaskError",
    "RayActorError",
    "ActorDiedError",
    "ActorUnavailableError",
    "GetTimeoutError",
    "TaskCancelledError",
    "WorkerCrashedError",
    "ObjectLostError",
    "ObjectStoreFullError",
    "OwnerDiedError",
    "ObjectReconstructionFailedError",
    "RuntimeEnvSetupError",
    "OutOfMemoryError",
    "TaskUnschedulableError",
    "ActorUnschedulableError",
    "PendingCallsLimitExceeded",
    "NodeDiedError",
    "RaySystemError",
]
for name in names:
    cls = getattr(exceptions, name)
    print(
        name,
        issubclass(cls, exceptions.RayError),
        issubclass(cls, exceptions.RayActorError),
        issubclass(cls, exceptions.ObjectLostError),
        issubclass(cls, TimeoutError),
        issubclass(cls, Exception),
    )
