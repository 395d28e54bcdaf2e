#!/usr/bin/env bash
# demo.sh: shows comin at work below a scratch root. It deploys a push, tests a testing branch, and refuses a
# broken and a rewound commit. Each line that begins with "$" is run with real Git and real Nix, and its effect is
# checked. The demo changes nothing on this machine but /nix/store and /nix/var.
#
#   COMIN_BIN   a built comin; by default the demo builds it from this checkout
set -euo pipefail

tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=setup.sh
. "$tests/setup.sh" nix
if [ -z "${COMIN_BIN:-}" ]; then
    . "$tests/setup.sh" build
    # A debug build: the demo needs no fast program, and optimization takes long.
    echo "Building comin takes a minute on two idle cores. The demo itself takes some seconds."
    cargo build --locked --manifest-path "$tests/../Cargo.toml"
    COMIN_BIN=${CARGO_TARGET_DIR:-$tests/../target}/debug/comin
fi
COMIN_BIN=$(realpath "$COMIN_BIN")

# ---- a machine `m` in a temporary directory, without settings of the user

scratch=$(mktemp -d "${TMPDIR:-/tmp}/comin.XXXXXX")
scratch=$(realpath "$scratch")
trap 'rm -rf "$scratch"' EXIT
root=$scratch/root
mkdir -p "$root/etc" "$scratch/home"
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"

for variable in $(compgen -e); do
    case $variable in GIT_* | NIX_PATH | NIX_USER_CONF_FILES | XDG_* | JOURNAL_STREAM) unset "$variable" ;; esac
done
export HOME=$scratch/home LC_ALL=C.UTF-8 GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=demo GIT_AUTHOR_EMAIL=demo@example.org
export GIT_COMMITTER_NAME=demo GIT_COMMITTER_EMAIL=demo@example.org
# No builder's group, no cache to ask, no namespaces.
export NIX_CONFIG="build-users-group =
substitute = false
sandbox = false"
if ! said=$(nix-store --init 2>&1); then
    printf '%s\n' "$said" "The demo needs a Nix store that it can write to. Cure: run it as root." >&2
    exit 1
fi

git init --quiet --bare --initial-branch=main "$scratch/origin"
git init --quiet --initial-branch=main "$scratch/clone"
cd "$scratch/clone"
git remote add origin ../origin
git config push.default current
cp -r "$tests/host/system" .
cat >flake.nix <<END_OF_FLAKE
{
  outputs = _: {
    nixosConfigurations.m.config.system.build.toplevel = import ./system {
      scratch = "$root";
      label = "first";
    };
  };
}
END_OF_FLAKE
git add .

cat >"$scratch/config.json" <<END_OF_CONFIG
{
  "hostname": "m",
  "remotes": [
    { "name": "origin", "url": "$scratch/origin" },
    { "name": "clone", "url": "$scratch/clone" }
  ]
}
END_OF_CONFIG

# ---- output

bold='' calm='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    bold=$'\e[1m' calm=$'\e[36m' plain=$'\e[0m'
fi
# Lines of 78 columns at most; what goes on is indented a little more.
wrap() {
    awk '{
        match($0, /^ */)
        indent = sprintf("%" RLENGTH "s", "")
        line = indent
        # Not " ", which takes the spaces of a column for one.
        words = split(substr($0, RLENGTH + 1), word, / /)
        for (i = 1; i <= words; i++) {
            if (i > 1 && length(line " " word[i]) > 78) {
                print line
                line = indent more word[i]
            } else line = line (i > 1 ? " " : "") word[i]
        }
        print line
    }' more="$1"
}
tell() { echo && wrap '' <<<"$*"; }
step() { printf '\n\n%s%s%s\n' "$bold" "$*" "$plain"; }

comin() { "$COMIN_BIN" --root "$root" --config "$scratch/config.json" "$@"; }

code=0
run() { # LINE: shows it, what it says, and how it ended if that was not well
    printf '\n%s$ %s%s\n' "$calm" "$1" "$plain"
    code=0
    eval "$1" >"$scratch/said" 2>&1 || code=$?
    sed -E "s|$scratch|…|g; s|(/nix/store/[a-z0-9]{6})[a-z0-9]{26}|\1…|g; s/^/  /" "$scratch/said" | wrap '    '
    [ "$code" = 0 ] || echo "  (exit code $code)"
}

# ---- checks

fail() {
    printf '\nThe demo did not show what it should: %s\n' "$*" >&2
    comin status --json >&2 || :
    exit 1
}
ends() { [ "$code" = "$1" ] || fail "the exit code is $code, not $1"; }
says() { grep --quiet --fixed-strings -- "$1" "$scratch/said" || fail "nothing says: $1"; }
silent() { [ ! -s "$scratch/said" ] || fail "something was said"; }
status() { # KEY VALUE, OBJECT KEY VALUE; in the status, the keys of an object have lines of their own
    local object='' value=${!#}
    [ $# = 2 ] || object="/^  \"$1\": {/,/^  }/"
    comin status --json | sed -n "${object}p" | grep --quiet "^ *\"${*: -2:1}\": \"$value" ||
        fail "the status says nothing of $*"
}
runs() { # LABEL: that system, and the latest of this many activations
    [ "$(cat "$root/run/current-system/nixos-version")" = "$1" ] || fail "$1 does not run"
    [ "$(wc -l <"$root/switch.log")" = "$2" ] || fail "there were not $2 activations"
}
boots() { # LABEL GENERATION: what a reboot would start
    local default
    default=$(cat "$root/boot/loader-default")
    [ "$(cat "$default/nixos-version")" = "$1" ] || fail "a reboot would not start $1"
    [ "$(readlink "$root/nix/var/nix/profiles/system")" = "system-$2-link" ] || fail "the generation is not $2"
}

# ---- the demo

tell "comin deploys to a machine what you push to the Git repositories that it follows. The machine of" \
    "this demo is called m. All its files are in a temporary directory, which is deleted at the end." \
    "\"comin\" stands for \"comin --root …/root --config …/config.json\". Paths are shortened."
run 'cat ../config.json'
tell "\"origin\" is a bare repository that everybody pushes to. \"clone\" is the work tree in which" \
    "we work. On a real machine, a timer runs comin for each of them. Here, we run comin ourselves."

step "1. Push a commit to main: comin switches to its system"
run "git commit -qm 'The first system'; git push -q origin main"
run 'comin run'
ends 0
first=$(git rev-parse HEAD)
runs first 1
boots first 1
status deployed operation switch
status deployed status "done"
status accepted_main "$first"
run 'comin status'
tell "As long as nothing changes, comin does nothing and prints nothing:"
run 'comin run'
ends 0
silent
runs first 1

step "2. Commit to a testing branch: comin activates it and does not touch the boot loader"
run 'git checkout -q -b testing-m'
run "sed -i 's/\"first\"/\"second\"/' flake.nix; git commit -qam 'The second system'"
run 'comin run'
ends 0
runs second 2
boots first 1
status deployed operation test
status deployed status "done"
status accepted_main "$first"
run 'comin status'
tell "The second system runs, although nobody has pushed it. A reboot would bring back the first one:"
run 'cat ../root/run/current-system/nixos-version; echo'
run 'readlink ../root/nix/var/nix/profiles/system'
says system-1-link

step "3. Keep it: the testing branch becomes main"
run 'git checkout -q main; git merge -q testing-m; git push -q'
run 'git branch -qd testing-m'
run 'comin run'
ends 0
second=$(git rev-parse HEAD)
runs second 3
boots second 2
status deployed operation switch
status accepted_main "$second"

step "4. Push a broken commit: the old system stays"
run "sed -i 's/\"second\"/second/' flake.nix; git commit -qam 'Without quotes'; git push -q"
run 'comin run'
ends 1
says "undefined variable 'second'"
runs second 3
boots second 2
status deployed status failed
status accepted_main "$second"
run 'comin status'
tell "The next commit mends it. Its system runs already, so comin activates nothing."
run 'git revert --no-edit HEAD >/dev/null; git push -q'
run 'comin run'
ends 0
runs second 3
mended=$(git rev-parse HEAD)
status deployed status "done"
status accepted_main "$mended"

step "5. Somebody rewinds main: comin refuses it, and the system stays"
run "git reset -q --hard $(git rev-parse --short "$first"); git push -q --force"
run 'comin run'
ends 0
says "Refused ${first:0:8}"
runs second 3
boots second 2
run 'comin status'
says rewound
status accepted_main "$mended"
tell "comin plan shows the decision about each branch:"
run 'comin plan'
ends 0

step "What was shown"
cat <<'END_OF_LIST'

  - comin switches to a push to main, and makes it the next generation
  - without a push, comin does nothing
  - a commit on a testing branch is activated without the boot loader, even if nobody has pushed it
  - a commit that does not evaluate changes nothing, and comin keeps the error
  - comin refuses a main that was rewound

Git and Nix were real, and each step was checked.

What to read next:

  README.md                                      what comin does, and what it costs
  module/docs/getting-started.md                 your own machine, in four steps
  module/docs/live-testing.md                    the testing branch, kept or dropped
  module/docs/health-checks-and-rollback.md      what happens if a deployment goes wrong
END_OF_LIST
