"""The process manager's side of PMI-1: what ranks are told, however their bytes come, and what is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.core.net.pmi import KEYLEN_MAX, MAX_LINE_BYTES, VALLEN_MAX, PmiError, PmiRank, process_mapping

KEYS = st.text("abcdefgh-_0123456789", min_size=1, max_size=KEYLEN_MAX)
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=200)


def fields(line: bytes) -> dict[str, str]:
    """An answer as a library takes it apart."""
    found: dict[str, str] = {}
    for part in line.decode().split():
        name, _, value = part.partition("=")
        found[name] = value
    return found


def ask(rank: PmiRank, request: str) -> dict[str, str]:
    """The answer to one request."""
    answer = rank.feed(request.encode() + b"\n")
    assert answer.endswith(b"\n") and answer.count(b"\n") == 1
    return fields(answer)


def one(rank: int = 0, nodes=(0, 0)) -> PmiRank:
    return PmiRank(rank, nodes, "world")


def test_a_rank_is_told_of_its_world():
    rank = one(1, [0, 0, 1, 1])
    assert ask(rank, "cmd=init pmi_version=1 pmi_subversion=1") == {
        "cmd": "response_to_init", "pmi_version": "1", "pmi_subversion": "1", "rc": "0"
    }  # fmt: skip
    assert ask(rank, "cmd=get_maxes")["vallen_max"] == str(VALLEN_MAX)
    assert ask(rank, "cmd=get_appnum") == {"cmd": "appnum", "appnum": "0", "rc": "0"}
    assert ask(rank, "cmd=get_universe_size") == {"cmd": "universe_size", "size": "4", "rc": "0"}
    assert ask(rank, "cmd=get_my_kvsname") == {"cmd": "my_kvsname", "kvsname": "world", "rc": "0"}


def test_a_value_is_for_others_after_the_barrier():
    ranks = [one(0), one(1)]
    for number, rank in enumerate(ranks):
        assert ask(rank, f"cmd=put kvsname=world key=card-{number} value=addr#{number}$a=b")["rc"] == "0"
    assert ask(ranks[0], "cmd=get kvsname=world key=card-1")["rc"] == "-1"
    assert [rank.feed(b"cmd=barrier_in\n") for rank in ranks] == [b"", b""]
    put = [rank.put for rank in ranks]
    assert put == [{"card-0": "addr#0$a=b"}, {"card-1": "addr#1$a=b"}]
    for rank in ranks:
        assert fields(rank.release({**put[0], **put[1]}))["cmd"] == "barrier_out"
        assert rank.put is None
    assert ask(ranks[0], "cmd=get kvsname=world key=card-1")["value"] == "addr#1$a=b"
    assert ranks[0].feed(b"cmd=barrier_in\n") == b""
    assert ranks[0].put == {}, "what went out with one barrier does not go out with the next"


def test_a_rank_may_ask_which_ranks_share_a_node():
    assert ask(one(), "cmd=get kvsname=world key=PMI_process_mapping") == {
        "cmd": "get_result", "rc": "0", "msg": "success", "value": "(vector,(0,1,2))"
    }  # fmt: skip


def test_what_cannot_be_kept_is_refused():
    rank = one()
    assert ask(rank, "cmd=put kvsname=other key=a value=b")["rc"] == "-1"
    assert ask(rank, f"cmd=put kvsname=world key={'k' * (KEYLEN_MAX + 1)} value=b")["msg"] == "too_long"
    assert ask(rank, f"cmd=put kvsname=world key=a value={'v' * (VALLEN_MAX + 1)}")["msg"] == "too_long"
    assert ask(rank, "cmd=put kvsname=world key=a value=b")["rc"] == "0"
    assert ask(rank, "cmd=put kvsname=world key=a value=c")["msg"] == "duplicate_key"
    assert ask(rank, "cmd=get kvsname=world key=a")["value"] == "b"


def test_the_end_of_a_rank_is_noted():
    leaves, aborts = one(), one()
    assert ask(leaves, "cmd=finalize")["cmd"] == "finalize_ack" and leaves.finalized
    assert aborts.feed(b"cmd=abort exitcode=7\n") == b"" and aborts.aborted == 7


@pytest.mark.parametrize("command", ["publish_name service=a port=b", "lookup_name service=a", "unpublish_name"])
def test_names_for_other_worlds_are_refused(command):
    assert ask(one(), f"cmd={command}")["rc"] == "-1"


def test_a_request_of_many_lines_gets_one_answer():
    rank = one()
    lines = b"mcmd=spawn\nnprocs=2\nexecname=./a b\ntotspawns=1\nspawnssofar=1\nendcmd\n"
    assert fields(rank.feed(lines)) == {
        "cmd": "spawn_result", "rc": "-1", "msg": "not_supported", "info": "not_supported"
    }  # fmt: skip
    assert ask(rank, "cmd=get_appnum")["appnum"] == "0"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"hello\n", "names no command"),
        (b"cmd=\n", "names no command"),
        (b"cmd=bake_a_cake\n", "is no request of PMI-1"),
        (b"cmd=init pmi_version=2 pmi_subversion=0\n", "wants PMI 2"),
        ("cmd=put key=ü value=1\n".encode(), "no ASCII"),
        (b"x" * (MAX_LINE_BYTES + 1), "more than"),
        (b"cmd=barrier_in\ncmd=get_appnum\n", "waits in a barrier"),
    ],
)
def test_what_is_no_request_is_an_error(data, why):
    with pytest.raises(PmiError, match=why):
        one().feed(data)


def test_a_rank_that_waits_in_no_barrier_cannot_be_released():
    with pytest.raises(ValueError, match="no barrier"):
        one().release({})
    with pytest.raises(ValueError, match="none of a world"):
        one(2)


@given(st.binary(max_size=300))
def test_any_bytes_are_answered_or_refused(data):
    rank = one()
    try:
        answer = rank.feed(data)
    except PmiError:
        return
    assert not answer or (answer.startswith(b"cmd=") and answer.endswith(b"\n"))


@given(st.dictionaries(KEYS, VALUES, max_size=8), st.data())
def test_the_answers_do_not_hang_on_how_the_bytes_are_cut(values, data):
    text = "cmd=init pmi_version=1 pmi_subversion=1\ncmd=get_maxes\n"
    text += "".join(f"cmd=put kvsname=world key={key} value={value}\n" for key, value in values.items())
    text += "".join(f"cmd=get kvsname=world key={key}\n" for key in values) + "cmd=get_appnum\n"
    whole, cut = one(), one()
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)])]
    assert b"".join(map(cut.feed, pieces)) == whole.feed(raw)
    assert [fields(line)["value"] for line in one_by_one(cut, values)] == list(values.values())


def one_by_one(rank: PmiRank, keys) -> list[bytes]:
    return [rank.feed(f"cmd=get kvsname=world key={key}\n".encode()) for key in keys]


def expand(mapping: str, size: int) -> list[int]:
    """The node of each rank, as MPICH reads the mapping: its blocks again and again."""
    blocks = [tuple(map(int, found)) for found in re.findall(r"\((\d+),(\d+),(\d+)\)", mapping)]
    nodes: list[int] = []
    while len(nodes) < size:
        for first, many, each in blocks:
            nodes += [node for node in range(first, first + many) for _ in range(each)]
    return nodes[:size]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_the_mapping_says_where_each_rank_is(nodes):
    assert expand(process_mapping(nodes), len(nodes)) == nodes


def test_ranks_node_after_node_are_one_block():
    assert process_mapping([0, 0, 1, 1, 2, 2]) == "(vector,(0,3,2))"
    assert process_mapping([0, 1, 0, 1]) == "(vector,(0,2,1),(0,2,1))"
    assert process_mapping([0, 0, 0, 1]) == "(vector,(0,1,3),(1,1,1))"


def test_a_mapping_that_is_too_long_is_left_out():
    assert process_mapping([0, 2, 1, 3] * 200) == ""
