"""What a machine's Hadoop installation says: where its configuration is, the ResourceManager, what can be submitted.

From files and the environment alone. Rejected: asking `yarn classpath` or `hdfs getconf` (a Java start of a second
each, for what two small files say).
"""

from __future__ import annotations

import glob
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

CONF_VARIABLES = ("YARN_CONF_DIR", "HADOOP_CONF_DIR")
HOME_VARIABLES = ("HADOOP_YARN_HOME", "HADOOP_HOME", "HADOOP_MAPRED_HOME")
JAR_NAME = "hadoop-yarn-applications-distributedshell*.jar"
JAR_PLACES = (".", "share/hadoop/yarn", "lib/hadoop-yarn")
OTHER_HOMES = (
    "/usr/lib/hadoop-yarn", "/usr/hdp/current/hadoop-yarn-client", "/opt/cloudera/parcels/CDH/lib/hadoop-yarn",
    "/opt/hadoop", "/usr/local/hadoop",
)  # fmt: skip
WEB_PORTS = {"http": "8088", "https": "8090"}


def client(env: Mapping[str, str]) -> str | None:
    """The installed `yarn`; None where there is none, or where it is another program of that name (a package manager
    of JavaScript's has it too)."""
    found = shutil.which("yarn", path=env.get("PATH"))
    return found if found is not None and conf_dir(env) is not None else None


def homes(env: Mapping[str, str]) -> list[Path]:
    """Where Hadoop may be installed, the likeliest first."""
    found = [Path(env[name]) for name in HOME_VARIABLES if env.get(name)]
    program = shutil.which("yarn", path=env.get("PATH"))
    if program is not None:
        found.append(Path(program).resolve().parent.parent)
    return [*found, *map(Path, OTHER_HOMES)]


def conf_dir(env: Mapping[str, str]) -> Path | None:
    """The folder with the site's yarn-site.xml."""
    named = [Path(env[name]) for name in CONF_VARIABLES if env.get(name)]
    places = [*named, *(home / "etc" / "hadoop" for home in homes(env)), Path("/etc/hadoop/conf")]
    return next((place for place in places if (place / "yarn-site.xml").is_file()), None)


def shell_jar(env: Mapping[str, str]) -> str | None:
    """The jar of the DistributedShell, which every Hadoop ships."""
    for home in homes(env):
        for place in JAR_PLACES:
            jars = sorted(glob.glob(str(home / place / JAR_NAME)))
            if jars:
                return jars[-1]
    return None


def properties(env: Mapping[str, str]) -> dict[str, str]:
    """The site's own settings (not Hadoop's defaults)."""
    folder = conf_dir(env)
    found: dict[str, str] = {}
    for name in ("core-site.xml", "yarn-site.xml"):
        if folder is not None and (folder / name).is_file():
            found |= parse_properties((folder / name).read_text(errors="replace"))
    return {name: fill_in(value, found) for name, value in found.items()}


def private(env: Mapping[str, str], folder: Path) -> dict[str, str]:
    """An environment in which the client writes files that other users cannot read: with the site's configuration, and
    one more setting. Hadoop's default is that all can. It is written into the folder."""
    site_files = conf_dir(env)
    if site_files is None:
        return dict(env)
    folder.mkdir(mode=0o700, exist_ok=True)
    for path in site_files.iterdir():
        if path.name != "core-site.xml":
            (folder / path.name).symlink_to(path)
    include = f'<xi:include href="file://{site_files.resolve()}/core-site.xml"/>'
    own = "<property><name>fs.permissions.umask-mode</name><value>077</value></property>"
    text = f'<configuration xmlns:xi="http://www.w3.org/2001/XInclude">{include}{own}</configuration>\n'
    (folder / "core-site.xml").write_text(text)
    return {**env, **dict.fromkeys(CONF_VARIABLES, str(folder))}


def parse_properties(text: str) -> dict[str, str]:
    """A configuration file of Hadoop's; {} when it is none."""
    from xml.etree import ElementTree

    try:
        rows = ElementTree.fromstring(text).findall("property")
    except ElementTree.ParseError:
        return {}
    return {(row.findtext("name") or "").strip(): (row.findtext("value") or "").strip() for row in rows}


def fill_in(value: str, known: Mapping[str, str]) -> str:
    """`${name}` within a value stands for another setting."""
    for _depth in range(8):
        filled = re.sub(r"\$\{([^}]+)\}", lambda match: known.get(match.group(1), match.group(0)), value)
        if filled == value:
            break
        value = filled
    return value


def web_addresses(site: Mapping[str, str]) -> list[str]:
    """The base URLs of the ResourceManagers: several where one stands by for another."""
    prefix = "yarn.resourcemanager"
    scheme = "https" if site.get("yarn.http.policy") == "HTTPS_ONLY" else "http"
    which = f"{prefix}.webapp.address" if scheme == "http" else f"{prefix}.webapp.https.address"
    ids = [each.strip() for each in site.get(f"{prefix}.ha.rm-ids", "").split(",") if each.strip()]
    if site.get(f"{prefix}.ha.enabled") != "true" or not ids:
        ids = [""]
    found = []
    for each in ids:
        suffix = f".{each}" if each else ""
        host = site.get(f"{prefix}.hostname{suffix}", "")
        address = site.get(which + suffix) or (f"{host}:{WEB_PORTS[scheme]}" if host else "")
        if address:
            found.append(f"{scheme}://{address}")
    return found
