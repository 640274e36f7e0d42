"""The last frames as one observation, on the way to the learner."""

from functools import partial

from hpc.rllib.connectors.common.frame_stacking import FrameStacking

FrameStackingLearner = partial(FrameStacking, as_learner_connector=True)
