"""A gRPC service without generated code: messages are plain bytes. Usage: server.py ADDRESS"""

import sys
import threading
import time
from concurrent import futures

import grpc

cancelled = threading.Semaphore(0)


def unary(request, context):
    context.send_initial_metadata((("x-early", "1"),))
    context.set_trailing_metadata((("x-late", "2"), ("x-bytes-bin", b"\x00\xff")))
    return request


def count(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def total(requests, context):
    return str(sum(int(request) for request in requests)).encode()


def chat(requests, context):
    for request in requests:
        yield request.upper()


def fail(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: ä")


def endless(request, context):
    context.add_callback(cancelled.release)
    while context.is_active():
        yield b"more"
        time.sleep(0.01)


def stall(request, context):
    context.add_callback(cancelled.release)
    while context.is_active():
        time.sleep(0.01)
    return b""


def ended(request, context):
    """Waits until a call has come to its end before it was complete."""
    return b"yes" if cancelled.acquire(timeout=10) else b"no"


SERVICE = grpc.method_handlers_generic_handler(
    "demo.Greeter",
    {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Total": grpc.stream_unary_rpc_method_handler(total),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Endless": grpc.unary_stream_rpc_method_handler(endless),
        "Stall": grpc.unary_unary_rpc_method_handler(stall),
        "Ended": grpc.unary_unary_rpc_method_handler(ended),
    },
)


def main():
    options = [("grpc.max_receive_message_length", 64 << 20)]
    server = grpc.server(futures.ThreadPoolExecutor(16), handlers=(SERVICE,), options=options)
    if not server.add_insecure_port(sys.argv[1]):
        sys.exit("cannot listen on " + sys.argv[1])
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
