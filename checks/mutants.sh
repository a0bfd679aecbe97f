#!/usr/bin/env bash
# Changes the rooms above the ratchet, one small change at a time, and says which changes no test notices:
#   checks/mutants.sh [SHARD/SHARDS | all] [FILE PATTERN..]
#
# One in 40 changes by default (0/40), since each takes a build and the tests: all of them take a night. Patterns are of files
# (`src/client/trust.rs`, `src/directory/*.rs`); without them, all of these rooms. What was found is in target/mutants.out:
# `missed.txt` has what no test noticed. docs/assurance.md says which of these may stay, and why.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never

shard=${1:-0/40}
shift $(($# > 0))
rooms=("$@")
((${#rooms[@]})) || rooms=(src/client.rs 'src/client/*.rs' src/sesame.rs 'src/sesame/*.rs' src/devices.rs src/link.rs
    src/directory.rs 'src/directory/*.rs' src/content.rs src/reference.rs src/envelope.rs)

if ! cargo mutants --version >/dev/null 2>&1; then
    cargo install --quiet --locked --root target/tools cargo-mutants
    export PATH=$PWD/target/tools/bin:$PATH
fi

# What notices soon. The worlds are few: the longer tests (crash, healing, disorder) come to the same rooms by other ways.
tests=(--lib --test client --test attacks --test order --test directory --test devices)
export SUBROSA_WORLDS=${SUBROSA_WORLDS:-3}

# What shows a value to a person decides nothing.
arguments=(--package subrosa --output target --no-shuffle --timeout "${TIMEOUT:-300}" --jobs "${JOBS:-1}"
    --test-package subrosa,subrosa-tests --exclude-re 'impl (core::)?fmt::|impl (Debug|Display) for|-> &.static str' --cap-lints=true)
[ "$shard" = all ] || arguments+=(--shard "$shard")
for room in "${rooms[@]}"; do arguments+=(--file "$room"); done

code=0
# Nothing incremental is shared with what else is built here.
env -u CARGO_TARGET_DIR cargo mutants "${arguments[@]}" -- "${tests[@]}" || code=$?
# 2: some were missed, and 3: some took too long; both are what this is to find out.
case $code in 0 | 2 | 3) ;; *) exit "$code" ;; esac
printf '%s caught, %s missed, %s took too long, %s did not build\n' \
    $(for kind in caught missed timeout unviable; do wc -l <"target/mutants.out/$kind.txt"; done)
