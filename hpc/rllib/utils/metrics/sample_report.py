"""What samples say, written into a MetricsLogger under the keys of results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hpc.rllib.core import DEFAULT_AGENT_ID
from hpc.rllib.utils import metrics as keys
from hpc.rllib.utils.metrics.metrics_logger import MetricsLogger
from hpc.rllib.utils.metrics.stats import SmoothedStats

if TYPE_CHECKING:
    from hpc.rllib.env.fragment import EpisodeRecord, Sample

#: Under which keys the returns of agents and modules are: those of one agent, and those of several.
_ONE = ("agent_episode_return_mean", "module_episode_return_mean")
_SEVERAL = (keys.EPISODE_AGENT_RETURN_MEAN, keys.EPISODE_MODULE_RETURN_MEAN)


class SampleReport:
    """Writes what samples say into a MetricsLogger, under "env_runners" (and what is above it).

    window: over how many of the latest episodes means go. above: keys above "env_runners".
    """

    def __init__(self, metrics: MetricsLogger, window: int, several: bool, above: tuple[str, ...] = ()) -> None:
        self._metrics = metrics
        self._window = window
        self._above = (*above, keys.ENV_RUNNER_RESULTS)
        self._agents, self._modules = _SEVERAL if several else _ONE

    def write(self, samples: Iterable[Sample]) -> None:
        """Take what these samples say."""
        for sample in samples:
            self._steps(sample)
            for record in sample.episodes:
                self._episode(record)
            if sample.metrics:
                self._metrics.aggregate([sample.metrics], key=self._above)

    def expect(self) -> None:
        """Have the keys of episodes in the results, as NaN, also when no episode has ended so far."""
        for name, how in _EPISODE_KEYS:
            self._metrics.log_time((*self._above, name), reduce="smoothed", window=self._window, how=how)
        self._sum(keys.NUM_EPISODES, 0)

    def resume(self) -> None:
        """After a restore: means go over as many episodes as the configuration says now."""
        for stats in self._metrics.all_stats():
            if isinstance(stats, SmoothedStats):
                stats.window = self._window

    def _steps(self, sample: Sample) -> None:
        agents = sample.agent_steps or {DEFAULT_AGENT_ID: sample.env_steps}
        self._sum(keys.NUM_ENV_STEPS_SAMPLED, sample.env_steps, throughput=True)
        for name, steps in agents.items():
            self._sum(keys.NUM_AGENT_STEPS_SAMPLED, steps, str(name))
        for name, steps in (sample.module_steps or {}).items():
            self._sum(keys.NUM_MODULE_STEPS_SAMPLED, steps, name)
        self._log((keys.SAMPLE_TIMER,), sample.seconds, reduce="ema")
        self._log((keys.WEIGHTS_SEQ_NO,), sample.version, reduce="mean")
        for name, value in sample.timers.items():
            self._log((name,), value, reduce="ema")
        for name, count in sample.faults.items():
            self._sum(name.removesuffix("_lifetime"), count)

    def _episode(self, record: EpisodeRecord) -> None:
        self._sum(keys.NUM_EPISODES, 1)
        values = {"return": record.episode_return, "len": record.length, "duration": record.seconds}
        for name, how in _EPISODE_KEYS:
            self._smooth((name,), values[name.split("_")[1]], how)
        for agent, value in record.agents.items():
            self._smooth((self._agents, str(agent)), value)
        for module, value in record.modules.items():
            self._smooth((self._modules, module), value)
        for agent, steps in record.agent_steps.items() if self._agents in _SEVERAL else ():
            self._smooth((keys.EPISODE_AGENT_STEPS, str(agent)), steps)

    def _sum(self, name: str, value: Any, within: str | None = None, *, throughput: bool = False) -> None:
        """Count under a key for this iteration, and under another one for the whole life."""
        rest = () if within is None else (within,)
        self._log((name, *rest), value, reduce="sum")
        self._log((f"{name}_lifetime", *rest), value, reduce="lifetime_sum", with_throughput=throughput)

    def _smooth(self, path: tuple[str, ...], value: float, how: str = "mean") -> None:
        self._log(path, value, reduce="smoothed", window=self._window, how=how)

    def _log(self, path: tuple[str, ...], value: Any, **how: Any) -> None:
        self._metrics.log_value((*self._above, *path), value, **how)


_EPISODE_KEYS = (
    (keys.EPISODE_RETURN_MEAN, "mean"),
    (keys.EPISODE_RETURN_MIN, "min"),
    (keys.EPISODE_RETURN_MAX, "max"),
    (keys.EPISODE_LEN_MEAN, "mean"),
    (keys.EPISODE_LEN_MIN, "min"),
    (keys.EPISODE_LEN_MAX, "max"),
    (keys.EPISODE_DURATION_SEC_MEAN, "mean"),
)
