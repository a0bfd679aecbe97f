#!/bin/sh
# Installs Verifpal into the folder given, or into checks/models/target, unless it is there already.
set -eu
version=1.6.7
root=${1:-$(cd "$(dirname "$0")" && pwd)/target}
if "$root/bin/verifpal" --version 2>/dev/null | grep -qF "$version"; then exit 0; fi
exec cargo install verifpal --version "$version" --locked --ignore-rust-version --root "$root"
