"""The id of the one module, where programs find it."""

from hpc.rllib.core import DEFAULT_POLICY_ID as DEFAULT_POLICY_ID
