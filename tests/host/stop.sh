#!/usr/bin/env bash
# stop.sh WORKDIR: cuts the power of the machine that boot.sh started there, if there is one, and
# leaves nothing mounted. Its disk stays: remove WORKDIR afterwards, or boot it again.
set -euo pipefail

work=$(realpath -m "${1:?usage: stop.sh WORKDIR}")

if nspawn=$(cat "$work/nspawn.pid" 2>/dev/null) &&
    # The id may be another process' by now.
    tr '\0' ' ' 2>/dev/null <"/proc/$nspawn/cmdline" | grep -qF -- "--directory=$work/root "; then
    # nspawn tidies up once its init is gone; it is killed itself only where there is no init.
    read -r -a inits 2>/dev/null <"/proc/$nspawn/task/$nspawn/children" || :
    kill -KILL "${inits[@]:-$nspawn}" 2>/dev/null || :
    # Until boot.sh has noted the end, which otherwise would be taken for that of the next boot.
    for limit in 60 10; do
        deadline=$((SECONDS + limit))
        until [ -s "$work/exit" ] || [ "$SECONDS" -ge "$deadline" ]; do sleep 0.01; done
        [ -s "$work/exit" ] || kill -KILL "$nspawn" 2>/dev/null || :
    done
fi

while mountpoint -q "$work/root"; do
    # Lazily if someone still looks into it: the machine is dead, nothing is written any more.
    umount "$work/root" 2>/dev/null || umount --lazy "$work/root"
done

while read -r cgroup; do
    [ ! -d "$cgroup" ] || find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || :
done < <(cat "$work/cgroups" 2>/dev/null)
rm -f "$work"/{nspawn,init}.pid "$work/cgroups" "$work/exit"
