"""What a user asks of a node reaches its start message by one mapping, whoever asks."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from hpc.cli.start import node_overrides
from hpc.core.node.spec import Overrides
from hpc.settings.errors import CliError
from hpc.settings.node import FIELDS, overrides, overrides_of
from hpc.settings.options import load

HPC = Path(__file__).resolve().parents[2] / "hpc"
ASKED = {
    "num_cpus": 2, "num_gpus": 0, "memory": 2e9, "object_store_memory": 1 << 30, "resources": {"disk": 1.5},
    "labels": {"zone": "a"},
}  # fmt: skip


def test_every_field_of_the_start_message_is_named_once_and_here_alone():
    assert sorted(FIELDS.values()) == sorted(field.name for field in msgspec.structs.fields(Overrides))
    own = [name for name in FIELDS.values() if name not in FIELDS]
    assert own == ["memory_bytes", "object_store_bytes"]
    named = re.compile("|".join(f'"{name}"' for name in own))
    files = [path.relative_to(HPC).as_posix() for path in HPC.rglob("*.py") if named.search(path.read_text())]
    assert files == ["settings/node.py"]


def test_what_is_asked_is_what_the_node_reads():
    found = msgspec.convert(overrides(ASKED), Overrides)
    assert (found.num_cpus, found.num_gpus, found.memory_bytes, found.object_store_bytes) == (2, 0, 2 * 10**9, 1 << 30)
    assert (found.resources, found.labels) == ({"disk": 1.5}, {"zone": "a"})


def test_nothing_and_none_are_left_as_found():
    assert overrides({"num_cpus": None, "memory": None, "resources": {}, "labels": None}) == {}


@pytest.mark.parametrize(
    ("asked", "error", "text"),
    [
        ({"cpus": 1}, TypeError, "a node has no argument cpus; there are: num_cpus"),
        ({"num_cpus": -1}, ValueError, "num_cpus.*cannot be negative"),
        ({"num_cpus": float("inf")}, ValueError, "must be finite"),
        ({"num_gpus": "2"}, TypeError, "num_gpus.*must be a number, not str"),
        ({"memory": 0}, ValueError, "memory must be a number of bytes from 1 on"),
        ({"object_store_memory": True}, TypeError, "must be a number of bytes, not bool"),
        ({"resources": {"disk": 0.00001}}, ValueError, "disk.*multiples"),
        ({"resources": ["disk"]}, TypeError, "resources must be a dict, not list"),
        ({"labels": {"zone": "a b"}}, ValueError, "not the value of a label"),
    ],
)
def test_what_a_node_cannot_have_is_refused(asked, error, text):
    with pytest.raises(error, match=text):
        overrides(asked)


def test_words_of_hpc_start_ask_the_same():
    words = {name: str(int(ASKED[name])) for name in ("num_cpus", "num_gpus", "memory", "object_store_memory")}
    assert node_overrides({**words, "resources": '{"disk": 1.5}', "labels": "zone=a"}) == overrides(ASKED)
    with pytest.raises(CliError, match="from 1 on"):
        node_overrides({"memory": "0"})
    with pytest.raises(CliError, match="finite"):
        node_overrides({"num_cpus": "inf"})


def test_flags_for_a_scheduler_ask_the_same_of_local_nodes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = {"HOME": str(tmp_path)}
    settings = load(["-c", "2", "--gpus-per-node=a100:3", "--mem=16G", "x.py"], env)
    assert overrides_of(settings) == {"num_cpus": 2, "num_gpus": 3, "memory_bytes": 16 << 30}
    assert overrides_of(load(["--mem=0", "x.py"], env)) == {} == overrides_of(load(["x.py"], env))
