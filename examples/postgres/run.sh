#!/usr/bin/env bash
# Runs the program with a PostgreSQL of its own, which is gone afterwards.
#   examples/postgres/run.sh [WORKERS] [TEXTS OF EACH PEER] [PEERS] [together | apart | cold | groups]
set -euo pipefail
cd "$(dirname "$0")/../.."
workers=${1:-4} texts=${2:-3} peers=${3:-1000} mode=${4:-together}

bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1 || true)
[ -x "$bin/initdb" ] || bin=$(dirname "$(command -v initdb || echo ./initdb)")
if [ ! -x "$bin/initdb" ] || [ ! -x "$bin/pg_ctl" ]; then
    echo "skipped: there is no PostgreSQL here (Debian: apt-get install postgresql)"
    exit 0
fi

cargo build --profile bench --quiet --locked --package subrosa-postgres
program=$(realpath "${CARGO_TARGET_DIR:-target}/release/subrosa-postgres")

folder=$(mktemp -d)
# PostgreSQL does not run as root.
as=()
if [ "$(id -u)" = 0 ]; then
    user=$(id -un postgres 2>/dev/null || echo nobody)
    chown "$user" "$folder"
    as=(setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups env HOME="$folder")
fi
stop() {
    in_folder "$bin/pg_ctl" -D data -m immediate -s stop || true
    rm -rf "$folder"
}
trap stop EXIT

in_folder() { (cd "$folder" && "${as[@]}" "$@"); }
in_folder "$bin/initdb" -D data -U subrosa -A trust -E UTF8 --no-sync >"$folder/initdb.log"
for try in 1 2 3 4 5; do
    port=$((20000 + RANDOM % 20000)) # taken already? then another one
    options="-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories=$folder"
    in_folder "$bin/pg_ctl" -D data -l log -w -s -o "$options" start && break
    [ "$try" != 5 ] || exit 1
done
"$program" "host=127.0.0.1 port=$port user=subrosa dbname=postgres" "$workers" "$texts" "$peers" "$mode"
