#!/usr/bin/env bash
# run.sh RESULT: builds module/package.nix as nixpkgs does: by Nix in its sandbox, so from the files that the
# package takes, by an unprivileged user, without a network, a home or time zones, and with the tools
# that the package names. Its tests run there, too. RESULT becomes a link to the package.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
result=$(realpath --no-symlinks "${1:?usage: run.sh RESULT}")
# shellcheck source=../setup.sh
. "$here/../setup.sh" build sign nix

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# What Nix's sandbox has beside the store. Libraries and headers have their places compiled into the compilers.
sandbox=(
    /bin/sh="$(type -P bash)" /packages="$tmp/packages" /vendor="$tmp/vendor"
    /lib /lib64? /usr/lib /usr/include /usr/share/git-core
)
# package NAME COMMAND…: the commands that nixpkgs' package of this name puts on PATH.
package() {
    local command folder=$tmp/packages/$1/bin
    mkdir -p "$folder"
    for command in "${@:2}"; do cp --dereference "$(type -P "$command")" "$folder/$command"; done
}
# in_place NAME FILE…: the same for commands that find their other files only from where they are.
in_place() {
    local file folder=$tmp/packages/$1/bin
    mkdir -p "$folder"
    for file in "${@:2}"; do
        ln -s "$(realpath "$file")" "$folder/${file##*/}"
        sandbox+=("$(realpath "$file")")
    done
}
mapfile -t coreutils < <(dpkg -L coreutils | sed -n 's|^\(/usr\)\?/bin/||p')
package stdenv bash sh "${coreutils[@]}" find xargs diff cmp sed grep awk tar gzip as ld ar ranlib strip
in_place stdenv "$(type -P cc)" "$(type -P gcc)"
rust=$(realpath "$(rustc --print sysroot)")
in_place rust "$rust/bin/cargo" "$rust/bin/rustc"
sandbox+=("$rust/lib")
package pkg-config pkg-config
package gitMinimal git git-upload-pack git-receive-pack git-upload-archive
in_place gnupg "$(type -P gpg)" "$(type -P gpg-agent)" "$(type -P gpgconf)" "$(type -P gpg-connect-agent)"
package openssh ssh ssh-add ssh-agent ssh-keygen ssh-keyscan scp

cargo vendor --quiet --locked --manifest-path "$here/../../Cargo.toml" "$tmp/vendor" >/dev/null

export NIX_CONFIG="build-users-group =
substitute = false
sandbox = true
sandbox-fallback = false
sandbox-paths = ${sandbox[*]}"
nix-build "$here" --argstr rust "$(rustc --version --verbose)" --out-link "$result"
