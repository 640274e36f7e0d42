"""The error of environments, where programs find it."""

from hpc.rllib.env.env_errors import EnvError as EnvError
