"""Servers and clients of gRPC for the end-to-end tests, with bytes for messages."""

import concurrent.futures
import queue
import threading

import grpc


def identity(value):
    return value


class Requests:
    """What a client sends on a stream: put one by one, and None for the end."""

    def __init__(self):
        self.queue = queue.SimpleQueue()
        self.put = self.queue.put

    def __iter__(self):
        return iter(self.queue.get, None)


class Server:
    """A server of `test.Service` with a method of each kind, and of Open Inference's."""

    def __init__(self, name="server", credentials=None, options=(), port=0):
        self.name = name
        self.calls, self.metadata, self.cancelled = [], [], threading.Event()
        self.time_left = []
        self.release = threading.Event()
        # A status that every unary call ends with.
        self.fails_with = None
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(32), options=options)
        rpc = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary, identity, identity),
            "Download": grpc.unary_stream_rpc_method_handler(self.download, identity, identity),
            "Upload": grpc.stream_unary_rpc_method_handler(self.upload, identity, identity),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat, identity, identity),
            "Wait": grpc.unary_stream_rpc_method_handler(self.wait, identity, identity),
        }
        inference = {
            method: grpc.unary_unary_rpc_method_handler(self.infer, identity, identity)
            for method in ("ModelInfer", "ModelReady", "ModelMetadata")
        }
        self.server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler("test.Service", rpc),
                grpc.method_handlers_generic_handler("inference.GRPCInferenceService", inference),
            )
        )
        if credentials:
            self.port = self.server.add_secure_port(f"localhost:{port}", credentials)
        else:
            self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.server.start()

    def note(self, request, context):
        self.calls.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        self.time_left.append(context.time_remaining())

    def unary(self, request, context):
        self.note(request, context)
        context.send_initial_metadata((("x-head", "h"), ("x-data-bin", b"\x00\xff")))
        context.set_trailing_metadata((("x-tail", self.name),))
        if self.fails_with:
            context.abort(self.fails_with, "as asked for")
        if request.startswith(b"fail "):
            code = {c.value[0]: c for c in grpc.StatusCode}[int(request[5:])]
            context.abort(code, "bäd: 100 %")
        return request

    def download(self, request, context):
        self.note(request, context)
        for number in range(int(request)):
            yield b"%d" % number

    def upload(self, requests, context):
        count = sum(len(request) for request in requests)
        self.note(b"", context)
        return b"%d" % count

    def chat(self, requests, context):
        self.note(b"", context)
        for request in requests:
            yield request[::-1]

    def wait(self, request, context):
        """One message, and the end when it is released or cancelled."""
        self.note(request, context)
        context.add_callback(self.cancelled.set)
        yield b"begun"
        self.release.wait(60)

    def infer(self, request, context):
        self.note(request, context)
        return b"\x0a" + bytes([len(self.name)]) + self.name.encode()

    def stop(self):
        self.release.set()
        self.server.stop(None).wait()


class Client:
    """A channel through the gateway."""

    def __init__(self, address, credentials=None, options=()):
        if credentials:
            self.channel = grpc.secure_channel(address, credentials, options=options)
        else:
            self.channel = grpc.insecure_channel(address, options=options)

    def method(self, kind, path):
        return getattr(self.channel, kind)(
            path, request_serializer=identity, response_deserializer=identity
        )

    def unary(self, request, path="/test.Service/Unary", **named):
        return self.method("unary_unary", path)(request, **{"timeout": 60, **named})

    def unary_call(self, request, path="/test.Service/Unary", **named):
        return self.method("unary_unary", path).with_call(request, **{"timeout": 60, **named})

    def download(self, request, path="/test.Service/Download", **named):
        return self.method("unary_stream", path)(request, **{"timeout": 60, **named})

    def upload(self, requests, path="/test.Service/Upload", **named):
        return self.method("stream_unary", path)(requests, **{"timeout": 60, **named})

    def chat(self, requests, path="/test.Service/Chat", **named):
        return self.method("stream_stream", path)(requests, **{"timeout": 60, **named})

    def error(self, request, **named):
        """The failure of a unary call, which must fail."""
        try:
            self.unary(request, **named)
        except grpc.RpcError as error:
            return error
        raise AssertionError("the call went well")

    def close(self):
        self.channel.close()


def request(model):
    """A request of Open Inference's that has nothing but its model's name."""
    return b"\x0a" + bytes([len(model)]) + model.encode()
