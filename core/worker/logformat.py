"""Records of Python's logging as a job wants them: with what the process works at, as text or as JSON.

One object of JSON a line, so that programs can read the logs of all workers; the names are Ray's.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from hpc.core.process.context import current_task, function_name, process
from hpc.core.process.current import current

TEXT, JSON = "TEXT", "JSON"
ENCODINGS = (TEXT, JSON)
#: What every record of Python's has; anything else was given by the program (``extra``).
STANDARD = frozenset({*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"})
_LINE = "%(asctime)s\t%(levelname)s %(filename)s:%(lineno)s -- %(message)s"


def place() -> dict[str, Any]:
    """The job, process and node of this process, and the task and actor that it works at, as far as there are some."""
    client, context = current.client, current_task.get()
    found: dict[str, Any] = {}
    if client is not None:
        found["job_id"] = client.registered.session
        found["worker_id"], found["node_id"] = str(client.addr), str(client.addr.node)
    if process.actor:
        found["actor_id"] = process.actor.hex()
    if context is not None:
        found["task_id"], found["task_name"] = context.task.hex(), context.name
        found["task_func_name"] = function_name(context)
    if process.actor_name:
        found["actor_name"] = process.actor_name
    return {name: value for name, value in found.items() if value}


class Format(logging.Formatter):
    """Text or JSON with `place`; ``attributes`` are more of a record's own that are wanted."""

    def __init__(self, encoding: str, attributes: list[str]) -> None:
        super().__init__(_LINE)
        self._encoding = encoding
        self._attributes = attributes

    def format(self, record: logging.LogRecord) -> str:
        """One line, but for messages and tracebacks of several in text."""
        more = {name: getattr(record, name, None) for name in self._attributes}
        more |= {name: value for name, value in vars(record).items() if name not in STANDARD}
        more |= place()
        more["timestamp_ns"] = int(record.created * 1e9)
        if self._encoding == TEXT:
            return " ".join([super().format(record), *(f"{name}={value}" for name, value in more.items())])
        fields: dict[str, Any] = {
            "asctime": self.formatTime(record),
            "levelname": record.levelname,
            "message": record.getMessage(),
            "filename": record.filename,
            "lineno": record.lineno,
            "process": record.process,
        }
        if record.exc_info:
            fields["exc_text"] = record.exc_text or self.formatException(record.exc_info)
        return json.dumps({**fields, **more}, default=str)


class _Applied:
    """What `apply` has made of the root logger, and what was there before."""

    handler: logging.Handler | None = None
    level = logging.WARNING


def apply(config: dict[str, Any] | None) -> None:
    """Make the root logger of this process log so, instead of what was applied last; None takes that away."""
    root = logging.getLogger()
    if _Applied.handler is not None:
        root.removeHandler(_Applied.handler)
        root.setLevel(_Applied.level)
        _Applied.handler = None
    if config is None:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(Format(config["encoding"], list(config["additional_log_standard_attrs"])))
    handler.setLevel(config["log_level"])
    _Applied.handler, _Applied.level = handler, root.level
    root.setLevel(config["log_level"])
    root.addHandler(handler)
