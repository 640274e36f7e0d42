"""Groups of agents that are one agent each."""

from hpc.rllib.env.multi_agent_env import GroupAgentsWrapper

__all__ = ["GroupAgentsWrapper"]
