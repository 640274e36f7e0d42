"""Requests in the form that OpenAI's clients send, checked: an error names the field, and what it may be. Pure.

A field that has no effect here is refused, unless it has none on the answer anywhere (`user`, `metadata` ...).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

#: The types of errors in an answer.
Kind = Literal["invalid_request_error", "authentication_error", "rate_limit_error", "server_error"]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Probability = Annotated[float, Meta(gt=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Several = Annotated[int, Meta(ge=1, le=128)]
TopLogprobs = Annotated[int, Meta(ge=0, le=20)]
#: What engines keep in 64 and in 32 bits: a larger number would end the loop of all that they run.
Long = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Short = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
MOST_STOPS = 16
#: Texts of a request, or answers to it: each is a sequence of its own.
MOST_SEQUENCES = 2048
T = TypeVar("T", bound="Request")


class ApiError(Exception):
    """An answer that says what is wrong: a status of HTTP, and the error in OpenAI's form."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: Kind | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.http_status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s
        self.error_type: Kind = kind or ("invalid_request_error" if status < 500 else "server_error")

    def body(self) -> bytes:
        """The error as JSON."""
        error = {"message": self.message, "type": self.error_type, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": error})

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.http_status, self.message, self.param, self.code, self.error_type, self.retry_after_s)


def _again(
    status: int, message: str, param: str | None, code: str | None, kind: Kind, retry_after_s: float | None
) -> ApiError:
    return ApiError(status, message, param=param, code=code, kind=kind, retry_after_s=retry_after_s)


class Part(msgspec.Struct):
    """A part of a message."""

    type: str
    text: str = ""


class Function(msgspec.Struct):
    """The function that a call names, and its arguments: JSON text, or an object."""

    name: str
    arguments: str | dict[str, Any] = ""


class Call(msgspec.Struct):
    """A call of a tool that an earlier answer made."""

    function: Function
    id: str = ""
    type: Literal["function"] = "function"


class Message(msgspec.Struct, omit_defaults=True):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """What a stream says beside its text. Obfuscation pads chunks of OpenAI's own service."""

    include_usage: bool = False
    include_obfuscation: bool = False


class JsonSchema(msgspec.Struct):
    """What the JSON of an answer is to look like."""

    name: str = ""
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, forbid_unknown_fields=True):
    """In which form an answer is wished for."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class Request(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What requests for text have in common."""

    model: str
    max_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    n: Several | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    seed: Long | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    # Not OpenAI's, but of engines.
    top_k: int | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    priority: Short = 0
    # Without effect on the answer.
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    def stops(self) -> list[str]:
        """The strings that end the answer."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    def check(self) -> None:
        """Raise ApiError for what types do not say."""
        for name in ("presence_penalty", "frequency_penalty"):
            if getattr(self, name):
                raise _refused(name, f"{name} is not supported: leave it out, or give 0")
        if self.logit_bias:
            raise _refused("logit_bias", "logit_bias is not supported: leave it out")
        if len(self.stops()) > MOST_STOPS or "" in self.stops():
            raise _refused("stop", f"stop: at most {MOST_STOPS} strings, none of them empty")
        if self.stream_options is not None and not self.stream:
            raise _refused("stream_options", "stream_options is for streams only: set stream to true")
        if self.top_k is not None and self.top_k < -1:
            raise _refused("top_k", f"top_k: {self.top_k} is no number of tokens; 0 or -1 is no limit")


class ChatRequest(Request, kw_only=True):
    """POST /v1/chat/completions."""

    messages: list[Message]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    modalities: list[str] | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    def check(self) -> None:
        super().check()
        if not self.messages:
            raise _refused("messages", "messages: at least one is needed")
        if self.top_logprobs is not None and not self.logprobs:
            raise _refused("top_logprobs", "top_logprobs needs logprobs to be true")
        self._check_tools()
        form = self.response_format
        if (
            form is not None
            and form.type == "json_schema"
            and (form.json_schema is None or not form.json_schema.schema)
        ):
            raise _refused("response_format", "response_format: json_schema needs a schema in its json_schema")
        if self.modalities not in (None, ["text"]):
            raise _refused("modalities", "modalities: only ['text']")
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise _refused("max_tokens", "max_tokens and max_completion_tokens mean the same: give one of them")
        for number, message in enumerate(self.messages):
            for part in message.content if isinstance(message.content, list) else ():
                if part.type != "text":
                    field = f"messages[{number}].content"
                    raise _refused(field, f"{field}: a part of type {part.type!r}; the models here read text only")

    def _check_tools(self) -> None:
        if self.tool_choice not in (None, "none", "auto"):
            raise _refused("tool_choice", "tool_choice: only 'none' and 'auto'; no engine here forces a call of a tool")
        if self.tool_choice == "auto" and not self.tools:
            raise _refused("tool_choice", "tool_choice: there are no tools to choose from")
        for number, tool in enumerate(self.tools or ()):
            function = tool.get("function")
            if tool.get("type") != "function" or not isinstance(function, dict) or not function.get("name"):
                raise _refused("tools", f"tools[{number}]: a tool has the type 'function', and a function with a name")

    @property
    def offers_tools(self) -> bool:
        """Whether the model may call tools."""
        return bool(self.tools) and self.tool_choice != "none"

    def conversation(self) -> list[dict[str, Any]]:
        """The messages as templates expect them, with the form that is wished for in the first one of the system."""
        found = [_plain(message) for message in self.messages]
        if wish := self._wish():
            if found[0]["role"] in ("system", "developer"):
                found[0] = {**found[0], "content": f"{found[0].get('content') or ''}\n\n{wish}"}
            else:
                found.insert(0, {"role": "system", "content": wish})
        return found

    def _wish(self) -> str:
        form = self.response_format
        if form is None or form.type == "text":
            return ""
        text = "Answer with one JSON object and nothing else."
        if form.json_schema is not None and form.json_schema.schema is not None:
            text += f" It has this JSON schema: {msgspec.json.encode(form.json_schema.schema).decode()}"
        return text

    def template_values(self) -> dict[str, Any]:
        """What a template gets beside the messages."""
        tools = {"tools": self.tools} if self.offers_tools else {}
        return {**tools, **(self.chat_template_kwargs or {})}


class CompletionRequest(Request, kw_only=True):
    """POST /v1/completions."""

    prompt: Any
    logprobs: TopLogprobs | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None
    add_special_tokens: bool = True

    def check(self) -> None:
        super().check()
        if len(texts_or_tokens("prompt", self.prompt)) * (self.n or 1) > MOST_SEQUENCES:
            raise _refused("prompt", f"prompt: at most {MOST_SEQUENCES} answers of one request")
        if self.suffix:
            raise _refused("suffix", "suffix is not supported: leave it out")
        if self.best_of not in (None, self.n or 1):
            raise _refused("best_of", "best_of is not supported: leave it out, and take n answers")
        if self.echo and self.logprobs is not None:
            raise _refused("echo", "echo with logprobs is not supported: no engine here tells those of a prompt")


class EmbeddingRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/embeddings."""

    model: str
    input: Any
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Count | None = None
    user: str | None = None

    def check(self) -> None:
        if len(texts_or_tokens("input", self.input)) > MOST_SEQUENCES:
            raise _refused("input", f"input: at most {MOST_SEQUENCES} texts of one request")


class TokenizeRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """POST /tokenize: of a prompt, or of a conversation."""

    model: str
    prompt: str | None = None
    messages: list[Message] | None = None
    add_special_tokens: bool = True
    return_token_strs: bool = False

    def check(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            raise _refused("prompt", "one of prompt and messages is needed")

    def conversation(self) -> list[dict[str, Any]]:
        return [_plain(message) for message in self.messages or ()]


class DetokenizeRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """POST /detokenize."""

    model: str
    tokens: list[int]

    def check(self) -> None:
        """Any tokens are."""


class Named(msgspec.Struct):
    """What every request has."""

    model: str


R = TypeVar("R", bound=Any)


def parse(form: type[R], body: bytes) -> R:
    """A request of this form. Raises ApiError that names the field."""
    try:
        request: R = msgspec.json.decode(body, type=form)
    except msgspec.ValidationError as error:
        raise _named(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, f"the body is no JSON: {error}", code="invalid_json") from error
    if form is not Named:
        request.check()
    return request


def texts_or_tokens(name: str, value: Any) -> list[str | list[int]]:
    """A prompt or several: a text, texts, tokens, or lists of tokens. Raises ApiError for anything else."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(isinstance(one, str) for one in value):
            return value
        if _are_tokens(value):
            return [value]
        if all(isinstance(one, list) and one and _are_tokens(one) for one in value):
            return value
    raise _refused(name, f"{name}: a text, a list of texts, a list of tokens or a list of such lists; not empty")


def _are_tokens(value: Sequence[Any]) -> bool:
    return all(type(one) is int for one in value)


def _plain(message: Message) -> dict[str, Any]:
    content = message.content
    if isinstance(content, list):
        content = "".join(part.text for part in content)
    plain: dict[str, Any] = msgspec.structs.asdict(message)
    if message.tool_calls:
        plain["tool_calls"] = [_called(call) for call in message.tool_calls]
    return {"content": content, **{k: v for k, v in plain.items() if v is not None and k != "content"}}


def _called(call: Call) -> dict[str, Any]:
    """An earlier call for templates, which write its arguments as JSON themselves."""
    arguments = call.function.arguments
    if isinstance(arguments, str):
        try:
            arguments = msgspec.json.decode(arguments or "{}", type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError) as error:
            message = f"messages[].tool_calls: the arguments of {call.function.name!r} are no JSON object: {error}"
            raise _refused("messages", message) from error
    function = {"name": call.function.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def _refused(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param, code="invalid_value")


def _named(text: str) -> ApiError:
    """msgspec's error in a form that begins with the field."""
    what, _, place = text.partition(" - at `")
    path = place.rstrip("`").removeprefix("$").removeprefix(".").replace("[...]", "[]")
    field = re.search(r"field `([^`]+)`", what)
    if field is not None:
        path = f"{path}.{field[1]}" if path else field[1]
        is_unknown = "unknown" in what
        message = f"{path}: {'this field is not supported' if is_unknown else 'this field is missing'}"
        return ApiError(400, message, param=path, code="unknown_parameter" if is_unknown else "missing_parameter")
    what = what[:1].lower() + what[1:].replace("`", "")
    return ApiError(400, f"{path}: {what}" if path else what, param=path or None, code="invalid_value")
