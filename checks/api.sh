#!/usr/bin/env bash
# Compares the public API with api.txt beside this, so that a change of it is seen in a review:
#   checks/api.sh            compare
#   checks/api.sh --write    write the list anew
# It takes cargo-public-api (cargo install cargo-public-api --locked). The compiler tells its
# documentation as JSON to a nightly version alone, or to RUSTC_BOOTSTRAP.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v cargo-public-api >/dev/null; then
    echo "skipped: there is no cargo-public-api here (cargo install cargo-public-api --locked)"
    exit 0
fi
target=${CARGO_TARGET_DIR:-target}
RUSTC_BOOTSTRAP=1 cargo rustdoc --quiet --locked --package subrosa --lib --all-features -- \
    -Z unstable-options --output-format json
listed=$(cargo-public-api public-api --rustdoc-json "$target/doc/subrosa.json" -sss)
if [ "${1:-}" = --write ]; then
    printf '%s\n' "$listed" >checks/api.txt
else
    diff --unified checks/api.txt <(printf '%s\n' "$listed")
    echo "the public API is as checks/api.txt has it: $(wc -l <checks/api.txt) lines"
fi
