"""The connectors between experience and learner."""

from hpc.rllib.connectors.connector_pipeline_v2 import ConnectorPipelineV2


class LearnerConnectorPipeline(ConnectorPipelineV2):
    """Make the learner's batch of episodes."""
