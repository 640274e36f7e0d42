#!/bin/bash
# JupyterLab in the first container, with all containers of the job behind hpc.init():
#
#     bash templates/yarn/notebook.sh                   # prints the line of ssh for your own machine
#     NODES=4 bash templates/yarn/notebook.sh --partition=QUEUE
#
# JupyterLab must be installed beside hpc. The server listens on 127.0.0.1 of its machine; its address with the token is
# in the file notebook-url here, which only you can read. The site must allow ssh to the machines of the cluster.

exec hpc-launch --scheduler=yarn --nodes="${NODES:-2}" --cpus-per-task="${CPUS:-2}" --mem="${MEM:-4G}" \
    --time="${TIME:-2h}" --env=HPC_SUBMIT_HOST="$(hostname)" "$@" -m hpc.templates.notebook
