"""The report of a job: what is folded into its facts, what it advises, and the page that is made of it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.core.events.kinds import KINDS, EventKind
from hpc.core.events.rows import EventRow, TaskRow
from hpc.report import collect, render, svg, write
from hpc.report.advice import advice
from hpc.report.collect import Collector, quantile
from hpc.report.ending import cause_of, clues, ending_of
from hpc.report.facts import Ending, Facts, Happening, Job, Named, NodeFact, RunFact, Use, WorkerFact
from hpc.report.masking import HIDDEN, masked, masked_words
from hpc.state.bulletins import Curve, TrainDetail, TuneDetail
from hpc.state.spend import spend

GOLDEN = Path(__file__).with_name("report_page.txt")
BAD = "<script>alert('x')</script> & \"quoted\" 'text'"


def task(number: int, name: str = "f", seconds: float = 0.01, failed: bool = False, attempt: int = 0) -> TaskRow:
    begin = 1_000_000.0 + 1000 * number
    return TaskRow(
        f"{number:040x}", attempt, name, name, "NORMAL_TASK", begin, begin + 1e3 * seconds,
        "FAILED" if failed else "FINISHED", worker_id=f"1.{number % 3}", node_id="1",
    )  # fmt: skip


def node(number: int, alive: bool = True, why: str = "", cpus: int = 4) -> dict[str, object]:
    totals = {"CPU": cpus * 10_000, "memory": 8_000_000_000 * 10_000, f"node:{number}": 10_000}
    return {"node": number, "host": f"host{number}", "alive": alive, "why": why, "gateway": False, "totals": totals}


def event(number: int, time_s: float, kind: EventKind, text: str) -> EventRow:
    about = KINDS[kind]
    return EventRow(number, time_s, about.severity, kind, about.source, text, advice=about.advice)


def example() -> Facts:
    found = Collector()
    found.take_nodes([node(1), node(2)], 1000.0)
    found.take_tasks(task(i, "train" if i % 4 else BAD, 0.5 + i, failed=i % 10 == 9, attempt=i % 2) for i in range(40))
    for i in range(8):
        given = 8.0 if i < 4 else 0.0
        found.take_use(
            Use(1000.0 + 60 * i, 2 - (i > 5), 8.0, given, 2.0, 0.0, (0.1, 0.3, 0.95), 1 << 20, 1 << 30, 1 << 30)
        )
    found.take_nodes([node(1), node(2, False, "its port refused connections")], 1400.0)
    ended = {"worker_id": "2.1", "failed": True, "end_time_ms": 1_390_000.0, "exit_detail": f"SIGKILL {BAD}"}
    found.take_workers([ended, {**ended, "worker_id": "2.2", "failed": False}])
    actor = {
        "actor_id": "a" * 40,
        "class_name": "Net",
        "name": "n",
        "state": "ALIVE",
        "num_restarts": 0,
        "death_cause": "",
    }
    found.take_actors([actor])
    found.take_actors([{**actor, "num_restarts": 1, "state": "DEAD", "death_cause": "it was killed"}])
    found.take_events([event(1, 1000.0, "NODE_JOINED", "node 1"), event(2, 1390.0, "WORKER_OUT_OF_MEMORY", BAD)])
    found.take_events([event(3, 1400.0, "NODE_LOST", "node 2 (host2) is gone: its port refused connections")])
    wait = {
        "tasks": 3,
        "actors": 0,
        "names": ["train"],
        "required_resources": {"GPU": 1.0},
        "is_infeasible": False,
        "why": "",
    }
    for _ in range(4):
        found.take_waits([wait])
    found.unseen(50)
    facts = found.facts
    facts.workers[0].log = ["last words", "password=hunter2"]
    facts.job = Job(
        "7", "train.py", "slurm", "4711", "me", "login1", ["hpc-launch", "train.py"], "/jobs/7", 990.0, 7200.0
    )
    facts.ending = Ending("lost", "error[SESSION-LOST]: the session was lost", 123)
    facts.versions = {"hpc": "1", "Python": "3.12"}
    facts.output = [BAD]
    return facts


class Text(HTMLParser):
    """The text of a page, line by line; fails where tags do not fit."""

    VOID = {"meta", "br", "rect", "polygon", "polyline"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.parts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("tr", "h1", "h2", "p", "svg", "li", "pre"):
            self.parts.append("\n")

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag
        if tag in ("td", "th", "text", "title"):
            self.parts.append(" | ")

    def handle_data(self, data):
        if "style" not in self.open:
            self.parts.append(data.replace("\n", " "))


def text_of(page: str) -> Text:
    parser = Text()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def lines_of(page: str) -> list[str]:
    whole = "".join(text_of(page).parts)
    return [re.sub(r"( \| )+$", "", line).strip() for line in whole.splitlines() if line.strip(" |")]


def test_the_page_says_what_it_said_before():
    """A changed page is looked at: then the file is made anew by this very function."""
    told = "\n".join(lines_of(render.page(example()))) + "\n"
    assert told == GOLDEN.read_text(), "write it anew: see tests/unit/report_page.txt"


def test_a_page_is_complete_in_itself_and_runs_nothing():
    page = render.page(example())
    parsed = text_of(page)
    assert not parsed.seen & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"}
    assert not [name for name, _ in parsed.attributes if name in ("src", "href", "style") or name.startswith("on")]
    assert "http://" not in page and "https://" not in page and "url(" not in page and "@import" not in page
    assert "default-src 'none'" in page and "alert('x')" not in page and "hunter2" not in page


def test_a_page_of_everything_that_can_be_kept_is_small():
    long = "&<>" * 300
    found = Collector()
    found.take_nodes([node(i) for i in range(2500)], 1.0)
    found.take_tasks(task(i, f"{long}{i % 300}", i % 50, failed=i % 3 == 0) for i in range(30_000))
    for i in range(5000):
        found.take_use(Use(float(i), memory=(0.1, 0.2, 0.3)))
        found.take_waits([{"tasks": 1, "actors": 0, "names": [long + str(i)], "required_resources": {}, "why": long,
                           "is_infeasible": True}])  # fmt: skip
        found.happened(float(i), "what", long)
    facts = found.facts
    assert len(facts.named) <= collect.MAX_NAMES + 1 and len(facts.rects) <= collect.MAX_RECTS
    assert len(facts.uses) <= collect.MAX_USES + 1 and len(facts.waits) <= collect.MAX_WAITS
    assert len(facts.happenings) <= collect.MAX_ROWS
    assert sum(one.count for one in facts.named) == 30_000
    assert (facts.uses[0].time_s, facts.uses[-1].time_s, facts.uses[-1].ended) == (0.0, 4999.0, 30_000)
    assert len(render.page(facts).encode()) <= render.MAX_BYTES
    assert len(msgspec.json.encode(facts)) <= 1_500_000


def test_facts_come_back_from_their_file(tmp_path):
    facts = example()
    write.keep(tmp_path, facts)
    assert write.kept(tmp_path) == facts
    (tmp_path / write.RECORD).write_bytes(b"{half")
    assert write.kept(tmp_path) == Facts() and write.kept(tmp_path / "none") == Facts()
    again = Collector(facts)
    again.take_tasks([task(99, "train")])
    assert next(one for one in facts.named if one.name == "train").count == 31


def test_a_loss_that_is_no_number_leaves_a_record_that_can_be_read(tmp_path):
    facts, nan = example(), float("nan")
    curve = Curve("loss", [1.0, 2.0], [0.5, nan])
    facts.runs = [RunFact("1.1/1", "train", "t", "FAILED", detail=TrainDetail(curves=[curve]))]
    facts.runs.append(RunFact("1.1/2", "tune", "s", "FINISHED", detail=TuneDetail(trials=[{"objective": nan}])))
    write.keep(tmp_path, facts)
    found = write.kept(tmp_path)
    assert len(found.runs) == 2 and found.uses == facts.uses
    detail = found.runs[0].detail
    assert isinstance(detail, TrainDetail) and repr(detail.curves) == repr([curve])
    told = json.loads(write.as_json(found), parse_constant=pytest.fail)
    assert told["runs"][0]["detail"]["curves"][0][2] == [0.5, None]


def test_the_folders_events_and_command_are_shown_without_secrets(tmp_path):
    folder = tmp_path / "12"
    folder.mkdir()
    (folder / "job.json").write_text(
        json.dumps({"argv": ["x", "--token", "abc"], "name": "x", "log": str(folder / "log")})
    )
    (folder / "log").write_text("first\n\nValueError: API_KEY=xyz\n")
    lines = [
        json.dumps({"t": 5.0, "event": "ready", "nodes": 2, "text": ""}),
        "{half",
        json.dumps({"event": "no time"}),
    ]
    (folder / "events.jsonl").write_text("\n".join(lines))
    facts = Facts(job=write.job_of(folder), ending=Ending("error", "", 1))
    facts = write.with_events(facts, folder)
    assert facts.happenings == [Happening(5.0, "ready", "nodes 2")] and facts.job.number == "12"
    page, told = render.page(facts), write.as_json(facts)
    for text in (page, told):
        assert "xyz" not in text and "abc" not in text and "ValueError" in text
    assert json.loads(told)["output"] == ["first", f"ValueError: API_KEY={HIDDEN}"]
    write.publish(folder / "page.html", facts)
    assert (folder / "page.html").read_text() == page
    assert sorted(path.name for path in folder.iterdir()) == ["events.jsonl", "job.json", "log", "page.html"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("password=hunter2 x", f"password={HIDDEN} x"),
        ("--api-key=abc", f"--api-key={HIDDEN}"),
        ("AWS_SECRET_ACCESS_KEY: 'abc def'", f"AWS_SECRET_ACCESS_KEY: {HIDDEN}"),
        ('{"token": "abc"}', f'{{"token": {HIDDEN}}}'),
        ("Authorization: Bearer abcdefgh1234", f"Authorization: Bearer {HIDDEN}"),
        ("s3 at https://me:pass@host/x", f"s3 at https://{HIDDEN}@host/x"),
        ("redis://:pass@host:6379/0", f"redis://{HIDDEN}@host:6379/0"),
        ("https://s3/x?a=1&X-Amz-Signature=0123ab&b=2", f"https://s3/x?a=1&X-Amz-Signature={HIDDEN}&b=2"),
        ("https://blob/x?sv=1&sig=a%2Fb%3D", f"https://blob/x?sv=1&sig={HIDDEN}"),
        ("key AKIAIOSFODNN7EXAMPLE.", f"key {HIDDEN}."),
        (f"with sk-{'aB3-' * 8}", f"with {HIDDEN}"),
        ("a token for each of 3 words", "a token for each of 3 words"),
        ("tokens_per_s=3 tokens: 5", "tokens_per_s=3 tokens: 5"),
        ("loss=0.3 step=7", "loss=0.3 step=7"),
    ],
)
def test_secrets_are_hidden_and_other_words_stay(text, left):
    assert masked(text) == left


@pytest.mark.parametrize("piece", ["-", "a.", "a:", "password ", "://a"])
def test_a_line_of_any_length_is_masked(piece):
    text = piece * (100_000 // len(piece))  # of n steps each letter, this would take 20 minutes
    assert masked(text + "\nsecret=x").endswith(f"secret={HIDDEN}")


def test_the_value_of_an_option_is_hidden_also_as_a_word_of_its_own():
    words = ["run", "--password", "x y", "--epochs", "3", "--token", "--verbose", "token=1"]
    hidden = ["run", "--password", HIDDEN, "--epochs", "3", "--token", "--verbose", f"token={HIDDEN}"]
    assert masked_words(words) == hidden


@given(st.lists(st.floats(1e-6, 1e5), min_size=1, max_size=200), st.data())
def test_quantiles_are_right_to_a_fifth(times, data):
    bins: dict[int, int] = {}
    for seconds in times:
        bins[collect.bin_of(seconds)] = bins.get(collect.bin_of(seconds), 0) + 1
    rank = data.draw(st.integers(1, len(times)))
    exact = sorted(times)[rank - 1]
    assert exact / 1.2 <= quantile(bins, rank / len(times)) <= exact * 1.2


def test_advice_names_its_numbers():
    told = "\n".join(advice(example()))
    assert "2 nodes" not in told and "1 nodes were lost (host2)" in told
    assert "GPUs were given to nobody for 100% of the time" in told and "of train failed" in told
    assert "used 95% of its memory" in told and "1.07 GB of objects were written to disk" in told
    assert "In 50% of the looks this waited for a worker: train: wants GPU 1." in told
    assert advice(Facts()) == []


def test_advice_about_time_short_tasks_and_stragglers():
    def named(seconds: float, count: int, most_s: float) -> Named:
        return Named("f", count, seconds=seconds * count, most_s=most_s, bins={collect.bin_of(seconds): count})

    facts = Facts(job=Job(asked_s=86_400.0), ending=Ending("normal"), began_s=0.0, seen_s=7200.0)
    facts.named = [named(0.0002, 5000, 0.001)]
    told = "\n".join(advice(facts))
    assert "asked for 24.0 h and used 2.00 h" in told and "5000 runs of f took 0.2" in told
    facts.named = [named(2.0, 50, 200.0)]
    assert "One run of f took 200 s" in "\n".join(advice(facts))
    facts.ending = Ending("walltime")
    assert advice(facts)[0].startswith("The time limit ended the job")


def test_what_is_busy_is_shown_and_told():
    uses = [Use(30.0 * i, cpus=4, cpus_given=4, gpus=1, gpus_given=1, gpu_busy=(0.0, 0.2, 0.4)) for i in range(8)]
    uses[3].cpu_busy = uses[5].cpu_busy = (0.1, 0.9, 1.0)
    facts = Facts(uses=uses, began_s=0.0, seen_s=210.0)
    page = render.page(facts)
    assert "CPUs busy" in page and "GPUs busy" in page
    assert advice(facts) == ["GPUs that were given to work computed for 20% of the time: look at what feeds them."]
    assert "CPUs busy" not in render.page(example())


def test_what_is_not_known_is_left_out_and_not_zero():
    facts = Facts(uses=[Use(0.0, cpus=4)], began_s=0.0, seen_s=5.0)
    assert "CPU hours" not in render.page(facts)
    facts.uses = [Use(30.0 * i, cpus=4) for i in range(4)]
    assert "0.1 CPU hours" in render.page(facts) and "memory of the nodes" not in render.page(facts)
    facts.uses[1].memory = facts.uses[2].memory = (0.1, 0.2, 0.3)
    assert "memory of the nodes" in render.page(facts)


def test_words_that_are_no_utf8_and_very_many_of_them_leave_a_report(tmp_path):
    folder = tmp_path / "7"
    folder.mkdir()
    argv = ["x.py", "file-\udce4.npy", *(f"{i}" * 300 for i in range(5000))]
    (folder / "job.json").write_text(json.dumps({"name": "job-\udce4", "argv": argv}))
    (folder / "events.jsonl").write_text(json.dumps({"t": 5.0, "event": "x\udce4", "text": "y\udce4" * 10_000}) + "\n")
    facts = Facts(job=write.job_of(folder), ending=Ending("error", "no file z\udce4", 1))
    write.publish(folder / "page.html", write.with_events(facts, folder))
    facts.ending.text = write.sayable(facts.ending.text)
    write.keep(folder, facts)
    page = (folder / "page.html").read_text()
    assert "file-?.npy" in page and "no file z?" in page and len(page) < 200_000
    assert write.kept(folder).job.command[:2] == ["x.py", "file-?.npy"]


def test_how_busy_devices_are_comes_from_metrics():
    from hpc.core.metrics.table import CPU_RATIO, MEMORY_RATIO
    from hpc.report.look import busy
    from hpc.state.metrics import Band, MetricRow

    band = Band(0.0, 0.1, 0.5, 0.9, 1.0, 1.2, 2)
    rows = [MetricRow(name, "gauge", {}, 1.2, band) for name in (MEMORY_RATIO, CPU_RATIO)]
    assert busy(rows) == ((0.1, 0.6, 0.9), None) and busy([]) == (None, None)


def test_a_share_counts_by_time_and_not_by_looks():
    uses = [Use(0.0, cpus=4, cpus_given=4), Use(90.0, cpus=4), Use(100.0, cpus=4)]
    assert spend(uses).cpu_share == pytest.approx(0.9) and spend(uses).cpu_s == 400
    assert spend(uses).gpu_share is None


@pytest.mark.parametrize(
    ("row", "status", "cause"),
    [
        (("ended", 0, "", "ended ok"), {}, "normal"),
        (("ended", 3, "", "ended exit code 3"), {}, "error"),
        (("ended", 143, "", "ended cancelled"), {}, "signal"),
        (("ended", 124, "error[WALLTIME]: the job's time was over", ""), {}, "walltime"),
        (("ended", 123, "error[SESSION-LOST]: lost", ""), {}, "lost"),
        (("ended", 1, "", ""), {"cause": "preempted"}, "preempted"),
        (("ended", None, "", "not known"), {}, "unknown"),
        (("lost", None, "", ""), {}, "killed"),
        (("ended", 123, "", "ended FAILED exit code 0"), {"state": "running"}, "killed"),
        (("ended", 137, "", "ended FAILED exit code 137"), {"state": "running"}, "killed"),
        (("running", None, "", "running 2 nodes"), {}, "running"),
    ],
)
def test_how_a_job_ended(row, status, cause):
    state, code, why, text = row
    found = ending_of({"state": state, "exit_code": code, "why": why, "text": text}, status)
    assert (found.cause, found.code) == (cause, code)


def test_how_a_run_ended_as_its_launch_saw_it():
    assert cause_of("", 0) == "normal" and cause_of("", 2) == "error"
    assert cause_of("walltime", 0) == "walltime" and cause_of("warned", 143) == "signal"
    assert cause_of("", 123) == "lost"


def test_pictures_of_little_are_empty_and_of_one_value_flat():
    assert svg.lines("x", [1.0], [("a", svg.BLUE, [1.0])]) == "" and svg.what_ran([], "x") == ""
    assert "polyline" in svg.lines("x", [1.0, 1.0], [("a", svg.BLUE, [0.0, 0.0])])
    assert [svg.duration(s) for s in (0.0123456, 90, 600, 9000)] == ["0.0123 s", "90 s", "10 min", "2.5 h"]


def test_facts_of_other_kinds_have_rows():
    facts = Facts(nodes=[NodeFact(1, "h")], workers=[WorkerFact("1.1", 1.0, "why")])
    assert "Workers that ended unexpectedly" in render.page(facts)


def test_a_report_says_what_went_before_the_end():
    facts = example()
    assert [one.what for one in clues(facts)] == ["worker out of memory", "node lost"]
    facts.ending = Ending("normal", "", 0)
    assert clues(facts) == []
    facts.ending = Ending("walltime", "", 124)
    assert clues(facts) == [] and "Before it" not in render.page(facts)


def test_of_too_many_events_those_that_say_least_go_first():
    found = Collector()
    found.take_events([event(1, 1.0, "NODE_LOST", "first")])
    for number in range(2, 4 * collect.MAX_ROWS):
        found.take_events([event(number, float(number), "WORKER_DIED" if number % 50 == 0 else "DRIVER_LEFT", "x")], 7)
    told = found.facts.happenings
    assert len(told) == collect.MAX_ROWS and told[0].text == "first"
    graver = [one for one in told if one.severity == "ERROR"]
    assert len(graver) == 1 + (4 * collect.MAX_ROWS - 1) // 50
    assert (found.facts.events_upto, found.facts.events_missed) == (4 * collect.MAX_ROWS - 1, 7)


def test_events_of_the_session_are_in_the_folder_once_and_in_the_page_once(tmp_path):
    rows = [event(number, float(number), "NODE_JOINED", f"node {number}, token=abc") for number in range(1, 6)]
    assert write.append_events(tmp_path, rows[:3], 0) == 3
    assert write.append_events(tmp_path, rows[3:], write.MAX_WRITTEN - 1) == write.MAX_WRITTEN
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["NODE_JOINED"] * 4 + ["events-full"]
    assert lines[0]["text"] == f"node 1, token={HIDDEN}"
    found = Collector()
    found.take_events(rows[:2])
    told = write.with_events(found.facts, tmp_path).happenings
    assert [one.what for one in told] == ["node joined"] * 4 + ["events-full"]
    assert [one.severity for one in told] == ["INFO"] * 4 + [""]


def test_events_of_a_job_that_was_put_into_the_queue_again_are_those_of_both_sessions(tmp_path):
    def rows(of: str, count: int) -> list[EventRow]:
        return [event(number, float(number), "NODE_JOINED", f"{of} {number}") for number in range(1, count + 1)]

    write.append_events(tmp_path, rows("first", 4), 0)
    write.append_events(tmp_path, rows("second", 3), 0)
    found = Collector()
    found.take_events(rows("second", 2))
    told = write.with_events(found.facts, tmp_path).happenings
    assert sorted(one.text for one in told) == sorted([one.text for one in rows("first", 4) + rows("second", 3)])


@pytest.mark.parametrize(("seconds", "shown"), [(3600.0, "02:00:00"), (86_400.0, "01-02 01:00:00")])
def test_a_job_over_midnight_has_dates(seconds, shown):
    facts = example()
    facts.began_s, facts.seen_s = 3600.0, 3600.0 + seconds
    facts.happenings = [Happening(3600.0 + seconds, "ready")]
    facts.runs = [RunFact("1.1/1", "train", "t", "RUNNING", began_s=3600.0 + seconds)]
    assert render.page(facts).count(f"<td>{shown}</td>") == 2


def test_nodes_without_a_runtime_of_ours_have_no_charts():
    facts = example()
    facts.is_plain = True
    page = render.page(facts)
    assert "<h2>Use</h2>" not in page and "CPU hours" in page and "given to tasks" not in page
