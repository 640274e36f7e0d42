"""All pages, in the order in which they are shown, and the questions that they need."""

from __future__ import annotations

from functools import partial

from hpc.dashboard.asking import Question
from hpc.dashboard.pages import events, jobs, lists, logs, metrics, nodes, now, profile, runs, timeline
from hpc.dashboard.pages.face import Page
from hpc.state import course, worker_logs
from hpc.state.gather import LIMIT
from hpc.state.overview import session_overview
from hpc.state.runs import run_rows
from hpc.state.tasks import open_rows, task_rows
from hpc.util import state

PAGES: tuple[Page, ...] = (
    now.PAGE,
    nodes.PAGE,
    lists.TASKS_PAGE,
    timeline.PAGE,
    lists.ACTORS_PAGE,
    lists.OBJECTS_PAGE,
    lists.WORKERS_PAGE,
    lists.GROUPS_PAGE,
    runs.TRAIN_PAGE,
    runs.TUNE_PAGE,
    runs.DATA_PAGE,
    runs.SERVE_PAGE,
    jobs.PAGE,
    logs.PAGE,
    profile.PAGE,
    metrics.PAGE,
    events.PAGE,
)
BY_NAME = {page.name: page for page in PAGES}

#: Of tasks that have ended the newest are looked at: 10,000 rows are 20 MB here.
MOST_TASKS = 10_000

#: The same functions as those of the commands, so that both show the same.
QUESTIONS = {
    "overview": Question(session_overview),
    "tasks": Question(lambda: task_rows(MOST_TASKS), 4.0),
    "actors": Question(lambda: state.list_actors(limit=LIMIT), 4.0),
    "objects": Question(lambda: state.list_objects(limit=LIMIT), 4.0),
    "workers": Question(lambda: state.list_workers(limit=LIMIT), 4.0),
    "groups": Question(lambda: state.list_placement_groups(limit=LIMIT), 4.0),
    "metrics": Question(metrics.ask),
    "events": Question(events.Kept().ask),
    "files": Question(worker_logs.files, 4.0),
    "runs": Question(run_rows),
    "open": Question(partial(open_rows, "list_tasks"), 4.0),
    "course": Question(course.lately),
    "whole": Question(course.whole, 20.0),
}
