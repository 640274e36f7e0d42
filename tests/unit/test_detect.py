"""A node offers what the scheduler granted, not what the machine has; addresses follow the stated order."""

from __future__ import annotations

import os
import threading

import pytest

from hpc.core.accelerators.base import Device, ids_by_resource, offered, parse_ids
from hpc.core.node import detect
from hpc.core.node.address import Interface, InterfaceError, NoNetworkError, choose, list_interfaces, node_address
from hpc.core.node.rundir import MAX_SOCKET_PATH, RunDirError, choose_base, dir_name, make, remove, sweep
from hpc.core.node.spec import Granted, parse_start

ALL_CPUS = len(os.sched_getaffinity(0))


@pytest.fixture
def machine(tmp_path):
    """A root folder to which files are added by `machine(path, text)`."""

    def put(path: str, text: str) -> str:
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return str(tmp_path)

    put("proc/meminfo", "MemTotal: 64000000 kB\nMemFree: 1 kB\nMemAvailable:   32000000 kB\n")
    return put


def cgroup_v2(machine, path="/slurm/job_7/step_0", mount_root="/"):
    machine("proc/self/cgroup", f"0::{path}\n")
    return machine(
        "proc/self/mountinfo", f"30 23 0:26 {mount_root} /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
    )


def cgroup_v1(machine, path):
    machine("proc/self/cgroup", f"4:memory:{path}\n1:cpu,cpuacct:{path}\n0::/\n")
    return machine(
        "proc/self/mountinfo",
        "33 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n",
    )


def test_memory_is_the_tightest_limit_up_the_chain(machine):
    root = cgroup_v2(machine)
    machine("sys/fs/cgroup/slurm/job_7/step_0/memory.max", "max\n")
    machine("sys/fs/cgroup/slurm/job_7/memory.max", "8000000000\n")
    machine("sys/fs/cgroup/slurm/memory.max", "9000000000\n")
    assert detect.granted_memory({}, {}, 4, root) == 8_000_000_000


def test_memory_in_cgroup_v1_ignores_the_number_that_means_no_limit(machine):
    root = cgroup_v1(machine, "/a/b")
    machine("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n")
    assert detect.granted_memory({}, {}, 4, root) == 32_000_000 * 1024
    machine("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "5000000000\n")
    assert detect.granted_memory({}, {}, 4, root) == 5_000_000_000


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SLURM_MEM_PER_NODE": "2048"}, 2048 << 20),
        ({"SLURM_MEM_PER_NODE": "2G"}, 2 << 30),
        ({"SLURM_MEM_PER_NODE": "0"}, 32_000_000 * 1024),  # Slurm's "all"
        ({"SLURM_MEM_PER_CPU": "1000"}, 4000 << 20),
        ({}, 32_000_000 * 1024),
    ],
)
def test_the_schedulers_memory_counts(machine, variables, expected):
    root = machine("dev/null", "")
    names = {"mem_mb": ["SLURM_MEM_PER_NODE"], "mem_mb_per_cpu": ["SLURM_MEM_PER_CPU"]}
    assert detect.granted_memory(variables, names, 4, root) == expected


def test_cpus_are_the_least_of_mask_grant_and_quota(machine, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))
    root = cgroup_v2(machine)
    assert detect.granted_cpus({}, [], root) == 64
    assert detect.granted_cpus({"SLURM_CPUS_ON_NODE": "16"}, ["SLURM_CPUS_ON_NODE"], root) == 16
    assert detect.granted_cpus({"SLURM_JOB_CPUS_PER_NODE": "8(x4)"}, ["SLURM_JOB_CPUS_PER_NODE"], root) == 8
    machine("sys/fs/cgroup/slurm/cpu.max", "250000 100000\n")
    machine("sys/fs/cgroup/slurm/job_7/step_0/cpu.max", "max 100000\n")
    assert detect.granted_cpus({"SLURM_CPUS_ON_NODE": "16"}, ["SLURM_CPUS_ON_NODE"], root) == 2
    machine("sys/fs/cgroup/cpu.max", "50000 100000\n")
    assert detect.granted_cpus({}, [], root) == 1


def test_quota_of_cgroup_v1(machine):
    root = cgroup_v1(machine, "/a")
    machine("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "-1\n")
    machine("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n")
    assert detect.cgroup_cpu_quota(root) is None
    machine("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "150000\n")
    machine("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    assert detect.cgroup_cpu_quota(root) == 1.5


def test_a_container_sees_only_the_top_of_its_cgroup(machine):
    root = cgroup_v2(machine, path="/docker/abc", mount_root="/docker/abc")
    machine("sys/fs/cgroup/memory.max", "3000000000\n")
    assert detect.cgroup_memory_limit(root) == 3_000_000_000
    root = cgroup_v2(machine, path="/../../other")
    assert detect.cgroup_memory_limit(root) == 3_000_000_000


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        ("0,1", ("0", "1")),
        ("2-4,7", ("2", "3", "4", "7")),
        ("GPU-8a5f1d2c-0000-1111-2222-333344445555,GPU-b", ("GPU-8a5f1d2c-0000-1111-2222-333344445555", "GPU-b")),
        ("MIG-GPU-8a5f/3/0", ("MIG-GPU-8a5f/3/0",)),
        ("3,1,3", ("3", "1")),
        ("0,-1,2", ("0",)),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
    ],
)
def test_device_lists(value, ids):
    assert parse_ids(value) == ids


def test_visible_devices_come_before_the_grant_and_the_device_files(machine):
    machine("dev/nvidia0", "")
    machine("dev/nvidia1", "")
    machine("dev/nvidiactl", "")
    root = machine("dev/nvidia-uvm", "")

    def ids(environ, names=("SLURM_STEP_GPUS",), **said):
        return [d.id for d in detect.granted_devices(Granted(**said), names, environ, root).devices]

    assert ids({}) == ["0", "1"]
    assert ids({"SLURM_STEP_GPUS": "3"}) == ["3"]
    assert ids({"SLURM_STEP_GPUS": "3", "CUDA_VISIBLE_DEVICES": "GPU-a"}) == ["GPU-a"]
    assert ids({"CUDA_VISIBLE_DEVICES": ""}) == []
    assert ids({"CUDA_VISIBLE_DEVICES": "1"}, gpus=0) == []
    assert ids({}, gpus=1) == ["0"]
    assert ids({"SLURM_STEP_GPUS": "4,5"}) == ["0", "1"]  # a device cgroup left these: the driver counts from 0


def test_the_user_may_offer_fewer_or_more_gpus_than_granted():
    def ids(granted, wanted):
        devices = [Device(ident, "GPU") for ident in granted]
        return ids_by_resource(offered([*devices, Device("0", "TPU")], "GPU", wanted))

    assert ids(("7", "GPU-a"), None) == {"GPU": ("7", "GPU-a"), "TPU": ("0",)}
    assert ids(("7", "GPU-a"), 1) == {"GPU": ("7",), "TPU": ("0",)}
    assert ids(("1",), 3) == {"GPU": ("1", "0", "2"), "TPU": ("0",)}
    assert ids((), 0) == {"TPU": ("0",)}


def test_each_rank_takes_what_the_scheduler_says_of_it(machine):
    root = machine("dev/null", "")
    grants = [{"nodes": 2, "mem_mb": 300}, {"nodes": 1, "mem_mb": None, "gpus": 0}, {"nodes": 1, "gpus": 1}]
    start = parse_start({"op": "start", "session": "a1", "world": 5, "grants": grants})
    found = [detect.detect(start, rank, {"CUDA_VISIBLE_DEVICES": "7"}, root) for rank in range(5)]
    whole = 32_000_000 * 1024
    assert [grant.mem_bytes for grant in found] == [300 << 20, 300 << 20, whole, whole, whole]
    assert [[d.id for d in grant.devices] for grant in found] == [["7"], ["7"], [], ["7"], ["7"]]


def test_nodes_of_one_machine_divide_it(machine, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(9)))
    root = machine("dev/null", "")
    start = parse_start({"op": "start", "session": "a1", "world": 4, "config": {"machine_share": 4}})
    grants = [detect.detect(start, rank, {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5"}, root) for rank in range(4)]
    assert [grant.cpus for grant in grants] == [2, 2, 2, 2]
    assert sorted(device.id for grant in grants for device in grant.devices) == ["0", "1", "2", "3", "4", "5"]
    assert sum(grant.mem_bytes for grant in grants) <= 32_000_000 * 1024
    start = parse_start({"op": "start", "session": "a1", "world": 64, "config": {"machine_share": 64}})
    assert detect.detect(start, 63, {}, root).cpus == 1


def test_a_start_message_is_checked():
    for wrong in (
        {"session": "a b"},
        {"session": "../x"},
        {"session": "x" * 40},
        {"session": "a", "world": 0},
        {"session": "a", "world": "two"},
        {"session": "a", "mode": "what"},
        {"session": "a", "overrides": {"num_cpus": "all"}},
        {},
    ):
        with pytest.raises(ValueError):
            parse_start({"op": "start", **wrong})


LO = Interface("lo", "127.0.0.1", True)
ETH = Interface("eth0", "10.1.0.5", True)
BOND = Interface("bond0", "10.2.0.5", True)
IB = Interface("ib0", "10.3.0.5", True)
HSN1 = Interface("hsn1", "10.4.0.6", True)
HSN10 = Interface("hsn10", "10.4.0.7", True)
DOWN = Interface("hsn0", "10.4.0.5", False)


@pytest.mark.parametrize(
    ("interfaces", "options", "expected"),
    [
        ([LO, ETH, IB], {"wanted": "eth0", "many_nodes": True}, ETH),
        ([LO, ETH, IB], {"wanted": "10.3.0.5", "loopback": True}, IB),
        ([LO, ETH, IB], {"loopback": True, "many_nodes": True}, LO),
        ([LO, ETH, IB], {"many_nodes": True, "outside": "10.1.0.5"}, IB),
        ([LO, ETH, DOWN, HSN10, HSN1], {"many_nodes": True}, HSN1),
        ([LO, ETH, IB], {"outside": "10.1.0.5"}, ETH),
        ([LO, ETH, BOND], {"outside": "10.2.0.5", "hostname": "10.1.0.5"}, BOND),
        ([LO, ETH, BOND], {"hostname": "10.2.0.5"}, BOND),
        ([LO, ETH, BOND], {"hostname": "127.0.1.1"}, ETH),
        ([LO], {"many_nodes": True, "wanted": "lo"}, LO),
        ([LO], {"many_nodes": True, "loopback": True}, LO),
        ([LO], {}, LO),
        ([], {}, LO),
    ],
)
def test_the_order_in_which_an_address_is_chosen(interfaces, options, expected):
    assert choose(interfaces, **options) == expected


@pytest.mark.parametrize(("wanted", "words"), [("hsn7", "is not on this machine"), ("hsn0", "is down")])
def test_an_unknown_interface_is_refused_with_those_that_there_are(wanted, words):
    with pytest.raises(InterfaceError, match=words) as caught:
        choose([LO, ETH, DOWN], wanted=wanted)
    assert "eth0 (10.1.0.5)" in str(caught.value)
    assert "hsn0 (10.4.0.5, down)" in str(caught.value)


@pytest.mark.parametrize("outside", [None, "127.0.0.1"])
def test_several_nodes_without_a_network_are_refused_and_told_what_to_do(outside):
    with pytest.raises(NoNetworkError, match=r"no network interface that is up.*--interface=lo") as caught:
        choose([LO, DOWN], many_nodes=True, outside=outside, hostname="127.0.1.1")
    assert "hsn0 (10.4.0.5, down)" in str(caught.value)


def test_this_machine_has_a_loopback_interface():
    assert LO in list_interfaces()
    assert node_address(wanted="lo", loopback=False, many_nodes=False) == LO
    assert node_address(wanted=None, loopback=True, many_nodes=True) == LO


def test_the_base_directory_is_the_option_then_the_variables_then_tmp():
    short = "/dev/shm"
    assert choose_base("abc", 1, None, {}) == "/tmp"
    assert choose_base("abc", 1, None, {"TMPDIR": "/var/tmp"}) == "/var/tmp"
    assert choose_base("abc", 1, None, {"TMPDIR": "/no/such/place"}) == "/tmp"
    assert choose_base("abc", 1, None, {"TMPDIR": "/tmp/" + "x" * 90}) == "/tmp"
    assert choose_base("abc", 1, None, {"HPC_TMPDIR": short, "TMPDIR": "/var/tmp"}) == short
    assert choose_base("abc", 1, "/var/tmp", {"HPC_TMPDIR": short}) == "/var/tmp"


@pytest.mark.parametrize(("base", "words"), [("/no/such/place", "no such directory"), ("/tmp/" + "x" * 90, "too long")])
def test_a_chosen_base_directory_that_cannot_be_used_is_an_error(base, words):
    with pytest.raises(RunDirError, match=words):
        choose_base("abc", 1, base, {})
    with pytest.raises(RunDirError, match="HPC_TMPDIR"):
        choose_base("abc", 1, None, {"HPC_TMPDIR": base})


def test_socket_paths_stay_short_in_the_longest_base_allowed():
    name = dir_name("0123456789ab", 1)
    with pytest.raises(RunDirError) as caught:
        choose_base("0123456789ab", 1, "/" + "y" * 95, {})
    room = int(str(caught.value).split("at most ")[1].split()[0])
    assert len(f"/{'y' * (room - 1)}/{name}/w9999999.sock") == MAX_SOCKET_PATH


def test_a_directory_is_private_and_made_once(tmp_path):
    made = make(str(tmp_path), "abc", 7)
    assert os.stat(made.path).st_mode & 0o777 == 0o700
    with pytest.raises(RunDirError, match="exists"):
        make(str(tmp_path), "abc", 7)
    os.close(made.lock_fd)


def test_only_directories_of_dead_supervisors_are_swept(tmp_path):
    alive = make(str(tmp_path), "alive", 1)
    dead = make(str(tmp_path), "dead", 1)
    os.symlink("/etc", os.path.join(dead.path, "logs", "link"))
    os.close(dead.lock_fd)
    (tmp_path / f"hpc-{os.getuid()}-young-1.new").mkdir()
    old = tmp_path / f"hpc-{os.getuid()}-old-1.new"
    old.mkdir()
    os.utime(old, (1, 1))
    (tmp_path / "hpc-999999-other-1").mkdir()
    (tmp_path / f"hpc-{os.getuid()}-notes").mkdir()
    assert sorted(sweep(str(tmp_path))) == [dead.path, str(old)]
    assert not os.path.exists(dead.path)
    assert os.path.isdir("/etc")
    assert len(os.listdir(tmp_path)) == 4
    os.close(alive.lock_fd)
    remove(alive.path)
    remove(alive.path)


def test_a_sweep_never_takes_a_directory_that_is_being_made(tmp_path):
    """Many supervisors start at once on one machine, and each sweeps."""
    stop = threading.Event()

    def sweeping() -> None:
        while not stop.is_set():
            sweep(str(tmp_path))

    sweeper = threading.Thread(target=sweeping)
    sweeper.start()
    try:
        for node in range(300):
            made = make(str(tmp_path), "abc", node)
            assert os.path.isdir(os.path.join(made.path, "logs"))
            os.close(made.lock_fd)
    finally:
        stop.set()
        sweeper.join()
