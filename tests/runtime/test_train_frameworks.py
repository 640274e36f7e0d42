"""Libraries that bring their own distribution, unchanged inside a training function and under hpc-launch."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap

import pytest

import hpc
from hpc.train import RunConfig, ScalingConfig
from hpc.train.torch import TorchConfig, TorchTrainer
from runtime.running import one_node

#: What the workers of these tests import.
WORKER_IMPORTS = "torch torch._dynamo"


def needs(*names):
    missing = [name for name in ("torch", *names) if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: pip install {' '.join(missing)}")


@pytest.fixture(scope="module")
def session():
    with one_node(num_cpus=2):
        yield


def on_two_ranks(function, tmp_path, **config):
    return TorchTrainer(
        function,
        train_loop_config={"folder": str(tmp_path), **config},
        torch_config=TorchConfig(timeout_s=60),
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=tmp_path, name="run"),
    ).fit()


LIGHTNING = """
import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

class Linear(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen = []

    def training_step(self, batch, index):
        x, y = batch
        self.seen += x.flatten().tolist()
        loss = torch.nn.functional.mse_loss(self.layer(x), y)
        self.log("loss", loss, sync_dist=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

def loader():
    x = torch.arange(8.0).unsqueeze(1)
    return DataLoader(TensorDataset(x, 2 * x), batch_size=2)

def trainer(folder, **options):
    return pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=folder,
                      enable_model_summary=False, **options)
"""


@needs("lightning")
def test_lightning_sees_its_ranks_without_being_told(session, tmp_path):
    def train(config):
        import torch

        names = {}
        exec(LIGHTNING, names)
        model = names["Linear"]()
        trainer = names["trainer"](config["folder"], devices=2, strategy="ddp", enable_checkpointing=False)
        trainer.fit(model, names["loader"]())
        environment = type(trainer.strategy.cluster_environment).__name__
        seen = [None, None]
        torch.distributed.all_gather_object(seen, model.seen[:4])  # of the first epoch
        hpc.train.report({"loss": trainer.callback_metrics["loss"].item()})
        return environment, trainer.world_size, sorted(seen[0] + seen[1])

    result = on_two_ranks(train, tmp_path)
    assert result.return_value == ("TorchElasticEnvironment", 2, [float(x) for x in range(8)])


@needs("lightning")
def test_lightning_by_rays_names_reports_each_epoch_with_its_checkpoint(session, tmp_path):
    def train(config):
        import torch

        import hpc.train.lightning as ours

        names = {}
        exec(LIGHTNING, names)
        model = names["Linear"]()
        trainer = names["trainer"](
            config["folder"],
            devices="auto",
            strategy=ours.RayDDPStrategy(),
            plugins=[ours.RayLightningEnvironment()],
            callbacks=[ours.RayTrainReportCallback()],
            enable_checkpointing=False,
        )
        trainer = ours.prepare_trainer(trainer)
        trainer.fit(model, names["loader"]())
        again = os.path.join(hpc.train.get_checkpoint().path, "checkpoint.ckpt")
        assert torch.load(again, weights_only=False)["epoch"] == 1
        with pytest.raises(RuntimeError, match="RayDDPStrategy"):
            ours.prepare_trainer(names["trainer"](config["folder"], devices=1, enable_checkpointing=False))
        return trainer.world_size, torch.distributed.get_world_size(), trainer.current_epoch

    result = on_two_ranks(train, tmp_path)
    assert result.return_value == (2, 2, 2)
    assert result.metrics["epoch"] == 1 and result.metrics["step"] == 4 and result.metrics["loss"] > 0
    assert len(result.best_checkpoints) == 2
    assert os.listdir(result.checkpoint.path) == ["checkpoint.ckpt"]


@needs("accelerate")
def test_accelerate_sees_its_ranks_without_being_told(session, tmp_path):
    def train():
        import torch
        from accelerate import Accelerator
        from torch.utils.data import DataLoader, TensorDataset

        accelerator = Accelerator(cpu=True)
        torch.manual_seed(0)
        model = torch.nn.Linear(1, 1)
        x = torch.arange(8.0).unsqueeze(1)
        data = DataLoader(TensorDataset(x, 2 * x), batch_size=2)
        model, optimizer, data = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.01), data)
        seen = []
        for a, b in data:
            seen += accelerator.gather(a.flatten()).tolist()
            optimizer.zero_grad()
            accelerator.backward(torch.nn.functional.mse_loss(model(a), b))
            optimizer.step()
        weights = accelerator.gather(accelerator.unwrap_model(model).weight.detach().flatten()).tolist()
        kind = str(accelerator.distributed_type), type(model).__name__
        return kind, accelerator.num_processes, sorted(seen), weights[0] == weights[1]

    result = TorchTrainer(
        train, scaling_config=ScalingConfig(num_workers=2), run_config=RunConfig(storage_path=tmp_path)
    ).fit()
    kind, count, seen, equal = result.return_value
    assert kind == ("DistributedType.MULTI_CPU", "DistributedDataParallel") and count == 2 and equal
    assert seen == [float(x) for x in range(8)]


TINY = """
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

def made(folder, **options):
    torch.manual_seed(0)
    config = BertConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
                        max_position_embeddings=8)
    data = [{"input_ids": torch.tensor([i, 1, 2, 3]), "labels": torch.tensor(i % 2)} for i in range(8)]
    arguments = TrainingArguments(output_dir=folder, num_train_epochs=2, per_device_train_batch_size=2, use_cpu=True,
                                  report_to=[], disable_tqdm=True, logging_strategy="epoch", **options)
    return Trainer(model=BertForSequenceClassification(config), args=arguments, train_dataset=data)
"""


@needs("transformers", "accelerate")
def test_the_trainer_of_transformers_reports_by_its_callback(session, tmp_path):
    def train(config):
        import torch

        from hpc.train.huggingface.transformers import RayTrainReportCallback, prepare_trainer

        names = {}
        exec(TINY, names)
        trainer = names["made"](config["folder"] + "/out", save_strategy="epoch")
        trainer.add_callback(RayTrainReportCallback())
        prepare_trainer(trainer).train()
        first = next(trainer.model.parameters()).detach().flatten()[:4]
        both = [torch.empty_like(first), torch.empty_like(first)]
        torch.distributed.all_gather(both, first)
        return trainer.args.world_size, trainer.state.global_step, torch.equal(*both)

    result = on_two_ranks(train, tmp_path)
    assert result.return_value == (2, 4, True)
    assert result.metrics["epoch"] == 2.0 and result.metrics["loss"] > 0
    assert len(result.best_checkpoints) == 2
    assert "config.json" in os.listdir(os.path.join(result.checkpoint.path, "checkpoint"))


@needs("transformers", "accelerate")
def test_the_trainer_of_transformers_takes_a_shard_as_it_is(session, tmp_path):
    def train(config):
        import torch

        from hpc.train.huggingface.transformers import prepare_trainer

        names = {}
        exec(TINY, names)
        trainer = names["made"](config["folder"] + "/out", save_strategy="no")
        trainer.train_dataset = hpc.train.get_dataset_shard("rows")
        trainer = prepare_trainer(trainer)
        mine = [row for batch in trainer.get_train_dataloader() for row in batch["input_ids"][:, 0].tolist()]
        trainer.train()
        seen = [None, None]
        torch.distributed.all_gather_object(seen, mine)
        with pytest.raises(TypeError, match=r"takes a transformers\.Trainer, not int"):
            prepare_trainer(1)
        return seen, trainer.state.global_step

    rows = [{"input_ids": [i, 1, 2, 3], "labels": i % 2} for i in range(8)]
    result = TorchTrainer(
        train,
        train_loop_config={"folder": str(tmp_path)},
        datasets={"rows": rows},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=tmp_path, name="shards"),
    ).fit()
    assert result.return_value == ([[0, 2, 4, 6], [1, 3, 5, 7]], 4)


@needs("lightning", "accelerate")
@pytest.mark.parametrize("library", ["lightning", "accelerate"])
def test_a_plain_script_of_each_runs_under_hpc_launch(tmp_path, library):
    code = {
        "lightning": LIGHTNING
        + f'\nt = trainer({str(tmp_path)!r}, devices=2, strategy="ddp", enable_checkpointing=False)\n'
        + 't.fit(Linear(), loader())\nprint("ranks", t.world_size, "rank", t.global_rank, flush=True)\n'
        + "torch.distributed.destroy_process_group()\n",  # torch may abort at the end of a process still in a group
        "accelerate": textwrap.dedent(
            """
            import torch
            from accelerate import Accelerator

            a = Accelerator(cpu=True)
            total = a.reduce(torch.ones(1) * (a.process_index + 1)).item()
            assert total == 3.0, total
            print("ranks", a.num_processes, "rank", a.process_index, flush=True)
            a.end_training()  # leaves the group
            """
        ),
    }[library]
    script = tmp_path / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "hpc.cli.launch", "--nodes", "1", "--ranks-per-node", "2", str(script)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ranks 2 rank 0" in done.stdout and "ranks 2 rank 1" in done.stdout, done.stdout + done.stderr
