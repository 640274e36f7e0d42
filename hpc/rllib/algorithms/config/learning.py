"""Settings of learners, of training, of modules, and of who of many agents has which module."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from hpc.rllib.algorithms.config.given import NotProvided, is_search, section
from hpc.rllib.core import DEFAULT_MODULE_ID
from hpc.rllib.policy.policy import PolicySpec

if TYPE_CHECKING:
    from typing_extensions import Self

#: What a bound of gradients is of.
_CLIPS = ("value", "norm", "global_norm")


class LearningSections:
    """learners, training, rl_module, multi_agent, framework, api_stack, experimental."""

    if TYPE_CHECKING:

        def _take(self, given: dict[str, Any]) -> Self: ...

    @staticmethod
    def DEFAULT_AGENT_TO_MODULE_MAPPING_FN(agent_id: Any, episode: Any) -> str:
        """All agents have the one module."""
        return DEFAULT_MODULE_ID

    @staticmethod
    def DEFAULT_POLICY_MAPPING_FN(aid: Any, episode: Any, worker: Any = None, **kwargs: Any) -> str:
        """All agents have the one module."""
        return DEFAULT_MODULE_ID

    def _learning_defaults(self) -> None:
        self._learner_defaults()
        self._training_defaults()
        self._framework_defaults()
        self.policies: Any = {DEFAULT_MODULE_ID: PolicySpec()}
        self.policy_mapping_fn: Callable[..., str] = self.DEFAULT_POLICY_MAPPING_FN
        self.policies_to_train: Any = None
        self.count_steps_by = "env_steps"
        self._model_config: Any = {}
        self._rl_module_spec: Any = None
        self.algorithm_config_overrides_per_module: dict[str, dict[str, Any]] = {}
        self._per_module_overrides: dict[str, Any] = {}

    def _learner_defaults(self) -> None:
        self.num_learners = 0
        self.num_gpus_per_learner: float = 0
        self.num_cpus_per_learner: float | str = "auto"
        self.custom_resources_per_learner: dict[str, float] = {}
        self.num_aggregator_actors_per_learner = 0
        self.max_requests_in_flight_per_aggregator_actor: float = 3
        self.local_gpu_idx = 0
        self.max_requests_in_flight_per_learner = 3
        self._learner_class: Any = None
        self._learner_connector: Callable[..., Any] | None = None
        self.add_default_connectors_to_learner_pipeline = True
        self.learner_config_dict: dict[str, Any] = {}

    def _training_defaults(self) -> None:
        self.gamma = 0.99
        self.lr: Any = 0.001
        self.grad_clip: float | None = None
        self.grad_clip_by = "global_norm"
        self._train_batch_size_per_learner: int | None = None
        self.train_batch_size: int | None = 32
        self.num_epochs = 1
        self.minibatch_size: int | None = None
        self.shuffle_batch_per_epoch = False

    def _framework_defaults(self) -> None:
        self.framework_str = "torch"
        self.torch_compile_learner = False
        self.torch_compile_learner_what_to_compile = "forward_train"
        self.torch_compile_learner_dynamo_backend = "inductor"
        self.torch_compile_learner_dynamo_mode: str | None = None
        self.torch_compile_worker = False
        self.torch_compile_worker_dynamo_backend = "onnxrt"
        self.torch_compile_worker_dynamo_mode: str | None = None
        self.torch_ddp_kwargs: dict[str, Any] = {}
        self.torch_skip_nan_gradients = False
        self.enable_rl_module_and_learner = True
        self.enable_env_runner_and_connector_v2 = True
        self._validate_config = True
        self._torch_grad_scaler_class: Any = None
        self._torch_lr_scheduler_classes: Any = None
        self._dont_auto_sync_env_runner_states = False

    @section
    def learners(
        self,
        *,
        num_learners: int = NotProvided,
        num_cpus_per_learner: float | str = NotProvided,
        num_gpus_per_learner: float = NotProvided,
        custom_resources_per_learner: dict[str, float] = NotProvided,
        num_aggregator_actors_per_learner: int = NotProvided,
        max_requests_in_flight_per_aggregator_actor: float = NotProvided,
        local_gpu_idx: int = NotProvided,
        max_requests_in_flight_per_learner: int = NotProvided,
        learner_class: Any = NotProvided,
        learner_connector: Callable[..., Any] | None = NotProvided,
        add_default_connectors_to_learner_pipeline: bool = NotProvided,
        learner_config_dict: dict[str, Any] = NotProvided,
    ) -> Self:
        """Set how many processes learn, with which resources, and by which class.

        num_learners: actors that learn together, each on its part of the batch; 0: the algorithm's own process learns.
        num_cpus_per_learner: "auto": 1, and 0 for a learner with a GPU. local_gpu_idx: of a learner that is no actor.
        learner_connector: a function of the spaces that makes connectors between samples and train batches.
        learner_config_dict: settings of your own Learner; given twice, they are put together.
        num_aggregator_actors_per_learner changes nothing: learners put their batches together themselves.
        """
        if isinstance(custom_resources_per_learner, dict) and {"CPU", "GPU"} & set(custom_resources_per_learner):
            raise ValueError(
                "Do not include 'CPU' or 'GPU' in `custom_resources_per_learner`. Use `num_cpus_per_learner` and "
                f"`num_gpus_per_learner` instead. Got: {custom_resources_per_learner}"
            )
        if learner_config_dict is not NotProvided:
            self.learner_config_dict.update(learner_config_dict)
            learner_config_dict = NotProvided
        return self._take(locals())

    @section
    def training(
        self,
        *,
        gamma: float = NotProvided,
        lr: Any = NotProvided,
        grad_clip: float | None = NotProvided,
        grad_clip_by: str = NotProvided,
        train_batch_size: int = NotProvided,
        train_batch_size_per_learner: int = NotProvided,
        num_epochs: int = NotProvided,
        minibatch_size: int | None = NotProvided,
        shuffle_batch_per_epoch: bool = NotProvided,
    ) -> Self:
        """Set how a batch is learnt.

        gamma: discount of each step. lr: learning rate, or a schedule ``[[step, value], ...]`` that begins at step 0.
        grad_clip: bound of gradients; grad_clip_by: of each "value", of each tensor's "norm", or of the "global_norm".
        train_batch_size_per_learner: rows that each learner takes for one update.
        num_epochs: how often it goes over them, in minibatches of minibatch_size rows (None: all at once).
        shuffle_batch_per_epoch: in a new order each time.
        """
        _check_clip(grad_clip_by)
        return self._take(locals())

    @section
    def rl_module(
        self,
        *,
        model_config: Any = NotProvided,
        rl_module_spec: Any = NotProvided,
        algorithm_config_overrides_per_module: dict[str, dict[str, Any]] = NotProvided,
    ) -> Self:
        """Set the network, or the whole module.

        model_config: a DefaultModelConfig, or a dict with its names or those of your own module.
        rl_module_spec: an RLModuleSpec, or a MultiRLModuleSpec with one for each module.
        algorithm_config_overrides_per_module: settings of single modules, of ``PPOConfig.overrides(lr=0.1)``.
        """
        if algorithm_config_overrides_per_module is not NotProvided:
            if not isinstance(algorithm_config_overrides_per_module, dict):
                raise ValueError(
                    "`algorithm_config_overrides_per_module` must be a dict mapping module IDs to config override "
                    f"dicts! You provided {algorithm_config_overrides_per_module}."
                )
            self.algorithm_config_overrides_per_module.update(algorithm_config_overrides_per_module)
            self._per_module_overrides.clear()
            algorithm_config_overrides_per_module = NotProvided
        return self._take(locals())

    @section
    def multi_agent(
        self,
        *,
        policies: dict[str, Any] | Collection[str] = NotProvided,
        policy_mapping_fn: Callable[..., str] | None = NotProvided,
        policies_to_train: Collection[str] | Callable[..., bool] | None = NotProvided,
        count_steps_by: str = NotProvided,
    ) -> Self:
        """Set which modules there are, and which agent has which.

        policies: the modules' ids, or a dict of PolicySpec, which may have spaces. policy_mapping_fn: a function of
        (agent_id, episode, **kwargs): its module's id, asked once for each agent of an episode.
        policies_to_train: ids, or a function of (module_id, batch); None: all. count_steps_by: what a train batch
        counts: "env_steps" or "agent_steps".
        """
        if policies is not NotProvided:
            policies = _policies(policies)
        if policy_mapping_fn is None:
            policy_mapping_fn = self.DEFAULT_POLICY_MAPPING_FN
        if count_steps_by is not NotProvided and count_steps_by not in ("env_steps", "agent_steps"):
            raise ValueError(
                f"config.multi_agent(count_steps_by=..) must be one of [env_steps|agent_steps], not {count_steps_by}!"
            )
        _check_learning(policies_to_train)
        return self._take(locals())

    @section
    def framework(
        self,
        framework: str = NotProvided,
        *,
        torch_compile_learner: bool = NotProvided,
        torch_compile_learner_what_to_compile: str = NotProvided,
        torch_compile_learner_dynamo_mode: str | None = NotProvided,
        torch_compile_learner_dynamo_backend: str = NotProvided,
        torch_compile_worker: bool = NotProvided,
        torch_compile_worker_dynamo_backend: str = NotProvided,
        torch_compile_worker_dynamo_mode: str | None = NotProvided,
        torch_ddp_kwargs: dict[str, Any] = NotProvided,
        torch_skip_nan_gradients: bool = NotProvided,
    ) -> Self:
        """Set what torch compiles. The framework is "torch".

        torch_compile_learner_what_to_compile: "forward_train" or "complete_update".
        torch_skip_nan_gradients: leave an update out where a gradient is not finite, as opposed to an error.
        """
        if framework is not NotProvided and framework != "torch":
            raise ValueError(f"hpc.rllib has the framework 'torch' only, not {framework!r}")
        given = {**locals(), "framework": NotProvided}
        return self._take(given)

    @section
    def api_stack(
        self,
        *,
        enable_rl_module_and_learner: bool = NotProvided,
        enable_env_runner_and_connector_v2: bool = NotProvided,
    ) -> Self:
        """Taken for RLlib's programs: there is the new API stack only. Raises ValueError for False."""
        if enable_rl_module_and_learner is False or enable_env_runner_and_connector_v2 is False:
            raise ValueError(
                "RLlib's old API stack is not there: leave config.api_stack(..) out, and use RLModule, Learner, "
                "connectors and env runners"
            )
        return self._take(locals())

    @section
    def experimental(
        self,
        *,
        _validate_config: bool = NotProvided,
        _torch_grad_scaler_class: Any = NotProvided,
        _torch_lr_scheduler_classes: Any = NotProvided,
    ) -> Self:
        """Set what may change. _validate_config: False: values that do not fit are only warned of."""
        return self._take(locals())


def _check_clip(given: Any) -> None:
    if given is not NotProvided and not is_search(given) and given not in _CLIPS:
        raise ValueError(f"`grad_clip_by` ({given}) must be one of: 'value', 'norm', or 'global_norm'!")


def _check_learning(given: Any) -> None:
    if given is NotProvided or given is None or callable(given) or isinstance(given, (list, set, tuple)):
        return
    raise ValueError(
        "`policies_to_train` must be a list, set or tuple of module ids, a function of (module_id, batch), or None "
        f"(all of them), not {given!r}"
    )


def _policies(given: Any) -> dict[str, PolicySpec]:
    from hpc.rllib.core.rl_module import validate_module_id

    if not isinstance(given, (dict, set, frozenset, tuple, list)):
        raise ValueError(
            f"`policies` must be dict mapping PolicyID to PolicySpec OR a set/tuple/list of PolicyIDs! It is {given!r}."
        )
    for module_id in given:
        validate_module_id(module_id, error=True)
    if isinstance(given, (set, frozenset)):  # in one order, so that runs of one seed are equal
        given = sorted(given)
    if not isinstance(given, dict):
        return {module_id: PolicySpec() for module_id in given}
    for module_id, spec in given.items():
        if not isinstance(spec, PolicySpec) and not (isinstance(spec, (list, tuple)) and len(spec) == 4):
            raise ValueError(
                "Policy specs must be tuples/lists of (cls or None, obs_space, action_space, config), "
                f"got {spec} for PolicyID={module_id}"
            )
    return {key: spec if isinstance(spec, PolicySpec) else PolicySpec(*spec) for key, spec in given.items()}
