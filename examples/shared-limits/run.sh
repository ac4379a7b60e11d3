#!/usr/bin/env bash
# Two gateways that share their limits through a Redis of their own, on loopback: see probegate.yaml. Ends with Ctrl-C.
#
#   examples/shared-limits/run.sh [PROBEGATE]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
probegate=${1:-probegate}
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$folder"' EXIT

redis-server --bind 127.0.0.1 --port 6379 --save "" --dir "$folder" --daemonize no >"$folder/redis.log" &
python3 -m http.server --bind 127.0.0.1 --directory "$folder" 8000 2>/dev/null &
for port in 8080 8081; do
  # What differs between the two: where they listen, and where they keep their bans.
  {
    printf 'listeners: [{address: "127.0.0.1:%s"}]\nadmin: {address: "127.0.0.1:%s"}\n' $port $((port + 1900))
    printf 'storage: "%s"\n' "$folder/storage-$port"
    cat probegate.yaml
  } >"$folder/$port.yaml"
  "$probegate" run --config "$folder/$port.yaml" &
done
echo "gateways on 127.0.0.1:8080 and :8081; their metrics on :9980 and :9981" >&2
wait
