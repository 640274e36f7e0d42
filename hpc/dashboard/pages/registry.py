"""All pages, in the order in which they are shown, and the questions that they need."""

from __future__ import annotations

from hpc.dashboard.asking import Question
from hpc.dashboard.pages import lists, logs, metrics, nodes, now, profile, timeline
from hpc.dashboard.pages.face import Page
from hpc.state import worker_logs
from hpc.state.gather import LIMIT
from hpc.state.overview import session_overview
from hpc.state.tasks import task_rows
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
    logs.PAGE,
    profile.PAGE,
    metrics.PAGE,
)
BY_NAME = {page.name: page for page in PAGES}

#: The same functions as those of the commands, so that both show the same.
QUESTIONS = {
    "overview": Question(session_overview),
    "tasks": Question(task_rows, 4.0),
    "actors": Question(lambda: state.list_actors(limit=LIMIT), 4.0),
    "objects": Question(lambda: state.list_objects(limit=LIMIT), 4.0),
    "workers": Question(lambda: state.list_workers(limit=LIMIT), 4.0),
    "groups": Question(lambda: state.list_placement_groups(limit=LIMIT), 4.0),
    "metrics": Question(metrics.ask),
    "files": Question(worker_logs.files, 4.0),
}
