"""References of a session that was left, handed in after another one was begun."""

import hpc as ray

ray.init(num_cpus=2)
old = ray.put("old")


@ray.remote
def echo(value):
    return value


result = echo.remote(1)
print(ray.get(result))
ray.shutdown()
ray.init(num_cpus=2)
new = ray.put("new")


def attempt(name, call):
    try:
        print(name, "gave", call())
    except Exception as error:
        print(name, type(error).__name__)


attempt("get", lambda: ray.get(old))
attempt("get a result", lambda: ray.get(result))
attempt("get a list", lambda: ray.get([new, old]))
attempt("wait", lambda: ray.wait([old]))
attempt("argument", lambda: echo.remote(old))
attempt("nested argument", lambda: echo.remote([old]))
attempt("put", lambda: ray.put([old]))
attempt("the function", lambda: ray.get(echo.remote(2)))
attempt("new", lambda: ray.get(new))
