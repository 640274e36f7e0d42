"""Which kind of accelerator a node has, as people say it: "A100", "H100", "MI300X".

Read from files that the drivers provide; their libraries were rejected, loading one takes longer than starting a node.
"""

from __future__ import annotations

import os
import re

#: Words of a product's name that are not its kind.
BRANDS = {"NVIDIA", "TESLA", "QUADRO", "GEFORCE", "RTX", "GTX", "AMD", "INSTINCT", "RADEON"}


def gpu_kind(root: str = "/") -> str:
    """The kind of the first GPU, or an empty string where no driver says so."""
    import glob  # not for nodes without any

    for path in sorted(glob.glob(os.path.join(root, "proc/driver/nvidia/gpus/*/information"))):
        for line in _read(path).splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "Model":
                return kind_in(value)
    for path in sorted(glob.glob(os.path.join(root, "sys/class/drm/card*/device/product_name"))):
        kind = kind_in(_read(path))
        if kind:
            return kind
    return ""


def kind_in(model: str) -> str:
    """The kind in a product's name: "NVIDIA A100-SXM4-40GB" gives "A100"."""
    for word in re.split(r"[\s_-]+", model.strip()):
        if word.upper() not in BRANDS and re.fullmatch(r"[A-Za-z]{0,3}\d{1,4}[A-Za-z]{0,3}", word):
            return word.upper()
    return ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
