"""Profiles of machines: how one is found, what counts of it where, and that those that are shipped are sound."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hpc import templates
from hpc.settings import sites
from hpc.settings.errors import CliError
from hpc.settings.files import parse_toml
from hpc.settings.options import BY_NAME, TABLE, Settings, load, pass_on, read_value

CONFIG = Path("/nowhere")
OWN = """\
[site]
title = "Ours"
scheduler = "slurm"
detect = ["OURS=1", "host login*.ours.example"]
kinds = ["thin", "fat"]
[launch]
grace = "7s"
[nodes]
interface = "ib7"
[submit]
partition = "p"
account = "a"
[kind.thin.submit]
constraint = "thin"
[kind.fat.submit]
constraint = "fat"
partition = "big"
[kind.fat.nodes]
tmpdir = "/nvme"
[runtime]
heartbeat_s = 2.0
"""


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A user with one profile of their own; nothing else is set."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "config" / "hpc" / "sites"
    folder.mkdir(parents=True)
    (folder / "ours.toml").write_text(OWN)
    return {"XDG_CONFIG_HOME": str(tmp_path / "config"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}


def asked(settings: Settings, *names: str) -> dict[str, Any]:
    return {name: settings[name] for name in names}


# ---------------------------------------------------------------- finding one


@pytest.mark.parametrize(
    ("env", "host", "name"),
    [
        ({"NERSC_HOST": "perlmutter"}, "login05", "perlmutter"),
        ({"NERSC_HOST": "cori"}, "login05", None),
        ({}, "polaris-login-04", "polaris"),
        ({}, "x3005c0s13b0n0.hsn.cm.polaris.alcf.anl.gov", "polaris"),
        ({"LMOD_SYSTEM_NAME": "frontier"}, "login09", "frontier"),
        ({"SYSTEMNAME": "juwelsbooster"}, "jwlogin22", "juwels-booster"),
        ({"CLUSTER_NAME": "clariden"}, "clariden-ln001", "clariden"),
        ({}, "laptop", None),
    ],
)
def test_a_machine_is_known_by_its_signs(env: Mapping[str, str], host: str, name: str | None) -> None:
    found = sites.find(CONFIG, env, host)
    assert (found and found.name) == name


def test_a_profile_that_is_found_says_by_what() -> None:
    found = sites.find(CONFIG, {"NERSC_HOST": "perlmutter"}, "login05")
    assert found is not None and found.where == "site profile perlmutter/gpu (found by NERSC_HOST)"


def test_the_users_own_profile_goes_before_the_shipped_one(env: dict[str, str]) -> None:
    config = Path(env["XDG_CONFIG_HOME"]) / "hpc"
    (config / "sites" / "perlmutter.toml").write_text(
        '[site]\ntitle = "mine"\ndetect = [\n  "NERSC_HOST=perlmutter",\n]\n'
    )
    found = sites.find(config, {"NERSC_HOST": "perlmutter"}, "login05")
    assert found is not None and found.title == "mine"
    assert sites.names(config).count("perlmutter") == 1


def test_none_is_no_profile(env: dict[str, str]) -> None:
    assert load(["--site=none", "x.py"], {**env, "OURS": "1"}, submits=True)["interface"] is None
    assert load(["x.py"], {**env, "OURS": "1", "HPC_SITE": "none"}, submits=True)["grace"] == 5.0


# ---------------------------------------------------------------- what counts where


def test_a_submitted_job_gets_all_of_it(env: dict[str, str]) -> None:
    settings = load(["--scheduler=slurm", "x.py"], {**env, "OURS": "1"}, submits=True)
    assert asked(settings, "partition", "account", "constraint", "interface", "grace") == {
        "partition": "p", "account": "a", "constraint": "thin", "interface": "ib7", "grace": 7.0,
    }  # fmt: skip
    assert settings.origin("partition") == "site profile ours/thin (found by OURS)"
    assert settings["site"] == "ours/thin" and settings.runtime == {"heartbeat_s": 2.0}
    assert "--interface=ib7" in pass_on(settings), "the job runs where nothing may be found"


def test_a_job_has_the_profile_that_it_was_submitted_with(env: dict[str, str]) -> None:
    inside = {**env, "OURS": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1", "SLURM_JOB_NUM_NODES": "1"}
    words = ["--scheduler=slurm", "--site=ours/fat", "x.py"]
    job = load(["--job=jobs/1", *pass_on(load(words, env, submits=True)), "x.py"], inside)
    assert (job["site"], job["tmpdir"], job.runtime) == ("ours/fat", "/nvme", {"heartbeat_s": 2.0})
    words = ["--scheduler=slurm", "--site=none", "x.py"]
    job = load(["--job=jobs/1", *pass_on(load(words, {**env, "OURS": "1"}, submits=True)), "x.py"], inside)
    assert asked(job, "interface", "grace") == {"interface": None, "grace": 5.0} and job.runtime == {}


def test_nodes_that_share_no_files_are_not_told_of_a_profile_that_they_may_lack(env: dict[str, str]) -> None:
    for site, told in (("ours", False), ("none", True)):
        words = ["--scheduler=slurm", f"--site={site}", "--carry=.", "x.py"]
        assert any(word.startswith("--site=") for word in pass_on(load(words, env, submits=True))) is told


def test_another_sort_of_nodes_is_named(env: dict[str, str]) -> None:
    settings = load(["--site=ours/fat", "--scheduler=slurm", "x.py"], env, submits=True)
    assert asked(settings, "partition", "account", "constraint", "tmpdir") == {
        "partition": "big", "account": "a", "constraint": "fat", "tmpdir": "/nvme",
    }  # fmt: skip


def test_an_allocation_gets_nothing_that_is_for_submitting(env: dict[str, str]) -> None:
    inside = {**env, "OURS": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1", "SLURM_JOB_NUM_NODES": "1"}
    settings = load(["x.py"], inside, submits=True)
    assert asked(settings, "partition", "interface", "grace") == {"partition": None, "interface": "ib7", "grace": 7.0}


@pytest.mark.parametrize("argv", [["--scheduler=local", "x.py"], ["x.py"]])
def test_local_nodes_get_neither_interface_nor_request(env: dict[str, str], argv: list[str]) -> None:
    settings = load(argv, {**env, "OURS": "1"}, submits="--scheduler=local" in argv)
    assert asked(settings, "partition", "interface", "grace") == {"partition": None, "interface": None, "grace": 7.0}


def test_everything_else_wins_over_it(env: dict[str, str]) -> None:
    (Path(env["XDG_CONFIG_HOME"]) / "hpc" / "config.toml").write_text('account = "mine"\n')
    words = ["--site=ours", "--scheduler=slurm", "-p", "flag", "x.py"]
    settings = load(words, {**env, "HPC_CONSTRAINT": "variable"}, submits=True)
    assert asked(settings, "partition", "account", "constraint") == {
        "partition": "flag", "account": "mine", "constraint": "variable",
    }  # fmt: skip


# ---------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--site=nowhere"], ["no site profile named 'nowhere'", "perlmutter", "hpc site new nowhere"]),
        (["--site=perlmuter/cpu"], ["no site profile named 'perlmuter'", "--site=perlmutter/cpu"]),
        (["--site=table"], ["has no table [sumbit]", "[submit]"]),
        (["--site=kind"], ["[kind.gup], which is none of its kinds", "there are: gpu"]),
        (["--site=ours/huge"], ["no sort of nodes named 'huge'", "thin, fat"]),
        (["--site=pbs-site", "--scheduler=slurm"], ["Other has pbs, and here is Slurm", "--site=none"]),
        (["--site=shape"], ["submit is a table, not 'p'", "[submit]"]),
        (["--site=sorts"], ["kinds is a list of texts, not 'gpu'", 'kinds = ["..."]']),
        (["--site=deep"], ["kind.gpu.submit is a table, not 3"]),
        (["--site=title"], ["title is a text, not 7"]),
        (["--site=typo"], ["no such option in site profile typo: partitoin", "partition = ..."]),
    ],
)
def test_a_profile_that_cannot_be_used_says_why(env: dict[str, str], words: list[str], says: list[str]) -> None:
    folder = Path(env["XDG_CONFIG_HOME"]) / "hpc" / "sites"
    (folder / "pbs-site.toml").write_text('[site]\ntitle = "Other"\nscheduler = "pbs"\n')
    (folder / "table.toml").write_text('[sumbit]\npartition = "p"\n')
    (folder / "kind.toml").write_text('[site]\nkinds = ["gpu"]\n[kind.gup.submit]\npartition = "p"\n')
    (folder / "shape.toml").write_text('submit = "p"\n')
    (folder / "sorts.toml").write_text('[site]\nkinds = "gpu"\n')
    (folder / "deep.toml").write_text('[site]\nkinds = ["gpu"]\n[kind.gpu]\nsubmit = 3\n')
    (folder / "title.toml").write_text("[site]\ntitle = 7\n")
    (folder / "typo.toml").write_text('[launch]\npartitoin = "p"\n')
    with pytest.raises(CliError) as caught:
        load([*words, "x.py"], env, submits=True)
    assert caught.value.code == "CONFIG"
    for word in says:
        assert word in caught.value.text()


def test_a_found_profile_of_another_scheduler_is_left_alone(env: dict[str, str]) -> None:
    (Path(env["XDG_CONFIG_HOME"]) / "hpc" / "sites" / "ours.toml").write_text(OWN.replace('"slurm"', '"pbs"'))
    settings = load(["--scheduler=slurm", "x.py"], {**env, "OURS": "1"}, submits=True)
    assert asked(settings, "partition", "grace") == {"partition": None, "grace": 5.0}


# ---------------------------------------------------------------- those that are shipped


def shipped() -> list[tuple[str, str]]:
    return [(name, kind) for name in templates.sites() for kind in (sites.read(CONFIG, name).kinds or ("",))]


@pytest.mark.parametrize(("name", "kind"), shipped())
def test_a_shipped_profile_has_a_title_signs_and_a_source_for_each_value(name: str, kind: str) -> None:
    site = sites.read(CONFIG, f"{name}/{kind}" if kind else name)
    assert site.title and site.scheduler in ("slurm", "pbs", "yarn") and site.detect
    content = parse_toml(site.path, name)
    assert set(content) <= set(sites.KNOWN), "an unknown table would be ignored"
    leaves = [f"{table}.{key}" for table in sites.TABLES for key in content.get(table, {})]
    leaves += [f"kind.{k}.{table}.{key}" for k in content.get("kind", {}) for table in content["kind"][k]
               for key in content["kind"][k][table]]  # fmt: skip
    leaves += ["site.detect", *(f"facts.{key}" for key in content["facts"])]
    for leaf in leaves:
        assert any(leaf == known or leaf.startswith(known + ".") for known in site.source), f"no source for {leaf}"
    for known, source in site.source.items():
        assert "https://" in source or "http" in source, known
        assert "(20" in source, f"{known}: of which day?"


@pytest.mark.parametrize(("name", "kind"), shipped())
def test_a_shipped_profile_has_options_of_ours_with_values_that_can_be_read(name: str, kind: str) -> None:
    site = sites.read(CONFIG, f"{name}/{kind}" if kind else name)
    for table in ("launch", "nodes", "submit"):
        for key, value in site.tables[table].items():
            option = BY_NAME[key]
            assert option.configurable
            for item in value if isinstance(value, list) else [value]:
                read_value(option, ("yes" if item else "no") if isinstance(item, bool) else str(item), site.where)
    asked_of_scheduler = {option.name for option in TABLE if option.scope == "submit"}
    assert not asked_of_scheduler & {*site.tables["launch"], *site.tables["nodes"]}, "these belong under [submit]"


# ---------------------------------------------------------------- the command


def hpc(*words: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hpc", *words], env=dict(env), capture_output=True, text=True, timeout=60, check=False
    )


def test_the_command_lists_shows_detects_and_makes_them(env: dict[str, str]) -> None:
    listed = hpc("site", "list", env=env)
    assert listed.returncode == 0 and "ours" in listed.stdout and "Perlmutter (NERSC)" in listed.stdout
    (Path(env["XDG_CONFIG_HOME"]) / "hpc" / "sites" / "half.toml").write_text("[site\n")
    partly = hpc("site", "list", env=env)
    assert partly.returncode == 2 and "half" in partly.stdout and "Perlmutter (NERSC)" in partly.stdout
    assert "site profile half is not valid TOML" in partly.stderr and "half.toml" in partly.stderr
    shown = hpc("site", "show", "frontier", env=env)
    assert shown.returncode == 0 and "docs.olcf.ornl.gov" in shown.stdout and "/mnt/bb/USER" in shown.stdout
    assert hpc("site", "detect", env={**env, "OURS": "1"}).stdout == "ours, found by OURS\n"
    assert hpc("site", "detect", env=env).returncode == 1
    made = hpc("site", "new", "lumi", env=env)
    path = Path(made.stdout.strip())
    assert path.read_text() == (templates.site_profile("lumi") or path).read_text()
    again = hpc("site", "new", "lumi", env=env)
    assert again.returncode == 2 and "is there already" in again.stderr
    empty = Path(hpc("site", "new", "here", env=env).stdout.strip())
    assert sites.read(empty.parents[1], "here").title == "here"
