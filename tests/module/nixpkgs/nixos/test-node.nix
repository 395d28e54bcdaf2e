# The options that a machine has only in a test.
{ lib, ... }:
let
  inherit (lib) mkOption types;
in
{
  options = {
    networking.primaryIPAddress = mkOption {
      type = types.str;
      default = "192.168.1.1";
    };
    virtualisation = {
      useBootLoader = mkOption { type = types.bool; };
      useEFIBoot = mkOption { type = types.bool; };
      diskSize = mkOption { type = types.ints.positive; };
      memorySize = mkOption { type = types.ints.positive; };
    };
  };
}
