"""What workers print reaches the driver: all lines, from tasks, actors and their programs, on the right stream."""

import re
import subprocess
import sys

PROGRAM = """
import logging
import os
import sys
import subprocess
os.environ["RAY_DEDUP_LOGS"] = "0"
import hpc as ray
ray.init(num_cpus=2)

@ray.remote
def prints(n):
    print("task", n)
    print("error of task", n, file=sys.stderr)
    sys.stdout.write("written\\\\n" if False else "written " + str(n) + chr(10))

@ray.remote
class Prints:
    def method(self):
        print("method")
        os.write(1, b"by its descriptor" + bytes([10]))
        subprocess.run(["echo", "by a program"])
        subprocess.run("echo error of a program >&2", shell=True)
        print("two", "words", sep="-", end="!" + chr(10))
        print("several" + chr(10) + "lines")
        print("ünïcode ✓")
        logging.getLogger("mine").warning("a warning")
        print("." * 100_000)

ray.get([prints.remote(n) for n in range(3)])
prints_too = Prints.remote()
ray.get(prints_too.method.remote())
"""
done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
COLOUR = re.compile(r"\x1b\[\d*m")


def said(text):
    """The lines of workers, without the words in front that name the process."""
    lines = [COLOUR.sub("", line) for line in text.splitlines()]
    return [line.partition(") ")[2].strip() for line in lines if "pid=" in line]


out, err = said(done.stdout), said(done.stderr)
WORDS = ("task", "error", "written", "method", "by", "two", "several", "lines", "ünï", "a warning", "....")
print("ended", done.returncode)
for line in sorted(line if len(line) < 200 else f"{line[0]} {len(line)} times" for line in out + err):
    if line.startswith(WORDS) or line.startswith(". "):
        print(line)
