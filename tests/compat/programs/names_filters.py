"""Filters and limits of the state API, the timeline, functions of other languages."""

import json
import os

import hpc as ray
from hpc.util.state import list_actors, list_nodes, list_tasks

ray.init(num_cpus=2)


@ray.remote
class Box:
    def get(self):
        return 1


def attempt(what, do):
    try:
        print(what, "gave", do())
    except ValueError:
        print(what, "raised ValueError")
    except Exception as error:
        print(what, "raised", type(error).__name__)


boxes = [Box.options(name=f"box {number}").remote() for number in range(3)]
print(ray.get([box.get.remote() for box in boxes]))


def names(**given):
    return sorted(row.name for row in list_actors(**given))


attempt("all", names)
attempt("equal", lambda: names(filters=[("name", "=", "box 1")]))
attempt("not equal", lambda: names(filters=[("name", "!=", "box 1")]))
attempt("two filters", lambda: names(filters=[("state", "=", "ALIVE"), ("name", "!=", "box 0")]))
attempt("in another case", lambda: names(filters=[("state", "=", "alive")]))
attempt("nothing", lambda: names(filters=[("state", "=", "DEAD")]))
attempt("unknown value", lambda: names(filters=[("state", "=", "NONSENSE")]))
attempt("unknown field", lambda: names(filters=[("no_such_field", "=", "1")]))
attempt("field in another case", lambda: names(filters=[("NAME", "=", "box 1")]))
attempt("no value", lambda: names(filters=[("name", "=", None)]))
attempt("number that is none", lambda: names(filters=[("pid", "=", "abc")]))
attempt("unknown state of a node", lambda: list_nodes(filters=[("state", "=", "NONSENSE")]))
attempt("unknown predicate", lambda: names(filters=[("name", ">", "box 1")]))
attempt("two parts", lambda: names(filters=[("name", "box 1")]))
attempt("a text", lambda: names(filters="name=box 1"))
attempt("an empty list", lambda: names(filters=[]))
attempt("limit 2", lambda: len(list_actors(limit=2)))
attempt("limit 0", lambda: len(list_actors(limit=0)))
attempt("limit -1", lambda: len(list_actors(limit=-1)))
attempt("limit of 20,000", lambda: len(list_actors(limit=20_000)))
attempt("limit None", lambda: len(list_actors(limit=None)))
attempt("limit as text", lambda: len(list_actors(limit="2")))
attempt("limit 2.5", lambda: len(list_actors(limit=2.5)))
attempt("unknown option", lambda: list_actors(colour="red"))
attempt("nodes", lambda: [row.state for row in list_nodes(filters=[("state", "=", "ALIVE")])])
attempt("tasks", lambda: len(list_tasks(filters=[("name", "=", "no such task")])))
attempt("the fields as attributes", lambda: list_actors(filters=[("name", "=", "box 1")])[0].class_name)
attempt("the fields as keys", lambda: list_actors(filters=[("name", "=", "box 1")])[0]["class_name"])
attempt("timeline", lambda: type(ray.timeline()).__name__)
attempt("timeline in a file", lambda: ray.timeline(filename="lines.json"))
attempt("the file", lambda: os.path.exists("lines.json") and type(json.load(open("lines.json"))).__name__)
attempt("java_function", lambda: ray.cross_language.java_function("C", "f").remote())
attempt("cpp_function", lambda: ray.cross_language.cpp_function("f").remote())
attempt("java_actor_class", lambda: ray.cross_language.java_actor_class("C").remote())
attempt("java_function at the top", lambda: ray.java_function("C", "f").options(num_cpus=1).remote(1))
attempt("java_actor_class at the top", lambda: ray.java_actor_class("C").options(num_cpus=1).remote(1))
attempt("a call of cpp_function", lambda: ray.cross_language.cpp_function("f")())
