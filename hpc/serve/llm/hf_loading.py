"""How a model of transformers is loaded, whole or divided over ranks, and how its loop begins."""

from __future__ import annotations

import importlib.util
from typing import Any, Literal, NamedTuple

import msgspec

from hpc.serve.llm.engine import EngineError

#: The versions of transformers that this was made for.
MAJOR = 5
#: No token ends a text.
NO_EOS = -1
#: The tokens of a sequence where the model's files name no bound.
DEFAULT_CONTEXT = 4096


class HfConfig(msgspec.Struct, kw_only=True):
    """How transformers loads and runs a model.

    task: "generate" text, or "embed" texts as vectors; for these what follows of memory and batches has no meaning.
    dtype: "auto" takes that of the files. device: None takes a GPU where there is one. attn_implementation: without
    its prefix for pages. num_blocks, max_batch_tokens: None leaves both to transformers, which measures memory;
    max_memory: the share of what is free that it takes. share_prefixes: prompts that begin alike are computed once.
    tensor_parallel_size: over how many ranks each layer is divided."""

    task: Literal["generate", "embed"] = "generate"
    dtype: str = "auto"
    device: str | None = None
    attn_implementation: str = "sdpa"
    num_blocks: int | None = None
    max_batch_tokens: int | None = None
    max_memory: float = 0.6
    share_prefixes: bool = True
    tensor_parallel_size: int = 1
    context_length: int | None = None
    trust_remote_code: bool = False
    revision: str | None = None


def transformers() -> Any:
    """The package. Raises EngineError that says which version is needed."""
    try:
        import transformers as package
    except ImportError as error:
        raise EngineError("models of transformers need it: pip install 'hpc[llm]'") from error
    if int(package.__version__.partition(".")[0]) != MAJOR:
        raise EngineError(f"transformers {package.__version__} is there; {MAJOR}.x is needed: pip install 'hpc[llm]'")
    return package


def device_of(config: HfConfig) -> str:
    """Where the model runs."""
    import torch

    return config.device or ("cuda" if torch.cuda.is_available() else "cpu")


def context_of(model: Any, config: HfConfig) -> int:
    """The most tokens of a sequence."""
    return int(config.context_length or getattr(model.config, "max_position_embeddings", None) or DEFAULT_CONTEXT)


class Loaded(NamedTuple):
    """A model and its loop, which runs."""

    model: Any
    manager: Any


def check_divided(source: str, config: HfConfig) -> None:
    """Raise EngineError if transformers cannot divide the model over so many ranks."""
    size = config.tensor_parallel_size
    wish = f"tensor_parallel_size={size}"
    if size < 1:
        raise EngineError(f"{wish}: at least one rank is needed")
    if size == 1:
        return
    if config.task == "embed":
        raise EngineError(f"{wish}: models that make vectors are not divided: leave it out")
    package = transformers()
    if importlib.util.find_spec("accelerate") is None:
        raise EngineError(f"{wish} needs accelerate beside transformers: pip install 'hpc[llm]'")
    whole = package.AutoConfig.from_pretrained(
        source, trust_remote_code=config.trust_remote_code, revision=config.revision
    )
    text = whole.get_text_config()
    if not getattr(text, "base_model_tp_plan", None):
        raise EngineError(
            f"{wish}: transformers has no plan of how to divide a model of the type {whole.model_type!r} (its "
            "configuration has no base_model_tp_plan): leave it out, or take llm_engine 'vLLM' or 'process'"
        )
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    if heads % size or text.num_attention_heads % size:
        raise EngineError(f"{wish}: the model's {heads} heads of keys and values cannot be divided by it")


def begin(source: str, config: HfConfig) -> Loaded:
    """Load the model and begin its loop. It takes long, and holds no event loop.

    Of several ranks each has joined the others before, and loads its part."""
    package = transformers()
    # This comes first: it sets variables that NCCL reads as the ranks meet in the model.
    batching = package.ContinuousBatchingConfig(
        num_blocks=config.num_blocks,
        max_batch_tokens=config.max_batch_tokens,
        max_memory_percent=config.max_memory,
        allow_block_sharing=config.share_prefixes,
        per_request_processors=True,
        use_async_batching=False,
    )
    options: dict[str, Any] = {}
    if config.tensor_parallel_size > 1:
        from transformers.distributed import DistributedConfig

        options["distributed_config"] = DistributedConfig(tp_size=config.tensor_parallel_size)
    model = package.AutoModelForCausalLM.from_pretrained(
        source,
        dtype=config.dtype,
        attn_implementation=config.attn_implementation,
        trust_remote_code=config.trust_remote_code,
        revision=config.revision,
        **options,
    )
    if not options:
        model = model.to(device_of(config))
    # Each of these is there per request only if its default is another one than none.
    wished = package.GenerationConfig(
        do_sample=True, temperature=0.5, top_k=1, top_p=0.5, max_new_tokens=1, eos_token_id=NO_EOS
    )
    manager = model.init_continuous_batching(generation_config=wished, continuous_batching_config=batching)
    manager.start()
    return Loaded(model, manager)


def ends_of(model: Any) -> frozenset[int]:
    """The tokens that end a text, by the model's files."""
    own = model.generation_config
    eos = own.eos_token_id if own.eos_token_id is not None else model.config.eos_token_id
    return frozenset(() if eos is None else (eos,) if isinstance(eos, int) else eos)
