#!/usr/bin/env bash
# Stands in for NixOS' switch-to-configuration: the same actions, lock, order of effects, messages,
# left-over lists and exit codes, as far as comin can see them. Left out: user units, mounts and
# swaps, template instances, socket activation, sysinit-reactivation.target, re-executing systemd.
set -euo pipefail
PATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin
toplevel=@toplevel@
root=@root@

# The real one panics when nobody reads its messages any more. A trap, not '': children get the
# signal's default back.
trap : PIPE
say() { printf '%s\n' "$*" >&2 || exit 101; }

export NIXOS_ACTION=${1:-}
case $NIXOS_ACTION in
    switch | boot | test | dry-activate | check) ;;
    *)
        say "Usage: switch-to-configuration [check|switch|boot|test|dry-activate]"
        exit 1
        ;;
esac
if [ -z "$root" ] && [ "$EUID" != 0 ]; then
    say "Error: switch-to-configuration must be run as the root user"
    exit 1
fi
if [ -z "$root" ] && [ ! -f /etc/NIXOS ]; then
    say "This is not a NixOS installation!"
    exit 2
fi

lists=$root/run/nixos
mkdir -p "$lists"
exec 9>>"$lists/switch-to-configuration.lock"
if ! flock --nonblock 9; then
    say "Could not acquire lock"
    exit 11
fi
# The lock ends with this process, whatever it has started.
child() { "$@" 9>&-; }

# ---- checks

inhibitors() { # TOPLEVEL: a line "key<tab>value" for each
    [ ! -f "$1/switch-inhibitors" ] ||
        grep -oE '"[^"]*" *: *"[^"]*"' "$1/switch-inhibitors" |
        sed -E 's/"([^"]*)" *: *"([^"]*)"/\1\t\2/' | sort || :
}
if [ "$NIXOS_ACTION" != boot ] && [ "${NIXOS_NO_CHECK:-}" != 1 ]; then
    conflicts=$(join -t $'\t' <(inhibitors "$root/run/current-system") <(inhibitors "$toplevel") |
        while IFS=$'\t' read -r key old new; do
            [ "$old" = "$new" ] || echo "$key : $old -> $new"
        done)
    if [ -n "$conflicts" ]; then
        say "There are changes to critical components of the system:"
        say "$conflicts"
        say "Pre-switch check 'switchInhibitors' failed"
        say "Pre-switch checks failed"
        exit 1
    fi
fi
[ "$NIXOS_ACTION" != check ] || exit 0
if [ "$NIXOS_ACTION" != dry-activate ]; then
    # For the tests: what was asked for, in order.
    echo "$NIXOS_ACTION $toplevel" >>"$root/switch.log"
fi

# ---- boot loader

case $NIXOS_ACTION in
    switch | boot)
        mkdir -p "$root/boot"
        if ! child sh -e "$toplevel/bootloader"; then
            say "Failed to install bootloader"
            exit 1
        fi
        # Its menu, as every real one: the generations of the profile at this moment.
        for generation in "$root"/nix/var/nix/profiles/system-*-link; do
            [ ! -L "$generation" ] || echo "${generation##*/} $(readlink "$generation")"
        done >"$root/boot/loader-entries"
        echo "$toplevel" >>"$root/boot/loader.log"
        echo "$toplevel" >"$root/boot/.loader-default"
        mv "$root/boot/.loader-default" "$root/boot/loader-default"
        ;;
esac
[ "$NIXOS_ACTION" != boot ] || exit 0

# A machine that never ran a NixOS before (a fresh test host) has nothing to be incompatible with.
current=$root/run/current-system
if [ -e "$current" ] && ! cmp -s "$current/init-interface-version" "$toplevel/init-interface-version"; then
    say "Warning: the new NixOS configuration has an 'init' that is incompatible with the current configuration."
    exit 100
fi

# ---- without systemd

if [ -n "$root" ]; then
    if [ "$NIXOS_ACTION" = dry-activate ]; then
        say "would activate the configuration..."
        exit 0
    fi
    say "activating the configuration..."
    code=0
    if ! child "$toplevel/activate"; then
        say "Failed to run activate script"
        code=2
    fi
    # shellcheck disable=SC1091 # of the test
    . "$toplevel/after-activation"
    rm -f "$lists"/{start,restart,reload}-list
    exit $code
fi

# ---- what to do with which unit

old_units=/etc/static/systemd/system
new_units=$toplevel/etc/systemd/system

unit_files() { # FOLDER UNIT: the unit and its drop-ins
    local file
    for file in "$1/$2" "$1/$2".d/*.conf; do [ ! -f "$file" ] || echo "$file"; done
}
is_set() { # FOLDER UNIT SECTION KEY DEFAULT: whether a boolean is true; the last one counts
    local files
    mapfile -t files < <(unit_files "$1" "$2")
    awk -v section="[$3]" -v key="$4" -v value="$5" '
        /^\[/ { here = ($1 == section); next }
        here { name = $0; sub(/[ \t]*=.*/, "", name) }
        here && name == key { value = $0; sub(/^[^=]*=[ \t]*/, "", value) }
        END { exit value !~ /^(1|yes|true|on)$/ }' "${files[@]}"
}
essence() { # FOLDER UNIT IGNORED: its settings in one order, less those that do not count
    local files
    mapfile -t files < <(unit_files "$1" "$2")
    awk -v ignored="$3" '
        /^[ \t]*([#;]|$)/ { next }
        /^\[/ { section = $1; next }
        section == "[Install]" { next }
        { name = $0; sub(/[ \t]*=.*/, "", name) }
        (section name) ~ "^(" ignored ")$" { next }
        { print section $0 }' "${files[@]}" | sort --stable --field-separator='=' --key=1,1
}
# These do not count at all; of those, the latter two alone make it a reload.
no_change='\[Unit\](Description|Documentation|OnFailure|OnSuccess|OnFailureJobMode|IgnoreOnIsolate'
no_change+='|StopWhenUnneeded|RefuseManualStart|RefuseManualStop|AllowIsolate|CollectMode|SourcePath)'
reload_only='\[Unit\]X-Reload-Triggers|\[Service\]ExecReload'
differs() { # UNIT IGNORED
    ! cmp -s <(essence "$old_units" "$1" "$2") <(essence "$new_units" "$1" "$2")
}

declare -A stop=() start=() restart=() reload=() skip=() targets=()
# shellcheck disable=SC2034 # a name for another variable
plan() { # LIST UNIT
    declare -n list_of=$1
    list_of[$2]=1
}
record() { # LIST UNIT: on disk too before anything is done, for the next run if this one dies
    plan "$1" "$2"
    [ "$NIXOS_ACTION" = dry-activate ] || echo "$2" >>"$lists/$1-list"
}
for list in start restart reload; do # of a run that died
    while read -r unit; do
        [ -z "$unit" ] || plan "$list" "$unit"
    done < <(cat "$lists/$list-list" 2>/dev/null)
done

unit_states() { # a line "unit state substate" for each that is not inactive
    child systemctl list-units --all --full --plain --no-legend | awk '$3 != "inactive" { print $1, $3, $4 }'
}
declare -A before=()
while read -r unit state _; do before[$unit]=$state; done < <(unit_states)

for unit in "${!before[@]}"; do
    # Only units of NixOS, and only while they run.
    [ -e "$old_units/$unit" ] || continue
    case ${before[$unit]} in active | activating) ;; *) continue ;; esac

    if [ ! -s "$new_units/$unit" ]; then
        # Asked of the old one: the new one has nothing to say any more.
        ! is_set "$old_units" "$unit" Unit X-StopOnRemoval true || stop[$unit]=1
    elif ! differs "$unit" "$no_change"; then
        :
    elif ! differs "$unit" "$no_change|$reload_only"; then
        record reload "$unit"
    else
        case $unit in
            *.path | *.slice | *.socket | *.target) ;; # daemon-reload is all they get
            *)
                if is_set "$new_units" "$unit" Service X-ReloadIfChanged false; then
                    record reload "$unit"
                elif ! is_set "$new_units" "$unit" Service X-RestartIfChanged true ||
                    is_set "$new_units" "$unit" Unit RefuseManualStop false ||
                    is_set "$new_units" "$unit" Unit X-OnlyManualStart false; then
                    skip[$unit]=1
                elif [[ $unit != *.service ]] || ! is_set "$new_units" "$unit" Service X-StopIfChanged true; then
                    record restart "$unit"
                else
                    stop[$unit]=1
                    record start "$unit"
                fi
                ;;
        esac
    fi
done

# Starting every active target again is what starts new units. Nobody wants to read about them.
for unit in "${!before[@]}"; do
    [[ $unit != *.target || ${before[$unit]} != active ]] || targets[$unit]=1
done
for unit in $(child systemctl show --property=Id --property=RefuseManualStart "${!targets[@]}" |
    awk -v RS= '/RefuseManualStart=no/ { sub(/.*Id=/, ""); sub(/\n.*/, ""); print }'); do
    record start "$unit"
done

# ---- do it

announce() { # TEXT UNIT…: nothing where there is no unit
    local text=$1
    shift
    [ $# = 0 ] || say "$text: $(printf '%s\n' "$@" | sort --ignore-case | paste -sd , | sed 's/,/, /g')"
}
announce_start() { # TEXT
    local unit shown=()
    for unit in "${!start[@]}"; do [ -n "${targets[$unit]:-}" ] || shown+=("$unit"); done
    announce "$1" "${shown[@]}"
}
if [ "$NIXOS_ACTION" = dry-activate ]; then
    announce "would stop the following units" "${!stop[@]}"
    announce "would NOT stop the following changed units" "${!skip[@]}"
    say "would activate the configuration..."
    announce "would reload the following units" "${!reload[@]}"
    announce "would restart the following units" "${!restart[@]}"
    announce_start "would start the following units"
    exit 0
fi

code=0
run_jobs() { # VERB UNIT…: all at once, waits for all
    local verb=$1 unit
    shift
    [ $# != 0 ] || return 0
    if ! child systemctl "$verb" -- "$@" 2>/dev/null; then
        code=4
        for unit in "$@"; do
            case $(child systemctl show --property=LoadState --property=ActiveState -- "$unit") in
                *=failed* | *=not-found*) say "Failed to $verb $unit" ;;
            esac
        done
    fi
}

announce "stopping the following units" "${!stop[@]}"
run_jobs stop "${!stop[@]}"
announce "NOT restarting the following changed units" "${!skip[@]}"

say "activating the configuration..."
if ! child "$toplevel/activate"; then
    say "Failed to run activate script"
    code=2
fi
# shellcheck disable=SC1091 # of the test
. "$toplevel/after-activation"
child systemctl reset-failed
child systemctl daemon-reload

for unit in "${!reload[@]}"; do # what was stopped along with another one is started instead
    child systemctl --quiet is-active -- "$unit" && continue
    unset "reload[$unit]"
    record start "$unit"
done
announce "reloading the following units" "${!reload[@]}"
run_jobs reload "${!reload[@]}"
rm -f "$lists/reload-list"
announce "restarting the following units" "${!restart[@]}"
run_jobs restart "${!restart[@]}"
rm -f "$lists/restart-list"
announce_start "starting the following units"
run_jobs start "${!start[@]}"
rm -f "$lists/start-list"

# As long as the real one waits for the last news, so that a unit that dies at once is seen.
child sleep 0.25
new=() failed=()
while read -r unit state sub; do
    if [ "$state" = failed ] ||
        { [ "$sub" = auto-restart ] && [ "$(child systemctl show --property=ExecMainStatus --value -- "$unit")" != 0 ]; }; then
        failed+=("$unit")
    elif [ -z "${before[$unit]:-}" ] && [[ $unit != *.scope ]]; then
        new+=("$unit")
    fi
done < <(unit_states)
announce "the following new units were started" "${new[@]}"
announce "warning: the following units failed" "${failed[@]}"
if [ ${#failed[@]} != 0 ]; then
    child systemctl status --no-pager --full -- "${failed[@]}" || :
    code=4
fi
exit $code
