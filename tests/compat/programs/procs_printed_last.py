"""The last lines before the program ends are shown, however it ends, and log_to_driver=False shows none."""

import subprocess
import sys

PROGRAM = """
import sys
import hpc as ray
ray.init(num_cpus=2%s)

@ray.remote
class Talks:
    def talk(self, n):
        for i in range(n):
            print(f"line {i:06d} " + "." * 40)

talks = Talks.remote()
ray.get(talks.talk.remote(2000))
"""
for options, end in (
    ("", ""),
    ("", "sys.exit(3)"),
    ("", "raise ValueError"),
    (", log_to_driver=False", ""),
):
    program = PROGRAM % options + end
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "line 0" in line]
    print(options or "shown", "|", end or "falls off the end", "|", done.returncode, len(lines))
