#!/usr/bin/env bash
# Builds the crate where there is no operating system: for a bare-metal ARM processor, with `core` and `alloc` alone, and for WebAssembly.
# Where rustup cannot add such a target, Debian's compiler and its sources of the standard library do. Says what it had to skip.
set -euo pipefail

BARE=thumbv7em-none-eabihf
WEB=wasm32-unknown-unknown
DEBIAN=(cargo-web rustc-web rust-web-src lld)

has_rustup() { rustup target list --installed 2>/dev/null | grep -qx "$1" || rustup target add "$1" >/dev/null 2>&1; }

has_debian() {
    dpkg-query -W "${DEBIAN[@]}" >/dev/null 2>&1 && return
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends "${DEBIAN[@]}"; } >&2
}

# cargo_for TARGET CRATES ARGUMENTS..: cargo for a target, with these crates of the standard library. Fails with 77 where it cannot be had.
# SUBROSA_DEBIAN=yes takes Debian's even where rustup has it.
cargo_for() {
    local target=$1 crates=$2 command=$3
    shift 3
    if [ "${SUBROSA_DEBIAN:-no}" = no ] && has_rustup "$target"; then
        cargo "$command" --target "$target" "$@"
    elif has_debian; then
        local rust=(env RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=/usr/bin/wasm-ld)
        "${rust[@]}" /usr/bin/cargo "$command" --target "$target" -Z "build-std=$crates" "$@"
    else
        echo "skipped: there is no Rust for $target here (rustup target add $target; Debian: apt-get install ${DEBIAN[*]})"
        return 77
    fi
}

# With "platforms.sh" sourced, only the above.
[ "${BASH_SOURCE[0]}" = "$0" ] || return 0

cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never

# Nobody runs what this makes.
quick=(--config profile.dev.opt-level=0 --config 'profile.dev.package."*".opt-level=0')

built() {
    printf '\n== %s\n' "$*"
    cargo_for "$@" "${quick[@]}" || [ $? = 77 ]
}

built "$BARE" core,alloc build --locked --no-default-features --lib
# With the browser's generator; that there is a browser, getrandom has to be told.
built "$WEB" std,panic_abort build --locked --no-default-features --features getrandom/wasm_js --lib
