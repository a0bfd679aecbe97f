#!/usr/bin/env bash
# Stands before rustc (RUSTC_WRAPPER): what is measured, and told to the fuzzer, is the coverage of the crate and of the targets, with which its generic
# code is compiled; and not of the primitives, which would be slow and say nothing. All of these are flags of stable Rust.
set -euo pipefail
rustc=$1
shift
case " $* " in
*" --crate-name subrosa "* | *" --crate-name subrosa_fuzz "* | *" --crate-name postcard "*)
    exec "$rustc" "$@" -Ccodegen-units=1 -Cpasses=sancov-module \
        -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
*) exec "$rustc" "$@" ;;
esac
