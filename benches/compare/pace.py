#!/usr/bin/env python3
"""Requests at a fixed rate, whatever the answers take: pace.py PORT RATE SECONDS CONNECTIONS < REQUEST. Prints what it counted, as JSON.

Requests come by chance, as those of many users do (Poisson), and in every run at the same moments. The time of an answer is counted from when it was asked for; where
all connections were waiting for answers, from when it was due: nobody is asked less because he is slow.
"""

import collections
import contextlib
import json
import os
import random
import re
import select
import socket
import sys
import time


def main(port, rate, seconds, count):
    request = sys.stdin.buffer.read()
    # Who asks late measures himself. Only root may.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    chance, moment, due = random.Random(1), 0.0, collections.deque()
    while moment < seconds:
        moment += chance.expovariate(rate)
        due.append(moment)
    wanted = len(due)
    poll, free, busy = select.epoll(), collections.deque(), {}
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port), 10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(connection.fileno(), select.EPOLLIN)
        free.append(connection)
    times, late, received_bytes, bad, full_until = [], [], 0, 0, 0.0
    begun = time.monotonic()
    # What was asked late is waited for a moment: an answer that never comes would not be among the slow ones.
    while (due or busy) and time.monotonic() - begun < seconds + 2:
        now = time.monotonic() - begun
        while due and free and due[0] <= now:
            connection = free.popleft()
            moment = due.popleft()
            # Late because all connections were waiting is the peer's; else it is the load's.
            waited = moment < full_until
            late.append(0.0 if waited else now - moment)
            # Since when it counts; what is missing of its answer, and what has come of it.
            busy[connection.fileno()] = [connection, moment if waited else now, None, b""]
            connection.sendall(request)
        # To microseconds, where epoll knows milliseconds.
        wait = due[0] - (time.monotonic() - begun) if due and free else 0.1
        if not select.select([poll], [], [], max(0.0, wait))[0]:
            continue
        for descriptor, _ in poll.poll(0):
            if descriptor not in busy:
                raise SystemExit("a connection ended")
            state = busy[descriptor]
            part = state[0].recv(262144)
            if not part:
                raise SystemExit("a connection ended within an answer")
            received_bytes += len(part)
            if state[2] is None:
                state[3] += part
                head, end, body = state[3].partition(b"\r\n\r\n")
                if not end:
                    continue
                bad += not head.startswith(b"HTTP/1.1 200")
                state[2] = int(re.search(rb"(?i)\ncontent-length: (\d+)", head)[1]) - len(body)
            else:
                state[2] -= len(part)
            if state[2] == 0:
                done = time.monotonic() - begun
                times.append(done - state[1])
                if not free:
                    full_until = done
                free.append(busy.pop(descriptor)[0])
    took = max(seconds, time.monotonic() - begun)

    def percentiles(values, names):
        values.sort()
        return {name: round(values[min(len(values) - 1, int(len(values) * float(name) / 100))] * 1e6) for name in names}

    if not times:
        raise SystemExit("no answer")
    print(
        json.dumps(
            {
                "requests": len(times),
                "bytes": received_bytes,
                "seconds": took,
                "bad": bad,
                "broken": wanted - len(times) - len(due) - len(busy),
                "wanted_rps": rate,
                # Of the generator itself: how long after they were due requests were sent.
                "late_us": percentiles(late, ("99",))["99"],
                **{f"p{name}_us": value for name, value in percentiles(times, ("50", "99", "99.9")).items()},
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
