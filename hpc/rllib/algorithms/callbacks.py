"""Callbacks, where programs of RLlib's older versions find them."""

from hpc.rllib.callbacks.callbacks import DefaultCallbacks as DefaultCallbacks
from hpc.rllib.callbacks.callbacks import RLlibCallback as RLlibCallback
