"""What a plain deployment returns, as an answer of HTTP: content types and JSON as Ray Serve has them."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import ipaddress
import json
import logging
import math
import pathlib
import re
import uuid
from typing import Any

from hpc.serve.messages import HttpReply

logger = logging.getLogger("hpc.serve")

TEXT = b"text/plain; charset=utf-8"
ERROR = b"Internal Server Error"


def converted(result: Any) -> HttpReply:
    """A result as an answer: None, bytes and text as text, anything else as JSON. Raises TypeError, ValueError."""
    if result is None:
        body, kind = b"", b"text/plain"
    elif isinstance(result, bytes):
        body, kind = result, b"text/plain"
    elif isinstance(result, str):
        body, kind = result.encode(), TEXT
    else:
        body, kind = to_json(result), b"application/json"
    return HttpReply(200, [(b"content-type", kind)], body)


def item_type(item: Any) -> bytes:
    """The content type of a stream whose first item this is."""
    if isinstance(item, str):
        return TEXT
    return b"application/octet-stream" if isinstance(item, (bytes, bytearray, memoryview)) else b"application/x-ndjson"


def item_bytes(item: Any) -> bytes:
    """An item of a stream; what is neither text nor bytes is a line of JSON."""
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, (bytes, bytearray, memoryview)):
        return bytes(item)
    return to_json(item) + b"\n"


def retry_after(seconds: float | None) -> list[tuple[bytes, bytes]]:
    """The header that says when to come again: whole seconds, rounded up."""
    return [] if seconds is None else [(b"retry-after", b"%d" % max(0, math.ceil(seconds)))]


def error_reply(error: BaseException) -> HttpReply:
    """The answer for an error of the user's code, which is logged; a full queue and a missing deployment say so."""
    from hpc.serve.exceptions import BackPressureError, DeploymentUnavailableError

    if isinstance(error, BackPressureError):
        status = int(getattr(error, "status_code", 503))
        return HttpReply(status, retry_after(getattr(error, "retry_after_s", None)), error.message.encode())
    if isinstance(error, DeploymentUnavailableError):
        return HttpReply(503, [], error.message.encode())
    logger.error("A request ends in an error", exc_info=error)
    return HttpReply(500, [], ERROR)


# ---------------------------------------------------------------- JSON


def to_json(value: Any) -> bytes:
    """A value as JSON without spaces. Raises TypeError for one that has no form in it."""
    try:
        text = json.dumps(value, default=_plain, separators=(",", ":"))
    except TypeError:  # keys that JSON does not take, or a value: the second try says which
        text = json.dumps(_with_text_keys(value), default=_plain, separators=(",", ":"))
    return text.encode()


def _with_text_keys(value: Any) -> Any:
    """The same with keys that JSON takes."""
    if isinstance(value, dict):
        return {_key(key): _with_text_keys(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_with_text_keys(one) for one in value]
    return value


def _key(key: Any) -> Any:
    if key is None or isinstance(key, (str, int, float, bool)):
        return key
    plain = _plain(key)
    return plain if isinstance(plain, (str, int, float, bool)) else str(plain)


def _plain(value: Any) -> Any:
    """A value as one that JSON has. The order is that of what services return most."""
    for module in ("numpy", "pandas", "pydantic"):
        if type(value).__module__.split(".")[0] == module:
            return _of_library(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        return _of_decimal(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (pathlib.PurePath, uuid.UUID, ipaddress._BaseAddress, ipaddress._BaseNetwork)):
        return str(value)
    if isinstance(value, re.Pattern):
        return value.pattern
    if isinstance(value, Exception):
        return str(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True)
    return _of_any(value)


def _of_decimal(value: decimal.Decimal) -> float | int:
    exponent = value.as_tuple().exponent
    return int(value) if isinstance(exponent, int) and exponent >= 0 else float(value)


def _of_library(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True)
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return value.to_dict(orient="records")
    if hasattr(value, "tolist"):
        return value.tolist()
    return _of_any(value)


def _of_any(value: Any) -> Any:
    """A collection as a list, a mapping as a dict, an object by its attributes."""
    if hasattr(value, "keys"):
        return dict(value)
    if hasattr(value, "__iter__"):
        return list(value)
    try:
        return vars(value)
    except TypeError:
        raise TypeError(f"a deployment returned {type(value).__name__}, which is neither JSON nor a Response") from None
