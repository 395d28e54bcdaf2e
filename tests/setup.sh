#!/usr/bin/env bash
# setup.sh [build|nix|host|bench]…: makes sure that a Debian machine has what building comin, its
# tests on real Nix, its test hosts and its measurements need. Sourced, it also puts a Rust toolchain
# of rustup's on PATH. Where everything is there it only looks; what is missing is installed as root
# by apt-get, or named.

# In a function, for its variables; in a subshell would be too far for PATH.
comin_setup() {
    local here missing=() packages=() wanted found need
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

    need() { # COMMAND-OR-FILE PACKAGE…
        case $1 in
            /*) [ ! -e "$1" ] || return 0 ;;
            *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null && return 0 ;;
        esac
        missing+=("$1")
        packages+=("${@:2}")
    }

    for need in "$@"; do
        case $need in
            build)
                need cc gcc libc6-dev
                need pkg-config pkg-config
                need git git
                need /etc/ssl/certs/ca-certificates.crt ca-certificates
                ;;
            nix)
                need git git
                need nix nix-bin
                need python3 python3
                ;;
            host)
                need debootstrap debootstrap
                need systemd-nspawn systemd-container
                need nsenter util-linux
                need flock util-linux
                need mount mount
                need /usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
                ;;
            bench)
                need git git
                need nix nix-bin
                need python3 python3
                need strace strace
                need /usr/bin/time time
                need openssl openssl
                need /etc/ssl/certs/ca-certificates.crt ca-certificates
                ;;
            *)
                echo "setup.sh: $need is none of build, nix, host, bench" >&2
                return 2
                ;;
        esac
    done
    if [ ${#packages[@]} != 0 ]; then
        comin_apt_install "the programs or files ${missing[*]}" "${packages[@]}" || return 1
    fi
    case " $* " in *" build "*) ;; *) return 0 ;; esac

    # Cargo.toml says which Rust it takes.
    wanted=$(sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' "$here/../Cargo.toml")
    if ! comin_cargo_suits "$wanted" && [ -x "${CARGO_HOME:-${HOME:-/root}/.cargo}/bin/cargo" ]; then
        PATH=${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:$PATH
    fi
    if ! comin_cargo_suits "$wanted"; then
        if comin_apt_has cargo "$wanted"; then
            comin_apt_install "cargo $wanted" cargo rustc rustfmt rust-clippy || return 1
        elif command -v rustup >/dev/null || comin_apt_has rustup 1; then
            command -v rustup >/dev/null || comin_apt_install "cargo $wanted" rustup || return 1
            echo "setup.sh: installing Rust by rustup" >&2
            rustup toolchain install stable --profile minimal --component rustfmt,clippy >&2 &&
                rustup default stable >&2 || return 1
        fi
    fi
    if ! comin_cargo_suits "$wanted"; then
        found=$(cargo --version 2>/dev/null) || found="no cargo"
        echo "setup.sh: comin is built with cargo $wanted or newer; here is $found, and the packages of" \
            "this system are older. Cure: install Rust with rustup (see rustup.rs), then run this again." >&2
        return 1
    fi
    for need in rustfmt cargo-clippy; do
        command -v "$need" >/dev/null && continue
        if command -v rustup >/dev/null; then
            rustup component add rustfmt clippy >&2 || return 1
        else
            comin_apt_install "$need" rustfmt rust-clippy || return 1
        fi
    done
}

comin_cargo_suits() { # VERSION
    local version
    version=$(cargo --version 2>/dev/null | cut -d ' ' -f 2) && [ -n "$version" ] &&
        printf '%s\n' "$1" "$version" | sort --check=silent --version-sort
}

comin_apt_has() { # PACKAGE VERSION: whether that or a newer one can be installed
    local candidate
    candidate=$(apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: *//p')
    [ -n "$candidate" ] && [ "$candidate" != "(none)" ] && dpkg --compare-versions "$candidate" ge "$2"
}

comin_apt_install() { # WHAT PACKAGE…
    local what=$1
    shift
    if ! command -v apt-get >/dev/null; then
        echo "setup.sh: $what are missing, and this is no Debian: install what Debian calls $*." >&2
        return 1
    fi
    if [ "$(id -u)" != 0 ]; then
        echo "setup.sh: $what are missing. Cure, as root: apt-get install $*" >&2
        return 1
    fi
    echo "setup.sh: installing $*" >&2
    local log
    log=$(mktemp)
    # The lists may be of long ago, or not there at all.
    if { apt-get update && DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
        rm -f "$log"
    else
        tail -n 15 "$log" >&2
        rm -f "$log"
        echo "setup.sh: apt-get could not install $*, see above." >&2
        return 1
    fi
}

# Sourced, its failure is the sourcing script's to act on (set -e does).
comin_setup "$@"
