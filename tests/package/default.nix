# module/package.nix, built by Nix in its sandbox: with stand-ins for nixpkgs, and with the tools of this machine in
# place of its packages. run.sh puts these tools into the sandbox.
{
  # Which Rust builds it: another one builds it anew.
  rust,
}:
let
  lib = import ../module/nixpkgs/lib;

  paths = lib.concatMapStringsSep ":" (name: "/packages/${name}/bin");

  # Like the function of nixpkgs, for these arguments.
  buildRustPackage =
    {
      pname,
      version,
      src,
      cargoLock,
      nativeBuildInputs ? [ ],
      buildInputs ? [ ],
      nativeCheckInputs ? [ ],
      checkType ? "release",
      cargoTestFlags ? [ ],
      postInstall ? "",
      meta,
    }:
    assert cargoLock == { lockFile = ../../Cargo.lock; };
    derivation {
      name = "${pname}-${version}";
      system = builtins.currentSystem;
      inherit
        src
        checkType
        cargoTestFlags
        postInstall
        rust
        ;
      builder = "/bin/sh";
      args = [ ./builder.sh ];
      PATH = paths (
        [
          "stdenv"
          "rust"
        ]
        ++ nativeBuildInputs
        ++ buildInputs
      );
      checkPath = paths nativeCheckInputs;
      # A test that misses a tool fails.
      CI = "true";
    };
in
import ../../module/package.nix {
  inherit lib;
  stdenv = {
    buildPlatform.canExecute = _: true;
    hostPlatform = { };
  };
  rustPlatform = { inherit buildRustPackage; };
  # The name of each package is that of its folder in the sandbox.
  installShellFiles = "installShellFiles";
  pkg-config = "pkg-config";
  zlib = "zlib";
  gitMinimal = "gitMinimal";
  gnupg = "gnupg";
  openssh = "openssh";
}
