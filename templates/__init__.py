"""The job scripts and site profiles that are shipped, found by name."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent


def schedulers() -> list[str]:
    """The schedulers for which there are job scripts."""
    folders = {path.name for path in _HERE.iterdir() if path.is_dir() and not path.name.startswith("_")} - {"sites"}
    return sorted(name for name in folders if scripts(name))


def scripts(scheduler: str) -> list[str]:
    """Names of the job scripts for a scheduler, e.g. ["train.sbatch"]."""
    return sorted(p.name for p in (_HERE / scheduler).glob("*.*") if p.suffix != ".py" and p.is_file())


def read_script(scheduler: str, name: str) -> str:
    """The text of one job script; KeyError naming those there are."""
    if name not in scripts(scheduler):
        raise KeyError(f"no template {name!r} for {scheduler}: there are {', '.join(scripts(scheduler)) or 'none'}")
    return (_HERE / scheduler / name).read_text()


def sites() -> list[str]:
    """Names of the site profiles that are shipped."""
    return sorted(p.stem for p in (_HERE / "sites").glob("*.toml"))


def site_profile(name: str) -> Path | None:
    """The file of a site profile, or None."""
    return _HERE / "sites" / f"{name}.toml" if name in sites() else None
