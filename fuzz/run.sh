#!/usr/bin/env bash
# Fuzzes every target for so many seconds each (30), or those that are named: run.sh [SECONDS [TARGET..]]
#
# Where there is a C++ compiler, libFuzzer guides it by the coverage of the crate, on stable Rust; else, or with GUIDED=no, `mutate` changes the
# corpus blindly. The corpus is replayed first. What fails is kept in artifacts/, and ends this with an error.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-30}
shift $(($# > 0))
target_dir=${CARGO_TARGET_DIR:-$PWD/target}
export CARGO_TARGET_DIR=$target_dir RUST_BACKTRACE=${RUST_BACKTRACE:-0}
targets=("$@")
((${#targets[@]})) || targets=($(cd fuzz_targets && ls ./*.rs | sed 's|./||; s|\.rs$||'))
guided=${GUIDED:-$(command -v "${CXX:-c++}" >/dev/null && echo yes || echo no)}

if [ "$guided" = yes ]; then
    RUSTC_WRAPPER=$PWD/instrument.sh cargo build --quiet --locked --profile guided --features libfuzzer \
        "${targets[@]/#/--bin=}"
else
    cargo build --quiet --locked --release --bin mutate
fi

failed=0
for target in "${targets[@]}"; do
    mkdir -p "artifacts/$target"
    if [ "$guided" = no ]; then
        "$target_dir/release/mutate" "$target" "corpus/$target" "$seconds" || failed=1
        continue
    fi
    # What is found goes to a folder that nobody commits.
    found=$target_dir/found/$target
    mkdir -p "$found"
    log=$target_dir/$target.log
    # With a corpus the fuzzer replays it before it begins.
    if "$target_dir/guided/$target" "$found" "corpus/$target" -max_total_time="$seconds" -max_len=16384 -len_control=0 -keep_seed=1 -timeout=25 \
        -print_final_stats=1 -artifact_prefix="artifacts/$target/" >"$log" 2>&1; then
        awk -v target="$target" '/ cov: / { edges = $4; inputs = $8 } /number_of_executed_units/ { runs = $2 }
            END { printf "%-13s %9d executions, %5d edges covered\n", target, runs, edges }' "$log"
    else
        grep -A 3 -E "panicked at|ERROR: libFuzzer" "$log" || tail -n 20 "$log"
        echo "$target failed: see artifacts/$target" >&2
        failed=1
    fi
done
exit "$failed"
