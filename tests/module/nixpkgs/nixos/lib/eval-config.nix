# A machine, from its modules. Its platform is `system`, or what `nixpkgs.hostPlatform` says.
{
  system ? builtins.currentSystem,
  modules,
}:
let
  lib = import ../../lib;
  machine = lib.evalModules {
    modules = modules ++ [
      ../modules.nix
      { _module.args = { inherit modules; }; }
      { nixpkgs = lib.optionalAttrs (system != null) { system = lib.mkDefault system; }; }
    ];
  };
in
machine // { inherit (machine._module.args) pkgs; }
