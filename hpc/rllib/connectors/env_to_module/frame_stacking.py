"""The last frames as one observation, between environment and module."""

from functools import partial

from hpc.rllib.connectors.common.frame_stacking import FrameStacking

FrameStackingEnvToModule = partial(FrameStacking, as_learner_connector=False)
