#!/usr/bin/env bash
# newest.sh ROOTFS [FILTER…]: runs the unit tests and the tests below a scratch root with the tools of
# ROOTFS, which host/rootfs.sh made of Debian sid. The programs are those that cargo builds here; they run
# in a copy of ROOTFS that goes away afterwards. FILTER is passed to each test program.
set -euo pipefail

rootfs=$(realpath "${1:?usage: newest.sh ROOTFS [FILTER…]}")
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."
checkout=$PWD

# The tests on hosts have a root file system of their own (COMIN_TEST_SUITE).
built=$(cargo test --locked --no-run --bin comin --test scratch --message-format=json)
mapfile -t programs < <(grep -oE '"executable":"[^"]*/deps/[^"]*"' <<<"$built" | cut -d '"' -f 4)
target=$(dirname "$(dirname "$(dirname "${programs[0]}")")")

work=$(mktemp -d)
trap 'tests/host/stop.sh "$work"; rm -rf "$work"' EXIT
tests/host/disk.sh "$rootfs" "$work"
root=$work/root

# Runs a program below $root: with its own processes, which end with it, and this machine's network. Checkout and
# target folder have their places compiled into the programs.
inside() {
    # shellcheck disable=SC2016 # the variables are the other shell's
    unshare --mount --pid --fork --kill-child bash -euc '
        root=$1
        for folder in /dev /sys "$2" "$3"; do
            mkdir -p "$root$folder"
            mount --rbind "$folder" "$root$folder"
        done
        mount -t proc proc "$root/proc"
        exec chroot "$root" env -i -C "$2" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            HOME=/root LC_ALL=C.UTF-8 ${CI:+CI="$CI"} "${@:4}"
    ' inside "$root" "$checkout" "$target" "$@"
}

status=0
for program in "${programs[@]}"; do
    echo "     Running $(basename "$program") with the newest tools"
    inside "$program" "$@" || status=1
done
exit $status
