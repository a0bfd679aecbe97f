#!/usr/bin/env bash
# Builds the page: the crate as WebAssembly, and the JavaScript around it.
#   examples/browser/build.sh [FOLDER]    (target/page, if it is not said)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
mkdir -p "${1:-$root/target/page}"
page=$(cd "${1:-$root/target/page}" && pwd)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
mkdir -p "$CARGO_TARGET_DIR"
CARGO_TARGET_DIR=$(cd "$CARGO_TARGET_DIR" && pwd)
cd "$here"
source ../../checks/platforms.sh
export CARGO_TERM_COLOR=never

# What a worker of a call has is another program, without the client.
cargo_for "$WEB" std,panic_abort build --locked --package subrosa-browser --package subrosa-media --profile web --lib
rm -rf "$page/pkg"
built=$CARGO_TARGET_DIR/$WEB/web
cargo run --locked --package bindgen -- "$page/pkg" "$built/subrosa_browser.wasm" "$built/subrosa_media.wasm"
for name in browser media; do
    wasm=$page/pkg/subrosa_${name}_bg.wasm
    echo "$name: $(wc -c <"$wasm") bytes, $(gzip -9c "$wasm" | wc -c) gzipped"
done
cp index.html style.css ./*.js "$page"
