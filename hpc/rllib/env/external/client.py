"""The other side: what an external environment calls to get weights and to send episodes."""

from __future__ import annotations

import ipaddress
import os
import pickle
import socket
from collections.abc import Iterable
from typing import Any

import numpy as np

from hpc.rllib.core.acting import make_actor
from hpc.rllib.core.columns import Columns
from hpc.rllib.env.external.peers import uid_of_peer
from hpc.rllib.env.external.rllink import RLlink, get_rllink_message, send_rllink_message
from hpc.rllib.env.single_agent_episode import SingleAgentEpisode
from hpc.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, WEIGHTS_SEQ_NO
from hpc.rllib.utils.spaces.space_utils import clip_action, get_base_struct_from_space, shift_action, unsquash_action
from hpc.rllib.utils.trees import map_tree, take


class ExternalClient:
    """A connection to a runner that serves external environments.

    ``act`` draws actions by the module; it needs the configuration of the runner, which is unpickled. Connect to
    runners of your own only. Without a token a runner of this machine has to be of the same user.

    Args:
        host, port: Where the runner listens.
        token: What ``env_config["token"]`` of the runner says, if it says anything.
        timeout_s: How long to wait for a connection and for each answer; None for as long as it takes.
    """

    def __init__(self, host: str, port: int, token: str | None = None, *, timeout_s: float | None = None) -> None:
        self._socket = socket.create_connection((host, port), timeout_s)
        self._socket.settimeout(timeout_s)
        self._config: Any = None
        self._module: Any = None
        self._actor: Any = None
        self._rng = np.random.default_rng()
        #: Steps of all runners when the weights were sent: exploration depends on them.
        self._steps = 0
        #: The version of the weights that act.
        self.version = 0
        greeting = {"type": RLlink.PING.name} | ({} if token is None else {"token": token})
        self._ask(greeting, RLlink.PONG)
        if token is None and _is_of_another_user(self._socket):
            self._socket.close()
            raise ConnectionError(f"what listens at {host}:{port} is no runner of yours: it is of another user")

    def __enter__(self) -> ExternalClient:
        return self

    def __exit__(self, *args: Any) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _ask(self, message: dict[str, Any], answer: RLlink) -> dict[str, Any]:
        send_rllink_message(self._socket, message)
        kind, body = get_rllink_message(self._socket)
        if kind is not answer:
            raise ConnectionError(f"the runner answered {message['type']} with {kind}, not with {answer}")
        return body

    def get_config(self) -> Any:
        """The algorithm's configuration."""
        if self._config is None:
            self._config = pickle.loads(self._ask({"type": RLlink.GET_CONFIG.name}, RLlink.SET_CONFIG)["config"])
        return self._config

    def get_state(self) -> dict[str, Any]:
        """The module's weights of now ("rl_module") and their version; ``act`` takes them up."""
        return self._take_up(self._ask({"type": RLlink.GET_STATE.name}, RLlink.SET_STATE)["state"])

    def send_episodes(self, episodes: Iterable[SingleAgentEpisode], *, and_get_state: bool = False) -> Any:
        """Send episodes or chunks of them. With ``and_get_state`` wait for the weights that are learnt of them."""
        chunks = [episode for episode in episodes if len(episode)]
        message = {
            "type": (RLlink.EPISODES_AND_GET_STATE if and_get_state else RLlink.EPISODES).name,
            "episodes": [episode.get_state() for episode in chunks],
            "timesteps": sum(map(len, chunks)),
        }
        if and_get_state:
            return self._take_up(self._ask(message, RLlink.SET_STATE)["state"])
        send_rllink_message(self._socket, message)
        return None

    def _take_up(self, state: dict[str, Any]) -> dict[str, Any]:
        self.version = int(state[WEIGHTS_SEQ_NO])
        self._steps = int(state.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0))
        if self._actor is not None:
            self._actor.set_weights(state["rl_module"])
        return state

    def act(self, observation: Any, *, explore: bool = True) -> tuple[Any, Any, dict[str, Any]]:
        """Act on one observation. Returns the module's action, that for the environment, and the module's outputs.

        The first and the last belong into the episode: ``add_env_step(action=.., extra_model_outputs=..)``.
        """
        if self._actor is None:
            self._module = self.get_config().get_rl_module_spec(inference_only=True).build()
            if self._module.is_stateful():
                raise ValueError("act is for modules without a state: run a recurrent one by get_config and get_state")
            self._actor = make_actor(self._module)
            self.get_state()
        obs = map_tree(lambda leaf: np.asarray(leaf)[None], observation)
        out = self._actor.act(obs, explore=explore, rng=self._rng, t=self._steps, values=False)
        action = take(out.pop(Columns.ACTIONS), 0)
        struct = get_base_struct_from_space(self._config.action_space)
        for_env = action
        if self._config.normalize_actions:
            for_env = unsquash_action(action, struct)
        elif self._config.clip_actions:
            for_env = clip_action(action, struct)
        for_env = shift_action(for_env, struct)
        return action, for_env, {name: take(data, 0) for name, data in out.items()}


def _is_of_another_user(connection: socket.socket) -> bool:
    """Whether the other end is on this machine, and no process of this user holds it.

    The kernel knows it once the other side has accepted, which an answer shows.
    """
    if not ipaddress.ip_address(connection.getpeername()[0]).is_loopback:
        return False
    return uid_of_peer(connection) != os.getuid()
