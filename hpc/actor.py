"""The public names of actors, as Ray has them; `hpc.api.actors` makes them."""

from hpc.api.actors import (
    ActorClass,
    ActorClassInheritanceException,
    ActorHandle,
    ActorMethod,
    exit_actor,
    get_actor,
    kill,
    list_named_actors,
    method,
)

__all__ = [
    "ActorClass",
    "ActorClassInheritanceException",
    "ActorHandle",
    "ActorMethod",
    "exit_actor",
    "get_actor",
    "kill",
    "list_named_actors",
    "method",
]
