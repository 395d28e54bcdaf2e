#!/usr/bin/env bash
# rootfs.sh SUITE: prepares a root file system and prints its path: Debian SUITE with a real systemd and
# a real Nix, and the files of NixOS that comin reads outside of a toplevel. Takes one to three minutes
# once, and nothing if it is up to date. Exit code 77: this machine cannot do it.
#
#   trixie   for test hosts
#   sid      the newest tools: for test hosts, and for all other tests (see ../newest.sh); made anew
#            each month
#
#   COMIN_TEST_CACHE   the folder that it is kept in; by default ~/.cache/comin-tests
set -euo pipefail

suite=${1:?usage: rootfs.sh SUITE}
here=$(dirname "${BASH_SOURCE[0]}")
# A folder made by another recipe is made anew.
recipe=$suite
case $suite in
    sid) recipe+=" $(cat "$here/rootfs.sh" "$here/../setup.sh" | sha256sum) $(date +%Y-%m)" ;;
    *) recipe+=" $(sha256sum <"$here/rootfs.sh")" ;;
esac

skip() { echo "$*" >&2; exit 77; }

cache=${COMIN_TEST_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/comin-tests}
mkdir -p "$cache"
dir=$(realpath "$cache")/$suite

# Tests run side by side: the first one builds, the others wait for it.
exec {lock}>"$dir.lock"
flock "$lock"
if [ "$(cat "$dir/.recipe" 2>/dev/null)" = "$recipe" ]; then
    echo "$dir"
    exit
fi

[ "$(id -u)" = 0 ] || skip "preparing a test host needs root"
command -v debootstrap >/dev/null || skip "preparing a test host needs debootstrap"

new=$dir.new
log=$dir.log
rm -rf "$new"
mkdir "$new"
cleanup() {
    ! mountpoint -q "$new/proc" || umount "$new/proc"
    rm -rf "$new"
}
trap cleanup EXIT

# Package downloads go where this machine's own do: its proxy, and its Debian mirror if that one
# has our suite. Elsewhere (Ubuntu, say) debootstrap's default serves.
if command -v apt-config >/dev/null; then
    eval "$(apt-config shell apt_proxy Acquire::http::Proxy)"
    [ -z "${apt_proxy:-}" ] || export http_proxy=$apt_proxy
fi
mirror=${COMIN_TEST_MIRROR:-}
if [ -z "$mirror" ] && command -v apt-get >/dev/null; then
    # shellcheck disable=SC2016 # the fields are apt's
    fields='$(CREATED_BY)|$(RELEASE)|$(COMPONENT)|$(REPO_URI)'
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
    while IFS='|' read -r kind release component uri; do
        [ "$kind|$component" = "Packages|main" ] || continue
        case $release in "$codename" | stable | testing | unstable | sid) ;; *) continue ;; esac
        if /usr/lib/apt/apt-helper download-file "${uri%/}/dists/$suite/InRelease" "$new/InRelease" >"$log" 2>&1; then
            mirror=${uri%/}
            break
        fi
    done < <(apt-get indextargets --format "$fields")
    rm -f "$new/InRelease"
fi

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e "$keyring" ] || skip "preparing a test host needs debian-archive-keyring"

debootstrap --variant=minbase --keyring="$keyring" --include=systemd,systemd-sysv,dbus,ca-certificates \
    "$suite" "$new" ${mirror:+"$mirror"} >"$log" 2>&1 ||
    { tail -n 5 "$log" >&2; skip "debootstrap could not install Debian $suite, see $log"; }

in_root() {
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        ${http_proxy:+http_proxy="$http_proxy"} chroot "$new" "$@" >>"$log" 2>&1 ||
        { tail -n 20 "$log" >&2; echo "failed in the new root: $*, see $log" >&2; exit 1; }
}
# No service starts in a chroot; names resolve as they do outside.
printf '#!/bin/sh\nexit 101\n' >"$new/usr/sbin/policy-rc.d"
chmod +x "$new/usr/sbin/policy-rc.d"
cp /etc/resolv.conf /etc/hosts "$new/etc/"
# A wrong clock or a frozen mirror is not what these tests are about; signatures are still checked.
cat >"$new/etc/apt/apt.conf.d/90test" <<END
Acquire::Check-Valid-Until "false";
Acquire::Check-Date "false";
Acquire::Languages "none";
END
mount -t proc proc "$new/proc"
in_root apt-get update
in_root apt-get install -y --no-install-recommends nix-bin git openssh-client gpg gpg-agent pkexec polkitd
if [ "$suite" = sid ]; then
    # The tools of all other tests.
    cp "$here/../setup.sh" "$new/setup.sh"
    in_root bash /setup.sh sign nix manual servers metrics limits desktop
    rm "$new/setup.sh"
fi
in_root apt-get clean
rm -rf "$new"/var/lib/apt/lists/* "$new"/usr/share/{doc,man,locale,info} "$new/usr/sbin/policy-rc.d"

# ---- Nix: root on the store itself, as comin on NixOS may do; no daemon, no network, no users.
mkdir -p "$new/etc/nix"
cat >"$new/etc/nix/nix.conf" <<END
build-users-group =
substitute = false
sandbox = false
fsync-metadata = false
END
mkdir -p "$new"/nix/{store,var/nix/{profiles,gcroots}}
# As NixOS: what runs and what booted is never collected.
ln -s /run/current-system "$new/nix/var/nix/gcroots/current-system"
ln -s /run/booted-system "$new/nix/var/nix/gcroots/booted-system"
touch "$new/etc/NIXOS"

# ---- systemd: a boot of a second, without anything that acts on its own later.
echo 0123456789abcdef0123456789abcdef >"$new/etc/machine-id"
echo machine >"$new/etc/hostname"
printf '127.0.0.1 localhost machine\n::1 localhost\n' >"$new/etc/hosts"
: >"$new/etc/resolv.conf"
mkdir -p "$new/etc/systemd/journald.conf.d"
# In memory, so that after a reboot only the new boot's lines are there; never drops a line.
printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n' >"$new/etc/systemd/journald.conf.d/test.conf"
in_root systemctl set-default multi-user.target
in_root systemctl mask getty.target console-getty.service systemd-firstboot.service systemd-homed-firstboot.service \
    systemd-networkd.service systemd-networkd.socket systemd-resolved.service systemd-timesyncd.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    systemd-tmpfiles-clean.timer man-db.timer nix-daemon.service nix-daemon.socket
umount "$new/proc"
touch "$new/etc/.updated" "$new/var/.updated"

echo "$recipe" >"$new/.recipe"
rm -rf "$dir"
mv "$new" "$dir"
echo "$dir"
