"""Language models behind an API like that of OpenAI, under the names of `ray.serve.llm` (docs/llm.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc.util.lazy import LazyNames

if TYPE_CHECKING:
    from hpc.serve.llm.app import LLMRouter as LLMRouter
    from hpc.serve.llm.app import LLMServer as LLMServer
    from hpc.serve.llm.app import OpenAiIngress as OpenAiIngress
    from hpc.serve.llm.app import build_llm_deployment as build_llm_deployment
    from hpc.serve.llm.app import build_openai_app as build_openai_app
    from hpc.serve.llm.config import LLMConfig as LLMConfig
    from hpc.serve.llm.config import LLMServingArgs as LLMServingArgs
    from hpc.serve.llm.config import ModelLoadingConfig as ModelLoadingConfig

#: Where each name is.
_HOME = {
    "LLMConfig": "hpc.serve.llm.config",
    "LLMRouter": "hpc.serve.llm.app",
    "LLMServer": "hpc.serve.llm.app",
    "LLMServingArgs": "hpc.serve.llm.config",
    "ModelLoadingConfig": "hpc.serve.llm.config",
    "OpenAiIngress": "hpc.serve.llm.app",
    "build_llm_deployment": "hpc.serve.llm.app",
    "build_openai_app": "hpc.serve.llm.app",
}

__all__ = sorted(_HOME)

_lazy = LazyNames(__name__, _HOME, frozenset())


def __getattr__(name: str) -> Any:
    return _lazy.get(name)


def __dir__() -> list[str]:
    return _lazy.all()
