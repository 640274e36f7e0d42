"""What a model is, which engine runs it, and how it is deployed: Ray's names, checked where they are written down."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

#: The engines, by the word in small letters that names each.
ENGINES = ("toy", "hf", "vllm", "process")
PLACEMENT_KEYS = {"bundles", "bundle_per_worker", "strategy"}
#: What a process of a kind of accelerator takes of the resource of that name.
ACCELERATOR = 0.001
S = TypeVar("S", bound=msgspec.Struct)


class ModelLoadingConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which model: its name for clients, and where its files and its tokenizer are (a folder, or a name on the hub)."""

    model_id: str
    model_source: str | None = None
    tokenizer_source: str | None = None

    @property
    def source(self) -> str:
        """Where the model's files are."""
        return self.model_source or self.model_id


class LLMConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A model and its deployment.

    llm_engine: "toy", "hf" (transformers), "vLLM" or "process" (a server of its own). engine_kwargs: what the engine
    takes, see docs/llm.md. deployment_config: options of `serve.deployment`. accelerator_type and
    placement_group_config: what each replica needs. runtime_env: what it runs in. server_cls: another class than
    LLMServer."""

    #: A ModelLoadingConfig, or a dict of one.
    model_loading_config: Any
    llm_engine: str = "vLLM"
    engine_kwargs: dict[str, Any] = {}
    accelerator_type: str | None = None
    placement_group_config: dict[str, Any] | None = None
    lora_config: dict[str, Any] | None = None
    deployment_config: dict[str, Any] = {}
    runtime_env: dict[str, Any] | None = None
    server_cls: Any = None
    experimental_configs: dict[str, Any] = {}
    log_engine_metrics: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.model_loading_config, ModelLoadingConfig):
            self.model_loading_config = _made(ModelLoadingConfig, self.model_loading_config, "model_loading_config")
        if self.engine not in ENGINES:
            raise ValueError(f"llm_engine={self.llm_engine!r}: one of toy, hf, vLLM, process")
        if self.lora_config is not None:
            raise ValueError("lora_config is not supported: serve each adapter merged, or by llm_engine='process'")
        if unknown := set(self.experimental_configs) - {"num_ingress_replicas"}:
            raise ValueError(f"experimental_configs: {sorted(unknown)[0]!r} is not known here")
        if unknown := set(self.placement_group_config or {}) - PLACEMENT_KEYS:
            raise ValueError(f"placement_group_config: {sorted(unknown)[0]!r} is none of {sorted(PLACEMENT_KEYS)}")

    @property
    def engine(self) -> str:
        """The engine's name in small letters."""
        return self.llm_engine.lower()

    @property
    def loading(self) -> ModelLoadingConfig:
        """Which model."""
        assert isinstance(self.model_loading_config, ModelLoadingConfig)
        return self.model_loading_config

    @property
    def model_id(self) -> str:
        """The model's name for clients."""
        return self.loading.model_id

    @classmethod
    def from_file(cls, path: str) -> LLMConfig:
        """A configuration from a file of YAML. Raises ValueError that names the file."""
        try:
            import yaml
        except ImportError as error:
            raise ImportError("files of YAML need pyyaml: pip install 'hpc[serve]'") from error
        if not Path(path).exists():
            raise ValueError(f"there is no file {path}")
        return _made(cls, yaml.safe_load(Path(path).read_text()), path)

    def deployment_options(self) -> dict[str, Any]:
        """Options of the model's deployment: what was given, and what the engine needs beside it."""
        options: dict[str, Any] = {"max_ongoing_requests": 1000, "health_check_timeout_s": 10, **self.deployment_config}
        actor = dict(options.pop("ray_actor_options", {}))
        if self.runtime_env is not None:
            actor["runtime_env"] = self.runtime_env
        if self.accelerator_type is not None:
            actor["accelerator_type"] = self.accelerator_type
        bundles = self._bundles(actor)
        if bundles is not None:
            if kind := actor.get("accelerator_type"):
                for bundle in bundles:
                    bundle.setdefault(f"accelerator_type:{kind}", ACCELERATOR)
            options["placement_group_bundles"] = bundles
            options["placement_group_strategy"] = (self.placement_group_config or {}).get("strategy", "PACK")
            # The replica is in the first bundle, and of an engine that is divided over ranks it is rank 0.
            actor.setdefault("num_cpus", bundles[0].get("CPU", 0))
            actor.setdefault("num_gpus", bundles[0].get("GPU", 0))
        elif "num_gpus" not in actor and (self.accelerator_type is not None or self.engine == "vllm"):
            actor["num_gpus"] = self.workers
        if actor:
            options["ray_actor_options"] = actor
        return options

    @property
    def workers(self) -> int:
        """How many devices a replica uses."""
        sizes = (self.engine_kwargs.get(name, 1) for name in ("tensor_parallel_size", "pipeline_parallel_size"))
        tensor, pipeline = sizes
        return int(tensor) * int(pipeline)

    def _bundles(self, actor: Mapping[str, Any]) -> list[dict[str, float]] | None:
        """The bundles of a replica. actor: what its process is to have, from which those of further ranks follow."""
        config = self.placement_group_config
        if config is None:
            if self.engine != "hf" or self.workers == 1:
                return None
            return [_share(actor) for _ in range(self.workers)]
        if ("bundles" in config) == ("bundle_per_worker" in config):
            raise ValueError("placement_group_config: one of bundles and bundle_per_worker")
        given = config["bundles"] if "bundles" in config else [config["bundle_per_worker"]] * self.workers
        return [dict(each) for each in given]


def _share(actor: Mapping[str, Any]) -> dict[str, float]:
    """The bundle of a rank: all that its process takes, which would never begin in less."""
    kind = actor.get("accelerator_type")
    cpus, gpus = actor.get("num_cpus"), actor.get("num_gpus")
    found: dict[str, float] = {"CPU": 1 if cpus is None else cpus, **(actor.get("resources") or {})}
    if gpus or (gpus is None and kind is not None):
        found["GPU"] = gpus or 1
    if actor.get("memory"):
        found["memory"] = actor["memory"]
    return found


class IngressClsConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Another class for the ingress than OpenAiIngress, and further arguments for it."""

    ingress_cls: Any = None
    ingress_extra_kwargs: dict[str, Any] = {}


class LLMServingArgs(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What `build_openai_app` takes: models (each an LLMConfig, a dict or a file of YAML), options of the ingress."""

    llm_configs: list[Any]
    #: An IngressClsConfig, or a dict of one.
    ingress_cls_config: Any = msgspec.field(default_factory=IngressClsConfig)
    ingress_deployment_config: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if not self.llm_configs:
            raise ValueError("llm_configs: at least one model is needed")
        self.llm_configs = [_config(one) for one in self.llm_configs]
        names = [config.model_id for config in self.llm_configs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"llm_configs: the model {twice[0]!r} is there twice")
        if not isinstance(self.ingress_cls_config, IngressClsConfig):
            self.ingress_cls_config = _made(IngressClsConfig, self.ingress_cls_config, "ingress_cls_config")

    @property
    def ingress(self) -> IngressClsConfig:
        """The class of the ingress."""
        assert isinstance(self.ingress_cls_config, IngressClsConfig)
        return self.ingress_cls_config


def serving_args(given: LLMServingArgs | Mapping[str, Any]) -> LLMServingArgs:
    """What `build_openai_app` was given, checked."""
    return given if isinstance(given, LLMServingArgs) else _made(LLMServingArgs, given, "build_openai_app")


def _config(given: Any) -> LLMConfig:
    if isinstance(given, LLMConfig):
        return given
    if isinstance(given, (str, Path)):
        return LLMConfig.from_file(str(given))
    if isinstance(given, Mapping):
        return _made(LLMConfig, given, "llm_configs")
    raise TypeError(f"llm_configs: {type(given).__name__} is no LLMConfig, dict or path of a file")


def _made(form: type[S], given: Any, where: str) -> S:
    """A struct of what was written down. Raises ValueError that says where, and which field is wrong."""
    try:
        return msgspec.convert(given, form)
    except msgspec.ValidationError as error:
        raise ValueError(f"{where}: {error}") from error
