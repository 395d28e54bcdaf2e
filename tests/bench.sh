#!/usr/bin/env bash
# bench.sh [ROUNDS]: what comin costs, beside git, in one run on this machine; prints a table of ratios.
#
#   COMIN_BIN   a built comin; by default the release build is made from here
set -euo pipefail

tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=setup.sh
. "$tests/setup.sh" bench
if [ -z "${COMIN_BIN:-}" ]; then
    # shellcheck source=setup.sh
    . "$tests/setup.sh" build
    cargo build --release --locked --quiet --manifest-path "$tests/../Cargo.toml"
    COMIN_BIN=${CARGO_TARGET_DIR:-$tests/../target}/release/comin
fi
exec python3 "$tests/bench.py" "$(realpath "$COMIN_BIN")" "${1:-200}"
