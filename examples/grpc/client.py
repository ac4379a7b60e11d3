"""Calls every kind of method, and says what came of it. Usage: client.py ADDRESS [CA-FILE]"""

import queue
import sys

import grpc

PATIENCE = 20


def channel():
    options = [("grpc.max_receive_message_length", 64 << 20), ("grpc.enable_http_proxy", 0)]
    if len(sys.argv) > 2:
        with open(sys.argv[2], "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        return grpc.secure_channel(sys.argv[1], credentials, options)
    return grpc.insecure_channel(sys.argv[1], options)


def expect(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: found {found!r}, expected {expected!r}")
    print(f"{what}: ok")


def failure(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


def main():
    with channel() as c:
        unary = c.unary_unary("/demo.Greeter/Unary")
        reply, call = unary.with_call(b"hello", timeout=PATIENCE, metadata=(("x-mine-bin", b"\x00"),))
        expect("unary", reply, b"hello")
        expect("status", call.code().name, "OK")
        expect("initial metadata", dict(call.initial_metadata()).get("x-early"), "1")
        late = dict(call.trailing_metadata())
        expect("trailing metadata", (late.get("x-late"), late.get("x-bytes-bin")), ("2", b"\x00\xff"))
        large = bytes(range(256)) * (20 << 12)
        expect("large messages", unary(large, timeout=PATIENCE) == large, True)

        count = c.unary_stream("/demo.Greeter/Count")
        expect("server streaming", list(count(b"500", timeout=PATIENCE)), [str(n).encode() for n in range(500)])
        total = c.stream_unary("/demo.Greeter/Total")
        expect("client streaming", total((str(n).encode() for n in range(500)), timeout=PATIENCE), b"124750")

        # Each question waits for the answer to the one before: both directions flow at once.
        questions = queue.Queue()
        chat = c.stream_stream("/demo.Greeter/Chat")(iter(questions.get, None), timeout=PATIENCE)
        for word in (b"one", b"two", b"three"):
            questions.put(word)
            expect(f"both directions, {word.decode()}", next(chat), word.upper())
        questions.put(None)
        expect("both directions, the end", (list(chat), chat.code().name), ([], "OK"))

        fail = c.unary_unary("/demo.Greeter/Fail")
        expect("error", failure(lambda: fail(b"", timeout=PATIENCE)), ("NOT_FOUND", "no such thing: ä"))
        unknown = c.unary_unary("/demo.Greeter/Nothing")
        expect("no such method", failure(lambda: unknown(b"", timeout=PATIENCE))[0], "UNIMPLEMENTED")

        ended = c.unary_unary("/demo.Greeter/Ended")
        stall = c.unary_unary("/demo.Greeter/Stall")
        expect("deadline", failure(lambda: stall(b"", timeout=0.3))[0], "DEADLINE_EXCEEDED")
        expect("deadline, at the server", ended(b"", timeout=PATIENCE), b"yes")
        endless = c.unary_stream("/demo.Greeter/Endless")(b"", timeout=PATIENCE)
        expect("endless", [next(endless) for _ in range(3)], [b"more"] * 3)
        endless.cancel()
        expect("cancelled", failure(lambda: next(endless))[0], "CANCELLED")
        expect("cancelled, at the server", ended(b"", timeout=PATIENCE), b"yes")
        print("all calls: ok")


if __name__ == "__main__":
    main()
