"""Says back what it hears over WebSocket, and prints how each connection closed. Usage: server.py ADDRESS"""

import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

PATIENCE = 20


def echo(socket):
    try:
        for message in socket:
            if message == "ping me":
                # The pong is read by a thread of the connection's own.
                socket.send("answered" if socket.ping("from the app").wait(PATIENCE) else "not answered")
            elif message == "close":
                socket.close(4002, "as asked")
            else:
                socket.send(message)
    except ConnectionClosed:
        # Raised for every code but 1000 and 1001.
        pass
    # Which close frames were received and sent, and in which order.
    print(f"closed: {socket.protocol.close_exc}", flush=True)


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    with serve(echo, host, int(port), max_size=2 << 20) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
