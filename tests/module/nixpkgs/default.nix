# As many of nixpkgs' packages as we use. They can be evaluated, and not built. It offers nothing that ../used.nix does
# not list.
{
  localSystem,
  crossSystem ? localSystem,
  overlays ? [ ],
}:
let
  lib = import ./lib;

  # As `stdenv.mkDerivation` makes them of what it is given.
  mkDerivation =
    {
      name ? "${attributes.pname}-${attributes.version}",
      meta ? { },
      ...
    }@attributes:
    derivation (
      removeAttrs attributes [ "meta" ]
      // {
        inherit name;
        inherit (localSystem) system;
        builder = "/bin/sh";
      }
    )
    // {
      inherit meta;
    };
  package = name: mkDerivation { inherit name; };

  platform = { system }: {
    inherit system;
    canExecute = other: other.system == system;
  };

  # A test of whole machines: a derivation that needs its script, and so all that the script needs of the machines.
  runNixOSTest =
    test:
    let
      inherit
        (lib.evalModules {
          modules = [
            ./nixos/lib/testing.nix
            test
          ];
        })
        config
        ;
      nodes = lib.mapAttrs (
        _: node:
        (import ./nixos/lib/eval-config.nix {
          system = null;
          modules = [
            node
            ./nixos/test-node.nix
            {
              _module.args = { inherit nodes; };
              nixpkgs.pkgs = packages;
            }
          ];
        }).config
      ) config.nodes;
    in
    mkDerivation {
      name = "vm-test-run-${config.name}";
      testScript = config.testScript { inherit nodes; };
    };

  packagesOf =
    final:
    {
      inherit lib;
      path = ./.;
      stdenv = {
        inherit mkDerivation;
        buildPlatform = platform localSystem;
        hostPlatform = platform crossSystem;
      };
      callPackage =
        function: arguments:
        let
          f = if builtins.isFunction function then function else import function;
        in
        f (builtins.intersectAttrs (builtins.functionArgs f) final // arguments);
      runCommand =
        name: attributes: buildCommand:
        mkDerivation (
          attributes
          // {
            inherit name buildCommand;
            passAsFile = [ "buildCommand" ] ++ attributes.passAsFile or [ ];
          }
        );
      writeText =
        name: text:
        mkDerivation {
          inherit name text;
          passAsFile = [ "text" ];
        };
      writeShellScript = final.writeText;
      mkShell = _: package "nix-shell";
      symlinkJoin = { name, ... }: package name;
      rustPlatform.buildRustPackage = arguments: mkDerivation (removeAttrs arguments [ "cargoLock" ]);
      testers = { inherit runNixOSTest; };
    }
    // lib.genAttrs [
      "bash"
      "cargo"
      "clippy"
      "coreutils"
      "curl"
      "findutils"
      "gitMinimal"
      "gnugrep"
      "gnupg"
      "gnused"
      "installShellFiles"
      "jq"
      "libnotify"
      "nix"
      "nixfmt-tree"
      "openssh"
      "pkg-config"
      "rust-analyzer"
      "rustc"
      "rustfmt"
      "systemd"
      "util-linux"
      "zlib"
    ] package;

  packages = builtins.foldl' (
    previous: overlay: previous // overlay packages previous
  ) (packagesOf packages) overlays;
in
packages
