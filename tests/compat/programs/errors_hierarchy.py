"""Every class of ray.exceptions and its bases."""

import hpc as ray

ray.init(num_cpus=2)
E = ray.exceptions
import builtins  # noqa: E402

for name in (
    "ActorAlreadyExistsError ActorDiedError ActorHandleNotFoundError ActorPlacementGroupRemoved ActorUnavailableError "
    "ActorUnschedulableError AsyncioActorExit AuthenticationError CrossLanguageError GetTimeoutError LocalRayletDiedError "  # noqa: E501
    "NodeDiedError ObjectFetchTimedOutError ObjectFreedError ObjectLostError ObjectReconstructionFailedError "
    "ObjectRefStreamEndOfStreamError ObjectStoreFullError OufOfBandObjectRefSerializationException OutOfDiskError "
    "OutOfMemoryError OwnerDiedError PendingCallsLimitExceeded PlasmaObjectNotAvailable RayActorError "
    "RayCgraphCapacityExceeded RayChannelError RayChannelTimeoutError RayDirectTransportError RayError RaySystemError "
    "RayTaskError ReferenceCountingAssertionError RpcError RuntimeEnvSetupError StreamingGeneratorReplayInconsistentError "  # noqa: E501
    "TaskCancelledError TaskPlacementGroupRemoved TaskUnschedulableError UnserializableException UserCodeException "
    "WorkerCrashedError"
).split():
    kind = getattr(E, name)
    of = [
        base
        for base in ("RayError", "RayActorError", "RaySystemError", "ObjectLostError")
        if issubclass(kind, getattr(E, base))
    ]
    print(
        name,
        of,
        [
            base
            for base in ("ValueError", "TimeoutError", "AssertionError")
            if issubclass(kind, getattr(builtins, base))
        ],
    )
