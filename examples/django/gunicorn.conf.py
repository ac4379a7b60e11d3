"""How gunicorn runs behind the gateway. Everything may be overridden on its command line."""

import os

wsgi_app = "config.wsgi"
bind = os.environ.get("GUNICORN_BIND", "unix:/tmp/probegate-django/gunicorn.sock")
# The socket is the door to the app: only this user, and so only a gateway of the same user, may open it.
umask = 0o077

workers = int(os.environ.get("WEB_CONCURRENCY", 2 * len(os.sched_getaffinity(0)) + 1))
# Threads, not the default worker: it closes every connection after one answer, so each request through the gateway would pay
# for a new one, and a slow page would hold a whole process.
worker_class = "gthread"
threads = 2
# Longer than the gateway keeps an unused connection (idle_timeout, 1500ms by default): it never sends a request into a
# connection that gunicorn is about to close.
keepalive = 5

# A worker that leaks is replaced; the jitter keeps them from being replaced all at once.
max_requests = 1000
max_requests_jitter = 200

timeout = 30
graceful_timeout = 30  # as long as the gateway waits for requests in flight (shutdown.drain)
worker_tmp_dir = "/dev/shm"  # heartbeats must not wait for a disk

# Whose X-Forwarded-Proto sets the scheme: a Unix socket's peer always, over TCP only the gateway's address.
forwarded_allow_ips = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1,::1")
# No control socket below the home folder: nothing here uses it, and in a container there is nowhere to put it.
control_socket_disable = True
