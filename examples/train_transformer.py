"""Train a character-level transformer whose weights are sharded over the ranks (FSDP2), in as many jobs as it takes.

    hpc-launch --nodes 4 --time 1h --chain 3 examples/train_transformer.py
    python examples/train_transformer.py --steps 60                     (on the nodes that hpc.init() starts)

Each rank writes its own part of a checkpoint, by torch.distributed.checkpoint. When the job ends the run saves once
more, and the next job of the chain goes on from there. Batches depend on the step and the rank alone: the weights at
the end are those of a run without a break.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

import hpc
from hpc.train import CheckpointConfig, RunConfig, ScalingConfig
from hpc.train.torch import TorchTrainer

CONTEXT, WIDTH, HEADS, LAYERS = 48, 64, 4, 2


def make_text(sentences: int = 4000) -> str:
    """Sentences of a small grammar, the same each time: something to learn that needs no download."""
    choose = random.Random(0)
    who = ["the node", "a rank", "the queue", "our job", "each core"]
    does = ["waits for", "sends", "reduces", "saves", "reads"]
    what = ["a message", "the gradient", "its shard", "the checkpoint", "a long step"]
    return ". ".join(" ".join(choose.choice(part) for part in (who, does, what)) for _ in range(sentences)) + "."


def make_model(letters: int):
    """A decoder with learned positions."""
    import torch
    from torch import nn

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.letters, self.positions = nn.Embedding(letters, WIDTH), nn.Embedding(CONTEXT, WIDTH)
            self.blocks = nn.ModuleList(
                nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
                for _ in range(LAYERS)
            )
            self.out = nn.Linear(WIDTH, letters)

        def forward(self, tokens):
            length = tokens.shape[1]
            mask = nn.Transformer.generate_square_subsequent_mask(length)
            hidden = self.letters(tokens) + self.positions(torch.arange(length))
            for block in self.blocks:
                hidden = block(hidden, src_mask=mask, is_causal=True)
            return self.out(hidden)

    return Transformer()


def train(config):
    """What every rank runs."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from hpc.train import get_context, report
    from hpc.train.torch import load_state, report_state

    context = get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    text = make_text()
    letters = sorted(set(text))
    tokens = torch.tensor([letters.index(letter) for letter in text])

    torch.manual_seed(0)
    model = make_model(len(letters))
    mesh = init_device_mesh("cpu", (world,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    state = {"model": model, "optimizer": optimizer, "step": 0}
    if load_state(state) and rank == 0:
        print(f"goes on from step {state['step']}", flush=True)

    while state["step"] < config["steps"]:
        draw = torch.Generator().manual_seed(state["step"] * world + rank)
        starts = torch.randint(len(tokens) - CONTEXT - 1, (config["batch"],), generator=draw)
        window = torch.stack([tokens[at : at + CONTEXT + 1] for at in starts])
        logits = model(window[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        time.sleep(config["pace"])
        state["step"] += 1
        metrics = {"step": state["step"], "loss": loss.item()}
        if state["step"] % config["every"] == 0 or context.should_checkpoint() or state["step"] == config["steps"]:
            report_state(metrics, state)
        else:
            report(metrics)
    return sum(p.full_tensor().double().sum().item() for p in model.parameters())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="how many in all (300)")
    parser.add_argument("--every", type=int, default=100, help="steps between checkpoints (100)")
    parser.add_argument("--batch", type=int, default=16, help="windows of a rank in a step (16)")
    parser.add_argument("--pace", type=float, default=0.0, help="seconds to wait after each step, to try a chain (0)")
    parser.add_argument("--ranks", type=int, default=0, help="how many ranks (one for each node)")
    parser.add_argument("--name", default="transformer", help="the run; of the same name it goes on")
    parser.add_argument("--storage", default=None, help="where checkpoints go (~/hpc_results)")
    options = parser.parse_args()
    hpc.init()
    nodes = [node for node in hpc.nodes() if node["Alive"]]
    result = TorchTrainer(
        train,
        train_loop_config={name: getattr(options, name) for name in ("steps", "every", "batch", "pace")},
        scaling_config=ScalingConfig(num_workers=options.ranks or len(nodes), placement_strategy="SPREAD"),
        run_config=RunConfig(
            name=options.name, storage_path=options.storage, checkpoint_config=CheckpointConfig(num_to_keep=2)
        ),
    ).fit()
    steps, loss = len(result.metrics_dataframe), result.metrics["loss"]
    print(f"steps {steps} loss {loss:.4f} sum {result.return_value:.10f}", flush=True)
    return 0 if loss < 2.0 else 1


if __name__ == "__main__":
    sys.exit(main())
