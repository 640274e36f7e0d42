"""The ResourceManager: asked by REST, and through the installed client where REST wants a login.

Python has no way to prove a Kerberos identity to a web server by itself. The client does it with the user's ticket, and
needs a second or two for what REST tells at once. Each question is bounded in time.
Rejected: requests with requests-kerberos (two more things to install, one of them in C, for what the client can do).
"""

from __future__ import annotations

import getpass
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from hpc.launchers.run import CommandAnswer, run_command
from hpc.launchers.scheduler import NoAnswer
from hpc.launchers.yarn import commands, site

REST_TIMEOUT_S = 10.0
CLIENT_TIMEOUT_S = 60.0
MAX_ANSWER_BYTES = 64 << 20
_MOVED = (301, 302, 307, 308)


class NeedsLogin(Exception):
    """REST wants an identity proven."""


class NotKnown(Exception):
    """There is no such application (any more)."""


class Manager:
    """A cluster's ResourceManager, as this machine's configuration has it. client: may the installed one be used?"""

    def __init__(self, env: Mapping[str, str] | None = None, *, client: bool = True) -> None:
        self.env = dict(os.environ if env is None else env)
        self.addresses = site.web_addresses(site.properties(self.env))
        self.by_client = False
        self._may_use_client = client
        # No proxy: a ResourceManager is a machine of the site. No redirection: an order would lose its body by one.
        self._opener = urllib.request.OpenerDirector()
        parts = (urllib.request.HTTPHandler, urllib.request.HTTPSHandler, urllib.request.HTTPErrorProcessor)
        for part in (*parts, urllib.request.HTTPDefaultErrorHandler):
            self._opener.add_handler(part())

    # -------------------------------------------------------------- questions

    def app(self, job_id: str) -> dict[str, Any]:
        """One application. NotKnown, or NoAnswer."""
        try:
            return dict(self._get(commands.app_path(job_id)).get("app") or {})
        except NeedsLogin:
            found = commands.parse_status(self._client(commands.status_command(self._yarn(), job_id)).out)
            if not found:
                raise NotKnown(job_id) from None
            return found

    def apps(self) -> list[dict[str, Any]]:
        """All applications of ours that it remembers."""
        try:
            return commands.apps(self._get(commands.apps_path()))
        except NeedsLogin:
            return commands.parse_applications(self._client(commands.list_command(self._yarn())).out)

    def position(self, job_id: str, queue: str) -> int | None:
        """The place of an application that waits; None where it cannot be told."""
        try:
            return commands.queue_position(self._get(commands.waiting_path(queue)), job_id)
        except (NeedsLogin, NoAnswer):
            return None

    def get(self, path: str) -> dict[str, Any]:
        """Any other question. {} where it cannot be asked without a login."""
        try:
            return self._get(path)
        except NeedsLogin:
            return {}

    def setting(self, name: str) -> str | None:
        """A setting of the ResourceManager's own; None where it does not tell."""
        try:
            answer = self._request("GET", f"/conf?name={name}&format=json", None, root="")
        except (NeedsLogin, NotKnown, NoAnswer):
            return None
        found = answer.get("property") or {}
        return str(found["value"]) if "value" in found else None

    def containers(self, job_id: str) -> list[str]:
        """The containers of an application that run, without its master's."""
        try:
            attempt = commands.last_attempt(self._get(commands.attempts_path(job_id)))
            return commands.parse_containers(self._get(commands.containers_path(job_id, attempt)))
        except NeedsLogin:
            listed = self._client(commands.attempts_command(self._yarn(), job_id)).out
            attempts = commands.parse_ids(listed, "appattempt")
            out = self._client(commands.containers_command(self._yarn(), attempts[-1])).out if attempts else ""
            return [each for each in commands.parse_ids(out, "container") if not each.endswith("_000001")]

    # -------------------------------------------------------------- orders

    def kill(self, job_id: str, why: str = "") -> None:
        try:
            self._request("PUT", commands.state_path(job_id), commands.kill_order(why))
        except NeedsLogin:
            self._client(commands.kill_command(self._yarn(), job_id))

    def signal(self, container: str, command: str) -> None:
        """Send one of `commands.SIGNALS` to the processes of a container."""
        try:
            self._request("POST", commands.signal_path(container, command), "")
        except NeedsLogin:
            self._client(commands.signal_command(self._yarn(), container, command))

    def kill_at(self, job_id: str, end_s: float, now_s: float) -> None:
        """The application is killed then, unless it has ended."""
        try:
            self._request("PUT", commands.lifetime_path(job_id), commands.lifetime(end_s))
        except NeedsLogin:
            self._client(commands.lifetime_command(self._yarn(), job_id, max(1, round(end_s - now_s))))

    # -------------------------------------------------------------- by REST

    def _get(self, path: str) -> dict[str, Any]:
        return self._request("GET", path, None)

    def _request(self, method: str, path: str, body: str | None, root: str = "/ws/v1/cluster") -> dict[str, Any]:
        if self.by_client:
            raise NeedsLogin
        if not self.addresses:
            raise NoAnswer("yarn-site.xml names no ResourceManager")
        whys = []
        for base in self.addresses:
            try:
                return self._ask(f"{base}{root}{path}", method, body)
            except NoAnswer as silence:  # it may be the one that stands by
                whys.append(str(silence))
        raise NoAnswer("; ".join(whys))

    def _ask(self, url: str, method: str, body: str | None, hops: int = 3) -> dict[str, Any]:
        who = urllib.parse.urlencode({"user.name": user(self.env)})
        asked = url if "user.name=" in url else f"{url}{'&' if '?' in url else '?'}{who}"
        data = None if body is None else body.encode()
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        request = urllib.request.Request(asked, data=data, method=method, headers=headers)
        try:
            with self._opener.open(request, timeout=REST_TIMEOUT_S) as answer:
                return _object(answer.read(MAX_ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(1 << 16).decode("utf-8", "replace")
            if error.code in _MOVED and hops and error.headers.get("Location"):
                return self._ask(urllib.parse.urljoin(url, error.headers["Location"]), method, body, hops - 1)
            if error.code == 401:
                self.by_client = True
                raise NeedsLogin from None
            if error.code == 404 and commands.no_such_app(said):
                raise NotKnown(url) from None
            raise NoAnswer(f"{url.partition('?')[0]}: {error.code} {_why(said) or error.reason}") from None
        except (OSError, ValueError) as error:
            raise NoAnswer(f"{url.partition('?')[0]}: {getattr(error, 'reason', error)}") from None

    # -------------------------------------------------------------- by the client

    def _yarn(self) -> str:
        return site.client(self.env) or "yarn"

    def _client(self, argv: list[str]) -> CommandAnswer:
        if not self._may_use_client:
            raise NoAnswer("the ResourceManager wants a login")
        answer = run_command(argv, timeout_s=CLIENT_TIMEOUT_S, env=self.env)
        if not answer.ok:
            if commands.no_such_app(answer.err + answer.out):
                raise NotKnown(argv[-1])
            raise NoAnswer(answer.why())
        return answer


def user(env: Mapping[str, str]) -> str:
    """The name by which a Hadoop without logins knows this user."""
    return env.get("HADOOP_USER_NAME") or getpass.getuser()


def _object(raw: bytes) -> dict[str, Any]:
    if not raw.strip():
        return {}
    found = json.loads(raw)
    return found if isinstance(found, dict) else {}


def _why(said: str) -> str:
    """The words of the ResourceManager's refusal."""
    try:
        return str(_object(said.encode()).get("RemoteException", {}).get("message", ""))
    except (ValueError, AttributeError):
        return ""
