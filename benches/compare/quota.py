"""A bound on the processor time of a peer, so that it is the bottleneck and not what asks it: a control group with a quota.

Both kinds of groups are known, of which a system has one for the processor: version 2 (`cpu.max`) and version 1 (`cpu.cfs_quota_us`). Made here, used by
what was started here, and removed. Only root may, and a container often lets nobody.
"""

import contextlib
import os
import pathlib
import time

NAME = "probegate-bench-"


class Group:
    """Room for a peer that may have so many cores' time within each period."""

    def __init__(self, name, cores, period_us):
        root, self.unified = hierarchy()
        self.cores = cores
        self.folder = root / f"{NAME}{os.getpid()}-{name}"
        remove_left(root)
        if self.unified and "cpu" not in (root / "cgroup.subtree_control").read_text().split():
            (root / "cgroup.subtree_control").write_text("+cpu")
        self.folder.mkdir()
        try:
            quota_us = round(cores * period_us)
            if self.unified:
                (self.folder / "cpu.max").write_text(f"{quota_us} {period_us}")
            else:
                (self.folder / "cpu.cfs_period_us").write_text(str(period_us))
                (self.folder / "cpu.cfs_quota_us").write_text(str(quota_us))
        except OSError:
            self.folder.rmdir()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # What ended a moment ago may still be counted among those within.
        for _ in range(100):
            try:
                return self.folder.rmdir()
            except OSError:
                time.sleep(0.05)

    def entering(self):
        """What a command is started by, so that it and its children are within."""
        return ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(self.folder / "cgroup.procs")]

    def throttled(self):
        """Periods so far, and those in which it wanted more than it may have."""
        fields = dict(line.split() for line in (self.folder / "cpu.stat").read_text().splitlines())
        return int(fields["nr_periods"]), int(fields["nr_throttled"])


def hierarchy():
    """Where groups for the processor are made, and whether of version 2. OSError where there are none."""
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup" and "cpu" in options.split(","):
            return pathlib.Path(place), False
        if kind == "cgroup2" and "cpu" in (pathlib.Path(place) / "cgroup.controllers").read_text().split():
            return pathlib.Path(place), True
    raise OSError("no control groups for the processor")


def remove_left(root):
    """Groups of runs that were killed. One that somebody is in can not be removed."""
    for folder in root.glob(f"{NAME}*"):
        if not pathlib.Path("/proc", folder.name[len(NAME) :].partition("-")[0]).exists():
            with contextlib.suppress(OSError):
                folder.rmdir()


def why_not():
    """Why no peer can be bounded on this system; None where it can."""
    try:
        with Group("try", 0.5, 10000) as group:
            group.throttled()
    except (OSError, KeyError, ValueError) as problem:
        return str(problem)
    return None
