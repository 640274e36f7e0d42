"""What a service is told of its doors: where they are, by HTTP and by gRPC, and who may come in.

Names and defaults are Ray's, as in `hpc.serve.config`, which has them too.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from hpc.serve.checks import choice, number, whole


class ProxyLocation(str, enum.Enum):
    """Where the doors of HTTP are: nowhere, on the head's node, or on each node that has a replica."""

    Disabled = "Disabled"
    HeadOnly = "HeadOnly"
    EveryNode = "EveryNode"


class _NoHost(str):
    """The host of options that name none."""


class _NoPort(int):
    """The port of options that name none."""


def is_unsaid(value: Any) -> bool:
    """Whether it is the host or the port of options that name none: those are not written down."""
    return isinstance(value, (_NoHost, _NoPort))


@dataclass(kw_only=True)
class HTTPOptions:
    """Where and how HTTP is served.

    host, port: a door on TCP, only where one of them is given; the door is a socket of the user's own otherwise. host
    None: no door. location: which nodes have one. root_path: where a reverse proxy has put the service.
    request_timeout_s: a request that takes longer is answered 408. keep_alive_timeout_s: for connections that are idle.
    ssl_keyfile, ssl_certfile, ssl_keyfile_password, ssl_ca_certs: TLS. api_keys_file: a file with a key in each line,
    of which each request must have one. allowed_hosts: further names by which a door may be reached; "*" is any.
    rate_limit_per_s: requests of each key, or of each client. max_body_bytes: of a request. Ray's programs must not set
    middlewares, num_cpus and root_url.
    """

    host: str | None = _NoHost("127.0.0.1")
    port: int = _NoPort(8000)
    middlewares: list[Any] = field(default_factory=list)
    location: ProxyLocation | str | None = None
    num_cpus: int = 0
    root_url: str = ""
    root_path: str = ""
    request_timeout_s: float | None = None
    keep_alive_timeout_s: int = 90
    ssl_keyfile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile_password: str | None = None
    ssl_ca_certs: str | None = None
    api_keys_file: str | None = None
    allowed_hosts: list[str] = field(default_factory=list)
    rate_limit_per_s: float | None = None
    max_body_bytes: int | None = None

    def __post_init__(self) -> None:
        self.port = whole("HTTPOptions.port", self.port, 0, 65535)
        if self.host is None:
            self.location = ProxyLocation.Disabled
        elif self.location is not None:
            self.location = choice("HTTPOptions.location", ProxyLocation, self.location)
        if self.request_timeout_s is not None:
            number("HTTPOptions.request_timeout_s", self.request_timeout_s)
        number("HTTPOptions.keep_alive_timeout_s", self.keep_alive_timeout_s)
        if self.rate_limit_per_s is not None:
            number("HTTPOptions.rate_limit_per_s", self.rate_limit_per_s, above=True)
        if self.max_body_bytes is not None:
            self.max_body_bytes = whole("HTTPOptions.max_body_bytes", self.max_body_bytes, 1)
        if bool(self.ssl_keyfile) != bool(self.ssl_certfile):
            raise ValueError("HTTPOptions.ssl_keyfile and ssl_certfile are needed together")
        if self.middlewares or self.num_cpus or self.root_url:
            raise NotImplementedError(
                "HTTPOptions.middlewares, num_cpus and root_url are not supported: use middlewares of the ingress's "
                "application, and root_path"
            )

    @property
    def is_tcp(self) -> bool:
        """Whether a door on TCP was asked for, by a host or a port."""
        return self.host is not None and not (isinstance(self.host, _NoHost) and isinstance(self.port, _NoPort))


@dataclass(kw_only=True)
class gRPCOptions:
    """Where gRPC is served, and what is.

    grpc_servicer_functions: import paths of the generated functions ``add_...Servicer_to_server``; without any there is
    no gRPC. port: a door on TCP, only where it is given; the door is a socket of the user's own otherwise.
    request_timeout_s: a call that takes longer ends as DEADLINE_EXCEEDED. enable_reflection: clients may ask for the
    services. Host, keys, certificates and limits are those of `HTTPOptions`.
    """

    port: int = _NoPort(9000)
    grpc_servicer_functions: list[str] = field(default_factory=list)
    request_timeout_s: float | None = None
    enable_reflection: bool = True

    def __post_init__(self) -> None:
        self.port = whole("gRPCOptions.port", self.port, 0, 65535)
        if self.request_timeout_s is not None:
            number("gRPCOptions.request_timeout_s", self.request_timeout_s)

    @property
    def is_tcp(self) -> bool:
        """Whether a door on TCP was asked for."""
        return not isinstance(self.port, _NoPort)
