"""Programs that tasks start, files, folders, environment, time-outs, pipes, multiprocessing inside of tasks."""

import os
import subprocess
import sys
import tempfile

import hpc as ray

os.environ["FROM_DRIVER_BEFORE"] = "yes"
ray.init(num_cpus=2, log_to_driver=False)
os.environ["FROM_DRIVER_AFTER"] = "yes"


@ray.remote
def shell(command, **kwargs):
    done = subprocess.run(command, shell=True, capture_output=True, text=True, **kwargs)
    return done.returncode, done.stdout, done.stderr


print(ray.get(shell.remote("echo hello; echo wrong >&2; exit 3")))
print(ray.get(shell.remote("echo $FROM_DRIVER_BEFORE $FROM_DRIVER_AFTER")))
print(ray.get(shell.remote("cat", input="given")))
print(ray.get(shell.remote("cat; echo end")))
print("same folder:", ray.get(shell.remote("pwd"))[1].strip() == os.getcwd())
try:
    ray.get(shell.remote("sleep 20", timeout=0.2))
except subprocess.TimeoutExpired as error:
    print("TimeoutExpired", isinstance(error, ray.exceptions.RayTaskError), error.timeout, error.cmd)


@ray.remote
def checked():
    subprocess.run([sys.executable, "-c", "import sys; print('out'); sys.exit(4)"], check=True, capture_output=True)


try:
    ray.get(checked.remote())
except subprocess.CalledProcessError as error:
    print("CalledProcessError", error.returncode, error.stdout, isinstance(error, ray.exceptions.RayTaskError))


@ray.remote
def missing():
    subprocess.run(["no-such-program-here"])


try:
    ray.get(missing.remote())
except FileNotFoundError as error:
    print("FileNotFoundError", error.errno, error.filename)


@ray.remote
def piped():
    first = subprocess.Popen(["printf", "b\\na\\n"], stdout=subprocess.PIPE)
    second = subprocess.Popen(["sort"], stdin=first.stdout, stdout=subprocess.PIPE, text=True)
    return second.communicate()[0].split(), first.wait(), second.returncode


print(ray.get(piped.remote()))


@ray.remote
def same_python():
    return subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True).stdout.strip()


print(ray.get(same_python.remote()), ray.get(ray.remote(lambda: sys.executable).remote()) == sys.executable)


@ray.remote
def forks():
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, b"from the child")
        os._exit(7)
    os.close(write)
    text = os.read(read, 100).decode()
    return text, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


print(ray.get(forks.remote()))


@ray.remote
def temporary():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x")
        with open(path, "w") as file:
            file.write("text")
        return open(path).read()


print(ray.get(temporary.remote()))


@ray.remote(num_cpus=0)
class Runs:
    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import sys; print(sys.stdin.read().upper())"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self.process.poll()

    def finish(self, text):
        return self.process.communicate(text)[0].strip(), self.process.returncode


runs = Runs.remote()
print(ray.get(runs.start.remote()), ray.get(runs.finish.remote("later")))


@ray.remote
def spawns():
    import concurrent.futures
    import multiprocessing

    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        return list(pool.map(abs, [-1, -2, 3]))


print(ray.get(spawns.remote()))


@ray.remote
def environment(key, value):
    os.environ[key] = value
    return subprocess.run(f"echo ${key}", shell=True, capture_output=True, text=True).stdout.strip()


print(ray.get(environment.remote("SET_IN_TASK", "inside")), "SET_IN_TASK" in os.environ)
