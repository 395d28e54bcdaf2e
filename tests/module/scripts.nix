# The Python of the tests in tests/vm, by their names: what of them can be had without NixOS.
{ lib }:
let
  inherit (lib) mkOption types;

  # As much of the test framework as they touch.
  framework.options = {
    name = mkOption { type = types.str; };
    nodes = mkOption { type = types.attrsOf types.unspecified; };
    testScript = mkOption { type = types.unspecified; };
  };
  runNixOSTest =
    test:
    let
      inherit
        (lib.evalModules {
          modules = [
            framework
            test
          ];
        })
        config
        ;
      toplevel = name: {
        inherit name;
        system = "x86_64-linux";
        outPath = "/nix/store/${name}";
      };
    in
    config.testScript {
      nodes.machine.specialisation = lib.mapAttrs (name: _: {
        configuration.system.build.toplevel = toplevel name;
      }) config.systems;
    };
in
import ../vm {
  module = { };
  pkgs = {
    testers = { inherit runNixOSTest; };
    symlinkJoin = { name, ... }: "/nix/store/${name}";
    path = ./.;
    bash = null;
    coreutils = null;
    findutils = null;
    gnused = null;
  };
}
