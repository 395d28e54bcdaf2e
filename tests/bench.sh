#!/usr/bin/env bash
# bench.sh [ROUNDS]: what comin costs, beside git, in one run on this machine; prints a table of ratios.
# bench.sh crowd [MACHINES]: what so many machines that poll one server cost that; prints a table.
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
COMIN_BIN=$(realpath "$COMIN_BIN")
case ${1:-} in
    crowd) exec python3 -B "$tests/crowd.py" "$COMIN_BIN" "${2:-1000}" ;;
    *) exec python3 -B "$tests/bench.py" "$COMIN_BIN" "${1:-200}" ;;
esac
