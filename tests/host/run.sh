#!/usr/bin/env bash
# run.sh WORKDIR COMMAND [ARGUMENT…]: runs a command in the machine that boot.sh started there, as
# root at a login would; standard streams and exit code are the command's.
set -euo pipefail

work=$(realpath "${1:?usage: run.sh WORKDIR COMMAND [ARGUMENT…]}")
if [ ! -e "$work/init.pid" ] || [ -e "$work/exit" ]; then
    echo "the machine is down" >&2
    exit 1
fi
exec nsenter -t "$(cat "$work/init.pid")" -a env -i -C /root HOME=/root LC_ALL=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${@:2}"
