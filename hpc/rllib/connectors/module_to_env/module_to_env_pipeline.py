"""The connectors between module and environment."""

from hpc.rllib.connectors.connector_pipeline_v2 import ConnectorPipelineV2


class ModuleToEnvPipeline(ConnectorPipelineV2):
    """Make the environments' actions of what the module gave."""
