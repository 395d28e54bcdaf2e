#!/usr/bin/env bash
# The tests, all of them, on a Debian machine that has nothing prepared: formatting, lints, unit tests,
# cycles below a scratch root on real Git and real Nix, whole machines with a real systemd, all of these
# again with today's newest tools, the NixOS module, the package, the demo.
# What a missing tool skips is said; with CI=true it is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

# Sourced: it may have to put a Rust toolchain on PATH.
. tests/setup.sh build sign nix
# Where these cannot be had, the tests that need them say so and are skipped.
. tests/setup.sh manual servers metrics limits desktop host || [ -z "${CI:-}" ]

passed=0 failed=0 skipped=0
work=$(mktemp -d)
log=$work/log
trap 'rm -rf "$work"' EXIT

# check NAME COMMAND…: one test, which passes if the command does.
check() {
    local name=$1
    shift
    echo "== $name"
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

# counted COMMAND…: many tests, whose closing lines are added up.
counted() {
    echo "== $*"
    local status=0 before=$failed
    "$@" 2>&1 | tee "$log" || status=$?
    passed=$((passed + $(sum passed))) failed=$((failed + $(sum failed)))
    skipped=$((skipped + $(grep -c '^skipped: ' "$log" || true)))
    # One that ends before it has counted has failed as well.
    if [ "$status" != 0 ] && [ "$failed" = "$before" ]; then failed=$((failed + 1)); fi
}
sum() {
    grep -E '^test result: |^[0-9]+ passed, ' "$log" | grep -oE "[0-9]+ $1" | awk '{ n += $1 } END { print n + 0 }'
}

check "formatting" cargo fmt --check
check "lints" cargo clippy --locked --all-targets -- --deny warnings
counted cargo test --locked

# GnuPG, Nix, Git, OpenSSH, systemd … of Debian sid.
if COMIN_NEWEST_ROOT=$(tests/host/rootfs.sh sid); then
    export COMIN_NEWEST_ROOT
    counted tests/newest.sh "$COMIN_NEWEST_ROOT"
    counted env COMIN_TEST_SUITE=sid COMIN_IDLE_SECONDS=10 cargo test --locked --test host
elif [ -n "${CI:-}" ]; then
    failed=$((failed + 1))
else
    echo "skipped: all tests with the newest tools"
    skipped=$((skipped + 1))
fi

counted tests/module/run.sh
counted tests/module/flake.sh
check "package" tests/package/run.sh "$work/package"
export COMIN_BIN=$work/package/bin/comin
check "demo" tests/demo.sh
# Not to measure: each runs to its end.
check "bench, a crowd" tests/bench.sh crowd 3
mkdir "$work/flake"
echo '{ outputs = _: { nixosConfigurations.laptop.config.system.build.toplevel.drvPath = "a"; }; }' >"$work/flake/flake.nix"
check "bench, a fleet" env COMIN_FLAKE="path:$work/flake#laptop" tests/bench.sh fleet 3

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
