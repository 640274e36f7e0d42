"""The family of the exceptions about objects and actors, as programs catch them."""

import hpc as ray

errors = ray.exceptions
for name in (
    "ActorDiedError",
    "ActorUnavailableError",
    "GetTimeoutError",
    "ObjectFetchTimedOutError",
    "ObjectFreedError",
    "ObjectLostError",
    "ObjectReconstructionFailedError",
    "OwnerDiedError",
    "RayActorError",
    "ReferenceCountingAssertionError",
    "TaskCancelledError",
    "WorkerCrashedError",
):
    kind = getattr(errors, name)
    bases = (errors.RayActorError, errors.ObjectLostError, errors.RayError, TimeoutError, AssertionError)
    print(name, [issubclass(kind, base) for base in bases])
