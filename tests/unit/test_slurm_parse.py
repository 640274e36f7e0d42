"""What we say to Slurm and how we read its answers, word by word (answers as Slurm 22.05 gave them)."""

from __future__ import annotations

import pytest

from hpc.launchers.scheduler import Allocation, BadAllocation, Request, Share
from hpc.launchers.slurm import commands as slurm
from hpc.launchers.slurm import words as slurm_words
from hpc.launchers.slurm.parts import Alike, grants, parts_of, shares_from_env
from hpc.launchers.slurm.words import Partition

# ---------------------------------------------------------------- inside


ENV = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NODELIST": "nid[0001-0002]",
    "SLURM_JOB_CPUS_PER_NODE": "2(x2)",
    "SLURM_JOB_PARTITION": "batch",
    "SLURMD_NODENAME": "nid0001",
    "PATH": "/bin",
    "HOME": "/home/u",
}


def test_an_allocation_is_read_from_the_environment() -> None:
    alloc = slurm.allocation(ENV)
    assert alloc is not None
    assert alloc.nodes == ("nid0001", "nid0002") and alloc.job_id == "4711"
    assert alloc.runs_here("anything") and alloc.here == "nid0001"


def test_a_salloc_shell_runs_elsewhere() -> None:
    alloc = slurm.allocation({k: v for k, v in ENV.items() if k != "SLURMD_NODENAME"})
    assert alloc is not None
    assert not alloc.runs_here("login1") and alloc.runs_here("nid0002.site.org")


@pytest.mark.parametrize("missing", ["SLURM_JOB_ID", "SLURM_JOB_NODELIST"])
def test_half_an_allocation_is_none(missing: str) -> None:
    assert slurm.allocation({k: v for k, v in ENV.items() if k != missing}) is None


def test_an_allocation_that_makes_no_sense_says_how_to_leave_it() -> None:
    with pytest.raises(BadAllocation, match="not a node list") as caught:
        slurm.allocation({**ENV, "SLURM_JOB_NODELIST": "nid[1"})
    assert caught.value.fix == "unset SLURM_JOB_ID"


def test_the_step_does_not_inherit_the_jobs_wishes() -> None:
    wishes = {
        "SLURM_NTASKS": "8",
        "SLURM_NTASKS_PER_NODE": "4",
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_GPUS_PER_TASK": "1",
        "SLURM_HINT": "x",
        "SLURM_CPU_BIND": "y",
        "SRUN_CPUS_PER_TASK": "2",
        "SLURM_JOB_GPUS": "0,1",
        "PMI_RANK": "0",
        "SLURM_MEM_PER_NODE": "500",
        "SLURM_MEM_PER_CPU_HET_GROUP_1": "500",
    }
    component = {"SLURM_HET_SIZE": "2", "SLURM_JOB_ID_HET_GROUP_1": "12", "SLURM_JOB_NODELIST_HET_GROUP_1": "b"}
    assert slurm.step_env({**ENV, **wishes, **component}) == {**ENV, **component}


def test_what_was_asked_for_goes_before_sbatchs_own_variables() -> None:
    request = Request(nodes=(2, 2), time=300, partition="batch", mem="1G", output="/o", job_name="x")
    against = ("PARTITION", "TIMELIMIT", "MEM_PER_CPU", "REQUEUE", "OPEN_MODE", "ERROR", "NO_KILL", "JOB_NAME", "WAIT")
    others = {"SBATCH_ACCOUNT": "acc", "SBATCH_CONSTRAINT": "ib", "SBATCH_EXPORT": "NONE", "PATH": "/bin"}
    env = {**others, **{f"SBATCH_{name}": "y" for name in against}}
    assert slurm.submit_env(env, slurm.directives(request)) == others


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("plain-%j.txt", "--output=plain-%j.txt"),
        ("with space", '--output="with space"'),
        ("it's", '--output="it\'s"'),
        ('a "q"', '--output="a \\"q\\""'),
        ("run#3", '--output="run#3"'),
        ("a\\b", '--output="a\\\\b"'),
    ],
)
def test_values_in_the_job_script_come_whole(value: str, line: str) -> None:
    assert slurm.directive("--output", value) == line


def test_a_step_to_look_into_a_job_has_none_of_the_users_wishes() -> None:
    env = {"SRUN_OUTPUT": "/x", "SLURM_JOB_ID": "7", "SLURM_CONF": "/c", "PATH": "/bin"}
    assert slurm.run_in_env(env) == {"SLURM_CONF": "/c", "PATH": "/bin"}


def test_devices_of_the_batch_host_do_not_reach_other_nodes() -> None:
    devices = {"CUDA_VISIBLE_DEVICES": "0,1", "ROCR_VISIBLE_DEVICES": "0,1", "ZE_AFFINITY_MASK": "0,1"}
    assert slurm.step_env({**ENV, **devices, "SLURM_JOB_GPUS": "0,1"}) == ENV
    assert slurm.step_env({**ENV, **devices}) == {**ENV, **devices}  # the user's own, of a login node


def test_questions_are_not_filtered_by_the_users_settings() -> None:
    kept = slurm.query_env(
        {"SQUEUE_FORMAT": "%i", "SINFO_PARTITION": "x", "SLURM_CONF": "/c", "SLURM_TIME_FORMAT": "relative"}
    )
    assert kept == {"SLURM_CONF": "/c", "SLURM_TIME_FORMAT": "standard", "LC_ALL": "C"}


def test_the_one_srun() -> None:
    argv = slurm.srun_command(Alike(("a", "b"), gpus=2), ["/py", "-c", "x"], extra=["--network=hsn"])
    assert argv[0] == "srun" and argv[-3:] == ["/py", "-c", "x"] and "--network=hsn" in argv
    for wanted in (
        "--nodes=2",
        "--ntasks=2",
        "--ntasks-per-node=1",
        "--overlap",
        "--mem=0",
        "--wait=0",
        "--kill-on-bad-exit=0",
        "--no-kill",
        "--gres=gpu:2",
        "--cpu-bind=none",
        "--mpi=none",
    ):
        assert wanted in argv
    assert "--unbuffered" not in argv and not any(a.startswith("--nodelist") for a in argv)
    assert "--nodelist=a" in slurm.srun_command(Alike(("a",), others=("b",)), ["x"])


# ---------------------------------------------------------------- nodes that are not alike

HET = {
    "SLURM_HET_SIZE": "2", "SLURM_JOB_ID": "10", "SLURM_JOB_NODELIST": "n1", "SLURMD_NODENAME": "n1",
    "SLURM_JOB_ID_HET_GROUP_0": "10", "SLURM_JOB_ID_HET_GROUP_1": "11",
    "SLURM_JOB_NODELIST_HET_GROUP_0": "n1", "SLURM_JOB_NODELIST_HET_GROUP_1": "n[2-3]",
}  # fmt: skip


def test_all_components_of_a_heterogeneous_job_are_one_allocation() -> None:
    at_login = {name: value for name, value in HET.items() if name.startswith("SLURM_") and "HET" in name}
    for env, here in ((HET, "n1"), (at_login, None)):
        alloc = slurm.allocation(env)
        assert alloc == Allocation("10", ("n1", "n2", "n3"), here, (("n1",), ("n2", "n3")), ("10", "11"))
    with pytest.raises(BadAllocation, match="of its 2 components some have no nodes"):
        slurm.allocation({**HET, "SLURM_JOB_NODELIST_HET_GROUP_1": ""})


def test_a_heterogeneous_job_has_what_its_components_have_and_the_least_of_their_time() -> None:
    line = "JobId={} HetJobId=10 JobState=RUNNING RunTime=00:00:10 TimeLimit={} NodeList={}   Nodes={} CPU_IDs=0 Mem={}"
    out = "\n".join(
        [
            line.format(10, "00:03:00", "n1", "n1", "500 GRES="),
            line.format(11, "00:02:00", "n[2-3]", "n[2-3]", "0 GRES=gpu:2(IDX:0-1)"),
        ]
    )
    job = slurm.parse_job(out)
    assert job is not None and job.nodes == ("n1", "n2", "n3") and job.time_left_s == 110
    assert job.granted == {"n1": Share(0, 500), "n2": Share(2), "n3": Share(2)}
    array = out.replace("HetJobId=10", "ArrayJobId=10")  # the tasks of an array are jobs of their own
    job = slurm.parse_job(array)
    assert job is not None and job.nodes == ("n1",)


def gpus_of(**counts: int) -> dict[str, Share]:
    return {node: Share(gpus) for node, gpus in counts.items()}


def test_nodes_that_are_alike_are_one_part() -> None:
    alloc = Allocation("7", ("a", "b", "c"), None)
    assert parts_of(alloc, 3, gpus_of(a=2, b=2, c=2)) == [Alike(("a", "b", "c"), "7", gpus=2)]
    (some,) = parts_of(alloc, 2, gpus_of(a=2, b=2, c=2))
    assert some.options() == ["--nodelist=a,b", "--gres=gpu:2"]
    assert parts_of(alloc, 3, {})[0].options() == []


def test_nodes_with_other_gpus_are_parts_of_their_own_and_the_first_stays_first() -> None:
    alloc = Allocation("7", ("a", "b", "c", "d"), None)
    parts = parts_of(alloc, 4, gpus_of(a=0, b=2, c=4, d=2))
    assert [part.options() for part in parts] == [
        ["--nodelist=a", "--exclude=b,c,d"],
        ["--nodelist=b,d", "--exclude=a,c", "--gpus=4"],
        ["--nodelist=c", "--exclude=a,b,d", "--gpus=4"],
    ]


def test_each_component_is_a_part_and_is_asked_for_its_own_gpus() -> None:
    alloc = slurm.allocation(HET)
    assert alloc is not None
    parts = parts_of(alloc, 3, gpus_of(n1=0, n2=2, n3=2))
    assert [(part.nodes, part.job_id, part.options()) for part in parts] == [
        (("n1",), "10", ["--het-group=0"]), (("n2", "n3"), "11", ["--het-group=1", "--gres=gpu:2"]),
    ]  # fmt: skip
    (_, b, c) = parts_of(alloc, 3, gpus_of(n1=0, n2=2, n3=4))
    assert b.options() == ["--het-group=1", "--nodelist=n2", "--exclude=n3", "--gpus=2"]
    assert c.options() == ["--het-group=1", "--nodelist=n3", "--exclude=n2", "--gpus=4"]


def test_each_rank_is_told_what_it_was_granted() -> None:
    shares = {"a": Share(2, 300), "b": Share(2, 300), "c": Share(0, 300)}
    counted = grants(["a", "b", "c"], shares, counts_gpus=True)
    assert counted == [{"nodes": 2, "mem_mb": 300, "gpus": 2}, {"nodes": 1, "mem_mb": 300, "gpus": 0}]
    assert grants(["a", "c"], shares, counts_gpus=False) == [{"nodes": 2, "mem_mb": 300, "gpus": None}]
    assert grants(["a", "b"], {}, counts_gpus=True) == [{"nodes": 2, "mem_mb": None, "gpus": None}]


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"SLURM_MEM_PER_NODE": "500"}, [500, 500, 500]),
        ({"SLURM_MEM_PER_CPU": "100", "SLURM_JOB_CPUS_PER_NODE": "2(x2),4"}, [200, 200, 400]),
        ({}, []),
    ],
)
def test_without_the_controller_the_variables_tell_the_memory(env: dict[str, str], expected: list[int]) -> None:
    alloc = Allocation("7", ("a", "b", "c"), None)
    assert [share.mem_mb for share in shares_from_env(env, alloc).values()] == expected


def test_whether_a_cluster_counts_gpus() -> None:
    assert slurm.parse_counts_gpus("GpuFreqDef = x\nGresTypes               = gpu,mps\nY = z\n")
    assert not slurm.parse_counts_gpus("GresTypes               = (null)\n") and not slurm.parse_counts_gpus("")


@pytest.mark.parametrize(
    ("text", "ranks", "nodes", "fatal"),
    [
        ("srun: error: nid0002: task 1: Killed", (1,), ("nid0002",), False),
        ("srun: error: nid[0002-0003]: tasks 1-2: Exited with exit code 2", (1, 2), ("nid0002", "nid0003"), False),
        ("srun: error: Node failure on nid0003", (), ("nid0003",), False),
        ("srun: error: Unable to create step for job 1: Invalid generic resource (gres)", (), (), True),
        ("srun: unrecognized option '--bogus'", (), (), True),
        ("srun: Job step creation temporarily disabled, retrying (Requested nodes are busy)", (), (), False),
        ("srun: Job step aborted: Waiting up to 7 seconds for job step to finish.", (), (), False),
        ("anything else", (), (), False),
    ],
)
def test_what_srun_says(text: str, ranks: tuple[int, ...], nodes: tuple[str, ...], fatal: bool) -> None:
    news = slurm.parse_srun_line(text + "\n")
    assert (news.ranks, news.nodes, news.fatal, news.text) == (ranks, nodes, fatal, text)


# ---------------------------------------------------------------- one job

RUNNING = (
    "JobId=11 JobName=x UserId=root(0) GroupId=root(0) MCS_label=N/A Priority=42 Nice=0 "
    "Account=(null) JobState=RUNNING Reason=None Dependency=(null) Requeue=1 Restarts=2 BatchFlag=1 ExitCode=0:0 "
    "RunTime=00:01:05 TimeLimit=00:05:00 TimeMin=N/A StartTime=2026-11-21T03:58:04 EndTime=2026-11-21T04:03:04 "
    "Partition=batch NodeList=nid[0002-0003] BatchHost=nid0002 NumNodes=2 NumCPUs=2 JOB_GRES=gpu:3 "
    "  Nodes=nid0002 CPU_IDs=0 Mem=0 GRES=gpu:2(IDX:0-1)   Nodes=nid0003 CPU_IDs=0 Mem=0 GRES=gpu:a100:1(IDX:0) "
    "Command=/tmp/a b WorkDir=/tmp\n"
)
PENDING = (
    "JobId=12 JobName=wrap JobState=PENDING Reason=Priority Dependency=(null) Restarts=0 ExitCode=0:0 RunTime=00:00:00 "
    "TimeLimit=UNLIMITED StartTime=Unknown EndTime=Unknown Partition=batch NodeList= "
    "SchedNodeList=nid[0001-0004] NumNodes=4-4 "
)


def test_a_job_whose_nodes_are_taken_has_the_grace_time() -> None:
    """As Slurm showed one 2 s after another job had wanted its nodes, with a grace time of 25 s."""
    taken = (
        "JobId=1 JobName=wrap JobState=RUNNING Reason=None Requeue=1 BatchFlag=1 ExitCode=0:0 RunTime=00:00:04 "
        "TimeLimit=00:05:00 StartTime=2026-11-29T17:43:33 EndTime=2026-11-29T17:44:00 "
        "PreemptEligibleTime=2026-11-29T17:43:33 PreemptTime=2026-11-29T17:43:35 Partition=taken NodeList=nid0001 "
    )
    job = slurm.parse_job(taken)
    assert job is not None and job.preempted and job.time_left_s == 23
    spared = slurm.parse_job(taken.replace("PreemptTime=2026-11-29T17:43:35", "PreemptTime=None"))
    assert spared is not None and not spared.preempted and spared.time_left_s == 296
    endless = slurm.parse_job(taken.replace("00:05:00", "UNLIMITED"))
    assert endless is not None and endless.time_left_s == 23


def test_a_running_job() -> None:
    job = slurm.parse_job(RUNNING)
    assert job is not None and (job.phase, job.ending) == ("running", "")
    assert job.nodes == ("nid0002", "nid0003") and job.granted == {"nid0002": Share(2), "nid0003": Share(1)}
    assert job.time_left_s == 235


@pytest.mark.parametrize(("state", "ending"), [("RUNNING", "lost"), ("COMPLETING", "")])
def test_a_first_node_that_is_not_listed_has_failed_unless_the_job_completes(state: str, ending: str) -> None:
    """Of a job that completes Slurm lists the nodes that are not done yet."""
    shown = RUNNING.replace("nid[0002-0003]", "nid0003").replace("JobState=RUNNING", f"JobState={state}")
    job = slurm.parse_job(shown)
    assert job is not None and (job.phase, job.ending) == ("running", ending)
    listed = slurm.parse_list(f"11|{state}|None|4:00|nid0003|nid0002\n")
    assert listed["11"].ending == ending


def test_a_pending_job_without_an_estimate() -> None:
    job = slurm.parse_job(PENDING)
    assert job is not None and job.phase == "queued"
    assert (job.reason, job.start, job.nodes, job.time_left_s, job.granted) == (
        "Priority",
        "",
        (),
        None,
        {},
    )


def test_a_job_that_was_killed() -> None:
    job = slurm.parse_job(
        "JobId=3 JobName=x JobState=FAILED Reason=None ExitCode=0:9 RunTime=00:00:01 TimeLimit=00:05:00"
    )
    assert job is not None and job.phase == "ended" and (job.exit_code, job.exit_signal) == (0, 9)


@pytest.mark.parametrize(
    ("state", "phase", "ending"),
    [
        ("CONFIGURING", "queued", ""),
        ("SUSPENDED", "running", ""),
        ("COMPLETED", "ended", "exit"),
        ("OUT_OF_MEMORY", "ended", "exit"),
        ("CANCELLED", "ended", "cancelled"),
        ("TIMEOUT", "ended", "timeout"),
        ("NODE_FAIL", "ended", "lost"),
        ("PREEMPTED", "ended", "lost"),
    ],
)
def test_states_in_the_words_of_all_schedulers(state: str, phase: str, ending: str) -> None:
    assert slurm.phase_of(state) == (phase, ending)


def test_no_job() -> None:
    assert slurm.parse_job("") is None
    assert slurm.no_such_job("slurm_load_jobs error: Invalid job id specified")


def test_our_place_in_the_queue() -> None:
    out = "11|100\n12|90\n13_[1-4]|95\nbanner\n14|90\n"
    assert slurm.queue_position(out, "12") == 3
    assert slurm.queue_position(out, "99") is None


def test_lists_and_steps() -> None:
    found = slurm.parse_list("11|RUNNING|None|4:59|n[1-2]|n1\n12|PENDING|(Resources)|5:00||n/a\nbad\n")
    assert {job: (info.phase, info.reason, info.why, info.left) for job, info in found.items()} == {
        "11": ("running", "None", "just submitted", "4:59"),
        "12": ("queued", "(Resources)", "waiting for nodes to become free", "5:00"),
    }
    assert slurm.parse_steps("7.batch|batch\n7.0|hpc-ab\n7.1|other\n", "hpc-ab") == ["7.0"]
    assert slurm.end_steps_command(["7.0"], kill=False) == ["scancel", "--signal=TERM", "7.0"]


# ---------------------------------------------------------------- submitting


def test_the_job_script() -> None:
    text = slurm.job_script(
        ["--nodes=2", slurm.directive("--job-name", "my job")],
        cwd="/a b",
        setup=["module load y"],
        command=["/py", "-c", "print(1)"],
    )
    assert text.startswith("#!/bin/bash\n#SBATCH --nodes=2\n#SBATCH --job-name=\"my job\"\n\ncd '/a b' || ")
    assert "\nmodule load y\n" in text and text.endswith("\nexec /py -c 'print(1)'\n")


def test_answers_of_sbatch() -> None:
    assert slurm.parse_submitted("4711\n") == "4711"
    assert slurm.parse_submitted("*** maintenance on Monday 12 ***\n4711;cluster\n") == "4711"
    with pytest.raises(ValueError, match="no job id"):
        slurm.parse_submitted("hello")
    said = (
        "sbatch: Job 8 to start at 2026-11-21T03:54:03 using 4 processors on nodes nid[0001-0004] in partition batch\n"
    )
    assert (slurm.parse_test_only(said) or "").startswith("to start at 2026-11-21T03:54:03")


# ---------------------------------------------------------------- refusals and reasons

SINFO = (
    "batch*|up|1:00:00|3|1-infinite|2|2000|gpu:2\n"
    "batch*|up|1:00:00|1|1-infinite|4|4000+|gpu:a100:4(S:0-1)\n"
    "debug|up|10:00|2|1|2|2000|(null)\n"
    "long|up|infinite|8|1-infinite|2|2000|(null)\n"
    "closed|down|1-00:00:00|4|1-infinite|2|2000|(null)\n"
)


def test_partitions_over_kinds_of_nodes() -> None:
    batch, debug, long, closed = slurm_words.parse_partitions(SINFO)
    assert batch == Partition("batch", True, True, 3600.0, "1:00:00", 4, None, 4, 4000, 4)
    assert (debug.most_nodes, debug.limit_s) == (1, 600) and long.limit_s is None and not closed.up


@pytest.mark.parametrize(
    ("asked", "code", "words", "fix"),
    [
        (Request(partition="bacth"), "PARTITION", "'bacth'", {"--partition": "batch"}),
        (Request(partition="close"), "PARTITION", "'close'", {"--partition": "long"}),  # of the open ones
        (Request(partition="closed"), "PARTITION", "takes no jobs", {"--partition": "batch"}),
        (Request(nodes=(9, 9)), "TOO-MANY-NODES", "9 nodes asked for, but partition batch has 4", {"--nodes": "4"}),
        (Request(nodes=(2, 2), partition="debug"), "TOO-MANY-NODES", "allows 1 per job", {"--nodes": "1"}),
        (Request(time=7200), "TIME-LIMIT", "batch allows 1:00:00", {"--time": "1:00:00"}),
        (Request(gpus_per_node="5"), "TOO-MANY-GPUS", "have 4 GPUs, you asked for 5", {"--gpus-per-node": "4"}),
        (Request(cpus_per_task=5), "TOO-MANY-CPUS", "have 4 CPUs", {"--cpus-per-task": "4"}),
        (Request(mem="9999M"), "TOO-MUCH-MEMORY", "have 4000 MiB", {"--mem": "4000M"}),
    ],
)
def test_a_request_beside_the_limits(asked: Request, code: str, words: str, fix: dict[str, str]) -> None:
    found = slurm_words.compare(asked, slurm_words.parse_partitions(SINFO))
    assert found is not None
    assert found.code == code and words in found.what and dict(found.fix) == fix


def test_what_fits_is_not_blamed() -> None:
    partitions = slurm_words.parse_partitions(SINFO)
    assert slurm_words.compare(Request(nodes=(4, 4), time=3600, cpus_per_task=4), partitions) is None
    assert slurm_words.compare(Request(nodes=(8, 8), time=1e7, partition="long"), partitions) is None
    assert slurm_words.compare(Request(nodes=(99, 99)), []) is None


TOO_MANY = Request(nodes=(99, 99))


@pytest.mark.parametrize(
    ("err", "asked", "code"),
    [
        (
            "sbatch: error: ... Time limit specification required, but not provided",
            Request(),
            "NO-TIME",
        ),
        ("sbatch: error: ... Requested time limit is invalid (missing or exceeds some limit)", Request(), "NO-TIME"),
        (
            "sbatch: error: ... Unable to contact slurm controller (connect failure)",
            Request(nodes=(99, 99)),
            "SCHEDULER-DOWN",
        ),
        (
            "sbatch: error: ... Invalid account or account/partition combination specified",
            Request(account="x"),
            "ACCOUNT",
        ),
        ("sbatch: error: ... Invalid qos specification", Request(qos="x"), "ACCOUNT"),
        ("sbatch: error: ... No error", Request(), "REJECTED"),
    ],
)
def test_refusals(err: str, asked: Request, code: str) -> None:
    assert slurm_words.explain_refusal(err, asked, slurm_words.parse_partitions(SINFO)).code == code


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("(Priority)", "higher priority"),
        ("Resources", "nodes to become free"),
        ("None", "just submitted"),
        ("QOSMaxJobsPerUserLimit", "the QOS's limit"),
        ("AssocGrpCPUMinutesLimit", "the account's limit"),
        ("ReqNodeNotAvail, UnavailableNodes:nid0001", "not available"),
        ("SomethingNew", "SomethingNew"),
    ],
)
def test_reasons_in_words(reason: str, words: str) -> None:
    assert words in slurm_words.reason_in_words(reason)


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("sbatch: error: AssocMaxSubmitJobLimit\n", "the account's limit is used up for now (AssocMaxSubmitJobLimit)"),
        ("sbatch: error: QOSMaxWallDurationPerJobLimit\n",
         "asks for more than the QOS allows a job (QOSMaxWallDurationPerJobLimit)"),
        ("", "a limit of the account or the QOS"),
    ],
)  # fmt: skip
def test_a_limit_of_accounting_is_no_fault_of_the_account(said: str, what: str) -> None:
    err = (
        f"{said}sbatch: error: Batch job submission failed: Job violates accounting/QOS policy "
        "(job submit limit, user's size and/or time limits)"
    )
    found = slurm_words.explain_refusal(err, Request(account="proj"), [], why="")
    assert (found.code, found.what) == ("LIMIT", what)
