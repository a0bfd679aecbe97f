#!/usr/bin/env bash
# Whether secrets leak, by time or in memory that was freed; and whether that would be noticed, by a planted fault for each, or
# by all of them: run.sh [all]
#
# `time` needs Valgrind with its headers, and a C compiler; where they are missing this says so, and does the other half.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
export CARGO_TERM_COLOR=never CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}

has_valgrind=no
command -v valgrind >/dev/null && echo '#include <valgrind/memcheck.h>' | cc -E - >/dev/null 2>&1 && has_valgrind=yes

check_memory() {
    cargo build --quiet --locked --profile leaks --features memory --bin memory
    "$CARGO_TARGET_DIR/leaks/memory"
}

# Whatever depends on a secret is an error, but for what time.supp lists.
check_time() {
    cargo build --quiet --locked --profile leaks --features time --bin time
    valgrind --quiet --error-exitcode=9 --leak-check=no --error-limit=no --read-inline-info=yes --num-callers=40 \
        --suppressions=time.supp "$CARGO_TARGET_DIR/leaks/time"
}

# A copy and the tree share what is built of the dependencies, and cargo tells their own sources apart by their times alone.
clean() { cargo clean --quiet --profile leaks -p subrosa-marked -p subrosa-marks -p subrosa-leaks; }

# A fault in a copy of the tree: planted CHECK NAME FILE SED-SCRIPT. The check must fail, and not because the copy does not build.
planted() {
    local check=$1 name=$2 file=$3 script=$4 copy=$CARGO_TARGET_DIR/planted
    rm -rf "$copy"
    mkdir -p "$copy"
    tar -C "$root" --exclude=target --exclude=.git --exclude=corpus -cf - . | tar -C "$copy" -xf -
    sed -i "$script" "$copy/$file"
    if cmp -s "$root/$file" "$copy/$file"; then
        echo "planted: nothing to change for '$name' in $file" >&2
        return 1
    fi
    cd "$copy/checks/leaks"
    cargo build --quiet --locked --profile leaks --features "${check#check_}" --bin "${check#check_}" 2>"$copy/log" ||
        { cat "$copy/log" >&2; return 1; }
    if ("$check") >"$copy/log" 2>&1; then
        echo "planted: '$name' was not noticed" >&2
        return 1
    fi
    grep -qE ": [1-9][0-9]* of [0-9]+ blocks|uninitialised" "$copy/log" || { cat "$copy/log" >&2; return 1; }
    cd - >/dev/null
    clean
    echo "planted: $name: noticed"
}

clean
check_memory
if [ "$has_valgrind" = yes ]; then
    check_time
    echo "time: nothing depends on a secret but what time.supp lists"
else
    echo "time: skipped, there is no Valgrind with headers and a C compiler (Debian: valgrind, gcc)"
fi

planted check_memory "keys are not wiped" src/crypto/secret.rs '/as_mut_slice().zeroize()/d'
[ "$has_valgrind" = no ] || planted check_time "secrets compared until they differ" src/crypto/secret.rs \
    's/mark::public(self.0.ct_eq(&other.0).into())/self.0 == other.0/'

[ "${1:-}" = all ] || exit 0
planted check_memory "skipped keys are not wiped" src/ratchet/chain.rs '/self.all.as_flattened_mut().zeroize();/d'
planted check_memory "a stored form that grows" src/at_rest.rs 's/Zeroizing::new(Vec::with_capacity(capacity))/Zeroizing::new(Vec::new())/'
planted check_memory "the end of a walk that skips is not wiped" src/ratchet/chain.rs 's/take(count).for_each(Zeroize::zeroize)/take(1).for_each(Zeroize::zeroize)/'
planted check_memory "Argon2id's memory is not wiped" src/lock.rs 's/Zeroizing::new(vec!\[Block::default(); params.block_count()\])/vec![Block::default(); params.block_count()]/'
planted check_memory "content is not wiped" src/client/outbox.rs 's/\&Zeroizing::new(content.encode())/\&content.encode()/'
planted check_memory "a log that is not wiped" src/at_rest.rs 's/map(Vec::into_flattened).map(T::from)/map(|bytes| T::from(bytes.as_flattened().to_vec()))/'
planted check_memory "a pass that is not wiped" src/content/sealed.rs 's/Zeroizing::new(\(.*pass\].concat()\));/\1;/'
planted check_memory "keys of tickets that move" src/ticket.rs 's/self.0.iter().skip(old).cloned()/self.0.drain(..).skip(old)/'
[ "$has_valgrind" = yes ] || exit 0
planted check_time "tags compared until they differ" src/crypto/aead.rs 's/mark::public(self.tag(encrypted, associated_data).ct_ne(tag).into())/self.tag(encrypted, associated_data) != *tag/'
planted check_time "padding looked for from the end" src/padding.rs 's/if none {/if none || marked {/'
planted check_time "a chain key as an index" src/ratchet/chain.rs 's/^pub(crate) fn kdf_ck(chain_key: &Secret<32>) -> Link {/&\n    if chain_key.expose()[0] == 7 { return Link { message_key: chain_key.clone(), next: chain_key.clone() }; }/'
