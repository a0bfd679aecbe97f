#!/usr/bin/env bash
# Builds the page and has two people chat in it, in a headless Chromium.
#   examples/browser/test.sh [FOLDER FOR SCREENSHOTS] [SEED]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=$(cd "$here/../.." && pwd)/target
screenshots=${1:-$target/screenshots}

skip() { echo "skipped: $*"; exit 0; }
found() { command -v chromium google-chrome chrome 2>/dev/null | head -n 1; }

wanted=()
command -v node >/dev/null || wanted+=(nodejs)
[ -n "$(found)" ] || wanted+=(chromium)
command -v chromedriver >/dev/null || wanted+=(chromium-driver)
if [ ${#wanted[@]} != 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends "${wanted[@]}"; } || true
fi
command -v node >/dev/null || skip "there is no node here (Debian: apt-get install nodejs)"
[ -n "$(found)" ] && command -v chromedriver >/dev/null ||
    skip "there is no Chromium here (Debian: apt-get install chromium chromium-driver)"
code=0
"$here/build.sh" "$target/page" || code=$?
[ "$code" != 77 ] || exit 0
[ "$code" = 0 ] || exit "$code"
CHROMIUM=$(found) CHROMEDRIVER=$(command -v chromedriver) node "$here/test.mjs" "$target/page" "$screenshots" ${2:+"$2"}
