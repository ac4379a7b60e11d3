#!/usr/bin/env bash
# Django under gunicorn behind probegate, in one command: examples/django/run.sh. Ctrl-C ends both.
#
# Needs Rust and a C compiler; what else is missing is installed through apt. Everything it makes lies in target/django/.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"
# shellcheck source=.ci/need.sh
. .ci/need.sh
command -v cargo >/dev/null || { echo "Rust is missing: install it with rustup" >&2; exit 1; }
need cmake:cmake cc:build-essential curl:curl venv:python3-venv

state=$root/target/django
mkdir -p "$state"
chmod 700 "$state"
# Where probegate.yaml looks for the app. In /tmp anybody may have made it first: then it is not ours to use.
socket=/tmp/probegate-django
mkdir -m 700 "$socket" 2>/dev/null || true
if [ ! -d "$socket" ] || [ ! -O "$socket" ] || [ -L "$socket" ]; then
  echo "$socket belongs to somebody else" >&2
  exit 1
fi
venv "$state/venv" -r "$here/requirements.txt"

# A secret of its own for each purpose, kept so that log-ins and tokens survive a restart.
secret() {
  [ -s "$state/$1" ] || (umask 077; head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$state/$1")
  cat "$state/$1"
}
DJANGO_SECRET_KEY=$(secret secret-key)
PROBE_TOKEN=$(secret probe-token)         # what a client shows to the gateway
APP_PROBE_TOKEN=$(secret app-probe-token) # what the gateway shows to the app
DATABASE_URL=sqlite:///$state/db.sqlite3
export DJANGO_SECRET_KEY PROBE_TOKEN APP_PROBE_TOKEN DATABASE_URL

cargo build --release --quiet -p probegate
probegate=${CARGO_TARGET_DIR:-$root/target}/release/probegate

# An answer from another program would look like success below.
if curl -s -o /dev/null http://127.0.0.1:8080/; then
  echo "port 8080 is taken" >&2
  exit 1
fi

cd "$here" # gunicorn reads gunicorn.conf.py where it is started
"$state/venv/bin/python" manage.py migrate --verbosity 0

gateway="" gunicorn=""
# shellcheck disable=SC2317 # called by the traps
stop() { # the gateway first: it finishes its requests while the app still answers
  trap '' INT TERM
  for pid in $gateway $gunicorn; do
    kill -TERM "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# In sessions of their own: Ctrl-C reaches this script only, which then stops them in order.
setsid "$state/venv/bin/gunicorn" --log-level warning &
gunicorn=$!
setsid "$probegate" run -c probegate.yaml &
gateway=$!

for _ in $(seq 100); do
  kill -0 "$gateway" 2>/dev/null || break # it has said why
  if curl -fs -o /dev/null http://127.0.0.1:8080/healthz; then
    cat <<EOF

Django is behind probegate on http://localhost:8080. Try, from the project's folder:

  curl -i http://127.0.0.1:8080/                          200, the page
  curl http://127.0.0.1:8080/whoami                       what Django is told: client_ip 127.0.0.1
  curl -H 'X-Forwarded-For: 10.1.2.3' http://127.0.0.1:8080/whoami
                                                          the same: you are not a trusted proxy
  curl -i http://127.0.0.1:8080/readyz                    200: 127.0.0.1 is internal
  curl -i --interface 127.0.0.9 http://127.0.0.1:8080/readyz
                                                          403: 127.0.0.9 is not
  curl -i --interface 127.0.0.9 -H "X-Probe-Token: \$(cat target/django/probe-token)" http://127.0.0.1:8080/readyz
                                                          200: it has the token
  curl -i http://127.0.0.1:8080/admin/                    404: for the office network only
  for i in \$(seq 200); do curl -so /dev/null -w '%{http_code}\n' http://127.0.0.1:8080/; done | sort | uniq -c
                                                          200, then 429 beyond 20 requests a second
  curl -N 'http://127.0.0.1:8080/stream'                  a line every 200 ms: answers are not held back
  curl http://127.0.0.1:9900/metrics                      the gateway's figures

An account for /admin/ (and put your own address into the office network of examples/django/probegate.yaml first):
  cd examples/django && DATABASE_URL=sqlite:///../../target/django/db.sqlite3 \\
    ../../target/django/venv/bin/python manage.py createsuperuser

EOF
    break
  fi
  sleep 0.1
done

# Whichever ends first ends the other.
status=0
wait -n "$gateway" "$gunicorn" || status=$?
exit $status
