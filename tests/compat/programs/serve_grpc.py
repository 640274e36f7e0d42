"""What clients get over gRPC: calls of four kinds, statuses, metadata, applications by name, health, reflection."""

# needs: grpc, grpc_reflection

import os
import socket
import sys
import tempfile

MODULE = """
import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.internal import builder

F = descriptor_pb2.FieldDescriptorProto
METHODS = {"Say": (0, 0), "Count": (0, 1), "Join": (1, 0), "Talk": (1, 1)}
file = descriptor_pb2.FileDescriptorProto(name="words.proto", package="words", syntax="proto3")
file.message_type.add(name="Word").field.add(name="text", number=1, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
service = file.service.add(name="Words")
for name, (given, made) in METHODS.items():
    service.method.add(name=name, input_type=".words.Word", output_type=".words.Word",
                       client_streaming=bool(given), server_streaming=bool(made))
DESCRIPTOR = descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, globals())
builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, __name__, globals())
KINDS = ("unary", "stream")


def add_to_server(servicer, server):
    handlers = {}
    for name, (given, made) in METHODS.items():
        maker = getattr(grpc, f"{KINDS[given]}_{KINDS[made]}_rpc_method_handler")
        handlers[name] = maker(getattr(servicer, name), request_deserializer=Word.FromString,
                               response_serializer=Word.SerializeToString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("words.Words", handlers),))
    server.add_registered_method_handlers("words.Words", handlers)
"""
place = tempfile.TemporaryDirectory()
folder = place.name
with open(os.path.join(folder, "words_of_grpc.py"), "w") as file:
    file.write(MODULE)
os.environ["PYTHONPATH"] = os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])
sys.path.insert(0, folder)

import grpc
import words_of_grpc as words
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import hpc as ray
from hpc import serve

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    PORT = free.getsockname()[1]

ray.init(num_cpus=8)
serve.start(grpc_options={"port": PORT, "grpc_servicer_functions": ["words_of_grpc.add_to_server"]})


@serve.deployment
class Speaker:
    def __init__(self, greeting):
        self.greeting = greeting

    async def Say(self, word, grpc_context):
        what = word.text
        if what == "raises":
            raise ValueError("it is broken")
        if what == "code":
            grpc_context.set_code(grpc.StatusCode.ALREADY_EXISTS)
            grpc_context.set_details("it is there")
        if what == "code raises":
            grpc_context.set_code(grpc.StatusCode.NOT_FOUND)
            raise KeyError("nowhere")
        if what == "details raises":
            grpc_context.set_details("only details")
            raise KeyError("nowhere")
        if what == "no message":
            return "text"
        if what == "trailing":
            grpc_context.set_trailing_metadata([("a", "1"), ("b", "2")])
        if what == "context":
            given = [pair for pair in grpc_context.invocation_metadata() if not pair[0].startswith("user")]
            facts = (given, grpc_context.application(), grpc_context.request_id(), grpc_context.multiplexed_model_id())
            return words.Word(text=f"{facts} {serve.get_multiplexed_model_id()!r} {grpc_context.code()}")
        return words.Word(text=f"{self.greeting} {what}")

    def Count(self, word, grpc_context):
        for number in range(int(word.text)):
            if number == 5:
                raise ValueError("five is too many")
            if number == 2:
                grpc_context.set_trailing_metadata([("at", "two")])
            yield words.Word(text=str(number))

    async def Join(self, stream):
        found = [word.text async for word in stream]
        return words.Word(text="+".join(found) + f" {stream.is_cancelled()} {stream.is_exhausted}")

    async def Talk(self, stream):
        async for word in stream:
            if word.text == "stop":
                raise RuntimeError("stopped")
            yield words.Word(text=word.text.upper())


@serve.deployment
class Plain:
    def Say(self, word):
        return words.Word(text="plain " + word.text)


serve.run(Speaker.bind("hello"), name="one", route_prefix="/one")
channel = grpc.insecure_channel(f"127.0.0.1:{PORT}")
calls = {
    name: getattr(channel, f"{words.KINDS[given]}_{words.KINDS[made]}")(
        f"/words.Words/{name}", words.Word.SerializeToString, words.Word.FromString
    )
    for name, (given, made) in words.METHODS.items()
}


def shown(call):
    trailing = sorted((key, value) for key, value in call.trailing_metadata() if key != "request_id")
    has_id = any(key == "request_id" for key, _ in call.trailing_metadata())
    return call.code().name, trailing, has_id


def ask(name, text, metadata=(), hides=False):
    """A call, and its end; ``hides``: the details are of the implementation."""
    given = (words.Word(text=one) for one in text) if isinstance(text, list) else words.Word(text=text)
    items = []
    call = None
    try:
        if words.METHODS[name][1]:
            call = calls[name](given, metadata=metadata, timeout=30)
            for item in call:
                items.append(item.text)
        else:
            answer, call = calls[name].with_call(given, metadata=metadata, timeout=30)
            items.append(answer.text)
        print(name, text, items, *shown(call))
    except grpc.RpcError as error:
        words_there = [word for word in ("broken", "many", "stopped", "nowhere") if word in error.details()]
        print(name, text, items, *shown(error), words_there if hides else error.details())


ask("Say", "you")
ask("Say", "raises", hides=True)
ask("Say", "code")
ask("Say", "code raises", hides=True)
ask("Say", "details raises", hides=True)
ask("Say", "no message", hides=True)
ask("Say", "trailing", (("request_id", "mine"),))
ask("Say", "context", (("request_id", "r1"), ("multiplexed_model_id", "m1"), ("application", "one"), ("x", "y")))
ask("Say", "you", (("application", "nobody"),))
ask("Count", "0")
ask("Count", "4")
ask("Count", "9", hides=True)
ask("Join", ["a", "b", "c"])
ask("Join", [])
ask("Talk", ["a", "b"])
ask("Talk", ["a", "stop"], hides=True)
answer, call = calls["Say"].with_call(words.Word(text="id"), metadata=(("request_id", "mine"),))
print(answer.text, dict(call.trailing_metadata()).get("request_id"))


def raw(method):
    try:
        print(method, channel.unary_unary(method)(b"", timeout=30))
    except grpc.RpcError as error:
        print(method, error.code().name, error.details())


raw("/ray.serve.RayServeAPIService/Healthz")
raw("/ray.serve.RayServeAPIService/ListApplications")
raw("/words.Words/Nothing")
raw("/words.Nobody/Say")
serve.run(Plain.bind(), name="two", route_prefix="/two")
for app in ("one", "two", "three", ""):
    ask("Say", "again", (("application", app),) if app else ())
ask("Count", "1", (("application", "two"),), hides=True)
raw("/ray.serve.RayServeAPIService/ListApplications")
asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
(answer,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked)
print(sorted(one.name for one in answer.list_services_response.service))
try:
    channel.unary_unary("/words.Words/Say")(b"\xff\xff\xff", timeout=30, metadata=(("application", "one"),))
except grpc.RpcError as error:
    print("garbage", error.code().name)
serve.delete("two")
serve.delete("one")
raw("/ray.serve.RayServeAPIService/Healthz")
ask("Say", "nobody")
channel.close()
serve.shutdown()
