#!/usr/bin/env bash
# boot.sh ROOTFS WORKDIR [COMIN_BINARY]: starts a machine whose root file system is ROOTFS (see
# rootfs.sh) with its changes kept below WORKDIR, waits until systemd in it has finished booting and
# prints the process id of its init. COMIN_BINARY becomes its /usr/local/bin/comin. The network is
# this machine's. On a WORKDIR that was used before it boots the machine again, its disk as it was
# left (stop.sh is a power cut). A machine that goes down by itself leaves WORKDIR/exit: 0 after
# poweroff, 133 after reboot, which is boot.sh's to do. Exit code 77: this machine cannot do it.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
skip() { echo "$*" >&2; exit 77; }
[ "$(id -u)" = 0 ] || skip "starting a test host needs root"
for tool in systemd-nspawn nsenter; do
    command -v "$tool" >/dev/null || skip "starting a test host needs $tool"
done

usage="usage: boot.sh ROOTFS WORKDIR [COMIN_BINARY]"
rootfs=$(realpath "${1:?$usage}")
mkdir -p "${2:?$usage}"
work=$(realpath "$2")
binary=${3:-}

"$here/stop.sh" "$work"
booted=
trap '[ -n "$booted" ] || "$here/stop.sh" "$work"' EXIT

# ---- the disk
"$here/disk.sh" "$rootfs" "$work"
root=$work/root
install -m 755 "$here/stage-2" "$root/usr/local/sbin/stage-2"
[ -z "$binary" ] || install -m 755 "$binary" "$root/usr/local/bin/comin"
# The daemon of Nix, as NixOS has it.
for unit in nix-daemon.socket nix-daemon.service; do
    install -m 644 "$here/$unit" "$root/etc/systemd/system/$unit"
done
mkdir -p "$root/etc/systemd/system/sockets.target.wants"
ln -sf ../nix-daemon.socket "$root/etc/systemd/system/sockets.target.wants/"

# ---- the machine
# nspawn calls its cgroup "payload" whoever asks: two machines of one test run would share it. So
# each gets a parent of its own, from systemd where that rules the cgroups, else by hand.
name=comin-test-$(cksum <<<"$work" | cut -d ' ' -f 1)
scope=()
if [ -d /run/systemd/system ]; then
    scope=(systemd-run --quiet --scope --collect --property=Delegate=yes --unit="$name" --)
else
    for top in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
        [ -e "$top/cgroup.procs" ] || continue
        mkdir -p "$top/$name" 2>/dev/null || skip "starting a test host needs a writable $top"
        echo "$top/$name" >>"$work/cgroups"
    done
fi
nspawn() {
    local cgroup
    while read -r cgroup; do echo "$BASHPID" >"$cgroup/cgroup.procs"; done \
        < <(cat "$work/cgroups" 2>/dev/null)
    # NixOS has cgroup v2 alone, and systemd since 258 accepts nothing else.
    export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
    # Not --boot: that would start systemd without stage 2 before it.
    exec "${scope[@]}" systemd-nspawn --quiet --directory="$root" --machine="$name" --hostname=machine \
        --register=no --keep-unit --settings=no --link-journal=no --resolv-conf=off --timezone=off \
        --console=pipe --kill-signal=SIGRTMIN+3 /usr/local/sbin/stage-2
}
{
    nspawn &
    echo $! >"$work/nspawn.pid"
    code=0
    wait $! || code=$?
    echo "$code" >"$work/exit"
} </dev/null >"$work/console" 2>&1 &
until nspawn=$(cat "$work/nspawn.pid" 2>/dev/null) && [ -n "$nspawn" ]; do sleep 0.01; done

# Which of nspawn's children is the machine's init, once it can be asked. (Others are helpers, which
# still see the systemd of this machine.)
find_init() {
    local children child
    read -r -a children 2>/dev/null <"/proc/$nspawn/task/$nspawn/children" || : # ends without a newline
    for child in "${children[@]}"; do
        grep -qE '^NSpid:.*[[:space:]]1$' "/proc/$child/status" 2>/dev/null || continue
        [ ! -S "/proc/$child/root/run/systemd/private" ] || echo "$child"
    done
}
# A machine that goes down stops whoever is in it, and nsenter with that, for good: hence the timeout.
# Before its init listens there is nothing to wait on but the clock; from then on systemctl waits.
deadline=$((SECONDS + 180))
until
    init=$(find_init)
    state=
    [ -z "$init" ] || state=$(timeout --signal=KILL 5 nsenter -t "$init" -a systemctl is-system-running --wait 2>/dev/null) || :
    [ "$state" = running ] || [ "$state" = degraded ]
do
    # It has come up, and goes down by itself already.
    [ "$state" != stopping ] && [ "$(cat "$work/exit" 2>/dev/null)" != 133 ] || break
    if ! kill -0 "$nspawn" 2>/dev/null; then
        # How it ended is written right after it has ended.
        until [ -s "$work/exit" ] || [ "$SECONDS" -ge "$deadline" ]; do sleep 0.01; done
        [ "$(cat "$work/exit" 2>/dev/null)" != 133 ] || break
        deadline=$SECONDS
    fi
    if [ "$SECONDS" -ge "$deadline" ]; then
        tail -n 20 "$work/console" >&2
        ! grep -qiE 'not permitted|permission denied|read-only file system' "$work/console" ||
            skip "systemd-nspawn is not allowed to start a test host here"
        echo "the test host did not start, see $work/console" >&2
        exit 1
    fi
    sleep 0.01
done
[ "$state" != degraded ] ||
    echo "failed in the test host: $(nsenter -t "$init" -a systemctl list-units --failed --plain --no-legend)" >&2
booted=yes
echo "${init:-0}" | tee "$work/init.pid"
