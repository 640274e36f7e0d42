"""Which model runs what a configuration says: an engine with its tokenizer, or a server of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from hpc.serve.llm.config import LLMConfig
from hpc.serve.llm.hf import HfEngine, load_tokenizer
from hpc.serve.llm.hf_embed import HfEmbedEngine
from hpc.serve.llm.hf_loading import HfConfig
from hpc.serve.llm.process import ChildConfig, ChildModel
from hpc.serve.llm.scheduler import SchedulerConfig
from hpc.serve.llm.served import Model, TokenModel
from hpc.serve.llm.text import ByteTokenizer, Tokenizer
from hpc.serve.llm.tools import reader_of
from hpc.serve.llm.toy import BEGIN, END, ToyEngine
from hpc.serve.llm.vllm import VllmEngine

S = TypeVar("S", bound=msgspec.Struct)


def model_of(config: LLMConfig) -> Model:
    """The model of a configuration, not started yet. Raises ValueError for arguments that its engine does not have."""
    return MAKERS[config.engine](config)


def _toy(config: LLMConfig) -> Model:
    reader, arguments = reader_of(config.engine_kwargs)
    step_s = float(arguments.pop("step_s", 0.0))
    engine = ToyEngine(config.model_id, scheduler=_arguments(SchedulerConfig, arguments), step_s=step_s)
    return TokenModel(engine, lambda: ByteTokenizer(BEGIN, END), reader)


def _hf(config: LLMConfig) -> Model:
    loading = config.loading
    tokenizer = loading.tokenizer_source or loading.source
    reader, given = reader_of(config.engine_kwargs)
    arguments = _arguments(HfConfig, given)
    # A tokenizer of the model's own files is of the same revision.
    options: dict[str, Any] = {
        "trust_remote_code": arguments.trust_remote_code or None,
        "revision": None if loading.tokenizer_source else arguments.revision,
    }
    if arguments.task == "embed":
        embedder = HfEmbedEngine(config.model_id, loading.source, arguments)
        return TokenModel(embedder, lambda: load_tokenizer(tokenizer, **options))
    engine = HfEngine(config.model_id, loading.source, arguments)
    return TokenModel(engine, lambda: load_tokenizer(tokenizer, engine.ends, **options), reader)


def _vllm(config: LLMConfig) -> Model:
    loading = config.loading
    tokenizer = loading.tokenizer_source or loading.source
    reader, given = reader_of(config.engine_kwargs)
    arguments = {"tokenizer": tokenizer, **given}
    engine = VllmEngine(config.model_id, loading.source, arguments)

    def tokenizer_of() -> Tokenizer:
        own_revision = arguments.get("revision") if arguments["tokenizer"] == loading.source else None
        found = load_tokenizer(
            arguments["tokenizer"],
            trust_remote_code=arguments.get("trust_remote_code"),
            revision=arguments.get("tokenizer_revision", own_revision),
        )
        found.ends |= engine.ends
        return found

    return TokenModel(engine, tokenizer_of, reader)


def _process(config: LLMConfig) -> Model:
    return ChildModel(config.model_id, config.loading.source, _arguments(ChildConfig, config.engine_kwargs))


MAKERS: Mapping[str, Callable[[LLMConfig], Model]] = {"toy": _toy, "hf": _hf, "vllm": _vllm, "process": _process}


def _arguments(form: type[S], given: Mapping[str, Any]) -> S:
    known = form.__struct_fields__
    if unknown := sorted(set(given) - set(known)):
        raise ValueError(f"engine_kwargs: {unknown[0]!r} is none of {', '.join(known)}")
    try:
        return msgspec.convert(dict(given), form)
    except msgspec.ValidationError as error:
        raise ValueError(f"engine_kwargs: {error}") from error
