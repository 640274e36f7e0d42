"""The configuration of an algorithm: settings by groups, checks, and what is built from them."""

from __future__ import annotations

import copy
import difflib
import enum
import logging
from typing import TYPE_CHECKING, Any

from hpc.rllib.algorithms.config.building import Building
from hpc.rllib.algorithms.config.checks import check_all, value_error
from hpc.rllib.algorithms.config.given import NotProvided, is_search
from hpc.rllib.algorithms.config.judging import JudgingSections
from hpc.rllib.algorithms.config.learning import LearningSections
from hpc.rllib.algorithms.config.modules import Modules
from hpc.rllib.algorithms.config.offline import OfflineSection
from hpc.rllib.algorithms.config.old import OLD_DEFAULTS, OLD_KEYWORDS, OLD_METHODS, RENAMED_KEYWORDS
from hpc.rllib.algorithms.config.sampling import SamplingSections
from hpc.rllib.core import DEFAULT_MODULE_ID

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger(__name__)
#: Keywords of setters, and the attributes that have their values.
_ATTRIBUTES = {
    "env_to_module_connector": "_env_to_module_connector",
    "module_to_env_connector": "_module_to_env_connector",
    "learner_connector": "_learner_connector",
    "learner_class": "_learner_class",
    "model_config": "_model_config",
    "rl_module_spec": "_rl_module_spec",
    "train_batch_size_per_learner": "_train_batch_size_per_learner",
    "is_atari": "_is_atari",
    "framework": "framework_str",
}
#: Keys of dicts that stand for attributes of another name.
_KEYS = {
    "callbacks": "callbacks_class",
    "custom_eval_function": "custom_evaluation_function",
    "framework": "framework_str",
    "input": "input_",
    "lambda": "lambda_",
}
_NAMES = {attribute: key for key, attribute in _KEYS.items()}
_NOT_IN_DICTS = ("algo_class", "_is_frozen")
#: Configurations of single modules as they were last put together: no setting, and made anew when one changes.
_KEPT = "_per_module_overrides"
#: What dicts of RLlib have for names that settings had before.
_DEPRECATED_VALUE = -1
#: What hpc.tune puts beside the settings of a trial.
_TRIAL_INFO = "__trial_info__"


class TorchCompileWhatToCompile(str, enum.Enum):
    """What torch compiles of a learner's update."""

    COMPLETE_UPDATE = "complete_update"
    FORWARD_TRAIN = "forward_train"


class AlgorithmConfig(SamplingSections, LearningSections, JudgingSections, OfflineSection, Modules, Building):
    """Settings by groups: ``PPOConfig().environment("CartPole-v1").training(lr=0.001)``; then ``build_algo()``.

    Each setter returns the configuration itself. Values that a Tuner is to choose may stand anywhere. Used as a dict it
    has the same values: ``config["lr"]``.
    """

    def __init__(self, algo_class: Any = None) -> None:
        self.algo_class = algo_class
        self._is_frozen = False
        self._sampling_defaults()
        self._learning_defaults()
        self._judging_defaults()
        self._offline_defaults()

    # copies

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any]) -> Self:
        """A configuration of this class with these values over its defaults."""
        return cls().update_from_dict(config_dict)

    @classmethod
    def overrides(cls, **kwargs: Any) -> dict[str, Any]:
        """These settings as a dict, for evaluation_config or single modules. Raises KeyError for unknown names."""
        default = cls()
        for key in kwargs:
            if key not in default:
                raise KeyError(f"Invalid property name {key} for config class {cls.__name__}!{_near(key, default)}")
        return {_attribute(key): value for key, value in kwargs.items()}

    def copy(self, copy_frozen: bool | None = None) -> Self:
        """A deep copy. copy_frozen: whether it is frozen; None: as this one is."""
        made = copy.deepcopy(self)
        vars(made)[_KEPT] = {}
        if copy_frozen is True:
            made.freeze()
        elif copy_frozen is False:
            object.__setattr__(made, "_is_frozen", False)
            if isinstance(made.evaluation_config, AlgorithmConfig):
                object.__setattr__(made.evaluation_config, "_is_frozen", False)
        return made

    def freeze(self) -> None:
        """From now on no setting can be changed."""
        if self._is_frozen:
            return
        if isinstance(self.evaluation_config, AlgorithmConfig):
            self.evaluation_config.freeze()
        self._is_frozen = True

    def validate(self) -> None:
        """Check that all settings are valid, and fit to each other. Raises ValueError with what to change."""
        if self._validate_config:
            check_all(self)

    def to_dict(self) -> dict[str, Any]:
        """All settings by their names; from_dict and a Tuner's param_space take them."""
        found = {key: copy.deepcopy(value) for key, value in vars(self).items() if key not in (*_NOT_IN_DICTS, _KEPT)}
        found[_KEPT] = {}
        for attribute, key in _NAMES.items():
            if attribute in found:
                found[key] = found.pop(attribute)
        found["policies"] = {
            key: spec.get_state() if hasattr(spec, "get_state") else spec for key, spec in self.policies.items()
        }
        return found

    def update_from_dict(self, config_dict: dict[str, Any]) -> Self:
        """Put these values over those that are there.

        Settings of the old API stack are taken with their default only. Raises ValueError for other values of them.
        What is no setting is kept for programs that read it, with a warning.
        """
        for key, value in config_dict.items():
            if key not in (*_NOT_IN_DICTS, _TRIAL_INFO, "class"):
                self._update(_attribute(key), value)
        return self

    def _update(self, key: str, value: Any) -> None:
        if key in OLD_KEYWORDS and key not in vars(self):
            _need_default(key, value)
        elif key == "multiagent":
            self.multi_agent(**value)
        elif key == "policies":
            self.multi_agent(policies=value)
        elif key == "callbacks_class":
            self.callbacks(callbacks_class=_resolved(value))
        elif key == "env_config":
            self.environment(env_config=value)
        elif key == "evaluation_config" and isinstance(value, dict):
            self.evaluation(evaluation_config=value)
        elif key == "framework_str":
            self.framework(value)
        elif key in RENAMED_KEYWORDS and key not in vars(self):
            if value != _DEPRECATED_VALUE:
                where, name = RENAMED_KEYWORDS[key]
                getattr(self, where)(**{name: value})
        else:
            if not hasattr(self, key):
                logger.warning(
                    "%s has no setting %r, so nothing here reads it.%s", type(self).__name__, key, _near(key, self)
                )
            setattr(self, key, value)

    # state and text

    def get_state(self) -> dict[str, Any]:
        """All settings, and the class, for a checkpoint."""
        state = {key: value for key, value in vars(self).items() if key not in _NOT_IN_DICTS}
        return {**state, _KEPT: {}, "class": type(self)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Any:
        """The configuration from what get_state has said; settings that came later have their defaults."""
        made = state["class"]()
        vars(made).update({key: value for key, value in state.items() if key != "class"})
        return made

    def serialize(self) -> dict[str, Any]:
        """All settings as JSON has them: classes and functions by their paths, other objects as text."""
        from hpc.rllib.utils.serialization import jsonable

        return {key: jsonable(value) for key, value in self.to_dict().items()}

    # setting

    def _take(self, given: dict[str, Any]) -> Self:
        vars(self).get(_KEPT, {}).clear()
        for key, value in given.items():
            if value is not NotProvided and key not in ("self", "__class__"):
                setattr(self, _ATTRIBUTES.get(key, key), value)
        return self

    def __setattr__(self, key: str, value: Any) -> None:
        if vars(self).get("_is_frozen"):
            raise AttributeError(
                f"Cannot set attribute ({key}) of an already frozen AlgorithmConfig! Use config.copy(copy_frozen=False)"
            )
        if key not in vars(self) and type(self).__module__.startswith("hpc.rllib."):
            if key in OLD_KEYWORDS:
                _need_default(key, value)
            if key in RENAMED_KEYWORDS and not hasattr(type(self), key):
                key = RENAMED_KEYWORDS[key][1]
        vars(self).get(_KEPT, {}).clear()
        super().__setattr__("_rl_module_spec" if key == "rl_module_spec" else key, value)

    def __getattr__(self, key: str) -> Any:
        if key in OLD_DEFAULTS:
            return copy.deepcopy(OLD_DEFAULTS[key])
        if key in RENAMED_KEYWORDS:
            return getattr(self, RENAMED_KEYWORDS[key][1])
        if key in OLD_METHODS:
            raise AttributeError(f"config.{key}(..) is of RLlib's old versions: use config.{OLD_METHODS[key]}(..)")
        raise AttributeError(f"{type(self).__name__} has no setting {key!r}{_near(key, self)}")

    def _value_error(self, message: str) -> None:
        """Raise ValueError with how to do without the check; where checks are off, warn."""
        value_error(self, message)

    # as a dict

    def __getitem__(self, key: str) -> Any:
        return getattr(self, _attribute(key))

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "multiagent":
            raise AttributeError("Cannot set `multiagent` key in an AlgorithmConfig! Use config.multi_agent(..)")
        setattr(self, _attribute(key), value)

    def __contains__(self, key: str) -> bool:
        return hasattr(self, _attribute(key))

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a setting, or default."""
        return getattr(self, _attribute(key), default)

    def pop(self, key: str, default: Any = None) -> Any:
        """The value of a setting, or default; it stays."""
        return self.get(key, default)

    def keys(self) -> Any:
        """The names of all settings."""
        return self.to_dict().keys()

    def values(self) -> Any:
        """The values of all settings."""
        return self.to_dict().values()

    def items(self) -> Any:
        """Names and values of all settings."""
        return self.to_dict().items()

    # what follows from settings

    @property
    def is_atari(self) -> bool:
        """Whether the environment is one of ale-py; ``environment(is_atari=..)`` says it for others."""
        if self._is_atari is None:
            return isinstance(self.env, str) and (self.env.startswith(("ALE/", "ale_py:")) or "NoFrameskip" in self.env)
        return self._is_atari

    @property
    def is_multi_agent(self) -> bool:
        """Whether there is another module than the default one."""
        return len(self.policies) > 1 or DEFAULT_MODULE_ID not in self.policies

    @property
    def is_online(self) -> bool:
        """Whether environments give the data."""
        return self._is_online

    @property
    def is_offline(self) -> bool:
        """Whether data come from files."""
        first = self.input_[0] if isinstance(self.input_, list) and self.input_ else self.input_
        return isinstance(first, str) and first not in ("", "sampler")

    @property
    def train_batch_size_per_learner(self) -> int:
        """Rows that each learner takes for one update."""
        if self._train_batch_size_per_learner is None:
            if self.train_batch_size is None:
                raise ValueError(
                    "Both `train_batch_size` and `train_batch_size_per_learner` are None! You must specify at least "
                    "one of them in your config."
                )
            return self.train_batch_size // (self.num_learners or 1)
        return self._train_batch_size_per_learner

    @train_batch_size_per_learner.setter
    def train_batch_size_per_learner(self, value: int | None) -> None:
        self._train_batch_size_per_learner = value

    @property
    def total_train_batch_size(self) -> int:
        """Rows that all learners together take for one update."""
        return self.train_batch_size_per_learner * (self.num_learners or 1)

    def get_rollout_fragment_length(self, worker_index: int = 0) -> int:
        """Rows of each environment in one sample of this runner; "auto": so many that all give one train batch."""
        length = self.rollout_fragment_length
        if length != "auto":
            return int(length)
        columns = self.num_envs_per_env_runner * (self.num_env_runners or 1)
        whole, rest = divmod(self.total_train_batch_size, columns)
        return whole + 1 if rest and (worker_index - 1) * self.num_envs_per_env_runner < rest else whole or 1

    def get_evaluation_config_object(self) -> Any:
        """The configuration of env runners that evaluate: this one with evaluation_config over it."""
        if self.in_evaluation:
            return None
        if isinstance(self.evaluation_config, AlgorithmConfig):
            made = self.evaluation_config.copy(copy_frozen=False)
        else:
            made = self.copy(copy_frozen=False)
            made.evaluation_config = None
            made.update_from_dict(self.evaluation_config or {})
        made.in_evaluation = True
        made.evaluation_config = None
        made.num_env_runners = self.evaluation_num_env_runners
        episodes = self.evaluation_duration_unit == "episodes"
        made.batch_mode = "complete_episodes" if episodes else "truncate_episodes"
        made.rollout_fragment_length = 1 if episodes else self._evaluation_rows()
        return made

    def _evaluation_rows(self) -> int:
        if isinstance(self.evaluation_duration, str):
            return 100
        return -(-self.evaluation_duration // (self.evaluation_num_env_runners or 1))

    def get_config_for_module(self, module_id: str) -> Self:
        """The configuration with this module's own settings over it."""
        overrides = self.algorithm_config_overrides_per_module.get(module_id)
        named = getattr(self.policies.get(module_id), "config", None) or {}
        if overrides is None and not named:
            return self
        if module_id not in self._per_module_overrides:
            made = self.copy(copy_frozen=False)
            for own in (named, overrides or {}):
                made.update_from_dict(own.to_dict() if isinstance(own, AlgorithmConfig) else own)
            self._per_module_overrides[module_id] = made
        return self._per_module_overrides[module_id]

    def validate_train_batch_size_vs_rollout_fragment_length(self) -> None:
        """Raise ValueError where samples of the given length do not add up to a train batch, within a tenth."""
        length = self.rollout_fragment_length
        if not isinstance(length, int) or self.in_evaluation or is_search(self.num_env_runners):
            return
        columns = max(self.num_env_runners, 1) * self.num_envs_per_env_runner
        total, once = self.total_train_batch_size, columns * length
        rounds = max(1, -(-total // once))
        if rounds * once - total > 0.1 * total:
            self._value_error(
                f"Your desired `total_train_batch_size` ({total}={self.num_learners} learners x "
                f"{self.train_batch_size_per_learner}) or a value 10% off of that cannot be achieved with your other "
                f"settings (num_env_runners={self.num_env_runners}; num_envs_per_env_runner="
                f"{self.num_envs_per_env_runner}; rollout_fragment_length={length})! Try setting "
                f"`rollout_fragment_length` to 'auto' OR to a value of {total // columns}."
            )


def _attribute(key: str) -> str:
    return _KEYS.get(key, key)


def _need_default(key: str, value: Any) -> None:
    if key not in OLD_DEFAULTS or value != OLD_DEFAULTS[key]:
        raise ValueError(f"{key!r} is a setting of RLlib's old API stack: {OLD_KEYWORDS[key]}")


def _near(key: str, config: AlgorithmConfig) -> str:
    near = difflib.get_close_matches(key, list(vars(config)), 1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _resolved(value: Any) -> Any:
    if isinstance(value, str):
        from hpc.rllib.utils.serialization import deserialize_type

        return deserialize_type(value, error=True)
    return value


__all__ = ["AlgorithmConfig", "NotProvided", "TorchCompileWhatToCompile"]
