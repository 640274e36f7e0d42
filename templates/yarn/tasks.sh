#!/bin/bash
# Many tasks over the machines of a YARN cluster:
#
#     bash templates/yarn/tasks.sh                      # examples/quickstart.py
#     NODES=8 CPUS=16 bash templates/yarn/tasks.sh my_script.py --samples 1000
#
# The script calls hpc.init() and finds all nodes. More in templates/yarn/train.sh. Where the machines share no file
# system with this one: --carry=my_script.py --carry=data

exec hpc-launch --scheduler=yarn --nodes="${NODES:-2}" --cpus-per-task="${CPUS:-2}" --mem="${MEM:-4G}" \
    --time="${TIME:-30m}" "${@:-examples/quickstart.py}"
