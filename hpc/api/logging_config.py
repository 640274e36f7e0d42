"""How the processes of a job log: `LoggingConfig`, for `hpc.init`."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from hpc.core.variables import LOGGING_ENCODING, named, text
from hpc.core.worker.logformat import ENCODINGS, JSON, STANDARD, TEXT


@dataclass
class LoggingConfig:
    """How Python's root logger writes in the driver and in all workers of its tasks and actors.

    encoding: "TEXT", or "JSON": one object a line, with the record's asctime, levelname, message, filename, lineno,
        process, exc_text and timestamp_ns, with job_id, worker_id, node_id, actor_id, actor_name, task_id, task_name
        and task_func_name where there are such, and with what the program adds (``extra``). TEXT has them behind the
        message.
    log_level: the level from which on records are written, a name or a number.
    additional_log_standard_attrs: more attributes of Python's records, as "name" or "funcName".
    Raises ValueError for an encoding, a level or an attribute that does not exist.
    """

    encoding: str = TEXT
    log_level: str | int = "INFO"
    additional_log_standard_attrs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise ValueError(f"encoding is {self.encoding!r}; there are {' and '.join(ENCODINGS)}")
        unknown = [name for name in self.additional_log_standard_attrs if name not in STANDARD]
        if unknown:
            raise ValueError(f"a record of Python has no {', '.join(unknown)}; it has {', '.join(sorted(STANDARD))}")
        logging.Handler().setLevel(self.log_level)  # ValueError or TypeError for what is none

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dict."""
        return asdict(self)

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> LoggingConfig:
        """The reverse of `to_dict`; keys that are no fields are left out."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in d.items() if name in known})


def wanted_logging(given: LoggingConfig | None) -> dict[str, Any] | None:
    """What the job's processes are told, as `LoggingConfig.to_dict`: that of ``given``, else of the environment."""
    if given is None:
        encoding = text(LOGGING_ENCODING)
        if not encoding:
            return None
        if encoding not in ENCODINGS:
            raise ValueError(f"{named(LOGGING_ENCODING)} is {encoding!r}; it takes {' or '.join(ENCODINGS)}")
        given = LoggingConfig(encoding)
    if not isinstance(given, LoggingConfig):
        raise TypeError(f"logging_config must be a LoggingConfig, not {type(given).__name__}")
    return given.to_dict()


def is_structured(config: dict[str, Any] | None) -> bool:
    """Whether each line is a record that a program may read: nothing is added to it, none are folded."""
    return config is not None and config["encoding"] == JSON
