#!/usr/bin/env bash
# Tests of module/ and flake.nix: with plain Nix (2.8 will do), no network, no store and no set-up.
#
#   COMIN_BIN       a built comin; by default target/debug/comin, or /bin/true where there is none
#   COMIN_NIXPKGS   a checkout of nixpkgs, or of its library alone, in place of tests/module/nixpkgs or of that one's
#   UPDATE=1        writes tests/module/expected/ and module/options.md anew instead of comparing with them
# shellcheck disable=SC2016 # in single quotes, ${…} is Nix's
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
here=$root/tests/module

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export HOME=$tmp/home
mkdir "$HOME"

passed=0 failed=0 skipped=0
ok() { passed=$((passed + 1)); echo "ok $1"; }
not_ok() { failed=$((failed + 1)); echo "not ok $1"; }
skip() { skipped=$((skipped + 1)); echo "skipped: $1"; }

# Evaluates an expression to a string. `dummy://` is a store without a file, so that neither a daemon, nor
# the group nixbld, nor even /nix is needed. JSON's escapes are printf's as well, save for the quote.
evaluate() {
  local json
  json=$(nix-instantiate --eval --strict --json --store dummy:// \
    --option build-users-group '' --option substitute false "$@") || return
  json=${json#\"}
  json=${json%\"}
  printf '%b' "${json//\\\"/\\x22}"
}

# Prints what a list of { name, ok, message } says, and counts it.
report() {
  local name=$1 line
  shift
  if ! evaluate "$@" --expr '{ file, ... }@args:
      let
        arguments = removeAttrs args [ "file" ];
        imported = import file;
        results = if builtins.isList imported then imported else (imported arguments).results;
        line = r: if r.ok then "ok ${r.name}" else "not ok ${r.name}: ${r.message}";
        oneLine = builtins.replaceStrings [ "\n" ] [ " " ];
      in
      builtins.concatStringsSep "\n" (map (r: oneLine (line r)) results)' >"$tmp/results" 2>"$tmp/errors"; then
    cat "$tmp/errors" >&2
    not_ok "$name evaluates"
    return
  fi
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in
      "ok "*) ok "${line#ok }" ;;
      *) not_ok "${line#not ok }" ;;
    esac
  done <"$tmp/results"
}

command -v nix-instantiate >/dev/null || {
  skip "everything: there is no nix-instantiate"
  echo "$passed passed, $failed failed, $skipped skipped"
  exit 0
}

while IFS= read -r -d '' file; do
  if nix-instantiate --parse --store dummy:// "$file" >/dev/null; then
    ok "parse ${file#"$root"/}"
  else
    not_ok "parse ${file#"$root"/}"
  fi
done < <(find "$root/flake.nix" "$root/module" "$here" "$root/tests/vm" -name '*.nix' -print0 | sort -z)

report "tests/module/plain.nix" --argstr file "$here/plain.nix"

# All unit files of a case as one text: a line `==> name <==` before each, or `==> user/name <==`.
unit_files() {
  evaluate --argstr root "$root" --argstr comin "$1" --argstr case "$2" --expr '{ root, comin, case }:
    let
      cases = import (root + "/tests/module/cases.nix") { inherit comin; };
      rendered = import (root + "/module/render.nix") (import (root + "/module/units.nix") cases.${case});
      sections =
        prefix: files: map (name: "==> ${prefix}${name} <==\n${files.${name}}") (builtins.attrNames files);
    in
    builtins.concatStringsSep "" (sections "" rendered.files ++ sections "user/" rendered.userFiles)'
}

for expected in "$here"/expected/*; do
  case=$(basename "$expected")
  unit_files /bin/comin "$case" >"$tmp/actual"
  if [ "${UPDATE:-}" = 1 ]; then
    cp "$tmp/actual" "$expected"
  fi
  if diff -u "$expected" "$tmp/actual"; then
    ok "unit files of $case"
  else
    not_ok "unit files of $case"
  fi
done

bin=${COMIN_BIN:-$root/target/debug/comin}
[ -x "$bin" ] || bin=/bin/true
if command -v systemd-analyze >/dev/null; then
  cases=$(evaluate --argstr file "$here/cases.nix" \
    --expr '{ file }: toString (builtins.attrNames (import file { comin = ""; }))')
  for case in $cases; do
    units=$tmp/units-$case
    mkdir -p "$units/user"
    unit_files "$bin" "$case" | awk -v dir="$units" '
      /^==> .* <==$/ { file = dir "/" $2; next }
      { print >file }'
    # systemd wants the executable to exist: odd-characters has one of its own.
    odd='/opt/50% of it/$HOME/comin'
    if [ "$case" = odd-characters ]; then
      mkdir -p "$tmp$(dirname "$odd")"
      ln -s "$bin" "$tmp$odd"
      sed -i "s|^ExecStart=\"|&$tmp|" "$units"/*.service
    fi
    # Its exit code is 0 for unknown keys and bad values, too: any output is a failure.
    output=$(SYSTEMD_UNIT_PATH="$units:" systemd-analyze verify --man=no "$units"/*.* 2>&1) || output+=" (exit code $?)"
    if [ -n "$(ls "$units/user")" ]; then
      output+=$(XDG_RUNTIME_DIR=$tmp SYSTEMD_UNIT_PATH="$units/user:" \
        systemd-analyze --user verify --man=no "$units/user"/* 2>&1) || output+=" (exit code $?)"
    fi
    if [ -z "$output" ]; then
      ok "systemd-analyze verify $case"
    else
      echo "$output"
      not_ok "systemd-analyze verify $case"
    fi
  done
else
  skip "systemd-analyze verify: there is no systemd-analyze"
fi

# The tests on machines of NixOS, as far as they are Python: whether that can be read, and names only what there is.
if command -v python3 >/dev/null; then
  evaluate --argstr file "$here/scripts.nix" --argstr nixpkgs "$here/nixpkgs" --expr '{ file, nixpkgs }:
    let
      scripts = import file { inherit nixpkgs; };
      section = name: "==> ${name} <==\n${scripts.${name}}";
    in
    builtins.concatStringsSep "\n" (map section (builtins.attrNames scripts))' >"$tmp/scripts"
  awk -v folder="$tmp" '/^==> .* <==$/ { file = folder "/" $2 ".py"; next } { print >file }' "$tmp/scripts"
  for script in "$tmp"/vm-*.py; do
    name="script of $(basename "$script" .py)"
    if python3 "$here/names.py" "$script"; then ok "$name"; else not_ok "$name"; fi
  done
else
  skip "scripts of tests/vm: there is no python3"
fi

# The Nix code of the documentation, as files of their own. What is not in braces is a part of a module.
mkdir "$tmp/examples"
mkdir "$tmp"/examples/{npins,hosts,keys}
touch "$tmp"/examples/keys/{allowed_signers,revoked_keys,me.asc}
for file in configuration hosts/laptop hosts/server; do echo '{ }' >"$tmp/examples/$file.nix"; done
(cd "$root" && awk -v folder="$tmp/examples" '
  /^```nix$/ { file = FILENAME ":" FNR; gsub("/", "-", file); file = folder "/" file; next }
  /^```$/ { file = ""; next }
  file { print >file }' README.md module/*.md module/docs/*.md)
examples=
for example in "$tmp"/examples/*:*; do
  [[ $(head -n 1 "$example") =~ ^(\{|let$) ]] || sed -i '1i {
    $a }' "$example"
  examples+=" \"$example\""
done

# The module in machines of a nixpkgs, and its documentation.
module_tests() { # NIXPKGS
  echo "{ comin = $root; nixpkgs = $1; }" >"$tmp/examples/npins/default.nix"
  report "tests/module/module.nix" --argstr file "$here/module.nix" --arg examples "[$examples ]" --argstr nixpkgs "$1"

  evaluate --argstr file "$here/documentation.nix" --argstr nixpkgs "$1" \
    --expr '{ file, nixpkgs }: import file { inherit nixpkgs; }' >"$tmp/options.md"
  if [ "${UPDATE:-}" = 1 ]; then
    cp "$tmp/options.md" "$root/module/options.md"
  fi
  if diff -u "$root/module/options.md" "$tmp/options.md"; then
    ok "module/options.md is what the options say"
  else
    not_ok "module/options.md is what the options say: UPDATE=1 tests/module/run.sh writes it anew"
  fi
}

module_tests "$here/nixpkgs"
name="comin check-config accepts what the module writes"
if [ "$bin" = /bin/true ]; then
  skip "$name: there is no comin"
else
  evaluate --argstr file "$here/module.nix" --expr '{ file }: (import file { }).configuration' >"$tmp/config.json"
  if "$bin" check-config "$tmp/config.json"; then ok "$name"; else not_ok "$name"; fi

  evaluate --argstr file "$here/module.nix" --expr '{ file }: (import file { }).gates' >"$tmp/gates.json"
  name="comin check-config accepts the gates of the module"
  if "$bin" check-config "$tmp/gates.json"; then ok "$name"; else not_ok "$name"; fi

  awk '/^```json$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$root/module/docs/configuration-file.md" >"$tmp/example.json"
  name="comin check-config accepts the example of module/docs/configuration-file.md"
  if "$bin" check-config "$tmp/example.json"; then ok "$name"; else not_ok "$name"; fi
fi

# The ready-made gates, in a shell.
gate() { # GATE PROLOGUE EXIT-CODE CASE
  local command code=0
  command=$(evaluate --argstr file "$here/module.nix" --argstr gate "$1" \
    --expr '{ file, gate }: (import file { }).gateCommand gate')
  /bin/sh -c "$2
${command//\/sys\/class\/power_supply/$tmp/supply}" >/dev/null || code=$?
  if [ "$code" = "$3" ]; then ok "gate $1: $4"; else not_ok "gate $1: $4: $code instead of $3"; fi
}
supply() { # NAME TYPE ONLINE SCOPE
  mkdir -p "$tmp/supply/$1"
  echo "$2" >"$tmp/supply/$1/type"
  [ -z "$3" ] || echo "$3" >"$tmp/supply/$1/online"
  [ -z "${4:-}" ] || echo "$4" >"$tmp/supply/$1/scope"
}
gate ac-power : 0 "a machine without power supplies builds"
supply mouse Battery "" Device
gate ac-power : 0 "the battery of a mouse does not matter"
supply BAT0 Battery ""
gate ac-power : 75 "a laptop on battery waits"
supply AC Mains 0
gate ac-power : 75 "an unplugged laptop waits"
supply AC Mains 1
gate ac-power : 0 "a laptop that is plugged in builds"
for metered in 0:0 1:75 2:0 3:75 4:0; do
  gate unmetered "busctl() { echo u ${metered%:*}; }" "${metered#*:}" "NetworkManager says ${metered%:*}"
done
gate unmetered "busctl() { return 1; }" 0 "there is no NetworkManager"
gate validation-origin "COMIN_GIT_REF=local/main" 0 "another remote is not validated"
gate validation-origin "COMIN_GIT_REF=origin/main" 127 "the hook is run for its remote"

# What checks a configuration when a system is built, run where no time zones are known, as in the sandbox of Nix.
mkdir -p "$tmp/comin/bin"
ln -s "$bin" "$tmp/comin/bin/comin"
can_be_built() { # CALENDAR
  local attribute
  for attribute in json buildCommand; do
    evaluate --argstr file "$here/module.nix" --argstr comin "$tmp/comin" --argstr calendar "$1" --expr \
      '{ file, comin, calendar }: ((import file { }).timed { inherit comin calendar; systemd = "/usr"; }).'$attribute \
      >"$tmp/$attribute"
  done
  jsonPath=$tmp/json out=$tmp/out unshare --map-root-user --mount bash -euc '
    [ ! -d /usr/share/zoneinfo ] || mount -t tmpfs tmpfs /usr/share/zoneinfo
    . "$1"' _ "$tmp/buildCommand" >"$tmp/output" 2>&1
}
if command -v systemd-analyze >/dev/null && unshare --map-root-user --mount true 2>/dev/null; then
  for calendar in "Mon..Fri 08:00 Europe/Berlin" "08:00 EST5EDT" "04:00 UTC" hourly; do
    name="a system that fetches at \"$calendar\" can be built"
    if can_be_built "$calendar"; then ok "$name"; else cat "$tmp/output"; not_ok "$name"; fi
  done
  for calendar in "Mon..Fri 25:00 Europe/Berlin" "08:00 Mon" "08:00 hourly" Europe/Berlin; do
    name="a system that fetches at \"$calendar\" cannot be built"
    if can_be_built "$calendar"; then not_ok "$name"; else ok "$name"; fi
  done
else
  skip "times at which to fetch: there is no systemd-analyze, or no unshare"
fi

if [ -z "${COMIN_NIXPKGS:-}" ]; then
  skip "the module with nixpkgs in place of tests/module/nixpkgs: COMIN_NIXPKGS is not set"
else
  nixpkgs=$(realpath "$COMIN_NIXPKGS")
  if ! [ -e "$nixpkgs/nixos" ]; then
    skip "the module with all of nixpkgs: COMIN_NIXPKGS is only its library"
    cp -r "$here/nixpkgs" "$tmp/nixpkgs"
    rm -r "$tmp/nixpkgs/lib"
    cp -r "$nixpkgs/lib" "$tmp/nixpkgs/lib"
    # nixpkgs' sets of files need Nix 2.14.
    [ "$(evaluate --expr 'toString (builtins ? readFileType)')" = 1 ] ||
      echo "_: (import $here/nixpkgs/lib).fileset" >"$tmp/nixpkgs/lib/fileset/default.nix"
    nixpkgs=$tmp/nixpkgs
  fi
  UPDATE='' module_tests "$nixpkgs"

  # What tests/module/used.nix says of the files of nixpkgs, of which there may be the library alone.
  evaluate --argstr file "$here/used.nix" --expr '{ file }:
    let
      used = import file;
      concat = f: set: builtins.concatLists (map (name: f name set.${name}) (builtins.attrNames set));
      lines = file: names: map (name: "${file} ${name}") names;
    in
    builtins.concatStringsSep "\n" (concat (_: concat lines) used)' >"$tmp/used"
  missing=
  while read -r file name || [ -n "$file" ]; do
    if [ -e "$COMIN_NIXPKGS/nixos" ] || [[ $file = lib/* ]]; then
      grep -Eq "(^|[^A-Za-z0-9_'-])${name##*.}($|[^A-Za-z0-9_'-])" "$COMIN_NIXPKGS/$file" || missing+="$file $name, "
    fi
  done <"$tmp/used"
  name="nixpkgs defines what we use of it where tests/module/used.nix says"
  if [ -z "$missing" ]; then ok "$name"; else not_ok "$name: not $missing"; fi
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
