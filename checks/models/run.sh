#!/usr/bin/env bash
# Tries every case of expected.txt and compares what Verifpal finds with what is expected. Prints a table; the exit code
# is 0 only if there is no difference. `run.sh WORD` tries only the lines of expected.txt that contain WORD.
# VERIFPAL names the program; without it, it is the one that install.sh puts into checks/models/target.
set -euo pipefail
cd "$(dirname "$0")"
limit=300 # seconds for one case
tool=${VERIFPAL:-target/bin/verifpal}
if ! [ -x "$tool" ]; then echo "no $tool: run checks/models/install.sh first" >&2; exit 2; fi
mkdir -p target/cases

# The model $1 as it is in the case with the switches $2.. : see the head of handshake.vp.
with_switches() {
    local model=$1; shift
    awk -v on=" $* " '
        function is_on(name) { return index(on, " " name " ") > 0 }
        {
            line = $0; out = 0
            while (match(line, / \/\/- [a-z0-9_]+$/)) {
                out = out || is_on(substr(line, RSTART + 5)); line = substr(line, 1, RSTART - 1)
            }
            if (match(line, /^\t*\/\/\+ [a-z0-9_]+: /)) {
                name = substr(line, 1, RLENGTH - 2); sub(/^\t*\/\/\+ /, "", name)
                out = out || !is_on(name); line = substr(line, RLENGTH + 1)
            }
            if (!out) print line
        }' "$model.vp"
}

# The queries of the model $1, each named by the value it asks about.
queries() { awk '/^queries\[/ { inside = 1; next } /^\]/ { inside = 0 } inside { print $NF }' "$1.vp"; }

declare -A found_of
total=0 wrong=0 began=$SECONDS
while IFS='|' read -r model sessions switches expected why; do
    read -r model <<<"$model"; read -r sessions <<<"$sessions"
    read -ra switches <<<"$switches"; read -ra expected <<<"$expected"
    if [ "${switches[0]}" = - ]; then switches=(); fi
    if [ "${expected[0]}" = none ]; then expected=(); fi
    note=
    for name in "${switches[@]}"; do
        grep -q "//[+-] $name\b" "$model.vp" || note="no switch $name"
    done

    case_began=$SECONDS
    with_switches "$model" "${switches[@]}" >"target/cases/$model.vp"
    code=$(timeout "$limit" "$tool" verify "target/cases/$model.vp" --sessions "$sessions" --result-code --quiet \
        2>target/cases/error.txt | tail -n 1) || note="no answer: $(tail -n 1 target/cases/error.txt)"
    mapfile -t asked < <(queries "$model")
    failed=()
    if [ "${#code}" -ne $((2 * ${#asked[@]})) ]; then
        note=${note:-"no answer"}
    else
        for i in "${!asked[@]}"; do
            if [ "${code:2*i+1:1}" = 1 ]; then failed+=("${asked[i]}"); fi
        done
    fi

    if [ "${failed[*]-}" != "${expected[*]-}" ]; then note=${note:-"expected to fail: ${expected[*]:-none}"}; fi
    # A planted fault that changes nothing would show that the model cannot see it.
    found_of["$model ${switches[*]-}"]=${failed[*]-}
    if [[ " ${switches[*]-}" == *" fault_"* ]]; then
        sound=("$model")
        for name in "${switches[@]}"; do [[ $name == fault_* ]] || sound+=("$name"); done
        if [ ${#sound[@]} -eq 1 ]; then key="$model "; else key="${sound[*]}"; fi
        if [ -z "${found_of[$key]+set}" ]; then
            if [ $# -eq 0 ]; then note=${note:-"no line before it without the fault"}; fi
        elif [ "${found_of[$key]}" = "${failed[*]-}" ]; then note=${note:-"the fault changes nothing"}; fi
    fi

    total=$((total + 1))
    if [ -n "$note" ]; then wrong=$((wrong + 1)); note="  DIFFERS: $note"; fi
    printf '%-10s %s  %4ds  %-52s fails: %s%s\n' \
        "$model" "$sessions" $((SECONDS - case_began)) "${switches[*]:--}" "${failed[*]:-none}" "$note"
done < <(grep -v -e '^#' -e '^ *$' expected.txt | grep -F -- "${1:-}")

echo "$total cases, $wrong differ, $((SECONDS - began)) s"
[ "$total" -gt 0 ] && [ "$wrong" -eq 0 ]
