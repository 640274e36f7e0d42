"""Writes recorded_names.json: Ray's public names, and the names of the parameters of each that can be called.

recorded_defaults.json has the defaults of those of hyperparameter search.

    ../ray/bin/python tests/compat/names.py        with the interpreter of an environment that has Ray

test_public_names.py compares this package with it.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import types
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("recorded_names.json")
#: The defaults of the parameters of hyperparameter search that are numbers, texts, True, False or None.
DEFAULTS = Path(__file__).with_name("recorded_defaults.json")

MODULES = (
    "ray", "ray.actor", "ray.cluster_utils", "ray.exceptions", "ray.job_submission", "ray.runtime_context",
    "ray.runtime_env", "ray.util", "ray.util.metrics", "ray.util.multiprocessing", "ray.util.placement_group",
    "ray.util.queue", "ray.util.scheduling_strategies", "ray.util.state",
)  # fmt: skip
#: Those of hyperparameter search; a class is recorded with its members where it comes first.
TUNE = tuple(
    f"ray.tune{name}"
    for name in (
        "", ".tuner", ".tune_config", ".tune", ".trainable", ".trainable.trainable", ".trainable.function_trainable",
        ".trainable.util", ".context", ".result_grid", ".analysis", ".analysis.experiment_analysis", ".experiment",
        ".experiment.experiment", ".experiment.trial", ".execution.placement_groups", ".registry", ".error",
        ".result", ".resources", ".syncer", ".constants", ".search", ".search.sample", ".search.variant_generator",
        ".search.searcher", ".search.search_algorithm", ".search.search_generator", ".search.basic_variant",
        ".search.concurrency_limiter", ".search.repeater", ".search.optuna", ".search.bohb", ".search.hyperopt",
        ".search.ax", ".search.nevergrad", ".search.bayesopt", ".search.hebo", ".search.zoopt",
        ".search.optuna.optuna_search", ".search.bohb.bohb_search", ".search.hyperopt.hyperopt_search",
        ".search.ax.ax_search", ".search.nevergrad.nevergrad_search", ".search.bayesopt.bayesopt_search",
        ".search.hebo.hebo_search", ".search.zoopt.zoopt_search",
        ".schedulers", ".schedulers.trial_scheduler", ".schedulers.async_hyperband", ".schedulers.hyperband",
        ".schedulers.hb_bohb", ".schedulers.median_stopping_rule", ".schedulers.pbt", ".schedulers.pb2",
        ".schedulers.resource_changing_scheduler", ".stopper", ".stopper.stopper", ".stopper.experiment_plateau",
        ".stopper.function_stopper", ".stopper.maximum_iteration", ".stopper.noop", ".stopper.timeout",
        ".stopper.trial_plateau", ".callback", ".logger", ".logger.logger", ".logger.csv", ".logger.json",
        ".logger.tensorboardx", ".logger.wandb", ".logger.mlflow", ".logger.comet", ".logger.aim",
        ".progress_reporter", ".experimental.output", ".integration.ray_train", ".integration.keras",
        ".integration.lightgbm", ".integration.xgboost", ".integration.pytorch_lightning",
        ".utils", ".utils.log", ".utils.util", ".utils.mock", ".utils.mock_trainable",
        ".utils.file_transfer", ".utils.serialization",
    )
)  # fmt: skip
#: Libraries whose classes Ray's own modules extend: stood in for where absent.
EXTENDED = (
    "lightgbm", "lightgbm.basic", "lightgbm.callback", "xgboost", "xgboost.core", "xgboost.callback",
    "xgboost.collective", "lightning.pytorch", "tensorflow.keras", "tensorflow.keras.callbacks",
)  # fmt: skip


def parameters(value: Any) -> list[str] | None:
    """The names of the public parameters that have one, without self; None where that is not known."""
    try:
        found = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in found if p.kind in named and p.name != "self" and not p.name.startswith("_")]


def defaults(value: Any) -> dict[str, Any]:
    """The parameters of something that can be called whose defaults are plain values."""
    try:
        found = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return {}
    plain = (bool, int, float, str, type(None))
    return {p.name: p.default for p in found if isinstance(p.default, plain) and not p.name.startswith("_")}


def is_public(module: types.ModuleType, name: str, value: Any) -> bool:
    """Whether a user would take it for the module's: what it says so of, or what Ray itself has made."""
    if name.startswith("_"):
        return False
    if name in getattr(module, "__all__", ()):
        return True
    if hasattr(module, "__all__") and not isinstance(value, types.ModuleType):
        return False
    if isinstance(value, types.ModuleType):
        return value.__name__ == f"{module.__name__}.{name}" and hasattr(module, "__path__")
    return getattr(value, "__module__", None) == module.__name__


def members(cls: type) -> dict[str, list[str] | None]:
    """The public methods and attributes that the class has of its own."""
    return {
        name: parameters(getattr(cls, name)) if callable(getattr(cls, name)) else None
        for name in vars(cls)
        if not name.startswith("_")
    }


class Empty(type):
    """Of classes without anything, whose attributes are such classes."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return Empty(name, (), {})


class Absent(types.ModuleType):
    """A library that is not installed: each of its names is an empty class, so that others can extend it."""

    __getattr__ = Empty.__getattr__


def stand_in(names: tuple[str, ...]) -> None:
    """Put an empty module in the place of each that cannot be imported."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            parts = name.split(".")
            for cut in range(1, len(parts) + 1):
                module = sys.modules.setdefault(".".join(parts[:cut]), Absent(".".join(parts[:cut])))
                module.__path__ = []
                if cut > 1:
                    setattr(sys.modules[".".join(parts[: cut - 1])], parts[cut - 1], module)


def record() -> dict[str, list[str] | None]:
    names: dict[str, list[str] | None] = {}
    told: set[Any] = set()
    for module_name in (*MODULES, *TUNE):
        module = importlib.import_module(module_name)
        for name in sorted({*vars(module), *getattr(module, "__all__", ())}):
            try:
                value = getattr(module, name)
            except (AttributeError, ImportError, RuntimeError):  # named, and not there or not without other libraries
                continue
            if is_public(module, name, value):
                path = f"{module_name}.{name}"
                names[path] = parameters(value) if callable(value) else None
                if isinstance(value, type) and not issubclass(value, BaseException) and value not in told:
                    if module_name in TUNE:
                        told.add(value)
                    names.update({f"{path}.{member}": given for member, given in members(value).items()})
    return names


def record_defaults() -> dict[str, dict[str, Any]]:
    """Of each name of a module of hyperparameter search, and of the methods of its classes."""
    found: dict[str, dict[str, Any]] = {}
    for name in record():
        module, _, last = name.rpartition(".")
        owner, _, _ = module.rpartition(".")
        if module in TUNE:
            found[name] = defaults(getattr(importlib.import_module(module), last))
        elif owner in TUNE:
            cls = getattr(importlib.import_module(owner), module.rpartition(".")[2])
            found[name] = defaults(getattr(cls, last))
    return {name: given for name, given in found.items() if given}


if __name__ == "__main__":
    stand_in(EXTENDED)
    lines = [f"{json.dumps(name)}: {json.dumps(given)}" for name, given in sorted(record().items())]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    lines = [f"{json.dumps(name)}: {json.dumps(given)}" for name, given in sorted(record_defaults().items())]
    DEFAULTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
