# The Python of the tests in tests/vm, by their names: what of them can be had without NixOS.
{ nixpkgs }:
builtins.mapAttrs (_: test: test.testScript) (
  import ../vm {
    module = ../../module;
    pkgs = import nixpkgs { localSystem.system = "x86_64-linux"; };
  }
)
