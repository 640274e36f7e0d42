"""Writes recorded_serve_names.json: Ray Serve's public names, their parameters, and the defaults that are plain values.

    ../ray/bin/python tests/compat/serve_names.py        with the interpreter of an environment that has Ray

test_serve_names.py compares this package with it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from compat.data_names import record, write

RECORDED = Path(__file__).with_name("recorded_serve_names.json")
#: A class is recorded with its members where it comes first.
MODULES = tuple(
    f"ray.serve{name}"
    for name in (
        "", ".config", ".handle", ".exceptions", ".context", ".schema", ".metrics", ".request_router",
        ".autoscaling_policy", ".grpc_util",
    )
)  # fmt: skip


def is_validator(name: str) -> bool:
    """Whether it is a method of a class of pydantic's, whose fields are what users know."""
    owner, _, _ = name.rpartition(".")
    module, _, last = owner.rpartition(".")
    return hasattr(getattr(sys.modules.get(module), last, None), "model_fields")


if __name__ == "__main__":
    write(RECORDED, {name: given for name, given in record(MODULES).items() if not is_validator(name)})
