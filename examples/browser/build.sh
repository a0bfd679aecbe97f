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

cargo_for "$WEB" std,panic_abort build --locked --package subrosa-browser --profile web --lib
wasm=$CARGO_TARGET_DIR/$WEB/web/subrosa_browser.wasm
rm -rf "$page/pkg"
cargo run --locked --package bindgen -- "$wasm" "$page/pkg"
cp index.html style.css page.js rooms.js shared.js "$page"

wasm=$page/pkg/subrosa_browser_bg.wasm
echo "wasm: $(wc -c <"$wasm") bytes, $(gzip -9c "$wasm" | wc -c) gzipped"
