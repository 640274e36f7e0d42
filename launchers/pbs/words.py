"""What PBS's refusals and comments mean, in words, with the values that would have been valid.

Pure: text and tables in, words out. qsub says in three words that a limit was passed, and names neither the value nor
the limit. So the queue's limits are laid beside the request.
Rejected: refusing before qsub is asked (an administrator's hook may route or change the job: PBS decides).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from hpc.launchers.scheduler import Diagnosis, Request
from hpc.launchers.units import clock_text, parse_clock

_DOWN = (
    "cannot connect to server", "Connection refused", "could not connect", "No default server", "errno=15010",
    "Communication failure",
)  # fmt: skip


def explain_refusal(err: str, request: Request, queues: Mapping[str, Mapping[str, str]], *, why: str) -> Diagnosis:
    """qsub's no, with what would be accepted; `why` is quoted."""
    found = _explain(err, request, queues)
    return Diagnosis(found.code, found.what, found.fix, found.valid, why, found.hint)


def _explain(err: str, request: Request, queues: Mapping[str, Mapping[str, str]]) -> Diagnosis:
    if any(sign in err for sign in _DOWN):
        return Diagnosis("SCHEDULER-DOWN", "PBS's server does not answer; nothing was submitted")
    if "Unknown queue" in err:
        name = request.partition or ""
        open_ones = [queue for queue, facts in queues.items() if facts.get("enabled") in ("True", "yes")]
        near = difflib.get_close_matches(name, open_ones, 1, 0.4) or open_ones[:1]
        valid = f"there are: {', '.join(open_ones)}" if open_ones else ""
        return Diagnosis("PARTITION", f"no queue is called {name!r}", {"--partition": near[0]} if near else {}, valid)
    if "Queue is not enabled" in err or "not allowed to" in err.lower() or "Unauthorized Request" in err:
        return Diagnosis("PARTITION", f"jobs cannot be submitted to queue {request.partition or '(default)'}")
    if "Bad UID" in err:
        return Diagnosis("REJECTED", "PBS takes no jobs of this user", hint="submit as an ordinary user")
    if "cannot locate feasible nodes" in err:  # Torque's
        what = f"there are never {request.nodes[0]} nodes with {request.cpus_per_task or 1} processors each"
        what += f" and {request.constraint}" if request.constraint else ""
        return Diagnosis("TOO-MANY-NODES", what, hint="pbsnodes -a shows the nodes that there are")
    if "violates queue and/or server resource limits" in err or "exceeds queue resource limits" in err:
        return _limit(request, queues)
    if "Unknown resource" in err:
        named = re.search(r"Unknown resource(?: type)?:?\s*([\w.-]*)", err)
        return Diagnosis("REJECTED", f"this PBS knows no resource {named[1] if named else ''!r}")
    if "Invalid Account" in err:
        return Diagnosis("ACCOUNT", f"account {request.account or '(default)'} cannot be charged")
    return Diagnosis("REJECTED", "PBS refused the job")


def _limit(request: Request, queues: Mapping[str, Mapping[str, str]]) -> Diagnosis:
    name = request.partition or next(iter(queues), "")
    facts = queues.get(name, {})
    most = {key.partition(".")[2]: value for key, value in facts.items() if key.startswith("resources_max.")}
    limit_s = parse_clock(most.get("walltime", ""))
    if limit_s is not None and request.time is not None and request.time > limit_s:
        what = f"{clock_text(request.time)} asked for, but queue {name} allows {most['walltime']}"
        return Diagnosis("TIME-LIMIT", what, {"--time": most["walltime"]})
    nodes = most.get("nodect", "")
    if nodes.isdigit() and request.nodes[0] > int(nodes):
        what = f"{request.nodes[0]} nodes asked for, but queue {name} allows {nodes} per job"
        return Diagnosis("TOO-MANY-NODES", what, {"--nodes": nodes})
    cpus = most.get("ncpus", "")
    wanted = request.nodes[0] * (request.cpus_per_task or 1)
    if cpus.isdigit() and wanted > int(cpus):
        return Diagnosis("TOO-MANY-CPUS", f"{wanted} CPUs asked for, but queue {name} allows {cpus} per job")
    shown = ", ".join(f"{key} {value}" for key, value in most.items())
    return Diagnosis("REJECTED", f"a limit of queue {name} was passed", valid=f"it allows: {shown}" if shown else "")


_COMMENTS = (
    (r"Job run at .* and (finished|failed|terminated.*|exceeded .*)$", r"\1"),
    (r".* and terminated$", "terminated while it waited"),
    (r"Can Never Run: (.*)", r"can never run: \1: will not start as it is"),
    (r"Not Running: Queue not started", "the queue is not started"),
    (r"Not Running: (Not enough free nodes|Insufficient amount of resource)", "waiting for nodes to become free"),
    (r"Not Running: (.*)", r"not running yet: \1"),
    (r"Job held by (\S+)", r"held by \1 (qrls frees it)"),
)  # fmt: skip


_EXITS = {
    -1: "PBS could not start it",
    -2: "PBS could not start it",
    -3: "PBS could not start it",
    -4: "PBS was started anew on its first node",
    -5: "PBS was started anew on its first node",
    -6: "PBS was started anew on its first node",
    -10: "its user cannot run on its first node",
    -14: "a node was lost while it started",
    -17: "a hook of the site rejected it",
    -19: "a hook of the site deleted it",
    -20: "its first node, where its script ran, was lost",
    -24: "it used more CPUs than it was granted",
    -25: "it used more CPUs than it was granted",
    -26: "it used more virtual memory than it asked for",
    -27: "it used more memory than it asked for",
    -28: "it used more CPU time than it asked for",
    -30: "one of its nodes could not begin it",
}


#: Torque's, where they mean something else.
_TORQUES_EXITS = {
    -4: "its first node was started anew",
    -5: "its first node was started anew",
    -6: "its first node was started anew",
    -7: "PBS could not start it anew",
    -8: "PBS could not run its script",
    -9: "PBS could not make its output file",
    -10: "it used more memory than it asked for",
    -11: "exceeded its walltime",
    -12: "it used more CPU time than it asked for",
    -13: "PBS could not make its cgroup",
}


def exit_in_words(status: int | None, *, torques: bool = False) -> str:
    """What one of PBS's own exit codes, which are below zero, means; "" for those of scripts."""
    if status is None:
        return ""
    return {**_EXITS, **_TORQUES_EXITS}.get(status, "") if torques else _EXITS.get(status, "")


def reason_in_words(comment: str, state: str = "Q") -> str:
    """PBS's comment on a job, for people; unknown ones as they are."""
    for pattern, words in _COMMENTS:
        match = re.match(pattern, comment.strip())
        if match:
            return match.expand(words)
    if not comment and state in "QT":
        return "just submitted"
    if not comment and state == "H":
        return "held (qrls frees it), or it waits for another job"
    return comment
