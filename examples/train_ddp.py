"""A plain torch.distributed script, one process for each rank. It knows nothing of hpc:

hpc-launch --nodes 4 --ranks-per-node 2 examples/train_ddp.py
torchrun --nproc-per-node 2 examples/train_ddp.py
"""

import os
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def main(steps=200, batch=64):
    use_gpu = torch.cuda.is_available() and torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    dist.init_process_group("nccl" if use_gpu else "gloo")
    rank, world, local_rank = dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local_rank) if use_gpu else torch.device("cpu")
    if use_gpu:
        torch.cuda.set_device(device)
    print(f"rank {rank} of {world}: local rank {local_rank}, node {os.environ['GROUP_RANK']}, {device}", flush=True)

    truth = torch.linspace(-1, 1, 16, device=device).unsqueeze(1)
    model = DistributedDataParallel(torch.nn.Linear(16, 1).to(device), device_ids=[device] if use_gpu else None)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    torch.manual_seed(rank)  # every rank draws data of its own
    for _ in range(steps):
        x = torch.randn(batch, 16, device=device)
        loss = torch.nn.functional.mse_loss(model(x), x @ truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    dist.all_reduce(loss.detach())
    weights = model.module.weight.detach().clone()
    everyones = [torch.empty_like(weights) for _ in range(world)]
    dist.all_gather(everyones, weights)
    equal = all(torch.equal(weights, other) for other in everyones)
    if rank == 0:
        print(f"world={world} loss={loss.item() / world:.2e} equal weights: {equal}", flush=True)
    good = equal and loss.item() / world < 0.01
    del model, optimizer  # what holds the group goes before the group
    dist.barrier()  # nobody leaves while others still talk
    dist.destroy_process_group()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
