"""A scheduler is one folder: nothing outside of it has the name of a scheduler, of its commands or of its variables.

launchers/registry.py alone says which there are. That its folder is imported by the registry alone is a contract in
pyproject.toml. (The options of hpc-launch are everybody's; what people are told of commands comes from the face.)
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = re.compile(
    r"slurm|(?<![a-z])sbatch|\bsrun|salloc|scancel|squeue|scontrol|\bsinfo\b|\bpbs|\bqsub|\bqstat|torque|\blsf\b|\blsb_|\bbsub"
    r"|\bsge\b|\boar_|\bflux|\byarn|hadoop",
    re.IGNORECASE,
)
FACE = ROOT / "launchers" / "registry.py"
FOLDERS = tuple(path.parent for path in (ROOT / "launchers").glob("*/scheduler.py"))
FILES = [
    path
    for part in ("hpc", "core", "launchers")
    for path in sorted((ROOT / part).rglob("*.py"))
    if path != FACE and path.parent not in FOLDERS
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_but_its_folder_names_a_scheduler(path: Path) -> None:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = NAMES.search(line)
        assert found is None, f"{path.relative_to(ROOT)}:{number} names {found.group()!r}"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_the_registry_has_every_folder(folder: Path) -> None:
    from hpc.launchers import registry

    assert folder.name in registry.names()


@pytest.mark.parametrize("text", ['["srun", "--overlap"]', 'env["SLURM_JOB_ID"]', "# as PBS does", "read by sbatch"])
def test_the_check_can_fail(text: str) -> None:
    assert NAMES.search(text)
