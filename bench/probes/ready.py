"""The script that hpc-launch is given: it says when it runs and how long its nodes took."""

import json
import os
import time

record = {"at": time.monotonic(), "ready_s": os.environ.get("HPC_READY_S"), "nodes": os.environ.get("HPC_NUM_NODES")}
print("@bench " + json.dumps(record), flush=True)
