"""Programs that tasks run: output, input, exit codes, errors, time-outs, shells."""

import os
import subprocess
import sys

import hpc as ray

ray.init(num_cpus=2, log_to_driver=False)


@ray.remote
def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    return done.returncode, done.stdout, done.stderr


print(
    ray.get(run.remote([sys.executable, "-c", "print('out'); import sys; print('err', file=sys.stderr); sys.exit(3)"]))
)
print(ray.get(run.remote("echo a shell; exit 2", shell=True)))
print(ray.get(run.remote(["cat"], input="through a pipe")))
for call in (
    run.remote(["false"], check=True),
    run.remote(["sleep", "30"], timeout=0.1),
    run.remote(["no-such-program"]),
):
    try:
        ray.get(call)
    except subprocess.CalledProcessError as error:
        print("CalledProcessError", error.returncode, error.cmd)
    except subprocess.TimeoutExpired as error:
        print("TimeoutExpired", error.timeout)
    except FileNotFoundError as error:
        print("FileNotFoundError", "no-such-program" in str(error))


@ray.remote
def by_os():
    return os.system("exit 4") >> 8, os.popen("echo popen").read()


@ray.remote
def several():
    running = [subprocess.Popen(["sh", "-c", f"exit {n}"]) for n in range(4)]
    return [process.wait() for process in running]


print(ray.get(by_os.remote()), ray.get(several.remote()))


@ray.remote
class Server:
    def __init__(self):
        self.program = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.program.stdin.write(line + "\n")
        self.program.stdin.flush()
        return self.program.stdout.readline().strip()

    def end(self):
        self.program.stdin.close()
        return self.program.wait()


server = Server.remote()
print([ray.get(server.ask.remote(f"question {n}")) for n in range(3)], ray.get(server.end.remote()))


@ray.remote
def async_program():
    import asyncio

    async def main():
        process = await asyncio.create_subprocess_exec("sh", "-c", "echo async; exit 5", stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        return out.decode().strip(), process.returncode

    return asyncio.run(main())


print(ray.get(async_program.remote()))
