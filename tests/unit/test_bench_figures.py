"""The pure parts of the bench: medians, ratios, verdicts, the table, the page. Nothing here is timed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from bench import page, rl, table
from bench.children import parse
from bench.metrics import FUTURES, HPC, METRICS, MICRO, PARTS, RAY, SHARE, US, Metric, Target, chosen, parts
from bench.peers import reason
from bench.run import Plan
from bench.stats import line, lines, ratio, ratio_range, reached, summary, unjudged

ROOT = Path(__file__).resolve().parents[2]
SYNC, INIT = "single client tasks sync", "init to first result"
RATE = Metric("r", "1/s", "g", "", (Target(times=5.0),))
LIMIT = Metric("l", "s", "g", "", (Target(at_most=0.5),))
BOTH = Metric("b", "1/s", "g", "", (Target(times=5.0), Target(times=1.0, peer=FUTURES)))
PART = Metric("p", SHARE, "g", "", (Target(at_least=0.5),))


def result(values):
    return {
        "started": "2026-01-02T03:04:05+00:00",
        "machine": {
            "cpu": "a CPU", "cores": 2, "memory_gb": 8.0, "kernel": "Linux 6", "virtual": True, "commit": "abc"
        },
        "versions": {HPC: {"python": "3.11", "hpc": "0.1"}},
        "rounds": 2, "seconds": 1.0, "quick": False,
        "noise": {"load before": 0.1, "stolen share": 0.002},
        "values": values, "extras": {SYNC: {HPC: {"first": [1.0, 3.0]}}},
        "tables": [{"title": "Many", "note": "Noted.", "head": ["a", "b", "c"], "rows": [["x", "1", "2"]]}],
        "skipped": {RAY: "no wheel"}, "failures": ["x: it hung"],
    }  # fmt: skip


def micro():
    spec = importlib.util.spec_from_file_location("bench_micro_probe", ROOT / "bench" / "probes" / "micro.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_summary_has_median_and_range():
    found = summary([3.0, 1.0, 2.0, 10.0])
    assert (found.median, found.low, found.high, found.rounds) == (2.5, 1.0, 10.0, 4)
    assert found.spread == pytest.approx(3.6)
    assert summary([]) is None


def test_a_ratio_above_one_is_better_whatever_the_unit():
    assert ratio(10.0, 2.0, True) == 5.0
    assert ratio(0.5, 4.0, False) == 8.0
    assert ratio(1.0, 0.0, True) == float("inf")


def test_rounds_are_paired_only_when_none_is_missing():
    assert ratio_range([10.0, 30.0], [2.0, 3.0], True) == (5.0, 10.0)
    assert ratio_range([10.0, 30.0], [3.0], True) is None
    assert ratio_range([], [], True) is None


def test_verdicts_need_the_figures_they_speak_of():
    assert reached(RATE, {HPC: 50.0, RAY: 10.0}) is True
    assert reached(RATE, {HPC: 49.0, RAY: 10.0}) is False
    assert reached(RATE, {HPC: 50.0}) is None
    assert reached(BOTH, {HPC: 50.0, RAY: 10.0, FUTURES: 50.0}) is True
    assert reached(BOTH, {HPC: 50.0, RAY: 10.0, FUTURES: 51.0}) is False
    assert reached(BOTH, {HPC: 50.0, RAY: 10.0}) is None
    assert reached(BOTH, {HPC: 49.0, RAY: 10.0}) is False
    assert (reached(PART, {HPC: 0.5}), reached(PART, {HPC: 0.4})) == (True, False)
    assert reached(LIMIT, {HPC: 0.5}) is True
    assert reached(LIMIT, {HPC: 0.51}) is False
    assert reached(Metric("n", "s", "g", ""), {HPC: 1.0}) is None


def test_microseconds_come_from_rates():
    assert Metric("m", US, "g", "").value(10_000.0) == 100.0
    assert RATE.value(7.0) == 7.0


def test_every_microbenchmark_has_its_operation_and_the_other_way_round():
    operations = set(micro().OPERATIONS)
    assert operations == {m.name for m in MICRO}
    assert len({m.name for m in METRICS}) == len(METRICS)


def test_names_choose_by_part_and_by_group():
    assert [m.name for m in chosen(["tasks SYNC"])] == [SYNC]
    assert {m.group for m in chosen(["objects"])} == {"objects"}
    assert chosen([]) == list(METRICS)
    assert parts([]) == list(PARTS)
    assert (chosen(["scale"]), parts(["scale"])) == ([], ["scale"])
    with pytest.raises(ValueError, match="no benchmark is called 'nonsense'"):
        chosen(["nonsense"])


def test_quick_measures_groups_in_one_process_and_loses_none():
    for quick in (False, True):
        units = list(Plan(list(METRICS), 1, 1.0, quick, True).units())
        assert sorted(m.name for unit in units for m in unit) == sorted(m.name for m in MICRO)
        assert all(len({m.group for m in unit}) == 1 for unit in units)
        assert all(len(unit) == 1 for unit in units) is not quick


@pytest.mark.parametrize(
    ("value", "text"),
    [(31204.4, "31,204"), (854.6, "855"), (10.84, "10.8"), (0.352, "0.352"), (0.00431, "0.0043"), (0.0, "0")],
)
def test_numbers_have_the_digits_that_mean_something(value, text):
    assert table.number(value) == text


def test_a_row_says_all():
    found = table.row(line(chosen([SYNC])[0], {HPC: [10_000.0, 12_000.0], RAY: [400.0, 400.0], FUTURES: [5_500.0]}))
    cells = dict(zip(table.HEAD, found, strict=True))
    assert (cells["benchmark"], cells["unit"]) == (SYNC, "1/s")
    assert (cells["hpc"], cells["Ray"], cells["Dask"]) == ("11,000 (10,000…12,000)", "400 (400…400)", table.NOTHING)
    assert (cells["hpc / Ray"], cells["hpc / others"]) == ("27.5× (25.0…30.0)", "ProcessPool 2×")
    assert (cells["target"], cells["reached"]) == ("≥ 25× Ray, ≥ 1× ProcessPool", "yes")


def test_a_target_without_its_peer_is_not_called_reached():
    assert table.row(line(chosen([SYNC])[0], {HPC: [10_000.0]}))[-1] == "not measured"


def test_lines_leave_out_what_was_not_measured():
    assert [x.metric.name for x in lines({SYNC: {HPC: [1.0]}, INIT: {HPC: []}})] == [SYNC]


def test_terminal_and_page_name_what_is_absent_and_what_was_missed():
    found = result({SYNC: {HPC: [10.0, 10.0], RAY: [4.0, 4.0], FUTURES: [9.0, 9.0]}, INIT: {HPC: [0.3, 0.4]}})
    for text in (page.terminal(found), page.markdown(found, None)):
        assert "Ray: not measured: no wheel" in text
        assert "failed: x: it hung" in text
        assert f"1 of 2 measured targets reached. Not reached: {SYNC}." in text
        assert "Not measured in this run:" in text
        assert "first 2 (1…3)" in text
        assert "Noted." in text
    assert SYNC not in unjudged(found)


def test_the_page_keeps_its_prose():
    before = f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n"
    new = page.replace(before, "figures")
    assert new.startswith("before\n")
    assert new.endswith("after\n")
    assert "old" not in new
    assert page.replace(new, "figures") == new
    with pytest.raises(ValueError, match="markers"):
        page.replace("no markers", "figures")


def test_a_part_that_was_measured_by_itself_stands_where_it_stood_and_says_when():
    kept = {"values": 1, "tables": [{"title": "A", "note": "old"}, {"title": "B", "note": "b"}]}
    later = {"started": "today", "machine": {"commit": "abc"}, "tables": [{"title": t, "note": t} for t in ("A", "C")]}
    found = page.among_others(kept, page.dated(later))
    assert found["values"] == 1
    notes = [(part["title"], part["note"]) for part in found["tables"]]
    when = "Measured by itself: today, commit abc."
    assert notes == [("A", f"A {when}"), ("B", "b"), ("C", f"C {when}")]


def test_its_section_of_the_page_alone_is_written_anew():
    def part(title, cell):
        return {"title": title, "note": "note", "head": ["a"], "rows": [[str(cell)]]}

    text = f"before\n\n{page.section(part('A', 1))}\n\n{page.section(part('B', 2))}\n\n{page.LAST}\n\nafter\n"
    for title in "AB":
        new = page.with_section(text, part(title, 3))
        assert new == text.replace(page.section(part(title, 1 + (title == "B"))), page.section(part(title, 3)))
        assert page.with_section(new, part(title, 3)) == new
    assert page.with_section(text, part("C", 3)).endswith(f"{page.section(part('C', 3))}\n\n{page.LAST}\n\nafter\n")
    with pytest.raises(ValueError, match="behind its tables"):
        page.with_section("nothing", part("A", 1))


def test_a_result_of_tables_alone_leaves_the_figures_of_the_page(tmp_path, monkeypatch):
    (tmp_path / "bench.json").write_text('{"values": {"kept": 1}, "tables": []}')
    copied = tmp_path / "performance.md"
    copied.write_text(page.PAGE.read_text())
    monkeypatch.setattr(page, "ROOT", tmp_path)
    monkeypatch.setattr(page, "PLOTS", tmp_path)
    monkeypatch.setattr(page, "PAGE", copied)
    assert page.write_docs(result({})) == ["wrote Many into performance.md"]
    assert "### Many\n" in copied.read_text()
    assert "| single client tasks sync |" in copied.read_text()
    assert '"kept": 1' in (tmp_path / "bench.json").read_text()


def test_the_page_in_docs_has_its_markers():
    assert "x" in page.replace(page.PAGE.read_text(), "x")


def test_json_is_rounded_and_complete():
    text = page.to_json({"a": [1.23456789], "b": {"c": "µs"}, "n": 3})
    assert "1.2346" in text
    assert "µs" in text


def test_records_are_found_among_noise():
    assert parse('noise\n@bench {"a": 1}\nmore\n@bench {"b": 2}\n') == [{"a": 1}, {"b": 2}]


def test_pip_errors_give_their_reason():
    said = "WARNING: x\nERROR: No matching distribution found for ray\n\n[notice] a new release"
    assert reason(said) == "No matching distribution found for ray"
    assert reason("") == "no reason given"


def test_lines_that_were_measured_alone_take_their_places_among_the_others():
    def part(body, **more):
        return {"title": "T", "note": "n", "head": ["check", "what", "hpc"], "rows": body, **more}

    kept = {"tables": [part([["1", "a", "old"], ["9", "b", "old"]])]}
    new = part([["10", "c", "new"], ["1", "a", "new"]], partial=2, curves=[1])
    found = page.joined(kept, new)
    assert found["rows"] == [["1", "a", "new"], ["9", "b", "old"], ["10", "c", "new"]]
    assert "curves" not in found and "partial" not in found
    assert page.joined(kept, part([["5", "d", "new"]]))["rows"] == [["5", "d", "new"]]
    other = {"tables": [{**kept["tables"][0], "head": ["check", "what"]}]}
    assert page.joined(other, new)["rows"] == new["rows"]
    each = {**part([]), "head": ["check", "what", "measured"]}
    result = {"started": "now", "machine": {"commit": "abc"}, "tables": [each, new]}
    assert [one["note"] for one in page.dated(result)] == ["n", "n Measured by itself: now, commit abc."]


def test_checks_of_learning_are_chosen_one_by_one():
    assert rl.chosen([], False) == [str(number) for number in range(1, 11)]
    assert rl.chosen(["9", "5"], False) == ["5", "9"]
    assert rl.chosen([], True) == list(rl.QUICK)
    with pytest.raises(ValueError, match="no check 11 of reinforcement learning"):
        rl.chosen(["11"], False)


def test_a_task_is_reached_by_the_medians_of_most_runs():
    task = rl.Task("t", 60, seconds=60, steps=1000, share=0.5)
    good, slow, never = ({"seconds": s, "steps": n} for s, n in ((10, 500), (70, 900), (None, None)))
    assert task.is_reached({HPC: [good, good, never]})
    assert not task.is_reached({HPC: [good, never]})
    assert not task.is_reached({HPC: [slow, slow, good]})
    assert not task.is_reached({HPC: [good], RAY: [{"seconds": 15, "steps": 9}]})
    assert not task.is_reached({})
    assert task.wanted() == "at most 60 s, 1,000 steps, 0.5 × RLlib's time"
    assert rl.middle([good, never]) == "10.0 s, 500 steps (1 of 2)"


@pytest.mark.parametrize(("healthy", "verdict"), [(8, "yes"), (7, "NO")])
def test_runners_that_do_not_come_back_are_no_success(healthy, verdict):
    measuring = rl.Measuring(None, True, lambda text: None)
    killed = {"before_s": 0.1, "after_s": 0.1, "lost": 2, "back_s": 3.0, "healthy": healthy}
    measuring.probe = lambda peer, script, what, *args: killed if what == "runners" else None
    measuring.run("9")
    assert [row[6] for row in measuring.rows] == ["yes", verdict]


def test_a_run_that_is_stopped_keeps_the_lines_that_it_has(monkeypatch):
    def stopped(measuring):
        measuring.line("a", {HPC: "1"}, "2", False)
        raise KeyboardInterrupt

    monkeypatch.setattr(rl, "CHECKS", {"5": stopped})
    kept, said = [], []
    with pytest.raises(KeyboardInterrupt):
        rl.rl(None, False, checks=["5"], peers=False, keep=kept.append, say=said.append)
    assert kept[0]["rows"][0][:7] == ["5", "a", "1", table.NOTHING, table.NOTHING, "2", "NO"]
    assert said == ["  check 5, a: hpc 1 (wanted: 2; reached: NO)"]
