"""Options of torchrun, and what hpc-launch has in their place. People paste a line that they have."""

from __future__ import annotations

NO_NEED = "leave it out: "
#: By the option's name with dashes; {} is the value that was given. `--nnodes` is in `instead`.
_INSTEAD = {
    "--nproc-per-node": "--ranks-per-node={}",
    "--standalone": NO_NEED + "without a scheduler the nodes are on this machine, and meet by themselves",
    "--master-addr": NO_NEED + "the first node's address is taken",
    "--master-port": NO_NEED + "a port of the first node is kept free",
    "--node-rank": NO_NEED + "one hpc-launch starts the ranks of all nodes",
    "--rdzv-backend": NO_NEED + "the nodes meet through hpc-launch",
    "--rdzv-endpoint": NO_NEED + "the nodes meet through hpc-launch",
    "--rdzv-id": NO_NEED + "the job names the run",
    "--rdzv-conf": "--start-timeout=TIME says how long nodes may take",
    "--local-addr": "--interface={}",
    "--no-python": NO_NEED + "what does not end in .py is run as it is",
    "--run-path": NO_NEED + "a script that ends in .py is run by this Python",
    "--log-dir": NO_NEED + "hpc logs JOB --rank N shows what a rank wrote",
    "--redirects": NO_NEED + "hpc logs JOB --rank N shows what a rank wrote",
    "--tee": NO_NEED + "each line is shown with its rank",
    "--role": NO_NEED + "ROLE_NAME is default",
    "--monitor-interval": NO_NEED + "the end of a rank is seen at once",
    "--start-method": NO_NEED + "each rank is a program of its own",
}


def instead(word: str) -> str:
    """What to say in place of an option of torchrun, `--name` or `--name=value`; "" where it is none of them."""
    name, _, value = word.partition("=")
    name = name.replace("_", "-")
    if name == "--nproc-per-node" and not value.isdigit():
        return "--ranks-per-node=R, with the number of them on a node"
    if name == "--nnodes":
        return f"--nodes={value.replace(':', '-') or 'N'}"
    return _INSTEAD.get(name, "").format(value or "NAME")
