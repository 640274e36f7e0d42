"""Each vendor's devices are found in the files of a machine, restricted to what was granted, and shown to a process by
the vendor's own variable. The machines are folders, and the vendors' modules are put in."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from unit.fake_nvml import FakeGpu, FakeNvml

from hpc.core.accelerators import table
from hpc.core.accelerators.base import INSTANCE_RESOURCES, Device, check_request
from hpc.core.accelerators.face import Probe, parse_cpus
from hpc.core.accelerators.intel import selected
from hpc.core.accelerators.nvidia import kind_of
from hpc.core.accelerators.table import Found
from hpc.core.accelerators.tpu import METADATA

Make = Callable[[Mapping[str, str]], None]


class FakeMachine:
    """A root folder: device files, and what the files of drivers say."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def devices(self, *names: str) -> None:
        """Device files, as names below /dev."""
        for name in names:
            path = self.root / "dev" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o666)

    def files(self, folder: str, **texts: object) -> None:
        """Files of a folder and what they say."""
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (self.root / folder / name).write_text(f"{text}\n")

    def find(
        self, environ: Mapping[str, str] | None = None, *, named: tuple[str, ...] = (), count: int | None = None,
        module: Any = None, answers: Mapping[str, str] | None = None,
    ) -> Found:  # fmt: skip
        """What a node of this machine has. module: what stands for each vendor's module. answers: those of the
        metadata server, by attribute."""

        def load(name: str) -> Any:
            if module is None:
                raise ImportError(name)
            return module

        def fetch(url: str, headers: Mapping[str, str]) -> str:
            assert headers == {"Metadata-Flavor": "Google"} and url.startswith(METADATA)
            if answers is None:
                raise OSError("no such host")
            return answers[url.removeprefix(METADATA)]

        probe = Probe(environ or {}, str(self.root), load, fetch)
        return table.find(probe, table.present(probe.environ, probe.root), named, count)

    def ids(self, *args: Any, **more: Any) -> list[str]:
        """The ids of what it has."""
        return [device.id for device in self.find(*args, **more).devices]


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


def shown(instances: Mapping[str, list[str]], devices: tuple[Device, ...], **environ: str) -> dict[str, str]:
    """The environment of a process that holds these instances."""
    table.show(instances, devices, environ)
    return environ


# ---------------------------------------------------------------- the table


def test_the_table_and_the_classes_agree() -> None:
    assert set(INSTANCE_RESOURCES) == {entry.resource for entry in table.TABLE}
    for entry in table.TABLE:
        vendor = entry.make()
        assert (vendor.name, vendor.resource, entry.variables[0]) == (entry.name, entry.resource, vendor.variable)
        assert vendor.noset.startswith("RAY_EXPERIMENTAL_NOSET_")


def test_a_node_without_device_files_imports_no_vendor(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.devices("null", "tty0", "sda")
    monkeypatch.setattr(table, "_probe", lambda *_: pytest.fail("nothing speaks for a vendor"))
    assert table.present({}, str(machine.root)) == [] and table.spoken_of({}) == ()
    assert table.present({}, str(machine.root / "absent")) == []


def test_device_files_are_told_from_others() -> None:
    for path in (
        "nvidia0",
        "nvidiactl",
        "kfd",
        "dri/renderD128",
        "dxg",
        "accel0",
        "accel/accel0",
        "vfio/3",
        "davinci0",
    ):
        assert table.is_device(f"/dev/{path}"), path
    for path in ("/dev/null", "/dev/shm/nvidia0", "/tmp/dev/nvidia0", "socket:[1]", "/dev/hlx", "/dev/pts/0"):
        assert not table.is_device(path), path


@pytest.mark.parametrize(("text", "cpus"), [("0-3,8", (0, 1, 2, 3, 8)), ("", ()), ("5", (5,)), ("junk", ())])
def test_lists_of_cpus(text: str, cpus: tuple[int, ...]) -> None:
    assert parse_cpus(text) == cpus


@pytest.mark.parametrize(
    ("resource", "amount", "fits"),
    [
        ("GPU", 0.5, True), ("NPU", 0.5, True), ("TPU", 0.5, False), ("TPU", 3, False), ("TPU", 4, True),
        ("TPU", 8.0, True), ("HPU", 0.5, False), ("HPU", 3, True), ("neuron_cores", 1.5, False),
        ("neuron_cores", 2.0, True), ("RBLN", 0.1, False), ("other", 0.1, True),
    ],
)  # fmt: skip
def test_what_can_be_asked_of_each(resource: str, amount: float, fits: bool) -> None:
    if fits:
        return check_request(resource, amount)
    with pytest.raises(ValueError, match=resource):
        check_request(resource, amount)


# ---------------------------------------------------------------- NVIDIA


def four_gpus() -> FakeNvml:
    """Two islands of NVLink."""
    gpus = [FakeGpu(f"GPU-{c}{i}00", bus=f"00000000:{i}1:00.0") for i, c in enumerate("abcd")]
    return FakeNvml(gpus, {(0, 1), (2, 3)})


def test_nvml_tells_memory_links_and_neighbours(machine: FakeMachine) -> None:
    machine.devices("nvidia0", "nvidia1", "nvidia2", "nvidia3", "nvidiactl")
    for i in range(4):
        machine.files(f"sys/bus/pci/devices/0000:{i}1:00.0", numa_node=i // 2, local_cpulist=f"{8 * i}-{8 * i + 1}")
    nvml = four_gpus()
    found = machine.find(module=nvml).devices
    assert [d.id for d in found] == ["0", "1", "2", "3"] and nvml.opened == 0
    assert found[2] == Device("2", "GPU", "A100", 40 << 30, 1, ("3",), (16, 17), "nvidia")
    part = machine.find({"CUDA_VISIBLE_DEVICES": "GPU-b1,GPU-a0,3"}, module=nvml).devices
    assert [(d.id, d.links, d.numa_node) for d in part] == [
        ("GPU-b1", ("GPU-a0",), 0), ("GPU-a0", ("GPU-b1",), 0), ("3", (), 1),
    ]  # fmt: skip


def test_what_is_not_there_ends_the_list_as_in_cuda(machine: FakeMachine) -> None:
    machine.devices("nvidia0", "nvidia1")
    assert machine.ids({"CUDA_VISIBLE_DEVICES": "1,7,0"}, module=four_gpus()) == ["1"]
    assert machine.ids({"CUDA_VISIBLE_DEVICES": ""}, module=four_gpus()) == []
    assert machine.ids({"CUDA_VISIBLE_DEVICES": "7"}) == ["7"]  # without NVML nobody knows better


def test_a_schedulers_numbers_are_those_of_the_machine(machine: FakeMachine) -> None:
    machine.devices("nvidia6", "nvidia7")  # a device cgroup left two, which the driver counts from 0
    two = FakeNvml(four_gpus().gpus[:2])
    assert machine.ids(named=("6", "7"), module=two) == ["0", "1"] == machine.ids(named=("6", "7"))
    assert machine.ids(named=("1",), module=two) == ["1"]
    assert machine.ids(count=1, module=two) == ["0"] and machine.ids(count=0, module=two) == []


def test_instances_of_mig_are_devices_and_their_gpu_is_none(machine: FakeMachine) -> None:
    machine.devices("nvidia0", "nvidia1")
    halves = [("MIG-1111", 20 << 30), ("MIG-2222", 20 << 30)]
    nvml = FakeNvml([FakeGpu("GPU-aaaa", mig=halves), FakeGpu("GPU-bbbb")], {(0, 1)})
    found = machine.find(module=nvml).devices
    assert [(d.id, d.memory_bytes >> 30, d.kind, d.links) for d in found] == [
        ("MIG-1111", 20, "A100", ()), ("MIG-2222", 20, "A100", ()), ("GPU-bbbb", 40, "A100", ()),
    ]  # fmt: skip
    assert machine.ids({"CUDA_VISIBLE_DEVICES": "MIG-2222"}, module=nvml) == ["MIG-2222"]
    assert machine.ids({"CUDA_VISIBLE_DEVICES": "GPU-aaaa"}, module=nvml) == ["MIG-1111", "MIG-2222"]
    assert machine.ids({"CUDA_VISIBLE_DEVICES": "MIG-GPU-aaaa/1/0"}, module=nvml) == ["MIG-GPU-aaaa/1/0"]
    assert machine.ids({"CUDA_VISIBLE_DEVICES": "MIG-3333"}, module=nvml) == []
    nvml.gpus[0].mig = []  # MIG is on, and nobody has made an instance: CUDA can use nothing of it
    assert machine.ids(module=nvml) == ["GPU-bbbb"]


def test_gpus_of_several_kinds_are_named_by_uuid(machine: FakeMachine) -> None:
    """CUDA puts the fastest first, NVML goes by the bus: a number means two things."""
    machine.devices("nvidia0", "nvidia1")
    nvml = FakeNvml([FakeGpu("GPU-aa", "Tesla T4"), FakeGpu("GPU-bb")])
    assert machine.ids(module=nvml) == ["GPU-aa", "GPU-bb"]
    (one,) = machine.find({"CUDA_VISIBLE_DEVICES": "0"}, module=nvml).devices
    assert (one.id, one.kind) == ("0", "")
    (one,) = machine.find({"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, module=nvml).devices
    assert (one.id, one.kind) == ("0", "T4")


def test_a_gpu_with_a_fault_says_so_and_a_lost_one_is_left_out(machine: FakeMachine) -> None:
    machine.devices("nvidia0", "nvidia1", "nvidia2", "nvidia3")
    nvml = four_gpus()
    nvml.gpus[0].rows = (1, 0, False, True)
    nvml.gpus[1].ecc = 3
    nvml.gpus[2].lost = True
    found = machine.find(module=nvml).devices
    assert [d.id for d in found] == ["0", "1", "3"]
    assert "exchanged" in found[0].fault and found[1].fault.startswith("3 ECC errors") and not found[2].fault


def test_without_nvml_the_drivers_files_tell_kind_and_neighbours(machine: FakeMachine) -> None:
    machine.devices("nvidia0", "nvidia1")
    for bus, minor in (("0000:a1:00.0", 0), ("0000:01:00.0", 1)):
        uuid = "GPU-????????-????" if minor else "GPU-1234"
        said = f"Model: \t\t NVIDIA H200\nGPU UUID: \t {uuid}\nDevice Minor: \t {minor}"
        machine.files(f"proc/driver/nvidia/gpus/{bus}", information=said)
        machine.files(f"sys/bus/pci/devices/{bus}", numa_node=1 - minor)
    for module in (None, FakeNvml([], driver=False)):
        found = machine.find(module=module).devices
        assert [(d.id, d.kind, d.numa_node) for d in found] == [("0", "H200", 0), ("1", "H200", 1)]  # by the bus


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA A100-SXM4-40GB", "A100"), ("Tesla V100-SXM2-16GB", "V100"), ("NVIDIA H200", "H200"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000"), ("NVIDIA L40S", "L40S"),
        ("NVIDIA GeForce RTX 5090", "GeForce-RTX-5090"), ("", ""),
    ],
)  # fmt: skip
def test_kinds_have_rays_names(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_a_process_sees_its_gpus_and_one_without_sees_none() -> None:
    devices = (Device("0", "GPU", vendor="nvidia"), Device("GPU-b", "GPU", vendor="nvidia"))
    assert shown({"GPU": ["GPU-b"]}, devices) == {"CUDA_VISIBLE_DEVICES": "GPU-b"}
    assert shown({}, devices, CUDA_VISIBLE_DEVICES="0,1") == {"CUDA_VISIBLE_DEVICES": ""}
    assert shown({}, ()) == {} and shown({"GPU": ["1"]}, (Device("1", "GPU"),)) == {"CUDA_VISIBLE_DEVICES": "1"}


def test_the_user_can_forbid_each_variable() -> None:
    for entry in table.TABLE:
        vendor = entry.make()
        devices = (Device("0", entry.resource, vendor=entry.name), Device("1", entry.resource, vendor=entry.name))
        for said, expected in (("1", None), ("True", None), ("0", "0"), ("", "0")):
            environ = shown({entry.resource: ["0"]}, devices, **{vendor.noset: said})
            assert environ.get(vendor.variable, "").removeprefix("npu:") == (expected or ""), (entry.name, said)
        assert vendor.variable not in shown({}, devices, **{vendor.noset: "1"})
        own = {vendor.variable: "7"}
        table.show({entry.resource: ["0"]}, devices, own, kept=own.keys())
        table.show({}, devices, own, kept=own.keys())
        assert own == {vendor.variable: "7"}


# ---------------------------------------------------------------- AMD


def amd_node(machine: FakeMachine, count: int = 4) -> None:
    """A processor and GPUs in pairs that xGMI links."""
    machine.devices("kfd")
    nodes = "sys/class/kfd/kfd/topology/nodes"
    machine.files(f"{nodes}/0", properties="cpu_cores_count 64\nsimd_count 0\ndrm_render_minor 0")
    for i in range(count):
        minor, peer = 128 + i, (i ^ 1) + 1
        machine.devices(f"dri/renderD{minor}")
        facts = f"simd_count 440\ndevice_id {0x740C}\ndrm_render_minor {minor}\nunique_id {0xABC0 + i}"
        machine.files(f"{nodes}/{i + 1}", properties=facts)
        machine.files(f"{nodes}/{i + 1}/mem_banks/0", properties=f"heap_type 1\nsize_in_bytes {64 << 30}")
        machine.files(f"{nodes}/{i + 1}/io_links/0", properties="type 2\nnode_to 0")
        machine.files(f"{nodes}/{i + 1}/io_links/1", properties=f"type 11\nnode_to {peer}")
        machine.files(f"sys/class/drm/renderD{minor}/device", numa_node=i // 2, local_cpulist=f"{i}")


def test_amds_devices_are_those_of_its_driver(machine: FakeMachine) -> None:
    amd_node(machine)
    found = machine.find().devices
    assert [d.id for d in found] == ["0", "1", "2", "3"]
    assert found[3] == Device("3", "GPU", "AMD-Instinct-MI250X-MI250", 64 << 30, 1, ("2",), (3,), "amd")
    (machine.root / "dev/dri/renderD128").unlink()  # a container has the files of its own devices alone
    assert [(d.id, d.links) for d in machine.find().devices] == [("0", ()), ("1", ("2",)), ("2", ("1",))]
    (machine.root / "dev/kfd").unlink()
    assert machine.find().devices == ()


def test_hip_counts_within_rocr(machine: FakeMachine) -> None:
    amd_node(machine)
    outer = {"ROCR_VISIBLE_DEVICES": "3,2"}
    found = machine.find(outer).devices
    assert [(d.id, d.cpus, d.links) for d in found] == [("0", (3,), ("1",)), ("1", (2,), ("0",))]
    assert [(d.id, d.cpus) for d in machine.find({**outer, "HIP_VISIBLE_DEVICES": "1"}).devices] == [("1", (2,))]
    assert machine.ids({**outer, "HIP_VISIBLE_DEVICES": "2"}) == []
    assert machine.ids({**outer, "CUDA_VISIBLE_DEVICES": "3,2"}) == ["0", "1"]  # Slurm says it both ways
    assert machine.ids({"ROCR_VISIBLE_DEVICES": f"GPU-{0xABC1:016x}"}) == ["0"]
    assert machine.ids({"CUDA_VISIBLE_DEVICES": "1"}) == ["1"] == machine.ids(named=("1",))
    assert machine.ids(named=("4", "5", "6", "7")) == ["0", "1", "2", "3"]
    own = shown({"GPU": ["1"]}, found, **outer, CUDA_VISIBLE_DEVICES="3,2")
    assert own == {"ROCR_VISIBLE_DEVICES": "3,2", "HIP_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "1"}
    assert shown({}, found, **outer) == {"ROCR_VISIBLE_DEVICES": "3,2", "HIP_VISIBLE_DEVICES": "-1"}


# ---------------------------------------------------------------- Intel


def intel_node(machine: FakeMachine, tiles: int = 2) -> None:
    """The processor's own graphics and two cards."""
    for i, (bus, device) in enumerate((("0000:00:02.0", 0x9A49), ("0000:4a:00.0", 0x0BD6), ("0000:1b:00.0", 0x0BD6))):
        folder = f"sys/class/drm/card{i}/device"
        machine.devices(f"dri/renderD{128 + i}", f"dri/card{i}")
        (machine.root / folder / "drm" / f"renderD{128 + i}").mkdir(parents=True)
        machine.files(
            folder, vendor="0x8086", device=f"{device:#x}", uevent=f"DRIVER=xe\nPCI_SLOT_NAME={bus}", numa_node=i - 1
        )
        for tile in range(tiles):
            (machine.root / folder / f"tile{tile}").mkdir()


def test_intels_tiles_are_devices_unless_cards_are_wanted(machine: FakeMachine) -> None:
    intel_node(machine)
    found = machine.find().devices
    assert [(d.id, d.kind, d.numa_node) for d in found] == [
        (str(i), "Intel-GPU-Max-1550", numa) for i, numa in enumerate((1, 1, 0, 0))
    ]  # fmt: skip
    cards = {"ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE"}
    assert machine.ids(cards) == ["0", "1"]
    assert [(d.id, d.numa_node) for d in machine.find({**cards, "ZE_AFFINITY_MASK": "0.1,1.0"}).devices] == [
        ("0.1", 1), ("1.0", 0),
    ]  # fmt: skip


def test_a_selector_counts_within_the_mask(machine: FakeMachine) -> None:
    intel_node(machine)
    mask = {"ZE_AFFINITY_MASK": "2,3"}
    assert machine.ids(mask) == ["2", "3"]
    assert machine.ids({**mask, "ONEAPI_DEVICE_SELECTOR": "level_zero:1"}) == ["3"]
    assert machine.ids({"ONEAPI_DEVICE_SELECTOR": "level_zero:0,2"}) == ["0", "2"]
    assert machine.ids({"ONEAPI_DEVICE_SELECTOR": "opencl:cpu;level_zero:gpu"}) == ["0", "1", "2", "3"]
    assert machine.ids(named=("1",)) == ["1"]
    devices = machine.find({"ONEAPI_DEVICE_SELECTOR": "level_zero:0,2"}).devices
    own = shown({"GPU": ["2"]}, devices, ONEAPI_DEVICE_SELECTOR="level_zero:0,2")
    assert own == {"ZE_AFFINITY_MASK": "2", "ONEAPI_DEVICE_SELECTOR": "level_zero:*"}
    other = shown({"GPU": ["2"]}, devices, ONEAPI_DEVICE_SELECTOR="opencl:*")
    assert other == {"ZE_AFFINITY_MASK": "2", "ONEAPI_DEVICE_SELECTOR": "opencl:*"}


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("level_zero:0,1", ("0", "1")),
        ("0,1", ("0", "1")),
        ("*:3", ("3",)),
        ("level_zero:*", None),
        ("cuda:0", None),
        ("", None),
    ],
)
def test_selectors(text: str, numbers: tuple[str, ...] | None) -> None:
    assert selected(text) == numbers


# ---------------------------------------------------------------- TPU

GKE = {
    "TPU_ACCELERATOR_TYPE": "v4-16", "TPU_TOPOLOGY": "2x2x2", "TPU_WORKER_ID": "0", "TPU_NAME": "my-tpu",
}  # fmt: skip


def test_chips_and_the_slice_that_variables_tell(machine: FakeMachine) -> None:
    machine.devices("accel0", "accel1", "accel2", "accel3")
    found = machine.find(GKE)
    assert [(d.id, d.resource, d.kind) for d in found.devices] == [(str(i), "TPU", "TPU-V4") for i in range(4)]
    assert found.resources == {"my-tpu": 1.0, "TPU-v4-16-head": 1.0}
    assert found.labels == {
        "ray.io/tpu-slice-name": "my-tpu", "ray.io/tpu-worker-id": "0", "ray.io/tpu-topology": "2x2x2",
        "ray.io/tpu-pod-type": "v4-16",
    }  # fmt: skip
    assert machine.find({**GKE, "TPU_WORKER_ID": "1"}).resources == {"my-tpu": 1.0}
    assert machine.ids({**GKE, "TPU_VISIBLE_CHIPS": "2,3"}) == ["2", "3"]
    ironwood = machine.find({**GKE, "TPU_ACCELERATOR_TYPE": "tpu7x-16"})
    assert ironwood.devices[0].kind == "TPU-V7X" and "TPU-v7x-16-head" in ironwood.resources


def test_the_metadata_server_is_asked_where_variables_are_silent(machine: FakeMachine) -> None:
    machine.devices("accel0")
    answers = {
        "accelerator-type": "v5litepod-16", "instance-id": "t-1", "agent-worker-number": "2",
        "tpu-env": "A: 'x'\nTOPOLOGY: '4x4'\n",
    }  # fmt: skip
    found = machine.find(answers=answers)
    assert found.devices[0].kind == "TPU-V5LITEPOD" and found.labels["ray.io/tpu-topology"] == "4x4"
    assert found.resources == {"t-1": 1.0}
    alone = machine.find()
    assert [d.kind for d in alone.devices] == [""] and alone.resources == alone.labels == {}


def test_groups_of_vfio_count_where_their_device_is_googles(machine: FakeMachine) -> None:
    machine.devices("vfio/vfio", "vfio/0", "vfio/10", "vfio/96")
    for group, vendor in ((0, "0x1ae0"), (10, "0x1ae0"), (96, "0x15b3")):
        machine.files(f"sys/kernel/iommu_groups/{group}/devices/0000:00:0{group % 9}.0", vendor=vendor, numa_node=1)
    assert [(d.id, d.numa_node) for d in machine.find(GKE).devices] == [("0", 1), ("1", 1)]


def test_a_folder_accel_is_no_chip(machine: FakeMachine) -> None:
    machine.devices("accel/accel0")
    assert machine.find(GKE).devices == ()


def test_a_chip_can_count_as_several_devices(machine: FakeMachine) -> None:
    machine.devices("accel0", "accel1")
    environ = {**GKE, "RAY_TPU_RESOURCE_PER_CHIP": "2"}
    devices = machine.find(environ).devices
    assert [d.id for d in devices] == ["0", "1", "2", "3"]
    assert machine.ids({**environ, "TPU_VISIBLE_CHIPS": "1"}) == ["2", "3"]
    assert shown({"TPU": ["2"]}, devices, RAY_TPU_RESOURCE_PER_CHIP="2")["TPU_VISIBLE_CHIPS"] == "1"
    with pytest.raises(ValueError, match="RAY_TPU_RESOURCE_PER_CHIP is 'two'"):
        machine.find({**GKE, "RAY_TPU_RESOURCE_PER_CHIP": "two"})


def test_a_part_of_a_host_has_its_bounds_and_all_of_it_has_none(machine: FakeMachine) -> None:
    machine.devices("accel0", "accel1", "accel2", "accel3")
    devices = machine.find(GKE).devices
    one = {"TPU_VISIBLE_CHIPS": "2", "TPU_CHIPS_PER_HOST_BOUNDS": "1,1,1", "TPU_HOST_BOUNDS": "1,1,1"}
    two = {"TPU_VISIBLE_CHIPS": "0,1", "TPU_CHIPS_PER_HOST_BOUNDS": "1,2,1", "TPU_HOST_BOUNDS": "1,1,1"}
    assert shown({"TPU": ["2"]}, devices) == one and shown({"TPU": ["0", "1"]}, devices) == two
    assert shown({"TPU": ["0", "1", "2", "3"]}, devices) == {} == shown({}, devices)
    invented = tuple(Device(str(i), "TPU") for i in range(4))
    assert shown({"TPU": ["0", "1", "2", "3"]}, invented) == {"TPU_VISIBLE_CHIPS": "0,1,2,3"}


# ---------------------------------------------------------------- Ascend, Gaudi, Neuron and those that nothing finds


def test_ascends_npus_are_its_device_files(machine: FakeMachine) -> None:
    machine.devices("davinci0", "davinci1", "davinci10", "davinci_manager")
    acl = type("acl", (), {"get_soc_name": staticmethod(lambda: "Ascend910B")})
    devices = machine.find(module=acl).devices
    assert [(d.id, d.resource, d.kind) for d in devices] == [(str(i), "NPU", "Ascend910B") for i in range(3)]
    assert machine.ids({"ASCEND_RT_VISIBLE_DEVICES": "1,2"}) == ["1", "2"]
    assert shown({"NPU": ["1"]}, devices) == {"ASCEND_RT_VISIBLE_DEVICES": "1"}


def test_gaudis_are_named_by_module(machine: FakeMachine) -> None:
    for i, module in enumerate((3, 1)):
        machine.devices(f"accel/accel{i}")
        machine.files(
            f"sys/class/accel/accel{i}/device", vendor="0x1da3", module_id=module, device_type="GAUDI2", numa_node=i
        )
    machine.devices("accel/accel2")  # another vendor's
    machine.files("sys/class/accel/accel2/device", vendor="0x8086")
    devices = machine.find().devices
    assert [(d.id, d.resource, d.kind, d.numa_node) for d in devices] == [
        ("1", "HPU", "Intel-GAUDI2", 1), ("3", "HPU", "Intel-GAUDI2", 0),
    ]  # fmt: skip
    assert machine.ids({"HABANA_VISIBLE_MODULES": "3"}) == ["3"]
    assert shown({"HPU": ["3"]}, devices) == {"HABANA_VISIBLE_MODULES": "3"}


def test_gaudis_of_older_drivers(machine: FakeMachine) -> None:
    machine.devices("hl0", "hl1", "hl_controlD0")
    for i in range(2):
        machine.files(f"sys/class/habanalabs/hl{i}/device", numa_node=i)
    assert [(d.id, d.numa_node) for d in machine.find().devices] == [("0", 0), ("1", 1)]


def test_neuron_cores_are_counted_over_all_devices(machine: FakeMachine) -> None:
    machine.devices("neuron0", "neuron1", "neuron2")
    for i, connected in enumerate(("1", "0", "")):
        machine.files(f"sys/class/neuron_device/neuron{i}", core_count=2, connected_devices=connected)
    devices = machine.find().devices
    assert [(d.id, d.links) for d in devices] == [
        ("0", ("1", "2", "3")), ("1", ("0", "2", "3")), ("2", ("3", "0", "1")), ("3", ("2", "0", "1")), ("4", ("5",)),
        ("5", ("4",)),
    ]  # fmt: skip
    assert {(d.resource, d.kind) for d in devices} == {("neuron_cores", "aws-neuron-core")}
    part = machine.find({"NEURON_RT_VISIBLE_CORES": "1-2"}).devices
    assert [(d.id, d.links) for d in part] == [("1", ("2",)), ("2", ("1",))]
    assert shown({"neuron_cores": ["1", "2"]}, devices) == {"NEURON_RT_VISIBLE_CORES": "1,2"}


def test_neuron_cores_by_the_vendors_tool(machine: FakeMachine) -> None:
    machine.devices("neuron0")
    assert machine.ids() == []
    machine.files("opt/aws/neuron/bin", **{"neuron-ls": '#!/bin/sh\necho \'[{"neuron_device": 0, "nc_count": 2}]\''})
    os.chmod(machine.root / "opt/aws/neuron/bin/neuron-ls", 0o755)
    assert machine.ids() == ["0", "1"]


def test_what_nothing_finds_is_shown_all_the_same() -> None:
    assert shown({"FURIOSA": ["0", "2"]}, ()) == {"FURIOSA_DEVICES": "npu:0,npu:2"}
    assert shown({"RBLN": ["1"], "TTNPU": ["0"], "MBLT": ["3"]}, ()) == {
        "RBLN_DEVICES": "1", "TT_VISIBLE_DEVICES": "0", "QBRUNTIME_VISIBLE_DEVICES": "3",
    }  # fmt: skip


# ---------------------------------------------------------------- several vendors, and none


def test_a_machine_with_gpus_of_two_vendors_offers_those_of_the_first(machine: FakeMachine) -> None:
    amd_node(machine, 2)
    machine.devices("nvidia0", "accel0")
    found = machine.find({"TPU_NAME": "t"}).devices
    assert [(d.id, d.vendor) for d in found] == [("0", "nvidia"), ("0", "tpu")]
    assert [d.vendor for d in machine.find({"CUDA_VISIBLE_DEVICES": ""}).devices] == ["tpu"]
    assert [d.vendor for d in machine.find({"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "1"}).devices] == [
        "amd",
        "tpu",
    ]


def test_variables_are_believed_where_no_device_file_is() -> None:
    def ids(named: tuple[str, ...] = (), **environ: str) -> list[tuple[str, str]]:
        return [(device.id, device.vendor) for device in table.spoken_of(environ, named)]

    assert ids(CUDA_VISIBLE_DEVICES="2,3", ZE_AFFINITY_MASK="2,3") == [("2", "nvidia"), ("3", "nvidia")]
    assert ids(ROCR_VISIBLE_DEVICES="4,5") == [("0", "amd"), ("1", "amd")]
    assert ids(ROCR_VISIBLE_DEVICES="4,5", HIP_VISIBLE_DEVICES="1") == [("1", "amd")]
    assert ids(HIP_VISIBLE_DEVICES="4") == [("4", "amd")] and ids(ZE_AFFINITY_MASK="1") == [("1", "intel")]
    assert ids(("6",)) == [("6", "nvidia")] and ids() == []
