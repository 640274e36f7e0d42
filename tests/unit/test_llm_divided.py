"""Models that transformers cannot divide are refused before anything is loaded, and say what to do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from examples import tiny_llama
from hpc.serve.llm.config import LLMConfig
from hpc.serve.llm.engine import EngineError
from hpc.serve.llm.models import model_of


def config(folder: Path | str = "m", **fields: Any) -> LLMConfig:
    loading = {"model_id": "tiny", "model_source": str(folder)}
    return LLMConfig(**{"model_loading_config": loading, "llm_engine": "hf", **fields})


def begun(folder: Path, **arguments: Any) -> None:
    asyncio.run(model_of(config(folder, engine_kwargs=arguments)).start())


def test_a_model_without_a_plan_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="models that are divided need accelerate")
    transformers = pytest.importorskip("transformers", reason="the engine 'hf' needs transformers")
    transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=16).save_pretrained(tmp_path)
    with pytest.raises(EngineError, match="no plan of how to divide a model of the type 'gpt2'"):
        begun(tmp_path, tensor_parallel_size=2)


def test_heads_that_cannot_be_divided_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="models that are divided need accelerate")
    pytest.importorskip("torch", reason="the engine 'hf' needs torch")
    pytest.importorskip("transformers", reason="the engine 'hf' needs transformers")
    tiny_llama.save_model(tmp_path)
    with pytest.raises(EngineError, match="the model's 2 heads of keys and values cannot be divided"):
        begun(tmp_path, tensor_parallel_size=4)


def test_vectors_and_less_than_one_rank_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="models that make vectors are not divided"):
        begun(tmp_path, tensor_parallel_size=2, task="embed")
    with pytest.raises(EngineError, match="at least one rank"):
        begun(tmp_path, tensor_parallel_size=0)


def test_each_rank_has_a_bundle_and_the_replica_is_in_the_first() -> None:
    two = {"tensor_parallel_size": 2}
    plain = config(engine_kwargs=two).deployment_options()
    assert plain["placement_group_bundles"] == [{"CPU": 1}, {"CPU": 1}]
    assert plain["ray_actor_options"] == {"num_cpus": 1, "num_gpus": 0}
    on_gpus = config(engine_kwargs=two, deployment_config={"ray_actor_options": {"num_cpus": 4, "num_gpus": 1}})
    assert on_gpus.deployment_options()["placement_group_bundles"] == [{"CPU": 4, "GPU": 1}] * 2
    each = {"bundle_per_worker": {"GPU": 1}, "strategy": "STRICT_PACK"}
    given = config(engine_kwargs=two, placement_group_config=each).deployment_options()
    assert given["placement_group_bundles"] == [{"GPU": 1}, {"GPU": 1}]
    assert given["ray_actor_options"] == {"num_cpus": 0, "num_gpus": 1}
    assert "placement_group_bundles" not in config().deployment_options()


def test_a_bundle_has_all_that_its_rank_takes() -> None:
    """A process that does not fit into its bundle never begins."""
    two = {"tensor_parallel_size": 2}
    takes = {"num_cpus": 2, "num_gpus": 2, "memory": 1e9, "resources": {"x": 1}}
    more = config(engine_kwargs=two, deployment_config={"ray_actor_options": takes}).deployment_options()
    assert more["placement_group_bundles"] == [{"CPU": 2, "GPU": 2, "memory": 1e9, "x": 1}] * 2
    kind = config(engine_kwargs=two, accelerator_type="A100").deployment_options()
    assert kind["placement_group_bundles"] == [{"CPU": 1, "GPU": 1, "accelerator_type:A100": 0.001}] * 2
    each = {"bundle_per_worker": {"GPU": 1}}
    given = config(engine_kwargs=two, placement_group_config=each, accelerator_type="A100").deployment_options()
    assert given["placement_group_bundles"] == [{"GPU": 1, "accelerator_type:A100": 0.001}] * 2
    assert given["ray_actor_options"]["num_gpus"] == 1 and each == {"bundle_per_worker": {"GPU": 1}}
