"""Labels of nodes, and selectors over them.

A selector is plain data, so that it can travel: a list of (key, operator, values), all of which must hold. Operators
are "in", "!in", "exists" and "!exists"; a node without the label is "!in" everything. The runtime's own labels have the
prefix ``hpc.io/``; each is also there under ``ray.io/``, so that selectors written for Ray find them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

PREFIXES = ("hpc.io/", "ray.io/")
NODE_ID, HOST, ACCELERATOR = "hpc.io/node-id", "hpc.io/host", "hpc.io/accelerator-type"
#: The switch that a node is connected to, and the way down to it from the top of the network.
SWITCH, NETWORK_PATH = "hpc.io/switch", "hpc.io/network-path"
#: The switches above that one, by their levels: the node's own has level 0, the one above it 1.
SWITCH_ABOVE, SWITCH_LEVELS = "hpc.io/switch-level-", 10
#: Nodes whose GPUs reach each other over NVLink, and nodes of one TPU slice, have the same value.
NVLINK_DOMAIN, TPU_SLICE = "hpc.io/nvlink-domain", "hpc.io/tpu-slice-name"
#: The name under which programs for Ray ask for the NVLink domain.
GPU_DOMAIN = "hpc.io/gpu-domain"

MAX_VALUE = 63

_KEY = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_CALL = re.compile(r"(!?)in\(([^()]*)\)")

Selector = list[tuple[str, str, list[str]]]


def check_key(key: Any) -> str:
    """A label's key, or ValueError."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is not the key of a label: letters, digits, '-', '_', '.', and one '/' at most")
    return key


def check_value(value: Any) -> str:
    """A label's value, or ValueError."""
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        raise ValueError(f"{value!r} is not the value of a label: at most 63 letters, digits, '-', '_' and '.'")
    return value


def parse_selector(given: Any) -> Selector:
    """From the written form, ``{"k": "v" | "!v" | "in(a, b)" | "!in(a, b)"}``. Raises TypeError or ValueError."""
    if not isinstance(given, Mapping):
        raise TypeError(f"a label selector is a dict of labels and conditions, not {type(given).__name__}")
    selector: Selector = []
    for key, condition in given.items():
        if not isinstance(condition, str):
            raise TypeError(f"the condition on label {key!r} must be a string, not {type(condition).__name__}")
        call = _CALL.fullmatch(condition.strip())
        if call:
            if not call[2].strip():
                raise ValueError(f"{condition!r} names no values of label {key!r}: no node can be meant")
            negated, values = call[1], [part.strip() for part in call[2].split(",")]
        elif "(" in condition or ")" in condition:
            raise ValueError(f'{condition!r} is no condition on a label: "v", "!v", "in(a, b)" or "!in(a, b)" are')
        else:
            negated = "!" if condition.startswith("!") else ""
            values = [condition.removeprefix("!")]
        selector.append((check_key(key), f"{negated}in", [check_value(v) for v in values]))
    return selector


def matches(labels: Mapping[str, str], selector: Sequence[Sequence[Any]]) -> bool:
    """Whether a node with these labels is meant."""
    for key, operator, values in selector:
        value = labels.get(key)
        if operator.endswith("exists"):
            found = value is not None
        else:
            found = value is not None and value in values
        if found == operator.startswith("!"):
            return False
    return True


def show_selector(selector: Sequence[Sequence[Any]]) -> str:
    """A selector for people."""
    return ", ".join(f"{key} {op} ({', '.join(values)})" if values else f"{key} {op}" for key, op, values in selector)


def _as_value(text: str) -> str:
    """The text as a label's value: what no value may have becomes a dash. Texts that are too long stay different."""
    value = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-_.")
    if len(value) > MAX_VALUE:
        value = f"{value[: MAX_VALUE - 9].strip('-_.')}-{zlib.crc32(text.encode()):08x}"
    return value


def host_patterns(text: str) -> list[tuple[str, re.Pattern[str]]]:
    """The labels of a text LABEL=PATTERN LABEL=PATTERN ..., and their patterns of host names. ValueError for another
    text."""
    found = []
    for word in text.split():
        key, equals, pattern = word.partition("=")
        if not equals or not pattern:
            raise ValueError(f"{word!r} is not LABEL=PATTERN")
        try:
            found.append((check_key(key), re.compile(pattern)))
        except re.error as error:
            raise ValueError(f"{pattern!r} of label {key} is no pattern: {error}") from None
    return found


def labels_of_host(text: str, host: str) -> dict[str, str]:
    """The labels that follow from a host's name, which a pattern has to match from its beginning. The value is what the
    pattern's groups matched, with dots between, or all that it matched."""
    found = {}
    for key, pattern in host_patterns(text):
        if match := pattern.match(host):
            parts = [part for part in match.groups() if part] if pattern.groups else [match[0]]
            if value := _as_value(".".join(parts)):
                found[key] = value
    return found


def node_labels(
    given: Mapping[str, str], node: int, host: str, accelerator: str, switches: Sequence[str] = ()
) -> dict[str, str]:
    """The user's labels and the runtime's own, both also under the other prefix. switches: from the top down."""
    labels = {NODE_ID: str(node), HOST: host}
    if switches:
        labels[SWITCH] = _as_value(switches[-1])
        for level, switch in enumerate(reversed(switches[-SWITCH_LEVELS:-1]), start=1):
            labels[f"{SWITCH_ABOVE}{level}"] = _as_value(switch)
        labels[NETWORK_PATH] = _as_value(".".join(switches))
    if accelerator:
        labels[ACCELERATOR] = accelerator
    labels.update(given)
    domain = next((labels[k] for p in PREFIXES if (k := p + NVLINK_DOMAIN.removeprefix(PREFIXES[0])) in labels), "")
    if domain and not any(p + GPU_DOMAIN.removeprefix(PREFIXES[0]) in labels for p in PREFIXES):
        labels[GPU_DOMAIN] = domain
    ours, theirs = PREFIXES
    for key, value in list(labels.items()):
        for a, b in ((ours, theirs), (theirs, ours)):
            if key.startswith(a):
                other = b + key.removeprefix(a)
                if other in given and key not in given:
                    labels[key] = given[other]
                else:
                    labels[other] = value
    return labels
