"""Backends of one's own, where Ray has this."""

from hpc.collective import register_collective_backend

__all__ = ["register_collective_backend"]
