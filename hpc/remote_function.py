"""The public name of the class behind `hpc.remote`, as Ray has it; `hpc.api.functions` makes it."""

from hpc.api.functions import RemoteFunction

__all__ = ["RemoteFunction"]
