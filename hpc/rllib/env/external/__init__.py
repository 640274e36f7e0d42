"""Environments outside of the runners: they connect by TCP, act by themselves, and send episodes."""

from hpc.rllib.env.external.rllink import RLlink, get_rllink_message, send_rllink_message

__all__ = ["RLlink", "get_rllink_message", "send_rllink_message"]
