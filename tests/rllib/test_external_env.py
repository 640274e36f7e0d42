"""Environments outside of the runner: they get weights and send episodes, if they are of the same user."""

from __future__ import annotations

import contextlib
import os
import socket
import threading

import gymnasium as gym
import numpy as np
import pytest
from small_envs import Counting

pytest.importorskip("msgpack")

from hpc.rllib.algorithms.ppo import PPOConfig
from hpc.rllib.core.rl_module.default_model_config import DefaultModelConfig
from hpc.rllib.env.external import client as client_module
from hpc.rllib.env.external import env_runner_server_for_external_inference as server_module
from hpc.rllib.env.external.client import ExternalClient
from hpc.rllib.env.external.peers import uid_of_peer
from hpc.rllib.env.external.rllink import RLlink, get_rllink_message, send_rllink_message
from hpc.rllib.env.single_agent_episode import SingleAgentEpisode


@pytest.fixture
def serve():
    made = []

    def start(**env_config):
        env = Counting()
        config = (
            PPOConfig()
            .environment(
                observation_space=env.observation_space,
                action_space=env.action_space,
                env_config={"port": 0, **env_config},
            )
            .env_runners(sample_timeout_s=20)
            .callbacks(on_sample_end=lambda **kwargs: None)
            .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[4]))
        )
        made.append(server_module.EnvRunnerServerForExternalInference(config=config))
        return made[-1]

    yield start
    for one in made:
        one.stop()


def play(client: ExternalClient) -> SingleAgentEpisode:
    env = Counting()
    observation, _ = env.reset()
    episode = SingleAgentEpisode(observations=[observation], observation_space=env.observation_space)
    while not episode.is_done:
        action, for_env, outputs = client.act(observation)
        observation, reward, terminated, truncated, _ = env.step(int(for_env))
        episode.add_env_step(
            observation, action, reward, terminated=terminated, truncated=truncated, extra_model_outputs=outputs
        )
    return episode


def test_an_external_environment_samples_on_policy(serve):
    server = serve()
    versions = []

    def outside():
        with ExternalClient(*server.address, timeout_s=20) as client:
            client.send_episodes([play(client)], and_get_state=True)
            versions.append(client.version)

    thread = threading.Thread(target=outside)
    thread.start()
    sample = server.sample_fragment()
    server.set_weights(5, {"default_policy": server.module.get_state()})
    thread.join(20)
    assert versions == [5]
    assert (sample.env_steps, sample.episodes[0].episode_return) == (3, 6.0)
    assert sample.modules["default_policy"]["obs"][:, 0, 0].tolist() == [0, 1, 2, 3]
    assert "action_logp" in sample.modules["default_policy"]


def test_chunks_of_an_episode_make_one_record(serve):
    server = serve()
    with ExternalClient(*server.address, timeout_s=20) as client:
        whole = play(client)
        client.send_episodes([whole[:2]])
        client.send_episodes([whole[2:]])
        client.get_state()  # all before it has arrived
    episodes = server.sample()
    assert [len(one) for one in episodes] == [2, 1]
    assert server.get_metrics()["episode_return_mean"].peek() == 6.0


def test_another_user_is_refused(serve, monkeypatch):
    server = serve()
    monkeypatch.setattr(server_module, "uid_of_peer", lambda connection: os.getuid() + 1)
    with pytest.raises(ConnectionError):
        ExternalClient(*server.address, timeout_s=20)


FRAMES = {
    "no number": b"abcdefgh",
    "too long": b"99999999",
    "negative": b"-0000001",
    "an array without a type": b"\x82\xa4type\xa4PING\xa1x\x82\xa2nd\xc3\xa4data\xc4\x00",
    "an array of an unknown type": b"\x82\xa4type\xa4PING\xa1x\x83\xa2nd\xc3\xa4type\xa2no\xa4data\xc4\x00",
    "a space that is none": b"\x82\xa4type\xa4PING\xa1x\x81\xa9__space__\x05",
    "no text of ASCII": b"\x82\xa4type\xa4PING\xa5token\xa2\xc3\xa9",
    "a list for a token": b"\x82\xa4type\xa4PING\xa5token\x90",
}


@pytest.mark.parametrize("token", [None, "secret"])
@pytest.mark.parametrize("body", FRAMES.values(), ids=FRAMES)
def test_no_frame_ends_the_server(serve, body, token):
    server = serve(**({} if token is None else {"token": token}))
    with socket.create_connection(server.address, 20) as hostile:
        hostile.sendall(body if len(body) == 8 else b"%08d" % len(body) + body)
        hostile.settimeout(0.2)
        with contextlib.suppress(OSError):
            hostile.recv(4096)
    with ExternalClient(*server.address, token, timeout_s=20) as client:
        assert client.get_state()["weights_seq_no"] == 0


def test_who_says_nothing_keeps_nobody_out(serve, monkeypatch):
    monkeypatch.setattr(server_module, "GREETING_S", 0.1)
    server = serve(token="secret")
    with socket.create_connection(server.address, 20), ExternalClient(*server.address, "secret", timeout_s=20):
        pass


def test_another_user_is_refused_before_it_is_read(serve, monkeypatch):
    server = serve()
    monkeypatch.setattr(server_module, "uid_of_peer", lambda connection: os.getuid() + 1)
    with socket.create_connection(server.address, 20) as silent:
        assert silent.recv(1) == b""


def test_a_client_that_leaves_while_it_waits_for_weights_keeps_nobody_out(serve, monkeypatch):
    monkeypatch.setattr(server_module, "LOOK_S", 0.05)
    server = serve()
    with ExternalClient(*server.address, timeout_s=20) as client:
        chunk = play(client).get_state()
        send_rllink_message(client._socket, {"type": "EPISODES_AND_GET_STATE", "episodes": [chunk], "timesteps": 3})
    with ExternalClient(*server.address, timeout_s=20) as client:
        assert client.get_state()["weights_seq_no"] == 0


def test_a_client_explores_by_the_steps_of_all(serve):
    server = serve()
    server.set_state({"num_env_steps_sampled_lifetime": 500})
    with ExternalClient(*server.address, timeout_s=20) as client:
        client.send_episodes([play(client)])
        assert server.sample()
        client.get_state()
        assert client._steps == server.num_env_steps_sampled_lifetime == 503


def test_counts_alone_are_no_weights_that_a_client_waits_for(serve):
    server = serve()
    versions = []

    def outside():
        with ExternalClient(*server.address, timeout_s=20) as client:
            client.send_episodes([play(client)], and_get_state=True)
            versions.append(client.version)

    thread = threading.Thread(target=outside)
    thread.start()
    assert server.sample()
    server.set_state({"num_env_steps_sampled_lifetime": 3})
    thread.join(0.3)
    assert versions == []
    server.set_weights(7, {"default_policy": server.module.get_state()})
    thread.join(20)
    assert versions == [7]


def test_a_client_takes_nothing_of_another_user(serve, monkeypatch):
    server = serve()
    monkeypatch.setattr(client_module, "uid_of_peer", lambda connection: os.getuid() + 1)
    with pytest.raises(ConnectionError, match="of another user"):
        ExternalClient(*server.address, timeout_s=20)


def test_a_closed_end_is_of_nobody():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()):
            connection, _ = server.accept()
        with connection:
            assert uid_of_peer(connection) is None


def test_with_a_token_only_who_has_it_is_served(serve):
    server = serve(token="secret")
    with pytest.raises(ConnectionError):
        ExternalClient(*server.address, "guess", timeout_s=20)
    with ExternalClient(*server.address, "secret", timeout_s=20) as client:
        assert client.get_state()["weights_seq_no"] == 0


def test_other_machines_need_a_token(serve):
    with pytest.raises(ValueError, match="give env_config\\['token'\\]"):
        serve(host="0.0.0.0")


def test_the_kernel_tells_the_user_of_a_connection():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        connection, _ = server.accept()
        with client, connection:
            assert uid_of_peer(connection) == os.getuid()


def test_messages_hold_arrays_and_spaces():
    one, other = socket.socketpair()
    space = gym.spaces.Dict(
        {"a": gym.spaces.Box(0, 1, (2,), np.float32), "b": gym.spaces.Tuple([gym.spaces.Discrete(3)])}
    )
    with one, other:
        send_rllink_message(
            one, {"type": "PING", "x": np.arange(6).reshape(2, 3), "n": np.float32(1.5), "space": space}
        )
        kind, body = get_rllink_message(other)
        assert kind is RLlink.PING
        assert np.array_equal(body["x"], np.arange(6).reshape(2, 3))
        assert (body["n"], body["space"]) == (1.5, space)
        one.sendall(b"00000003abc")
        with pytest.raises(ConnectionError, match="receiving message"):
            get_rllink_message(other)
