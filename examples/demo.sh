#!/usr/bin/env bash
# probegate with a small app built in, and the commands to try. Needs Rust and a C compiler; installs cmake where it is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=.ci/need.sh
. .ci/need.sh
need cmake:cmake cc:build-essential
exec cargo run --release --locked -p probegate -- demo "$@"
