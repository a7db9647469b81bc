"""The interoperability test of gRPC: its service, and its cases as a client runs them.

Written after the project's description of the cases (interop-test-descriptions.md). The messages
are described here, so that nothing has to be generated; the numbers of fields are the service's.
"""

import queue

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

TYPES = {"bytes": 12, "string": 9, "int32": 5, "bool": 8}
MESSAGES = {
    "Empty": {},
    "BoolValue": {"value": (1, "bool")},
    "Payload": {"type": (1, "int32"), "body": (2, "bytes")},
    "EchoStatus": {"code": (1, "int32"), "message": (2, "string")},
    "SimpleRequest": {
        "response_size": (2, "int32"),
        "payload": (3, "Payload"),
        "response_compressed": (6, "BoolValue"),
        "response_status": (7, "EchoStatus"),
        "expect_compressed": (8, "BoolValue"),
    },
    "SimpleResponse": {"payload": (1, "Payload")},
    "StreamingInputCallRequest": {
        "payload": (1, "Payload"),
        "expect_compressed": (2, "BoolValue"),
    },
    "StreamingInputCallResponse": {"aggregated_payload_size": (1, "int32")},
    "ResponseParameters": {
        "size": (1, "int32"),
        "interval_us": (2, "int32"),
        "compressed": (3, "BoolValue"),
    },
    "StreamingOutputCallRequest": {
        "response_parameters": (2, "*ResponseParameters"),
        "payload": (3, "Payload"),
        "response_status": (7, "EchoStatus"),
    },
    "StreamingOutputCallResponse": {"payload": (1, "Payload")},
}


def describe():
    file = descriptor_pb2.FileDescriptorProto(
        name="interop.proto", package="grpc.testing", syntax="proto3"
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            entry = message.field.add(name=field, number=number, label=1)
            if kind.startswith("*"):
                entry.label, kind = 3, kind[1:]
            if kind in TYPES:
                entry.type = TYPES[kind]
            else:
                entry.type, entry.type_name = 11, f".grpc.testing.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"grpc.testing.{name}"))
        for name in MESSAGES
    }


globals().update(describe())

ECHO_INITIAL, ECHO_TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
METHODS = {
    "EmptyCall": ("unary_unary", "Empty", "Empty"),
    "UnaryCall": ("unary_unary", "SimpleRequest", "SimpleResponse"),
    "StreamingOutputCall": (
        "unary_stream", "StreamingOutputCallRequest", "StreamingOutputCallResponse",
    ),
    "StreamingInputCall": (
        "stream_unary", "StreamingInputCallRequest", "StreamingInputCallResponse",
    ),
    "FullDuplexCall": (
        "stream_stream", "StreamingOutputCallRequest", "StreamingOutputCallResponse",
    ),
    "HalfDuplexCall": (
        "stream_stream", "StreamingOutputCallRequest", "StreamingOutputCallResponse",
    ),
}  # fmt: skip


# The server -------------------------------------------------------------------------------------


def echo_metadata(context):
    told = dict(context.invocation_metadata())
    if ECHO_INITIAL in told:
        context.send_initial_metadata(((ECHO_INITIAL, told[ECHO_INITIAL]),))
    if ECHO_TRAILING in told:
        context.set_trailing_metadata(((ECHO_TRAILING, told[ECHO_TRAILING]),))


def echo_status(request, context):
    if request.HasField("response_status"):
        code = {code.value[0]: code for code in grpc.StatusCode}[request.response_status.code]
        context.abort(code, request.response_status.message)


def output(request, context):
    for parameters in request.response_parameters:
        if parameters.compressed.value:
            context.set_compression(grpc.Compression.Gzip)
        yield StreamingOutputCallResponse(payload=Payload(body=bytes(parameters.size)))


class Service:
    def EmptyCall(self, request, context):
        return Empty()

    def UnaryCall(self, request, context):
        echo_metadata(context)
        echo_status(request, context)
        if request.response_compressed.value:
            context.set_compression(grpc.Compression.Gzip)
        return SimpleResponse(payload=Payload(body=bytes(request.response_size)))

    def StreamingOutputCall(self, request, context):
        echo_status(request, context)
        yield from output(request, context)

    def StreamingInputCall(self, requests, context):
        size = sum(len(request.payload.body) for request in requests)
        return StreamingInputCallResponse(aggregated_payload_size=size)

    def FullDuplexCall(self, requests, context):
        echo_metadata(context)
        for request in requests:
            echo_status(request, context)
            yield from output(request, context)

    def HalfDuplexCall(self, requests, context):
        for request in list(requests):
            yield from output(request, context)


def handlers():
    """What a server takes as its handlers."""
    service = Service()
    methods = {
        name: getattr(grpc, f"{kind}_rpc_method_handler")(
            getattr(service, name),
            globals()[request].FromString,
            globals()[response].SerializeToString,
        )
        for name, (kind, request, response) in METHODS.items()
    }
    return grpc.method_handlers_generic_handler("grpc.testing.TestService", methods)


# The client -------------------------------------------------------------------------------------


class Stub:
    def __init__(self, channel):
        for name, (kind, request, response) in METHODS.items():
            make = getattr(channel, kind)
            setattr(self, name, make(
                f"/grpc.testing.TestService/{name}",
                request_serializer=globals()[request].SerializeToString,
                response_deserializer=globals()[response].FromString,
            ))  # fmt: skip
        for name in ("TestService", "UnimplementedService"):
            setattr(self, name, channel.unary_unary(
                f"/grpc.testing.{name}/UnimplementedCall",
                request_serializer=Empty.SerializeToString,
                response_deserializer=Empty.FromString,
            ))  # fmt: skip


class Requests:
    """What is sent on a stream, one by one, as the test says."""

    def __init__(self):
        self.waiting = queue.Queue()

    def send(self, request):
        self.waiting.put(request)

    def end(self):
        self.waiting.put(None)

    def __iter__(self):
        return iter(self.waiting.get, None)


def large(**more):
    return SimpleRequest(response_size=314_159, payload=Payload(body=bytes(271_828)), **more)


def ask(size, payload=0, **more):
    return StreamingOutputCallRequest(
        response_parameters=[ResponseParameters(size=size, **more)],
        payload=Payload(body=bytes(payload)),
    )


def fails(call):
    try:
        answer = call()
        if hasattr(answer, "__next__"):
            list(answer)
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call went well")


SENT, RECEIVED = (27_182, 8, 1_828, 45_904), (31_415, 9, 2_653, 58_979)
TIMEOUT = 60


def empty_unary(stub):
    assert stub.EmptyCall(Empty(), timeout=TIMEOUT) == Empty()


def large_unary(stub):
    answer = stub.UnaryCall(large(), timeout=TIMEOUT)
    assert answer.payload.body == bytes(314_159)


def client_compressed_unary(stub):
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate, None):
        request = large(expect_compressed=BoolValue(value=compression is not None))
        answer = stub.UnaryCall(request, timeout=TIMEOUT, compression=compression)
        assert len(answer.payload.body) == 314_159


def server_compressed_unary(stub):
    for compressed in (True, False):
        request = large(response_compressed=BoolValue(value=compressed))
        assert len(stub.UnaryCall(request, timeout=TIMEOUT).payload.body) == 314_159


def client_streaming(stub):
    requests = [StreamingInputCallRequest(payload=Payload(body=bytes(size))) for size in SENT]
    answer = stub.StreamingInputCall(iter(requests), timeout=TIMEOUT)
    assert answer.aggregated_payload_size == 74_922


def client_compressed_streaming(stub):
    requests = [
        StreamingInputCallRequest(
            payload=Payload(body=bytes(size)), expect_compressed=BoolValue(value=True)
        )
        for size in (27_182, 45_904)
    ]
    answer = stub.StreamingInputCall(
        iter(requests), timeout=TIMEOUT, compression=grpc.Compression.Gzip
    )
    assert answer.aggregated_payload_size == 73_086


def server_streaming(stub):
    request = StreamingOutputCallRequest(
        response_parameters=[ResponseParameters(size=size) for size in RECEIVED]
    )
    answers = list(stub.StreamingOutputCall(request, timeout=TIMEOUT))
    assert [len(answer.payload.body) for answer in answers] == list(RECEIVED)


def server_compressed_streaming(stub):
    request = ask(31_415, compressed=BoolValue(value=True))
    request.response_parameters.append(ResponseParameters(size=92_653))
    answers = list(stub.StreamingOutputCall(request, timeout=TIMEOUT))
    assert [len(answer.payload.body) for answer in answers] == [31_415, 92_653]


def half_duplex(stub):
    answers = stub.HalfDuplexCall(iter([ask(size) for size in RECEIVED]), timeout=TIMEOUT)
    assert [len(answer.payload.body) for answer in answers] == list(RECEIVED)


def ping_pong(stub):
    requests = Requests()
    answers = stub.FullDuplexCall(iter(requests), timeout=TIMEOUT)
    for sent, received in zip(SENT, RECEIVED):
        requests.send(ask(received, sent))
        assert len(next(answers).payload.body) == received
    requests.end()
    assert list(answers) == [] and answers.code() is grpc.StatusCode.OK


def empty_stream(stub):
    assert list(stub.FullDuplexCall(iter([]), timeout=TIMEOUT)) == []


def cancel_after_begin(stub):
    requests = Requests()
    call = stub.StreamingInputCall.future(iter(requests), timeout=TIMEOUT)
    call.cancel()
    assert call.cancelled() and call.code() is grpc.StatusCode.CANCELLED
    requests.end()


def cancel_after_first_response(stub):
    requests = Requests()
    answers = stub.FullDuplexCall(iter(requests), timeout=TIMEOUT)
    requests.send(ask(31_415, 27_182))
    assert len(next(answers).payload.body) == 31_415
    answers.cancel()
    assert answers.code() is grpc.StatusCode.CANCELLED
    requests.end()


def timeout_on_sleeping_server(stub):
    requests = Requests()
    requests.send(StreamingOutputCallRequest(payload=Payload(body=bytes(27_182))))
    error = fails(lambda: stub.FullDuplexCall(iter(requests), timeout=0.001))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    requests.end()


def check_status(stub, message):
    status = EchoStatus(code=2, message=message)
    request = StreamingOutputCallRequest(response_status=status)
    errors = [
        fails(lambda: stub.UnaryCall(SimpleRequest(response_status=status), timeout=TIMEOUT)),
        fails(lambda: stub.FullDuplexCall(iter([request]), timeout=TIMEOUT)),
    ]
    for error in errors:
        assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN, message)


def status_code_and_message(stub):
    check_status(stub, "test status message")


def special_status_message(stub):
    check_status(stub, "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n")


def unimplemented_method(stub):
    error = fails(lambda: stub.TestService(Empty(), timeout=TIMEOUT))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def unimplemented_service(stub):
    error = fails(lambda: stub.UnimplementedService(Empty(), timeout=TIMEOUT))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def custom_metadata(stub):
    metadata = (
        (ECHO_INITIAL, "test_initial_metadata_value"), (ECHO_TRAILING, b"\xab\xab\xab"),
    )  # fmt: skip
    _, unary = stub.UnaryCall.with_call(large(), timeout=TIMEOUT, metadata=metadata)
    answers = stub.FullDuplexCall(iter([ask(314_159)]), timeout=TIMEOUT, metadata=metadata)
    assert len(list(answers)) == 1
    for call in (unary, answers):
        assert dict(call.initial_metadata())[ECHO_INITIAL] == "test_initial_metadata_value"
        assert dict(call.trailing_metadata())[ECHO_TRAILING] == b"\xab\xab\xab"


def concurrent_large_unary(stub):
    calls = [stub.UnaryCall.future(large(), timeout=TIMEOUT) for _ in range(50)]
    assert {len(call.result().payload.body) for call in calls} == {314_159}


CASES = [
    empty_unary, large_unary, client_compressed_unary, server_compressed_unary, client_streaming,
    client_compressed_streaming, server_streaming, server_compressed_streaming, half_duplex,
    ping_pong, empty_stream, cancel_after_begin, cancel_after_first_response,
    timeout_on_sleeping_server, status_code_and_message, special_status_message,
    unimplemented_method, unimplemented_service, custom_metadata, concurrent_large_unary,
]  # fmt: skip
