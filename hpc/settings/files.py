"""The TOML files that values may come from, in the order of their rank.

    ./hpc.toml                       of this project
    ~/.config/hpc/config.toml        of this user ($XDG_CONFIG_HOME is honoured)

and then the site profile (`sites.py`). Options of the command line stand at the top level (or under [launch]); options
of the runtime (`core/node/settings.py`) under [runtime]. Rejected: INI (no types), YAML (a dependency, and `no` is a
boolean).
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


def parse_toml(path: Path, where: str) -> dict[str, Any]:
    """The content of one file; CliError when it cannot be read."""
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text())
        return content
    except OSError as error:
        raise CliError("CONFIG", f"{where} cannot be read", why=str(error)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CliError("CONFIG", f"{where} is not valid TOML", where=str(path), why=str(error)) from None


def read_config(path: Path, where: str) -> ConfigFile:
    """One file; CliError when it cannot be read."""
    content = parse_toml(path, where)
    launch = {k: v for k, v in content.items() if k not in ("launch", "runtime") or not isinstance(v, dict)}
    launch.update(content.get("launch", {}))
    return ConfigFile(where, launch, content.get("runtime", {}))


def user_config_dir(env: Mapping[str, str]) -> Path:
    base = env.get("XDG_CONFIG_HOME") or os.path.join(env.get("HOME") or os.path.expanduser("~"), ".config")
    return Path(base) / "hpc"


def config_files(env: Mapping[str, str], cwd: Path | None = None) -> list[ConfigFile]:
    """The files that exist; the first one counts most. The site profile, which counts least, is in `sites`."""
    return [
        read_config(path, where)
        for path, where in (
            ((cwd or Path.cwd()) / "hpc.toml", "./hpc.toml"),
            (user_config_dir(env) / "config.toml", "~/.config/hpc/config.toml"),
        )
        if path.is_file()
    ]
