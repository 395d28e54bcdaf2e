# The phases of nixpkgs' buildRustPackage, for default.nix. Run by Nix, in its sandbox.
set -euo pipefail

installManPage() { install -Dm644 -t "$out/share/man/man1" "$@"; }
installShellCompletion() { # --SHELL FILE…
    while [ $# != 0 ]; do
        install -Dm644 "$2" "$out/share/completions/${1#--}/${2##*/}"
        shift 2
    done
}

cp -r "$src" source
chmod -R u+w source
cd source
mkdir .cargo
cat >.cargo/config.toml <<END
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "/vendor"
END
platform=$(rustc --version --verbose | sed -n 's/^host: //p')
flags=(-j "$NIX_BUILD_CORES" --offline --target "$platform")

cargo build "${flags[@]}" --release
built=$SECONDS
read -r -a tests <<<"$cargoTestFlags"
[ "$checkType" = debug ] || flags+=(--profile "$checkType")
PATH=$PATH:$checkPath cargo test "${flags[@]}" "${tests[@]}"
echo "The build took $built s, the check $((SECONDS - built)) s."

install -Dm755 -t "$out/bin" "target/$platform/release/comin"
eval "$postInstall"
