"""Routes of FastAPI that are methods of a deployment: ``self`` becomes a dependency, which is the replica's object.

FastAPI looks at an endpoint's signature when a route is made. So the route of a method is made anew, with the same
options and in its place, when the signature's ``self`` is a dependency. The idea is that of fastapi-utils' views.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from hpc.serve.context import get_replica_context
from hpc.serve.exceptions import RayServeException


async def _servable() -> Any:
    """The object whose methods are routes."""
    return get_replica_context().servable_object


def make_class_based_view(app: Any, cls: type) -> None:
    """Have an application call the methods of ``cls``, or of its bases, that are its routes, with the replica's object.
    Routes that are methods of other deployments are taken out."""
    bases = [base for base in cls.__mro__ if base is not object]
    for route, router in list(_routes(app)):
        name = route.endpoint.__qualname__
        owner = getattr(route.endpoint, "_hpc_view_of", None)
        if any(name.startswith(f"{base.__qualname__}.") for base in bases):
            _inject(route.endpoint)
            route.endpoint._hpc_view_of = cls
            router.routes[router.routes.index(route)] = _anew(route)
        elif owner is not None and owner is not cls:
            router.routes.remove(route)
        else:
            continue
        if hasattr(router, "_mark_routes_changed"):
            router._mark_routes_changed()


def _inject(endpoint: Any) -> None:
    """Make the first parameter of a method the object of the replica, and the others keywords."""
    from fastapi import Depends

    signature = inspect.signature(endpoint)
    parameters = list(signature.parameters.values())
    if not parameters:
        raise RayServeException("Methods in FastAPI class-based view must have ``self`` as their first argument.")
    first = parameters[0].replace(default=Depends(_servable))
    others = [
        one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters[1:] if one.kind is not one.VAR_KEYWORD
    ]
    endpoint.__signature__ = signature.replace(parameters=[first, *others])


def _routes(router: Any) -> Iterator[tuple[Any, Any]]:
    """Each route of FastAPI with the router that has it.

    From 0.137 on a router that is included stays one, as a node of the other's routes."""
    from fastapi.routing import APIRoute, APIWebSocketRoute

    router = getattr(router, "router", router)
    for route in router.routes:
        if isinstance(route, (APIRoute, APIWebSocketRoute)):
            yield route, router
        elif hasattr(route, "original_router"):
            yield from _routes(route.original_router)


def _anew(route: Any) -> Any:
    """The same route, made again by its class: what its attributes are called is what its constructor takes."""
    taken = inspect.signature(type(route).__init__).parameters
    options = {
        name: getattr(route, name)
        for name in taken
        if name not in ("self", "path", "endpoint") and hasattr(route, name)
    }
    return type(route)(route.path, route.endpoint, **options)
