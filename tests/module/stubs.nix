# As much of NixOS as the module touches, for where there is only the library of nixpkgs.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  any =
    default:
    mkOption {
      inherit default;
      type = types.anything;
    };
  # Merges like NixOS: definitions of one key by several modules have to agree.
  section = mkOption {
    type = types.attrsOf types.unspecified;
    default = { };
  };
  list = mkOption {
    type = types.listOf types.unspecified;
    default = [ ];
  };
  units =
    options:
    mkOption {
      type = types.attrsOf (
        types.submodule {
          options = {
            description = any "";
            after = list;
            wants = list;
            wantedBy = list;
            partOf = list;
            unitConfig = section;
          }
          // options;
        }
      );
      default = { };
    };
in
{
  options = {
    assertions = list;
    # mkRenamedOptionModule says there that the old name is used.
    warnings = list;
    environment.etc = section;
    environment.sessionVariables = mkOption {
      type = types.attrsOf (types.coercedTo (types.listOf types.str) (lib.concatStringsSep ":") types.str);
      default = { };
    };
    environment.systemPackages = list;
    networking.firewall.allowedTCPPorts = list;
    networking.hostName = any "machine";
    networking.proxy.default = any null;
    networking.proxy.envVars = any (
      lib.optionalAttrs (config.networking.proxy.default != null) {
        http_proxy = config.networking.proxy.default;
      }
    );
    nix.package = any "nix";
    programs.ssh.package = any "openssh";
    services.prometheus.ruleFiles = mkOption {
      type = types.listOf types.path;
      default = [ ];
    };
    services.prometheus.scrapeConfigs = list;
    system.autoUpgrade.enable = any false;
    systemd.package = any "systemd";
    systemd.services = units {
      restartIfChanged = any true;
      path = list;
      environment = section;
      serviceConfig = section;
    };
    systemd.sockets = units { socketConfig = section; };
    systemd.timers = units { timerConfig = section; };
    systemd.paths = units { pathConfig = section; };
    systemd.user.services = units {
      path = list;
      serviceConfig = section;
    };
    systemd.user.paths = units { pathConfig = section; };
  };

  config._module.args.pkgs = {
    callPackage =
      _: _:
      derivation {
        name = "comin";
        system = "x86_64-linux";
        builder = "/bin/sh";
      };
    runCommand = name: env: script: env // { inherit name script; };
    gitMinimal = "git";
    gnupg = "gnupg";
    libnotify = "libnotify";
    util-linux = "util-linux";
    stdenv.buildPlatform.canExecute = _: true;
    stdenv.hostPlatform = { };
  };
}
