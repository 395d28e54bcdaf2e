# The options of a test of whole machines.
{ lib, ... }:
let
  inherit (lib) mkOption types;
in
{
  options = {
    name = mkOption { type = types.str; };
    nodes = mkOption { type = types.attrsOf types.deferredModule; };
    testScript = mkOption { type = types.unspecified; };
  };
}
