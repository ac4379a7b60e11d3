#!/bin/sh
# Two releases behind a gateway, a good switch, and one to a release that is broken. Needs python3, curl and probegate in PATH (or PROBEGATE=…).
set -eu
cd "$(dirname "$0")"
probegate=${PROBEGATE:-probegate}
storage=$(mktemp -d)
pids=
trap 'kill $pids 2>/dev/null; rm -rf "$storage"' EXIT INT TERM

RELEASE=1.0.0 python3 app.py 8001 & pids="$pids $!"
RELEASE=2.0.0 python3 app.py 8002 & green=$!; pids="$pids $!"
STATE_DIRECTORY=$storage "$probegate" run -c probegate.yaml 2>/dev/null & pids="$pids $!"
for url in 127.0.0.1:8001/healthz 127.0.0.1:8002/healthz 127.0.0.1:8080/healthz; do
    curl -s -o /dev/null --retry 50 --retry-delay 1 --retry-connrefused "http://$url"
done

echo "--- before"; curl -s http://127.0.0.1:8080/
echo "--- a good release"
"$probegate" switch shop green --version 2.0.0 --percent 50 --step 2s --bake 3s
curl -s http://127.0.0.1:8080/
echo "--- back, at once"
"$probegate" switch shop blue --bake 0s
echo "--- a broken one, while somebody asks"
kill "$green"; wait "$green" 2>/dev/null || true
RELEASE=3.0.0 BROKEN=1 python3 app.py 8002 & pids="$pids $!"
curl -s -o /dev/null --retry 50 --retry-delay 1 --retry-connrefused http://127.0.0.1:8002/healthz
(for _ in $(seq 200); do curl -s -o /dev/null -w '%{http_code}\n' http://127.0.0.1:8080/; sleep 0.02; done > "$storage/answers") & asking=$!
"$probegate" switch shop green --version 3.0.0 --bake 30s || echo "exit code $?"
wait "$asking"
echo "--- what the client was answered"; sort "$storage/answers" | uniq -c
