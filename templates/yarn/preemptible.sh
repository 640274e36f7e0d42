#!/bin/bash
# Runs a script in a queue whose containers may be taken for others at any time: up to LINKS jobs, one after the other,
# until the script has ended. Each begins with what the one before has saved.
#
#     LINKS=10 bash templates/yarn/preemptible.sh --partition=QUEUE my_script.py --epochs 300
#
# This command submits the next job when one has ended, so it has to stay (nohup, tmux).
# The script asks hpc.saved_state() for the place where it was, and saves as it goes (hpc.save_state): YARN gives a
# container a quarter of a second. Ahead of the time limit there is time: it ends with exit code 75 when it has saved
# because the session drains (hpc.get_runtime_context().draining()).

exec hpc-launch --scheduler=yarn --nodes="${NODES:-2}" --cpus-per-task="${CPUS:-2}" --mem="${MEM:-4G}" \
    --time="${TIME:-4h}" --chain="${LINKS:-5}" "${@:-examples/quickstart.py}"
