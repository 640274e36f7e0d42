"""The room of an algorithm: a bundle for its process, and one for each of its actors."""

from __future__ import annotations

from typing import Any

from hpc.tune.placement import PlacementGroupFactory


def room_of(config: Any, evaluation: Any | None) -> PlacementGroupFactory:
    """Bundles of the process, its env runners, those that evaluate, and its learners, in this order."""
    bundles = [main_bundle(config), *runner_bundles(config)]
    if evaluation is not None:
        bundles += runner_bundles(evaluation)
    return PlacementGroupFactory([*bundles, *learner_bundles(config)], strategy=config.placement_strategy)


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
