#!/usr/bin/env bash
# bench.sh [ROUNDS]: what comin costs, beside git, in one run on this machine; prints a table of ratios.
# bench.sh crowd [MACHINES]: what so many machines that poll one server cost that; prints a table.
# bench.sh fleet [MACHINES [HOSTS]]: what one push costs so many machines whose systems CI builds, their Git server and
#   their cache, if the note names so many hosts; prints a table. COMIN_FLAKE=PATH#HOST evaluates a system of yours for comparison.
# bench.sh machine: what an idle machine and one start cost, all processes and systemd included; prints two tables after
#   about 13 minutes.
#
#   COMIN_BIN   a built comin; by default the release build is made from here
#   COMIN_GO    a built Go comin, which `machine` measures as well
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
    machine)
        # shellcheck source=setup.sh
        . "$tests/setup.sh" build host
        export COMIN_BIN
        exec cargo test --locked --quiet --manifest-path "$tests/../Cargo.toml" --test host -- \
            --ignored --test-threads=1 --nocapture costs::
        ;;
    fleet) exec python3 -B "$tests/fleet.py" "$COMIN_BIN" "${2:-1000}" "${3:-${2:-1000}}" ;;
    crowd) exec python3 -B "$tests/crowd.py" "$COMIN_BIN" "${2:-1000}" ;;
    *) exec python3 -B "$tests/bench.py" "$COMIN_BIN" "${1:-200}" ;;
esac
