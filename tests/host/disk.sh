#!/usr/bin/env bash
# disk.sh ROOTFS WORKDIR: makes WORKDIR/root a copy of ROOTFS (see rootfs.sh) that can be changed: mounted
# over it, or copied if nothing can be mounted there. stop.sh unmounts it. Called again on the same
# WORKDIR, it brings back what was changed.
set -euo pipefail

rootfs=${1:?usage: disk.sh ROOTFS WORKDIR}
work=${2:?usage: disk.sh ROOTFS WORKDIR}
root=$work/root
mkdir -p "$work/upper" "$work/overlay" "$root"
if [ ! -e "$work/copied" ] && ! mount -t overlay comin-test-host \
    -o "lowerdir=$rootfs,upperdir=$work/upper,workdir=$work/overlay" "$root" 2>"$work/mount.log"; then
    # For instance where WORKDIR lies on an overlay itself.
    cp -a --reflink=auto "$rootfs/." "$root/"
    touch "$work/copied"
fi
