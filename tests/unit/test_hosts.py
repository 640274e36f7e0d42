"""The machines of --hosts: by a list or a file, and which of them this one is."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc.launchers.workstations import BadHosts, WorkstationGroup, here_first, own_place, read_hosts


def test_names_come_from_a_list_or_from_the_lines_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("# ours\nalpha.lab slots=4\n\nbeta  # the old one\n")
    assert read_hosts(str(file)) == ["alpha.lab", "beta"]
    assert read_hosts("alpha, beta,") == ["alpha", "beta"]


@pytest.mark.parametrize(("text", "said"), [("a,b,A.lab", "twice"), (",", "no names"), ("/no/such/file", "cannot be")])
def test_what_cannot_be_used_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadHosts, match=said):
        read_hosts(text)


def test_this_machine_is_the_first_whatever_the_order_and_the_form_of_its_name() -> None:
    assert here_first(["alpha", "beta", "gamma"], "beta.lab.org") == ["beta", "alpha", "gamma"]
    assert own_place(["alpha", "Beta.lab"], "beta") == 1 and own_place(["alpha"], "beta") is None
    with pytest.raises(BadHosts, match="delta, is none of alpha, beta") as error:
        here_first(["alpha", "beta"], "delta")
    assert error.value.fix == "give the command on one of them"


def test_the_line_for_the_other_machines_names_the_file_and_not_the_key() -> None:
    group = WorkstationGroup(["alpha", "beta", "gamma"], "/jobs/1/join")
    (notice,) = group.notices
    assert notice.startswith("on beta, gamma: ") and notice.endswith(" -m hpc start --join-file=/jobs/1/join")
    assert [group.host_of(rank) for rank in range(3)] == ["alpha", "beta", "gamma"]
    assert not WorkstationGroup(["alpha"], "/jobs/1/join").notices
