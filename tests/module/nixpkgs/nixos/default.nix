# A machine, from its configuration.
{ configuration, system ? builtins.currentSystem }:
let
  machine = import ./lib/eval-config.nix {
    inherit system;
    modules = [ configuration ];
  };
in
{
  inherit (machine) config options pkgs;
  system = machine.config.system.build.toplevel;
}
