#!/bin/sh
# Stands in for the activation script of NixOS: /etc, the snippet of the test, /run/current-system.
# Like that one it goes on after a failure, and reports it at the end.
PATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin
toplevel=@toplevel@
root=@root@
export toplevel root
status=0

# What is below /etc/static changes at once for every file; only then are links added and removed.
if [ -z "$root" ]; then
    ln -sfn "$toplevel/etc" /etc/.static
    mv -T /etc/.static /etc/static
    find /etc -xtype l -lname '/etc/static/*' -delete
    if [ -d "$toplevel/etc" ]; then
        (cd "$toplevel/etc" && find . ! -type d) | while read -r file; do
            link=/etc/${file#./}
            [ "$(readlink "$link")" != "/etc/static/${file#./}" ] || continue
            mkdir -p "${link%/*}"
            ln -sfn "/etc/static/${file#./}" "$link"
        done
    fi
fi

(
    set -e
    # shellcheck disable=SC1091
    . "$toplevel/activation"
)
# shellcheck disable=SC2181 # in a condition, set -e would not count
[ $? = 0 ] || status=1

mkdir -p "$root/run"
ln -sfn "$toplevel" "$root/run/.current-system"
mv -T "$root/run/.current-system" "$root/run/current-system"
exit $status
