"""The value of keywords that were not given, where programs find it."""

from hpc.rllib.algorithms.config.given import NotProvided as NotProvided
