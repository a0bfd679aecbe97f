#!/usr/bin/env bash
# Fuzzes every target for so many seconds each (30), or those that are named: run.sh [SECONDS [TARGET..]]
#
# Where there is a C++ compiler, libFuzzer guides it by coverage, on stable Rust; else, or with GUIDED=no, `mutate` changes the corpus blindly. The
# corpus is replayed first. JOBS targets run at once, or as many as there are cores; with SEED they do the same again. What fails is kept in artifacts/, and ends this with an error
# once the others are done.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
export seconds=${1:-30}
shift $(($# > 0))
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target} RUST_BACKTRACE=${RUST_BACKTRACE:-0}
targets=("$@")
((${#targets[@]})) || targets=($(cd fuzz_targets && ls ./*.rs | sed 's|./||; s|\.rs$||'))
export guided=${GUIDED:-$(command -v "${CXX:-c++}" >/dev/null && echo yes || echo no)}

if [ "$guided" = yes ]; then
    RUSTC_WRAPPER=$PWD/instrument.sh cargo build --quiet --locked --profile guided --features libfuzzer \
        "${targets[@]/#/--bin=}"
else
    cargo build --quiet --locked --profile fuzz --bin mutate
fi

fuzz() {
    local target=$1 log=$CARGO_TARGET_DIR/found/$1.log
    # What is found goes to a folder that nobody commits.
    local found=$CARGO_TARGET_DIR/found/$target
    mkdir -p "artifacts/$target" "$found"
    if [ "$guided" = yes ]; then
        # With a corpus the fuzzer replays it before it begins.
        set -- "$CARGO_TARGET_DIR/guided/$target" "$found" "corpus/$target" -max_total_time="$seconds" -max_len=16384 -len_control=0 \
            -keep_seed=1 -seed="${SEED:-0}" -timeout=25 -print_final_stats=1 -artifact_prefix="artifacts/$target/"
    else
        set -- "$CARGO_TARGET_DIR/fuzz/mutate" "$target" "corpus/$target" "$seconds"
    fi
    if ! "$@" >"$log" 2>&1; then
        { grep -A 3 -E "panicked at|ERROR: libFuzzer" "$log" || tail -n 20 "$log"; } | sed "s/^/$target: /" >&2
        echo "$target failed: see artifacts/$target" >&2
        return 1
    fi
    if [ "$guided" = yes ]; then
        awk -v target="$target" '/ cov: / { edges = $4 } /number_of_executed_units/ { runs = $2 }
            END { printf "%-13s %9d executions, %5d edges covered\n", target, runs, edges }' "$log"
    else
        tail -n 1 "$log"
    fi
}
export -f fuzz
printf '%s\n' "${targets[@]}" | xargs -P "${JOBS:-$(nproc)}" -I {} bash -c 'fuzz {}'
