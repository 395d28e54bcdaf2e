#!/usr/bin/env bash
# `nix flake check --no-build` and `nix flake show` of this flake, by the newest Nix and with the stand-in for nixpkgs.
#
#   COMIN_NEWEST_ROOT   the root file system of a Debian sid with Nix
#   COMIN_NIXPKGS       a checkout of nixpkgs' library, or of all of nixpkgs, whose library takes the stand-in's place
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
passed=0 failed=0
finish() {
  echo "$passed passed, $failed failed, ${1:-0} skipped"
  exit $((failed > 0))
}

missing=
[ "$(id -u)" = 0 ] || missing="it needs root"
[ -n "${COMIN_NEWEST_ROOT:-}" ] || missing="COMIN_NEWEST_ROOT is not set"
if [ -n "$missing" ] && [ -n "${CI:-}" ]; then
  echo "not ok the flake by the newest Nix: $missing"
  failed=1
  finish
elif [ -n "$missing" ]; then
  echo "skipped: the flake by the newest Nix: $missing"
  finish 1
fi

# What follows sees the mounts of below, and nobody else does.
if [ "${COMIN_FLAKE_MOUNTS:-}" != own ]; then
  COMIN_FLAKE_MOUNTS=own exec unshare --mount --propagation private "${BASH_SOURCE[0]}"
fi
mount -t proc proc "$COMIN_NEWEST_ROOT/proc"
# The root file system is others' as well: whatever is written goes here.
work=$COMIN_NEWEST_ROOT/tmp
mount -t tmpfs tmpfs "$work"
mkdir "$work/flake"
cp -r "$root"/{Cargo.toml,Cargo.lock,flake.nix,flake.lock,src,module,tests} "$work/flake"
cp -r "$root/tests/module/nixpkgs" "$work/stand-in"

in_root() {
  chroot "$COMIN_NEWEST_ROOT" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/tmp/home LC_ALL=C.UTF-8 \
    nix --extra-experimental-features 'nix-command flakes' --store /tmp/store --offline \
    --option build-users-group '' --option substitute false "$@"
}

# The flake with a nixpkgs, by its name below $work.
check() {
  local nixpkgs=(--override-input nixpkgs "path:/tmp/$1" --no-write-lock-file --all-systems) command
  for command in "check --no-build" show; do
    # shellcheck disable=SC2086 # two words
    if in_root flake $command "${nixpkgs[@]}" path:/tmp/flake >"$work/output" 2>&1; then
      passed=$((passed + 1))
      echo "ok nix flake $command with $1"
    else
      failed=$((failed + 1))
      cat "$work/output"
      echo "not ok nix flake $command with $1"
    fi
  done
}

check stand-in
if [ -n "${COMIN_NIXPKGS:-}" ]; then
  cp -r "$work/stand-in" "$work/real-library"
  rm -r "$work/real-library/lib"
  cp -r "$COMIN_NIXPKGS/lib" "$work/real-library/lib"
  check real-library
fi
finish
