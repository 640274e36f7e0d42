"""The id of the one module, and names of columns, where older programs find them."""

from hpc.rllib.core import DEFAULT_POLICY_ID as DEFAULT_POLICY_ID
from hpc.rllib.core.columns import Columns


class SampleBatch(Columns):
    """The names of columns. Batches themselves are dicts."""
