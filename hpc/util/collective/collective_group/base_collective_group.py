"""The base of backends of one's own, where Ray has it."""

from hpc.collective import BaseGroup

__all__ = ["BaseGroup"]
