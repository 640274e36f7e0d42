"""Cores of AWS's Inferentia and Trainium, by the driver's files, else by neuron-ls."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hpc.core.accelerators.base import Device
from hpc.core.accelerators.face import Probe, Vendor, only_links_among

CLASS = "sys/class/neuron_device"
TOOL = "opt/aws/neuron/bin/neuron-ls"
TOOL_TIMEOUT_S = 10.0
KIND = "aws-neuron-core"


class Neuron(Vendor):
    """Cores that NEURON_RT_VISIBLE_CORES numbers over all devices of the machine."""

    name = "neuron"
    resource = "neuron_cores"
    variable = "NEURON_RT_VISIBLE_CORES"
    noset = "RAY_EXPERIMENTAL_NOSET_NEURON_RT_VISIBLE_CORES"

    def present(self, probe: Probe) -> bool:
        return bool(probe.names("dev", r"neuron\d+"))

    def detect(self, probe: Probe, named: Sequence[str] = ()) -> tuple[Device, ...]:
        there = [name for name in probe.names("dev", r"neuron\d+") if probe.openable("dev", name)]
        counts = {name: probe.number(CLASS, name, "core_count") for name in there}
        if not all(counts.values()):
            counts = _by_tool(probe)
        cores: dict[str, list[str]] = {}
        count = 0
        for name in there:
            each = counts.get(name, 0)
            cores[name] = [str(count + i) for i in range(each)]
            count += each
        found = []
        for name in there:
            others = [f"neuron{i}" for i in re.findall(r"\d+", probe.text(CLASS, name, "connected_devices"))]
            near = [core for each in (name, *others) for core in cores.get(each, ())]
            numa, cpus = probe.neighbours(f"{CLASS}/{name}/device")
            for core in cores[name]:
                links = tuple(other for other in near if other != core)
                found.append(Device(core, self.resource, KIND, 0, numa, links, cpus, self.name))
        return only_links_among(self.chosen(found, self.granted(probe.environ)))


def _by_tool(probe: Probe) -> dict[str, int]:
    """How many cores each device has, by the vendor's tool; nothing where it is absent or fails."""
    import json
    import subprocess  # takes longer to import than all of this package

    try:
        done = subprocess.run([probe.path(TOOL), "--json-output"], capture_output=True, timeout=TOOL_TIMEOUT_S)
        rows = json.loads(done.stdout)
        return {f"neuron{row['neuron_device']}": int(row["nc_count"]) for row in rows}
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return {}
