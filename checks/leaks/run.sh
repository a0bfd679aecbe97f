#!/usr/bin/env bash
# Whether secrets leak, by time or in memory that was freed; and whether that would be noticed, by a
# planted fault for each, or by all of them: run.sh [memory [SEED] | all]
#
# `time` needs Valgrind with its headers, and a C compiler; where they are missing this says so, and
# does the other half.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
export CARGO_TERM_COLOR=never CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}

has_valgrind=no
command -v valgrind >/dev/null && echo '#include <valgrind/memcheck.h>' | cc -E - >/dev/null 2>&1 &&
    has_valgrind=yes

# How it is built: as an app is, but for copies.
how=()

built() { cargo build --quiet --locked --profile leaks "${how[@]}" --features "$1" --bin "$1"; }

check_memory() { built memory && "$CARGO_TARGET_DIR/leaks/memory" "$@"; }

# Whatever depends on a secret is an error, but for what time.supp lists.
check_time() {
    built time && valgrind --quiet --error-exitcode=9 --leak-check=no --error-limit=no \
        --read-inline-info=yes --num-callers=40 --suppressions=time.supp \
        "$CARGO_TARGET_DIR/leaks/time"
}

# A copy of the tree is built in a profile of its own: Cargo tells two trees in one target folder
# apart by the times of their files alone, and would take what it built of a copy for the tree's.
# Each copy has a newer file than the last one. The profile also makes it quicker.
copied() {
    copy=$CARGO_TARGET_DIR/planted
    rm -rf "$copy"
    mkdir -p "$copy"
    tar -C "$root" --exclude=target --exclude=.git --exclude=corpus -cf - . | tar -C "$copy" -xf -
    touch "$copy/src/lib.rs"
    how=(--config 'profile.leaks.package.subrosa-marked.opt-level=1'
        --config 'profile.leaks.package.subrosa-leaks.opt-level=1')
    export CARGO_INCREMENTAL=1
    cd "$copy/checks/leaks"
}

# A copy as it is passes: unplanted CHECK.
unplanted() (
    copied
    "$1" >"$copy/log" 2>&1 || { cat "$copy/log" >&2; exit 1; }
    echo "planted: nothing: passes ${1#check_}"
)

# A fault in a copy: planted CHECK NAME FILE SED-SCRIPT [STORY]. The check must fail, of memory in a
# story whose name has STORY in it; and not because the copy does not build.
planted() (
    local check=$1 name=$2 file=$3 script=$4 story=${5:-}
    copied
    sed -i "$script" "$copy/$file"
    if cmp -s "$root/$file" "$copy/$file"; then
        echo "planted: nothing to change for '$name' in $file" >&2
        exit 1
    fi
    built "${check#check_}" >"$copy/log" 2>&1 || { cat "$copy/log" >&2; exit 1; }
    if "$check" 0 "$story" >"$copy/log" 2>&1; then
        echo "planted: '$name' was not noticed" >&2
        exit 1
    fi
    grep -qE ": [1-9][0-9]* of [0-9]+ blocks|uninitialised" "$copy/log" ||
        { cat "$copy/log" >&2; exit 1; }
    echo "planted: $name: noticed"
)

# What another tree left in this folder.
cargo clean --quiet --profile leaks -p subrosa-marked -p subrosa-marks -p subrosa-leaks
check_memory "${2:-0}"
[ "${1:-}" != memory ] || exit 0
if [ "$has_valgrind" = yes ]; then
    check_time
    echo "time: nothing depends on a secret but what time.supp lists"
else
    echo "time: skipped, there is no Valgrind with headers and a C compiler (Debian: valgrind, gcc)"
fi

unplanted check_memory
planted check_memory "keys are not wiped" src/crypto/secret.rs \
    '/as_mut_slice().zeroize()/d' sessions
if [ "$has_valgrind" = yes ]; then
    unplanted check_time
    planted check_time "secrets compared until they differ" src/crypto/secret.rs \
        's/mark::public(self.0.ct_eq(&other.0).into())/self.0 == other.0/'
fi

[ "${1:-}" = all ] || exit 0
planted check_memory "skipped keys are not wiped" src/ratchet/chain.rs \
    '/self.all.as_flattened_mut().zeroize();/d' skipped
planted check_memory "a stored form that grows" src/at_rest.rs \
    's/Zeroizing::new(Vec::with_capacity(capacity))/Zeroizing::new(Vec::new())/' sessions
planted check_memory "the end of a walk that skips is not wiped" src/ratchet/chain.rs \
    's/take(count).for_each(Zeroize::zeroize)/take(1).for_each(Zeroize::zeroize)/' skipped
planted check_memory "Argon2id's memory is not wiped" src/lock.rs \
    's/Zeroizing::new(vec!\[Block::default(); params.block_count()\])/vec![Block::default(); params.block_count()]/' locks
planted check_memory "content is not wiped" src/client/outbox.rs \
    's/\&Zeroizing::new(content.encode())/\&content.encode()/' sealed
planted check_memory "a log that is not wiped" src/at_rest.rs \
    's/map(Vec::into_flattened).map(T::from)/map(|bytes| T::from(bytes.as_flattened().to_vec()))/' sealed
planted check_memory "a pass that is not wiped" src/content/sealed.rs \
    's/Zeroizing::new(\(.*pass\].concat()\));/\1;/' sealed
planted check_memory "the stack is not wiped" src/crypto/stack.rs 's/ = 2_048;/ = 1;/' clients
planted check_memory "keys of tickets that move" src/ticket.rs \
    's/self.0.iter().skip(old).cloned()/self.0.drain(..).skip(old)/' sealed
[ "$has_valgrind" = yes ] || exit 0
planted check_time "tags compared until they differ" src/crypto/aead.rs \
    's/mark::public(self.tag(encrypted, associated_data).ct_ne(tag).into())/self.tag(encrypted, associated_data) != *tag/'
planted check_time "padding looked for from the end" src/padding.rs 's/if none {/if none || marked {/'
planted check_time "a chain key as an index" src/ratchet/chain.rs \
    's/^pub(crate) fn kdf_ck(chain_key: &Secret<32>) -> Link {/&\n    if chain_key.expose()[0] == 7 { return Link { message_key: chain_key.clone(), next: chain_key.clone() }; }/'
