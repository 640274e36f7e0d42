"""Training with the real jax on CPUs: all ranks are one program."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import hpc
from hpc.train import RunConfig, ScalingConfig
from hpc.train.jax import JaxConfig, JaxTrainer
from runtime.running import local_nodes, one_node

needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX: pip install hpc[jax]")


def regression(mesh=None):
    """Twenty steps of a small network's training; its weights. With a mesh the batch is shared out over its devices."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    random = np.random.default_rng(1)
    inputs = random.normal(size=(16, 4)).astype("float32")
    targets = np.sin(inputs.sum(1, keepdims=True))
    weights = [random.normal(size=shape).astype("float32") * 0.3 for shape in ((4, 8), (8, 1))]
    if mesh is not None:
        shared, equal = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
        inputs, targets = (jax.make_array_from_callback(a.shape, shared, a.__getitem__) for a in (inputs, targets))
        weights = [jax.make_array_from_callback(w.shape, equal, w.__getitem__) for w in weights]

    @jax.jit
    def step(weights, inputs, targets):
        def loss(weights):
            return jnp.mean((jnp.tanh(inputs @ weights[0]) @ weights[1] - targets) ** 2)

        value, gradients = jax.value_and_grad(loss)(weights)
        return [w - 0.1 * g for w, g in zip(weights, gradients)], value

    for _ in range(20):
        weights, value = step(weights, inputs, targets)
    return [np.asarray(w) for w in weights], float(value)


@needs_jax
@pytest.mark.parametrize("nodes", [1, 2])
def test_a_model_that_ranks_train_together_equals_one_that_is_trained_alone(tmp_path, nodes):
    def train(config):
        import jax
        from jax.sharding import Mesh

        size = hpc.train.get_context().get_world_size()
        assert jax.process_count() == size and jax.process_index() == hpc.train.get_context().get_world_rank()
        assert {d.platform for d in jax.devices()} == {"cpu"}
        assert jax.local_device_count() * size == jax.device_count()
        weights, value = regression(Mesh(np.array(jax.devices()), ("data",)))
        alone, alone_value = regression()
        for ours, theirs in zip(weights, alone):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        hpc.train.report({"loss": value, "alone": alone_value})
        return jax.distributed.is_initialized()

    context = one_node(num_cpus=2) if nodes == 1 else local_nodes(nodes)
    with context:
        result = JaxTrainer(
            train,
            train_loop_config={},
            scaling_config=ScalingConfig(num_workers=2, placement_strategy="PACK" if nodes == 1 else "STRICT_SPREAD"),
            run_config=RunConfig(storage_path=tmp_path, name="jax"),
        ).fit()
    assert result.return_value is True
    assert result.metrics["loss"] == pytest.approx(result.metrics["alone"], rel=1e-4)


@needs_jax
def test_a_single_rank_is_a_plain_program_and_your_platform_stays(tmp_path):
    def train():
        import os

        import jax

        return jax.distributed.is_initialized(), os.environ["JAX_PLATFORMS"], jax.config.jax_platforms

    env = {"JAX_PLATFORMS": "cuda,cpu"}
    with one_node(num_cpus=1):
        result = JaxTrainer(
            train, run_config=RunConfig(storage_path=tmp_path, worker_runtime_env={"env_vars": env})
        ).fit()
    assert result.return_value == (False, "cuda,cpu", "cuda,cpu")


@needs_jax
def test_gloo_is_given_the_address_of_the_node(monkeypatch):
    from jax._src import xla_bridge

    from hpc.train.jax import _reach_by

    asked = []

    class Made:
        @staticmethod
        def make_gloo_tcp_collectives(distributed_client, hostname=None, interface=None):
            asked.append((hostname, interface))

    monkeypatch.setattr(xla_bridge, "_jax", Made)
    _reach_by("10.0.0.7")
    Made.make_gloo_tcp_collectives(distributed_client=None)
    Made.make_gloo_tcp_collectives(distributed_client=None, interface="eth1")
    assert asked == [("10.0.0.7", None), (None, "eth1")]


@needs_jax
def test_a_configuration_that_the_workers_cannot_fulfil_is_refused():
    with pytest.raises(ValueError, match=r"set ScalingConfig\(use_gpu=True\) too"):
        JaxTrainer(print, jax_config=JaxConfig(use_gpu=True))
    with pytest.raises(ValueError, match="give one of them"):
        JaxConfig(use_gpu=True, use_tpu=True)
    with pytest.raises(TypeError, match="must be a JaxConfig"):
        JaxTrainer(print, jax_config={})


def test_without_jax_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install hpc\[jax\]"):
        JaxTrainer(print)
