"""Names of many nodes in short and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.launchers.hostnames import compress_nodes, expand_nodes


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", ["n1"]),
        ("nid[0001-0003,7],login1", ["nid0001", "nid0002", "nid0003", "nid7", "login1"]),
        ("a[1-2]b[3-4]", ["a1b3", "a1b4", "a2b3", "a2b4"]),
        (
            "rack[01-02]-node[9-10].site.org",
            ["rack01-node9.site.org", "rack01-node10.site.org", "rack02-node9.site.org", "rack02-node10.site.org"],
        ),
        ("n[098-101]", ["n098", "n099", "n100", "n101"]),
        ("", []),
    ],
)
def test_node_lists(text: str, names: list[str]) -> None:
    assert expand_nodes(text) == names


@pytest.mark.parametrize("text", ["n[1-", "n1]", "n[a-b]", "n[1-2-3]", "n[[1]]", "n[1-999999999]"])
def test_what_is_no_node_list(text: str) -> None:
    with pytest.raises(ValueError, match="not a node list"):
        expand_nodes(text)


@given(st.lists(st.integers(0, 300), min_size=1, unique=True), st.integers(1, 5))
def test_short_forms_read_back(numbers: list[int], width: int) -> None:
    names = [f"nid{n:0{width}d}" for n in numbers]
    assert sorted(expand_nodes(compress_nodes(names))) == sorted(names)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["nid0001", "nid0002", "nid0003"], "nid[0001-0003]"),
        (["nid0042"], "nid0042"),
        (["n1", "n3", "login"], "n[1,3],login"),
        ([], ""),
    ],
)
def test_short_forms(names: list[str], text: str) -> None:
    assert compress_nodes(names) == text
