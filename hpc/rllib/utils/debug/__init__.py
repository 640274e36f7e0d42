"""The seeds of all generators of this process."""

from hpc.rllib.utils.debug.deterministic import update_global_seed_if_necessary as update_global_seed_if_necessary
