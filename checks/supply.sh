#!/usr/bin/env bash
# What comes in with the crate, and what goes out: dependencies, the package, the oldest dependencies it says it works with,
# and whether the API still is what the last release promised. Says what it had to skip.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/supply}
mkdir -p "$CARGO_TARGET_DIR"
CARGO_TARGET_DIR=$(cd "$CARGO_TARGET_DIR" && pwd)

step() { printf '\n== %s\n' "$*"; }
skipped() { echo "skipped: $*"; }
failed() { echo "failed: $*" >&2; exit 1; }

step "dependencies: licences, sources, duplicates, advisories"
if cargo deny --version >/dev/null 2>&1; then
    cargo deny check licenses sources bans
    if cargo deny fetch db >/dev/null 2>&1; then
        cargo deny check --disable-fetch advisories
    else
        skipped "the database of advisories cannot be had here"
    fi
else
    skipped "there is no cargo-deny here (cargo install cargo-deny --locked)"
fi

step "the package"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cargo package --package subrosa --allow-dirty --list >"$folder/files"
if grep -E '^(\.ci|benches|checks|examples/(browser|postgres)|tests)/|^deny\.toml$' "$folder/files"; then
    failed "these files are for who works on the crate"
fi
for file in README.md LICENSE-MIT LICENSE-APACHE SECURITY.md docs/protocol.md docs/spqr.md docs/client.md src/lib.rs \
    examples/conversation.rs; do
    grep -qx "$file" "$folder/files" || failed "$file is missing"
done
cargo package --quiet --package subrosa --allow-dirty --no-verify
package=$(ls -t "$CARGO_TARGET_DIR"/package/subrosa-*.crate | head -n 1)
echo "$(wc -l <"$folder/files") files, $(du -k "$package" | cut -f 1) KiB"

# In the package as it is unpacked, which says too that nothing it needs was left out of it.
step "the oldest dependencies that Cargo.toml allows"
tar -xzf "$package" -C "$folder"
(
    cd "$folder"/subrosa-*/
    RUSTC_BOOTSTRAP=1 cargo update --quiet -Z minimal-versions
    for features in --all-features --no-default-features; do
        echo "cargo check $features"
        CARGO_TARGET_DIR=$CARGO_TARGET_DIR/oldest cargo check --quiet --locked "$features"
    done
)

step "the API since the last release"
if ! tag=$(git describe --tags --abbrev=0 2>/dev/null); then
    skipped "there is no release yet"
elif cargo semver-checks --version >/dev/null 2>&1; then
    cargo semver-checks --baseline-rev "$tag"
else
    skipped "there is no cargo-semver-checks here (cargo install cargo-semver-checks --locked)"
fi
