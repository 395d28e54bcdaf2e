#!/usr/bin/env bash
# setup.sh [build|sign|nix|manual|servers|metrics|limits|desktop|host|bench]…: makes sure that a Debian machine has what building
# comin, its tests of signatures, on real Nix, of the manual and of limits, its test hosts and its
# measurements need. Sourced, it also puts a Rust toolchain of rustup's on PATH. Where everything is there it
# only looks; what is missing is installed as root by apt-get, or named.

# Functions, so that a script that sources this keeps its own variables.
comin_setup() {
    local missing=() packages=() purpose
    for purpose in "$@"; do
        case $purpose in
            build)
                comin_need cc gcc libc6-dev
                comin_need pkg-config pkg-config
                comin_need git git
                comin_need /etc/ssl/certs/ca-certificates.crt ca-certificates
                ;;
            sign)
                comin_need git git
                comin_need gpg gpg
                comin_need gpg-agent gpg-agent
                comin_need gpgconf gpgconf
                comin_need ssh-keygen openssh-client
                ;;
            nix)
                comin_need git git
                comin_need nix nix-bin
                comin_need jq jq
                comin_need python3 python3
                comin_need /usr/lib/python3/dist-packages/yaml/__init__.py python3-yaml
                ;;
            manual)
                comin_need zsh zsh
                comin_need fish fish
                comin_need man man-db
                comin_need script bsdutils
                comin_need /usr/share/zoneinfo/Asia/Tokyo tzdata
                ;;
            servers)
                comin_need ssh openssh-client
                comin_need sshd openssh-server
                comin_need openssl openssl
                comin_need python3 python3
                comin_need strace strace
                comin_need tinyproxy tinyproxy-bin
                comin_need unshare util-linux
                ;;
            metrics)
                comin_need promtool prometheus
                comin_need prometheus prometheus
                comin_need curl curl
                comin_need jq jq
                ;;
            limits)
                comin_need faketime faketime
                comin_need mount mount
                comin_need strace strace
                comin_need /usr/bin/time time
                ;;
            desktop)
                comin_need dbus-daemon dbus-daemon
                comin_need Xvfb xvfb
                comin_need dunst dunst
                comin_need notify-send libnotify-bin
                ;;
            host)
                comin_need debootstrap debootstrap
                comin_need systemd-nspawn systemd-container
                comin_need nsenter util-linux
                comin_need flock util-linux
                comin_need mount mount
                comin_need /usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
                ;;
            bench)
                comin_need git git
                comin_need nix nix-bin
                comin_need python3 python3
                comin_need strace strace
                comin_need /usr/bin/time time
                comin_need openssl openssl
                comin_need /etc/ssl/certs/ca-certificates.crt ca-certificates
                ;;
            *)
                echo "setup.sh: $purpose is none of build, sign, nix, manual, servers, metrics, limits, desktop, host, bench" >&2
                return 2
                ;;
        esac
    done
    if [ ${#packages[@]} != 0 ]; then
        comin_apt_install "${missing[*]}" "${packages[@]}" || return
        # Tests start the server themselves: nobody else is to be able to log in because of them.
        case " ${packages[*]} " in
            *" openssh-server "*) systemctl disable --quiet --now ssh 2>/dev/null || : ;;
        esac
        case " ${packages[*]} " in
            *" prometheus "*) systemctl disable --quiet --now prometheus 2>/dev/null || : ;;
        esac
    fi
    case " $* " in *" build "*) comin_setup_rust ;; esac
}

comin_need() { # COMMAND-OR-FILE PACKAGE…
    case $1 in
        /*) [ ! -e "$1" ] || return 0 ;;
        *) ! PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || return 0 ;;
    esac
    missing+=("$1")
    packages+=("${@:2}")
}

comin_setup_rust() {
    local wanted found own=${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
    # Cargo.toml says which Rust it takes.
    wanted=$(sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' \
        "$(dirname "${BASH_SOURCE[0]}")/../Cargo.toml")
    if ! comin_cargo_suits "$wanted" && [ -x "$own/cargo" ]; then
        PATH=$own:$PATH
    fi
    if ! comin_cargo_suits "$wanted" && command -v apt-get >/dev/null; then
        # Which packages there are, a fresh machine does not know yet.
        [ "$(id -u)" != 0 ] || apt-get update >/dev/null 2>&1 || :
        if comin_apt_has cargo "$wanted"; then
            comin_apt_install "cargo $wanted" cargo rustc rustfmt rust-clippy || return
        elif ! command -v rustup >/dev/null && comin_apt_has rustup 1; then
            comin_apt_install "cargo $wanted" rustup || return
        fi
    fi
    if ! comin_cargo_suits "$wanted" && command -v rustup >/dev/null; then
        echo "setup.sh: installing Rust with rustup" >&2
        if rustup --quiet toolchain install stable --profile minimal --component rustfmt,clippy >&2; then
            rustup --quiet default stable >&2 || return
        fi
    fi
    if ! comin_cargo_suits "$wanted"; then
        found=$(cargo --version 2>/dev/null) || found="no cargo"
        echo "setup.sh: comin needs cargo $wanted or newer, and here is $found. Cure: install Rust with" \
            "rustup (see rustup.rs), then run this again." >&2
        return 1
    fi
    command -v rustfmt >/dev/null && command -v cargo-clippy >/dev/null && return
    if command -v rustup >/dev/null; then
        rustup --quiet component add rustfmt clippy >&2
    else
        comin_apt_install "rustfmt and clippy" rustfmt rust-clippy
    fi
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
    local what=$1 log
    shift
    if ! command -v apt-get >/dev/null; then
        echo "setup.sh: missing: $what. Cure: install what Debian calls $*" >&2
        return 1
    fi
    if [ "$(id -u)" != 0 ]; then
        echo "setup.sh: missing: $what. Cure, as root: apt-get install $*" >&2
        return 1
    fi
    echo "setup.sh: installing $*" >&2
    log=$(mktemp)
    # The lists of packages may be of long ago, or not there at all; offline they may still do.
    if { apt-get update || :; DEBIAN_FRONTEND=noninteractive apt-get install --yes \
        --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
        rm -f "$log"
    else
        tail -n 15 "$log" >&2
        rm -f "$log"
        echo "setup.sh: apt-get could not install $*, see above." >&2
        return 1
    fi
}

comin_setup "$@"
