"""The room of an algorithm: a bundle for its process, and one for each of its actors."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import hpc
from hpc.tune.placement import PlacementGroupFactory

logger = logging.getLogger("hpc.rllib")


def room_of(config: Any, evaluation: Any | None) -> PlacementGroupFactory:
    """Bundles of the process, its env runners, those that evaluate, and its learners, in this order."""
    bundles = [main_bundle(config), *runner_bundles(config)]
    if evaluation is not None:
        bundles += runner_bundles(evaluation)
    return PlacementGroupFactory([*bundles, *learner_bundles(config)], strategy=config.placement_strategy)


def missing_of(config: Any, evaluation: Any | None, there: dict[str, float]) -> dict[str, tuple[float, float]]:
    """What an algorithm's actors ask for beyond what is there: by resource, both numbers."""
    asked: Counter[str] = Counter()
    evaluating = [] if evaluation is None else runner_bundles(evaluation)
    for bundle in [*runner_bundles(config), *evaluating, *(learner_bundles(config) if config.num_learners else [])]:
        asked.update(bundle)
    return {name: (much, there.get(name, 0.0)) for name, much in asked.items() if much > there.get(name, 0.0) + 1e-6}


def warn_of_room(config: Any, evaluation: Any | None) -> None:
    """Warn of actors that the session has no room for as it is: those that come last would be waited for."""
    for name, (much, there) in missing_of(config, evaluation, hpc.cluster_resources()).items():
        logger.warning(
            "the env runners and learners ask for %g %s in all, and the session has %g: without more, the last ones "
            "are waited for. Ask for fewer, or for less by num_cpus_per_env_runner and num_cpus_per_learner",
            much,
            name,
            there,
        )


def main_bundle(config: Any) -> dict[str, float]:
    """Of the algorithm's process, which has the learner, too, where there are no learners of their own."""
    cpus, gpus = config.num_cpus_for_main_process, 0.0
    if config.num_learners == 0:
        cpus, gpus = max(cpus, learner_cpus(config)), config.num_gpus_per_learner
    return _some({"CPU": cpus, "GPU": gpus, **config.custom_resources_for_main_process})


def runner_bundles(config: Any) -> list[dict[str, float]]:
    """Of env runners."""
    one = {"CPU": config.num_cpus_per_env_runner, "GPU": config.num_gpus_per_env_runner}
    return [_some({**one, **config.custom_resources_per_env_runner}) for _ in range(config.num_env_runners)]


def learner_bundles(config: Any) -> list[dict[str, float]]:
    """Of learners."""
    one = {"CPU": learner_cpus(config), "GPU": config.num_gpus_per_learner}
    return [_some({**one, **config.custom_resources_per_learner}) for _ in range(config.num_learners)]


def learner_cpus(config: Any) -> float:
    """CPUs of one learner; "auto": 1, and none beside a GPU."""
    cpus = config.num_cpus_per_learner
    if isinstance(cpus, str):
        return 0.0 if config.num_gpus_per_learner else 1.0
    return cpus


def _some(bundle: dict[str, Any]) -> dict[str, float]:
    return {name: float(amount) for name, amount in bundle.items() if amount}
