#!/bin/bash
# Runs a script on the machines of a YARN cluster. Copy it, or use it as it is, on a machine with the `yarn` command:
#
#     bash templates/yarn/train.sh                      # examples/train_digits.py
#     NODES=2 bash templates/yarn/train.sh my_script.py --epochs 3
#
# It waits in the queue, shows the script's output and ends with its exit code; Ctrl-C leaves the job alone.
# YARN tells a job of no CPUs and no memory but those that it asks for: ask for what each machine is to give.
#
# What your site may want:
#   --partition=QUEUE  --constraint=LABEL  --gpus-per-node=4  --job-dir=DIR (on a file system that all machines share)
#   --setup='source /shared/venv/bin/activate'

exec hpc-launch --scheduler=yarn --nodes="${NODES:-4}" --cpus-per-task="${CPUS:-4}" --mem="${MEM:-8G}" \
    --time="${TIME:-30m}" "${@:-examples/train_digits.py}"
