"""The TOML files that values may come from, in the order of their rank.

    ./hpc.toml                       of this project
    ~/.config/hpc/config.toml        of this user ($XDG_CONFIG_HOME is honoured)
    site profile                     ~/.config/hpc/sites/NAME.toml, else the one that is shipped

Options of the command line stand at the top level (or under [launch]); options of the runtime (`core/node/settings.py`)
under [runtime]. Rejected: INI (no types), YAML (a dependency, and `no` is a boolean).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc.settings.errors import CliError


@dataclass(frozen=True)
class ConfigFile:
    """`where` is how the file is named to the user."""

    where: str
    launch: Mapping[str, Any] = field(default_factory=dict)
    runtime: Mapping[str, Any] = field(default_factory=dict)


def read_config(path: Path, where: str) -> ConfigFile:
    """One file; CliError when it cannot be read."""
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise CliError("CONFIG", f"{where} cannot be read", why=str(error)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CliError("CONFIG", f"{where} is not valid TOML", where=str(path), why=str(error)) from None
    launch = {k: v for k, v in content.items() if k not in ("launch", "runtime", "site") or not isinstance(v, dict)}
    launch.update(content.get("launch", {}))
    return ConfigFile(where, launch, content.get("runtime", {}))


def user_config_dir(env: Mapping[str, str]) -> Path:
    base = env.get("XDG_CONFIG_HOME") or os.path.join(env.get("HOME") or os.path.expanduser("~"), ".config")
    return Path(base) / "hpc"


def config_files(env: Mapping[str, str], site: str | None, cwd: Path | None = None) -> list[ConfigFile]:
    """The files that exist; the first one counts most."""
    user = user_config_dir(env)
    found = []
    for path, where in (
        ((cwd or Path.cwd()) / "hpc.toml", "./hpc.toml"),
        (user / "config.toml", "~/.config/hpc/config.toml"),
    ):
        if path.is_file():
            found.append(read_config(path, where))
    site = site or next((str(f.launch["site"]) for f in found if "site" in f.launch), None)
    if site:
        found.append(_site_profile(user, site))
    return found


def _site_profile(user: Path, site: str) -> ConfigFile:
    own = user / "sites" / f"{site}.toml"
    if own.is_file():
        return read_config(own, f"site profile {site}")
    from hpc import templates

    shipped = templates.site_profile(site)
    if shipped is not None:
        return read_config(shipped, f"site profile {site}")
    names = sorted({p.stem for p in (user / "sites").glob("*.toml")} | set(templates.sites()))
    raise CliError(
        "CONFIG",
        f"no site profile named {site!r}",
        why=f"there are: {', '.join(names) or 'none'}",
        fix=f"write {own}",
    )
