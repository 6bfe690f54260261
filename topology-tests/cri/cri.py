"""Speaks CRI to a container runtime: a line of JSON in is a call, a line of JSON out its answer.

    cri.py PROTO SOCKET
    {"service": "RuntimeService", "method": "Status", "request": {}}
    {"answer": {"status": ...}}  or  {"error": "rpc error: ..."}

Requests and answers are protobuf's JSON, with the names that cri.proto has; bytes are base64, zeros are left out. The first line out is
{"answer": {}}: it is ready. Ends when its input does. Needs Debian's python3-grpcio and python3-grpc-tools.
"""

import json
import os
import sys
import tempfile

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format
from google.protobuf.message_factory import MessageFactory
from grpc_tools import protoc


def load(proto):
    """The file as protoc describes it."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "set")
        arguments = ["protoc", "-I" + os.path.dirname(proto), "--descriptor_set_out=" + out, proto]
        if protoc.main(arguments) != 0:
            sys.exit(1)
        with open(out, "rb") as file:
            files = descriptor_pb2.FileDescriptorSet.FromString(file.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


def main():
    proto, socket = sys.argv[1:]
    pool = load(proto)
    classes = MessageFactory(pool)
    channel = grpc.insecure_channel("unix://" + socket)
    print(json.dumps({"answer": {}}), flush=True)
    for line in sys.stdin:
        call = json.loads(line)
        service = "runtime.v1." + call["service"]
        method = pool.FindServiceByName(service).FindMethodByName(call["method"])
        request = json_format.ParseDict(call["request"], classes.GetPrototype(method.input_type)())
        invoke = channel.unary_unary(
            f"/{service}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=classes.GetPrototype(method.output_type).FromString,
        )
        try:
            answer = invoke(request, timeout=120)
            said = {"answer": json_format.MessageToDict(answer, preserving_proto_field_name=True)}
        except grpc.RpcError as error:
            said = {"error": f"{error.code().name}: {error.details()}"}
        print(json.dumps(said), flush=True)


main()
