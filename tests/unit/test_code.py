"""Code that travels keeps its file's name and lines, whatever cloudpickle does with code objects."""

from __future__ import annotations

import linecache
import pickle
import subprocess
import sys
import traceback
from types import CodeType

import pytest

from hpc.core import code, serialization

#: A program with something of each kind: nested functions, closures, a class with methods, a lambda.
PROGRAM = '''\
import pickle
from hpc.core import serialization

class Thing:
    def method(self):
        raise KeyError("in a method")

def outer(x):
    def inner():
        return x[0]  # in a closure
    return inner

def text_of(function):
    import subprocess, sys
    blob = serialization.dump_code(function)[0]
    there = """import pickle, sys, traceback
try:
    pickle.loads(sys.stdin.buffer.read())()
except Exception:
    traceback.print_exc()"""
    return subprocess.run([sys.executable, "-c", there], input=blob, capture_output=True).stderr.decode()

print(text_of(lambda: Thing().method()))
print(text_of(outer([])))
'''


def shown(text: str, name: str) -> None:
    """The traceback shows the lines below their file's name."""
    lines = [line.strip() for line in text.splitlines()]
    for part in (
        'raise KeyError("in a method")',
        "return x[0]  # in a closure",
        "print(text_of(lambda: Thing().method()))",
    ):
        assert part in lines, text
        place = max(i for i in range(lines.index(part)) if lines[i].startswith("File "))
        assert name in lines[place], text


def test_it_is_the_same_code_with_the_same_file():
    def outer(a, *args, b=1, **kwargs):
        captured = [a, args, b, kwargs]

        def inner():
            return [captured for _ in range(3)]

        return inner

    outer.__module__ = "__main__"  # pickled by value
    again = pickle.loads(serialization.dump_code(outer)[0])
    assert again.__code__ == outer.__code__
    seen = []
    waiting = [(outer.__code__, again.__code__)]
    while waiting:
        one, other = waiting.pop()
        assert one is not other
        for name in code.FIELDS:
            if name != "co_consts":
                assert getattr(one, name) == getattr(other, name)
        assert other.co_filename == __file__
        seen.append(other.co_name)
        waiting += [(a, b) for a, b in zip(one.co_consts, other.co_consts) if isinstance(a, CodeType)]
    assert "inner" in seen
    assert again(1, 2, c=3)() == [[1, (2,), 1, {"c": 3}]] * 3


def test_nothing_depends_on_what_cloudpickle_does_with_code(monkeypatch):
    import cloudpickle

    def refuse(code):
        raise AssertionError("asked")

    for table in serialization._Pickler.dispatch_table.maps[1:]:
        if CodeType in table:
            monkeypatch.setitem(table, CodeType, refuse)
    with pytest.raises(AssertionError):
        cloudpickle.dumps(lambda: 1)
    function = pickle.loads(serialization.dumps([lambda: 1]).to_bytes())[0]
    assert function() == 1 and function.__code__.co_filename == __file__


def test_the_same_function_is_the_same_bytes():
    # an id is made of them: a function that was sent once is not sent again
    def function(f_locals, name="name"):
        return lambda: (name, "f")

    assert serialization.dump_code(function)[0] == serialization.dump_code(function)[0]


def test_a_worker_shows_the_lines_of_python_dash_c():
    ran = subprocess.run([sys.executable, "-Wdefault", "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    shown(ran.stdout, '"<string>"')


def test_a_worker_shows_the_lines_of_a_program_from_standard_input(tmp_path):
    (tmp_path / "program").write_text(PROGRAM)
    with open(tmp_path / "program") as file:
        ran = subprocess.run([sys.executable], stdin=file, capture_output=True, text=True, timeout=60)
    shown(ran.stdout, '"<stdin>"')


def test_a_worker_shows_the_lines_of_a_file_that_it_cannot_read(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(
        PROGRAM.replace(
            "    return subprocess.run", "    import os; os.remove(__file__)\n    return subprocess.run", 1
        ).replace("print(text_of(outer([])))", "open(__file__, 'w').close(); print(text_of(outer([])))")
    )
    ran = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=60)
    shown(ran.stdout, str(path))
    assert not path.exists()


@pytest.mark.parametrize("name", ["<ipython-input-7-c0ffee>", "/tmp/ipykernel_1/99.py"])
def test_lines_of_a_cell_travel(name, monkeypatch):
    text = "x = 1\ndef fails():\n    return 1 / 0  # here\n\n\ndef other():\n    return [][0]  # there\n"
    namespace = {"__name__": "__main__"}
    exec(compile(text, name, "exec"), namespace)
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    blobs = [serialization.dump_code(namespace[one])[0] for one in ("fails", "other")]
    del linecache.cache[name]
    monkeypatch.setattr(code, "_known", {})
    for blob, line in zip(blobs, ("return 1 / 0  # here", "return [][0]  # there")):
        function = pickle.loads(blob)
        try:
            function()
        except Exception:
            assert line in traceback.format_exc()
        else:
            pytest.fail("no error")
    assert linecache.getline(name, 3) == "    return 1 / 0  # here\n"
    assert linecache.getline(name, 1) == "\n"


def test_code_that_only_has_the_name_of_the_program_gets_no_lines_of_it():
    program = 'exec("def f():\\n    return 1 / 0")\n' + PROGRAM.replace(
        "print(text_of(outer([])))", "print(text_of(f))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    last = ran.stdout.rpartition("Traceback")[2]
    assert "ZeroDivisionError" in last and "import pickle" not in last.rpartition("in f")[2]


def test_a_file_that_can_be_read_comes_first(tmp_path):
    path = tmp_path / "there.py"
    path.write_text("the file's own\n")
    code.remember(str(path), 1, "what was sent\n")
    assert linecache.getline(str(path), 1) == "the file's own\n"
    path.unlink()
    linecache.checkcache(str(path))
    code.remember(str(path), 2, "more\n")
    assert linecache.getlines(str(path)) == ["what was sent\n", "more\n"]
