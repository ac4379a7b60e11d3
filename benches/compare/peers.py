"""Who is compared: how each is started, and what it is left out of, with the reason."""

import os
import pathlib
import shutil
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# Where the README installs those that come from PyPI.
INSTALLED = ROOT / "target/peers/bin"


@dataclass(frozen=True)
class Peer:
    """One program in front of the app."""

    port: int
    tls_port: int
    program: str
    arguments: tuple[str, ...]  # in the foreground, from the folder that has its configuration; {folder}; {workers}: how many
    version: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    optional: bool = False  # left out where it is not installed
    changes: tuple[tuple[str, str], ...] = ()  # what is written otherwise for a scenario with access logs
    left_out: dict[str, str] = field(default_factory=dict)  # scenario to why
    configuration: str = ""  # the file that has it
    log: str = ""  # the file of its access log
    tls_library: tuple[str, ...] = ()  # what says which one it has
    strict: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)  # each limit of /three to what makes it one that is reached
    more_ports: tuple[int, ...] = ()  # that it opens besides
    no_logs: str = ""  # why it is left out of all scenarios with access logs

    @property
    def ports(self):
        """All that it opens."""
        return (self.port, self.tls_port, *self.more_ports)

    def why_not(self, scenario, logs):
        """Why it takes no part in a scenario, which may be one with access logs; None if it does."""
        return self.left_out.get(scenario) or (self.no_logs if logs else None) or None

    def command(self, workers, folder, binary):
        program = binary if self.program == "probegate" else find(self.program)
        return [program, *(part.format(workers=workers, folder=folder) for part in self.arguments)]

    def settings(self, workers):
        """What its environment has besides this one's."""
        return {name: value.format(workers=workers) for name, value in self.environment.items()}


def find(program):
    """The path of a program; None where it is not installed. Beside the PATH: where a virtual environment of the project has it, and where only root looks."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), str(INSTALLED), "/usr/sbin"]))


def strict_in_nginx(name):
    return ((f"zone={name}:10m rate=1000000r/s", f"zone={name}:10m rate=10r/s"), (f"zone={name} burst=1000000", f"zone={name} burst=10"))


# What a request to /three counts for.
THREE = ("every", "second", "third")
def nginx(name, port):
    """What the two have in common."""
    log = f"{name}.access.log"
    return Peer(
        port,
        port + 10,
        "nginx",
        ("-p", "{folder}", "-c", f"{name}.conf", "-g", "daemon off;"),
        ("-v",),
        configuration=f"{name}.conf",
        log=log,
        changes=(("access_log off;", f"access_log {log} combined buffer=64k flush=1s;"),),
        tls_library=("-V",),
        strict={limit: strict_in_nginx(limit) for limit in THREE},
    )


NO_LIMITS = "its standard build has no limits"
NO_FILES = "it serves no files"
NGINX_ONLY = "what nginx does with `if` and `return` is shown for nginx and probegate alone; `deny` is for all"
ENVOY_BUCKET = "value: {0}}}, {{key: remote_address}}]\n" + 30 * " " + "token_bucket: {{max_tokens: {1}, tokens_per_fill: {1}, fill_interval: 1s}}"
ALL = {
    "nginx": nginx("nginx", 19101),
    "nginx-tuned": nginx("nginx-tuned", 19104),
    "haproxy": Peer(
        19102,
        19112,
        "haproxy",
        ("-f", "haproxy.cfg", "-db"),
        ("-v",),
        configuration="haproxy.cfg",
        tls_library=("-vv",),
        strict={name: ((f"{name}) gt 1000000", f"{name}) gt 10"),) for name in THREE},
        left_out={
            "static": NO_FILES,
            "deny_early": NGINX_ONLY,
            "mem": "it wants two descriptors for each connection that may come, more than many machines let a process have",
            "mem_tls": "it wants two descriptors for each connection that may come, more than many machines let a process have",
        },
        no_logs="it logs to a log server, not to a file",
    ),
    "envoy": Peer(
        19105,
        19115,
        "envoy",
        ("-c", "envoy.yaml", "--concurrency", "{workers}", "--disable-hot-restart", "-l", "error"),
        ("--version",),
        optional=True,
        changes=(
            (
                "access_log: []",
                'access_log: [{name: file, typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: envoy.access.log}}]',
            ),
        ),
        configuration="envoy.yaml",
        log="envoy.access.log",
        strict={name: ((ENVOY_BUCKET.format(name, 1000000), ENVOY_BUCKET.format(name, 10)),) for name in THREE},
        left_out={"static": NO_FILES, "static_log": NO_FILES, "deny_early": NGINX_ONLY},
    ),
    "caddy": Peer(
        19106,
        19116,
        "caddy",
        ("run", "--config", "Caddyfile", "--adapter", "caddyfile"),
        ("version",),
        # What it would keep in the home of whoever starts it.
        environment={"GOMAXPROCS": "{workers}", "XDG_CONFIG_HOME": "caddy", "XDG_DATA_HOME": "caddy"},
        optional=True,
        changes=(("# access log: off", "log {\n\t\toutput file caddy.access.log {\n\t\t\troll_disabled\n\t\t}\n\t\tlevel INFO\n\t}"),),
        configuration="Caddyfile",
        log="caddy.access.log",
        left_out={"limited": NO_LIMITS, "limited_log": NO_LIMITS, "three": NO_LIMITS, "deny_early": NGINX_ONLY},
    ),
    "probegate": Peer(
        19103,
        19113,
        "probegate",
        ("run", "-c", "probegate.yaml"),
        ("--version",),
        more_ports=(19123,),
        configuration="probegate.yaml",
        log="probegate.access.log",
        strict={name: ((f"  {name}: {{key: client_ip, rate: 1000000/s, burst: 1000000}}", f"  {name}: {{key: client_ip, rate: 10/s, burst: 10}}"),) for name in THREE},
        changes=(("access: {format: off}", "access: {format: combined, to: {folder}/probegate.access.log}"),),
    ),
}
# What is written otherwise for more than one worker; those that take the number on their command line are not among them.
WORKERS = (
    ("worker_processes 1;", "worker_processes {workers};"),
    ("workers: 1", "workers: {workers}"),
    ("nbthread 1", "nbthread {workers}"),
)
