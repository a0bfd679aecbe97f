#!/usr/bin/env bash
# Two people talk over three servers, and then many do while servers are killed:
#   examples/nats/run.sh [NAME=NUMBER]...        (README.md says which)
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v nats-server >/dev/null; then
    echo "skipped: there is no nats-server here (Debian: apt-get install nats-server)"
    exit 0
fi

cargo build --release --quiet --locked --package subrosa-nats
program=$(realpath "${CARGO_TARGET_DIR:-target}/release/subrosa-nats")
"$program" talk
exec "$program" load "$@"
