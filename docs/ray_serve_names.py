"""What becomes of Ray Serve's public names; docs/generate_serve.py makes the table in serve.md of it.

The names, their parameters and defaults are recorded by tests/compat/serve_names.py. A name without a remark is here
under the same path, with these parameters and defaults; tests/compat/test_serve_names.py holds that.
"""

from __future__ import annotations

OWN = "serves Ray's own code"
REST = "is of Ray's REST API: `serve.status()` and `hpc serve status` say it"
QUEUES = "is for a broker of tasks beside the service"

#: Names that exist and do less, or something else, than Ray's.
DIFFERS: dict[str, str] = {
    "ray.serve.HTTPOptions": "a door on TCP only where a host or port is given; `api_keys_file`, `allowed_hosts`, "
    "`rate_limit_per_s` and `max_body_bytes` are ours",
    "ray.serve.deployment": "`retry` is ours",
    "ray.serve.run": "the same code again restarts nothing: only what is another one changes",
    "ray.serve.config.gRPCOptions": "a door on TCP only where a port is given, and on this machine alone unless "
    "`HTTPOptions.host` says more",
    "ray.serve.config.AutoscalingConfig": "the delays hold for policies of users, too",
    "ray.serve.schema.DeploymentSchema": "has `name`, and the options that are given in `options`",
}

#: Names that do not exist, and why. One of a module or class holds for what is in it.
NO: dict[str, str] = {
    "ray.serve.TracingConfig": "the export of spans is an option of the session",
    "ray.serve.schema.TracingConfig": "the export of spans is an option of the session",
    "ray.serve.generated": OWN,
    "ray.serve.utils": OWN,
    "ray.serve.autoscaling_policy.PrometheusQueryMixin": "a policy is a function, and may ask whom it likes",
    "ray.serve.autoscaling_policy.PrometheusSample": "a policy is a function, and may ask whom it likes",
    "ray.serve.autoscaling_policy.PrometheusScalar": "a policy is a function, and may ask whom it likes",
    "ray.serve.autoscaling_policy.PrometheusVector": "a policy is a function, and may ask whom it likes",
    "ray.serve.schema.ReplicaRank": "is in `hpc.serve.context`",
    "ray.serve.schema.RayActorOptionsSchema": "`ray_actor_options` is a dict",
    **{
        f"ray.serve.schema.{name}": REST
        for name in (
            "ApplicationDetails", "AutoscalingMetricsHealth", "AutoscalingStatus", "ControllerHealthMetrics",
            "DeploymentAutoscalingDetail", "DeploymentDetails", "DeploymentNode", "DeploymentTopology", "DurationStats",
            "ProxyDetails", "ReplicaDetails", "ScaleDeploymentRequest", "ScalingDecision", "ServeActorDetails",
            "ServeInstanceDetails", "Target", "TargetGroup",
        )
    },
    **{
        f"ray.serve.schema.{name}": QUEUES
        for name in ("CeleryAdapterConfig", "TaskProcessorAdapter", "TaskProcessorConfig", "TaskResult")
    },
}  # fmt: skip

#: Classes that lack some of the methods and attributes that Ray's have, and why.
MEMBERS: dict[str, str] = {
    "ray.serve.Deployment": "Ray has removed versions",
    "ray.serve.handle.DeploymentHandle": "a router sends each request where it has chosen",
    "ray.serve.request_router.PendingRequest": OWN,
    "ray.serve.request_router.RequestRouter": OWN,
    "ray.serve.request_router.RunningReplica": OWN,
    "ray.serve.schema.APIType": OWN,
    "ray.serve.schema.ApplicationStatus": OWN,
    "ray.serve.schema.ProxyStatus": OWN,
}

MADE = "handles, responses and routers make them"
#: Parameters of names that exist which are not taken, and why.
NOT_TAKEN: dict[tuple[str, str], str] = {
    **{
        ("ray.serve.Deployment", word): "the decorator makes it"
        for word in ("deployment_config", "replica_config", "version")
    },
    **{("ray.serve.handle.DeploymentBroadcastResponse", word): MADE for word in ("coro", "loop")},
    **{("ray.serve.handle.DeploymentHandle", word): MADE for word in ("init_options", "handle_options")},
    **{
        (f"ray.serve.handle.{name}", word): MADE
        for name in ("DeploymentResponse", "DeploymentResponseGenerator")
        for word in ("replica_result_future", "request_metadata")
    },
    **{
        ("ray.serve.request_router.LocalityMixin", word): "the place of a router is known"
        for word in (
            "self_node_id", "prefer_local_node_routing", "prefer_local_az_routing", "self_availability_zone",
        )
    },
    **{("ray.serve.request_router.PendingRequest", word): MADE for word in ("future", "resolved")},
    ("ray.serve.request_router.ReplicaID.from_full_id_str", "s"): "is called `text`",
    ("ray.serve.request_router.ReplicaID.is_full_id_str", "s"): "is called `text`",
    ("ray.serve.request_router.RunningReplica", "replica_info"): MADE,
    **{
        ("ray.serve.schema.ServeApplicationSchema", word): "Ray has deprecated it: `http_options` of the file"
        for word in ("host", "port")
    },
    ("ray.serve.schema.ServeDeploySchema", "tracing_config"): "the export of spans is an option of the session",
}  # fmt: skip
NAMED = "is the same one by its place here"
#: Parameters with another default here, and why.
OTHER_DEFAULTS: dict[tuple[str, str], str] = {
    ("ray.serve.config.AutoscalingPolicy", "policy_function"): NAMED,
    ("ray.serve.config.RequestRouterConfig", "request_router_class"): NAMED,
    ("ray.serve.context.ReplicaContext", "code_version"): "is a text always",
    ("ray.serve.schema.HTTPOptionsSchema", "host"): "no door is open to other machines unless it is asked for",
}
