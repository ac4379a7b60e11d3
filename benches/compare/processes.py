"""Starting, stopping and observing processes. Only processes started here are signalled, each by its own id."""

import hashlib
import os
import resource
import signal
import socket
import subprocess
import time


class Failed(Exception):
    """A process did not come up."""


def allow_many_files():
    """Thousands of connections in one process; children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
        return True
    except OSError:
        return False


class Process:
    """A server in the foreground, pinned to some cores, with the ports that it opens. It ends with whoever started it, however that ends.

    `within` is what the command is started by, as a group of processes is entered by.
    """

    def __init__(self, name, command, ports, cores, folder, settings=None, within=()):
        for port in ports:
            if is_open(port):
                raise Failed(f"{name}: port {port} is taken")
        self.name, self.log = name, folder / f"{name}.log"
        pinned = [*within, "setpriv", "--pdeathsig", "TERM", "taskset", "-c", cores, *map(str, command)]
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C reaches the harness only, which then stops it.
            self.child = subprocess.Popen(
                pinned, cwd=folder, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **(settings or {})}
            )
        self.pid = self.child.pid
        try:
            self.wait_for(ports)
        except BaseException:
            self.stop()
            raise

    def wait_for(self, ports):
        deadline = time.monotonic() + 20
        for port in ports:
            while not is_open(port):
                if self.child.poll() is not None or time.monotonic() > deadline:
                    raise Failed(f"{self.name} did not open port {port}:\n{self.log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.05)

    def stop(self):
        """SIGTERM; what is left of it after some seconds is killed."""
        if self.child.poll() is not None:
            return
        family = descendants(self.pid)
        self.child.terminate()
        try:
            self.child.wait(8)
        except subprocess.TimeoutExpired:
            for pid in family:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.child.wait(5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def stat_fields(pid):
    """/proc/PID/stat after the command's name, which may hold anything: [0] is the state (field 3 of proc(5))."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()


def descendants(pid):
    """The process and all it started: nginx works in children."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                children.setdefault(int(stat_fields(entry)[1]), []).append(int(entry))
            except OSError:
                pass  # ended meanwhile
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found


def cpu_times(pid):
    """Nanoseconds on a CPU (exact), user seconds and system seconds (in clock ticks) so far."""
    user, system, tick = 0.0, 0.0, os.sysconf("SC_CLK_TCK")
    family = descendants(pid)
    for process in family:
        try:
            fields = stat_fields(process)
            user, system = user + int(fields[11]) / tick, system + int(fields[12]) / tick
        except OSError:
            pass
    return sum(thread_times(family).values()), user, system


def thread_times(family):
    """Nanoseconds on a CPU of each thread of some processes."""
    times = {}
    for process in family:
        try:
            for thread in os.listdir(f"/proc/{process}/task"):
                with open(f"/proc/{process}/task/{thread}/schedstat") as file:
                    times[thread] = int(file.read().split()[0])
        except OSError:
            pass
    return times


def yardstick(core):
    """Microseconds of processor time that a fixed piece of computing takes on a core: how fast the machine is at the moment."""
    before, times = os.sched_getaffinity(0), []
    os.sched_setaffinity(0, {int(core)})
    try:
        for _ in range(3):
            begun = time.thread_time_ns()
            hashlib.pbkdf2_hmac("sha256", b"the same", b"each time", 10000)
            times.append((time.thread_time_ns() - begun) / 1e3)
    finally:
        os.sched_setaffinity(0, before)
    # Interrupts only ever add to it.
    return min(times)


def memory(pid):
    """Resident memory in KiB: all of it, and what is not backed by files."""
    total = {"VmRSS": 0, "RssAnon": 0}
    for process in descendants(pid):
        try:
            with open(f"/proc/{process}/status") as file:
                for line in file:
                    name, _, value = line.partition(":")
                    if name in total:
                        total[name] += int(value.split()[0])
        except OSError:
            pass
    return total["VmRSS"], total["RssAnon"]
