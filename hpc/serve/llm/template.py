"""Chat templates of models, in a sandbox: they come with a model's files and are not to be trusted."""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from hpc.serve.llm.engine import EngineError


class TemplateError(EngineError):
    """The template refuses the conversation, or cannot be read."""


def render(template: str, /, **values: Any) -> str:
    """The prompt that a model's template makes of a conversation. Raises TemplateError with the template's reason."""
    from jinja2.exceptions import SecurityError
    from jinja2.exceptions import TemplateError as JinjaError

    try:
        return str(_compiled(template).render(**values))
    except SecurityError as error:
        raise TemplateError(f"the model's chat template does what templates must not do: {error}") from error
    except (JinjaError, TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise TemplateError(f"the model's chat template refuses these messages: {error}") from error


@lru_cache(maxsize=16)
def _compiled(template: str) -> Any:
    try:
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise ImportError("chat templates of models need jinja2: pip install 'hpc[llm]'") from error

    # These are the names that templates of models expect, as transformers gives them.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(template)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _refuse(message: str) -> NoReturn:
    raise ValueError(message)
