"""A service of gRPC as a compiler of protobuf would write it: messages, the function that adds a servicer, a stub."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.internal import builder

_Field = descriptor_pb2.FieldDescriptorProto
SERVICE = "greeting.Greeter"
#: Methods: the request, the answer, and which of them are streams.
METHODS = {
    "Greet": ("Name", "Greeting", False, False),
    "Count": ("Number", "Number", False, True),
    "Sum": ("Number", "Number", True, False),
    "Talk": ("Name", "Greeting", True, True),
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="tests_greeting.proto", package="greeting", syntax="proto3")
    for name, field, kind in (
        ("Name", "text", _Field.TYPE_STRING),
        ("Greeting", "text", _Field.TYPE_STRING),
        ("Number", "value", _Field.TYPE_INT64),
    ):
        file.message_type.add(name=name).field.add(name=field, number=1, type=kind, label=_Field.LABEL_OPTIONAL)
    service = file.service.add(name="Greeter")
    for name, (given, answer, streams_in, streams_out) in METHODS.items():
        service.method.add(
            name=name,
            input_type=f".greeting.{given}",
            output_type=f".greeting.{answer}",
            client_streaming=streams_in,
            server_streaming=streams_out,
        )
    return file


DESCRIPTOR = descriptor_pool.Default().AddSerializedFile(_file().SerializeToString())
builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, globals())
builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, __name__, globals())
Name: Any = globals()["Name"]
Greeting: Any = globals()["Greeting"]
Number: Any = globals()["Number"]

_HANDLERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def add_GreeterServicer_to_server(servicer: Any, server: Any) -> None:
    """What the compiler writes for a service."""
    handlers = {
        name: _HANDLERS[streams_in, streams_out](
            getattr(servicer, name),
            request_deserializer=globals()[given].FromString,
            response_serializer=globals()[answer].SerializeToString,
        )
        for name, (given, answer, streams_in, streams_out) in METHODS.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)


class GreeterStub:
    """The client's side."""

    def __init__(self, channel: Any) -> None:
        makers = {
            (False, False): channel.unary_unary,
            (False, True): channel.unary_stream,
            (True, False): channel.stream_unary,
            (True, True): channel.stream_stream,
        }
        for name, (given, answer, streams_in, streams_out) in METHODS.items():
            made = makers[streams_in, streams_out](
                f"/{SERVICE}/{name}",
                request_serializer=globals()[given].SerializeToString,
                response_deserializer=globals()[answer].FromString,
            )
            setattr(self, name, made)
