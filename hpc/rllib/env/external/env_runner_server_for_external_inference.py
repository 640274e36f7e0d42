"""A runner without environments: one outside connects, acts by the module's weights, and sends episodes."""

from __future__ import annotations

import hmac
import logging
import os
import socket
import threading
import time
from typing import Any

from hpc import cloudpickle
from hpc.rllib.core import COMPONENT_RL_MODULE, DEFAULT_AGENT_ID, DEFAULT_MODULE_ID
from hpc.rllib.core.columns import Columns
from hpc.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from hpc.rllib.env.env_runner import EnvRunner
from hpc.rllib.env.external.peers import uid_of_peer
from hpc.rllib.env.external.rllink import RLlink, get_rllink_message, send_rllink_message
from hpc.rllib.env.fragment import EpisodeRecord, Fragment, Sample
from hpc.rllib.env.logged import log_episode, log_steps
from hpc.rllib.env.single_agent_episode import SingleAgentEpisode
from hpc.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, WEIGHTS_SEQ_NO

logger = logging.getLogger("hpc.rllib")
DEFAULT_PORT = 5555
_LOOPBACK = "127.0.0.1"
#: What a first message with a token may have and take, while nobody knows from whom it is.
GREETING_BYTES, GREETING_S = 4096, 5.0
#: How often a runner looks whether a client that waits for weights is still there.
LOOK_S = 1.0


class EnvRunnerServerForExternalInference(EnvRunner):
    """Serves one external environment at a time.

    ``env_config["port"]`` (5555) plus the runner's index is its port; port 0 takes a free one, which ``address``
    tells. It listens to this machine, and serves processes of the same user only. ``env_config["token"]`` serves
    those instead whose first message is a PING with this token, also from other machines with ``env_config["host"]``.
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        settings = self.config.env_config
        self.host = settings.get("host", _LOOPBACK)
        self._token: str | None = settings.get("token")
        if self.host not in (_LOOPBACK, "localhost") and not self._token:
            raise ValueError(
                f"env_config['host']={self.host!r} lets other machines connect: give env_config['token'] as well, "
                "which "
                "clients send in their PING"
            )
        self.make_module()
        self._changed = threading.Condition()
        self._chunks: list[SingleAgentEpisode] = []
        #: Whether the client waits for weights that are newer than those of this version.
        self._awaits_state = False
        self._sent_version = 0
        self._stopped = False
        self._returns: dict[str, tuple[float, int, float]] = {}
        port = int(settings.get("port", DEFAULT_PORT))
        self._server = socket.create_server((self.host, port + self.worker_index if port else 0))
        self.port = self._server.getsockname()[1]
        self.client_socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True, name="external environment")
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self.host, self.port

    # -------------------------------------------------------------- parts of a runner

    def make_env(self) -> None:
        """Do nothing: the environment is outside."""

    def make_module(self) -> None:
        """Make the module anew."""
        self.module = self.config.get_rl_module_spec(spaces=self.get_spaces(), inference_only=True).build()

    def get_spaces(self) -> dict[str, tuple[Any, Any]]:
        """The spaces of the configuration."""
        pair = self.config.observation_space, self.config.action_space
        if None in pair:
            raise ValueError(
                "an external environment needs config.environment(observation_space=.., action_space=..): nobody "
                "else can "
                "tell its spaces"
            )
        return {INPUT_ENV_SPACES: pair, INPUT_ENV_SINGLE_SPACES: pair, DEFAULT_MODULE_ID: pair}

    def assert_healthy(self) -> None:
        """Raise AssertionError where it does not listen."""
        assert not self._stopped, "the server for external environments is stopped"

    def _load_weights(self, weights: dict[str, Any]) -> None:
        self._module.set_state(weights[DEFAULT_MODULE_ID])

    def _set_module_weights(self, weights: dict[str, Any]) -> None:
        self._new_weights = {DEFAULT_MODULE_ID: weights.get(DEFAULT_MODULE_ID, weights)}

    def set_weights(self, version: int, weights: dict[str, Any]) -> None:
        """Take weights, and send them to a client that waits for them."""
        with self._changed:
            super().set_weights(version, weights)
            self._changed.notify_all()

    def set_state(self, state: dict[str, Any]) -> None:
        """Take a state, and send the weights to a client that waits for them."""
        with self._changed:
            super().set_state(state)
            if COMPONENT_RL_MODULE in state:
                self._awaits_state = False
            self._changed.notify_all()

    def stop(self) -> None:
        """Close all connections."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        # A thread that accepts does not see its socket being closed: a connection wakes it.
        try:
            socket.create_connection(("127.0.0.1" if self.host == "0.0.0.0" else self.host, self.port), 1).close()
        except OSError:
            pass
        if self.client_socket is not None:
            try:
                self.client_socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._thread.join(5)
        self._server.close()

    # -------------------------------------------------------------- sampling

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> list[SingleAgentEpisode]:
        """The episodes that came since the last call; wait for some for up to ``config.sample_timeout_s``."""
        chunks = self._take()
        records = self._records(chunks)
        steps = sum(map(len, chunks))
        self.num_env_steps_sampled_lifetime += steps
        log_steps(self.metrics, self.config, steps, len(records))
        for record in records:
            log_episode(self.metrics, self.config, record)
        return chunks

    def sample_fragment(
        self,
        rows: int | None = None,
        episodes: int | None = None,
        *,
        steps: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> Sample:
        """What came since the last call as arrays; no steps after ``config.sample_timeout_s`` without a message."""
        begin = time.perf_counter()
        chunks = [chunk for chunk in self._take() if len(chunk)]
        steps = sum(map(len, chunks))
        modules = {}
        if chunks:
            fragment = Fragment.of_episodes(chunks)
            fragment.columns.pop(Columns.STATE_OUT, None)
            modules[DEFAULT_MODULE_ID] = fragment
        self.num_env_steps_sampled_lifetime += steps
        return Sample(
            modules,
            env_steps=steps,
            agent_steps={DEFAULT_AGENT_ID: steps},
            module_steps={DEFAULT_MODULE_ID: steps},
            episodes=self._records(chunks),
            version=self._weights_seq_no,
            runner=self.worker_index,
            seconds=time.perf_counter() - begin,
            metrics=self.metrics.reduce(),
        )

    def _take(self) -> list[SingleAgentEpisode]:
        with self._changed:
            self._changed.wait_for(lambda: self._chunks or self._stopped, self.config.sample_timeout_s)
            chunks, self._chunks = self._chunks, []
            return chunks

    def _records(self, chunks: list[SingleAgentEpisode]) -> list[EpisodeRecord]:
        out = []
        for chunk in chunks:
            total, length, seconds = self._returns.pop(chunk.id_, (0.0, 0, 0.0))
            total += float(chunk.get_return())
            length += len(chunk)
            seconds += chunk.get_duration_s()
            if not chunk.is_done:
                self._returns[chunk.id_] = (total, length, seconds)
                continue
            agent, module = {DEFAULT_AGENT_ID: total}, {DEFAULT_MODULE_ID: total}
            out.append(EpisodeRecord(total, length, seconds, agent, module, {DEFAULT_AGENT_ID: length}))
        return out

    # -------------------------------------------------------------- serving

    def _serve(self) -> None:
        while not self._stopped:
            try:
                connection, peer = self._server.accept()
            except OSError as error:
                logger.warning("no external environment can connect now: %s", error)
                time.sleep(1)
                continue
            if self._stopped:
                connection.close()
                return
            self.client_socket = connection
            try:
                self._admit(connection)
                self._serve_client(connection)
            except ConnectionError as error:
                logger.warning("the external environment at %s is gone: %s", peer, error)
            except Exception as error:
                # Whatever one client brings about, the next one is served.
                logger.exception("the external environment at %s is left, for %s", peer, type(error).__name__)
            finally:
                self.client_socket = None
                connection.close()

    def _admit(self, connection: socket.socket) -> None:
        """Refuse a client that may not connect, before anything else of it is read."""
        if not self._token:
            if uid_of_peer(connection) != os.getuid():
                raise ConnectionError("it is of another user: refused")
        else:
            kind, message = get_rllink_message(connection, longest=GREETING_BYTES, plain=True, within_s=GREETING_S)
            token = str(message.get("token", "")).encode()
            if kind is not RLlink.PING or not hmac.compare_digest(token, str(self._token).encode()):
                raise ConnectionError("its first message is no PING with the token of env_config['token']: refused")
            connection.settimeout(None)
            send_rllink_message(connection, {"type": RLlink.PONG.name})
        # A machine that is gone without a word is noticed.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def _serve_client(self, connection: socket.socket) -> None:
        while not self._stopped:
            kind, message = get_rllink_message(connection)
            if kind is RLlink.PING:
                send_rllink_message(connection, {"type": RLlink.PONG.name})
            elif kind is RLlink.GET_STATE:
                self._send_state(connection)
            elif kind is RLlink.GET_CONFIG:
                body = {"type": RLlink.SET_CONFIG.name, "config": cloudpickle.dumps(self.config)}
                send_rllink_message(connection, body)
            elif kind in (RLlink.EPISODES, RLlink.EPISODES_AND_GET_STATE):
                self._take_episodes(message, kind is RLlink.EPISODES_AND_GET_STATE)
                if kind is RLlink.EPISODES_AND_GET_STATE:
                    self._send_next_state(connection)
            else:
                raise ConnectionError(f"{kind} is no message for a runner")

    def _take_episodes(self, message: dict[str, Any], awaits_state: bool) -> None:
        try:
            chunks = [SingleAgentEpisode.from_state(state).to_numpy() for state in message["episodes"]]
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            raise ConnectionError(f"it sent what is no list of episodes: {type(error).__name__}: {error}") from error
        with self._changed:
            self._awaits_state, self._sent_version = awaits_state, self._weights_seq_no
            self._chunks.extend(chunks)
            self._changed.notify_all()

    def _send_next_state(self, connection: socket.socket) -> None:
        """Send the weights that come of these episodes: the client samples on-policy."""
        with self._changed:
            while not self._stopped and self._awaits_state and self._weights_seq_no == self._sent_version:
                self._changed.wait(LOOK_S)
                if _is_closed(connection):
                    raise ConnectionError("it left while it waited for weights")
            self._awaits_state = False
        if not self._stopped:
            self._send_state(connection)

    def _send_state(self, connection: socket.socket) -> None:
        with self._changed:
            state = {
                "rl_module": self.module.get_state(),
                WEIGHTS_SEQ_NO: self._weights_seq_no,
                NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime,
            }
        send_rllink_message(connection, {"type": RLlink.SET_STATE.name, "state": state})


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
