"""What becomes of values that are logged under one key: their mean, sum, maximum, and so on."""

from hpc.rllib.utils.metrics.stats.base import StatsBase as StatsBase
from hpc.rllib.utils.metrics.stats.series import ItemSeriesStats as ItemSeriesStats
from hpc.rllib.utils.metrics.stats.series import MaxStats as MaxStats
from hpc.rllib.utils.metrics.stats.series import MeanStats as MeanStats
from hpc.rllib.utils.metrics.stats.series import MinStats as MinStats
from hpc.rllib.utils.metrics.stats.series import PercentilesStats as PercentilesStats
from hpc.rllib.utils.metrics.stats.series import SeriesStats as SeriesStats
from hpc.rllib.utils.metrics.stats.series import SumStats as SumStats
from hpc.rllib.utils.metrics.stats.single import EmaStats as EmaStats
from hpc.rllib.utils.metrics.stats.single import ItemStats as ItemStats
from hpc.rllib.utils.metrics.stats.single import LifetimeSumStats as LifetimeSumStats
from hpc.rllib.utils.metrics.stats.smoothed import SmoothedStats as SmoothedStats

#: The classes by the names that ``log_value(reduce=..)`` takes.
DEFAULT_STATS_CLS_LOOKUP: dict[str, type] = {
    kind.stats_cls_identifier: kind
    for kind in (
        MeanStats,
        EmaStats,
        MinStats,
        MaxStats,
        SumStats,
        LifetimeSumStats,
        PercentilesStats,
        ItemStats,
        ItemSeriesStats,
    )
}
