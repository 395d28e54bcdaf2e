# What we use of nixpkgs, and the file of nixpkgs that defines it: to be looked up again when nixpkgs changes. The
# stand-in, tests/module/nixpkgs, has all of this and nothing else.
#
# `<unit>` stands for `systemd.services.<name>`, `systemd.user.paths.<name>` and the like.
{
  lib = {
    "lib/attrsets.nix" = [
      "attrNames"
      "attrValues"
      "filterAttrs"
      "genAttrs"
      "listToAttrs"
      "mapAttrs"
      "mapAttrsToList"
      "nameValuePair"
      "optionalAttrs"
      "setAttrByPath"
    ];
    "lib/fileset/default.nix" = [
      "fileset.toList"
      "fileset.toSource"
      "fileset.unions"
    ];
    "lib/licenses/licenses.nix" = [ "licenses.mit" ];
    "lib/lists.nix" = [
      "all"
      "allUnique"
      "any"
      "concatLists"
      "concatMap"
      "count"
      "elem"
      "filter"
      "genList"
      "isList"
      "optional"
      "optionals"
      "singleton"
      "unique"
    ];
    "lib/meta.nix" = [ "getExe'" ];
    "lib/modules.nix" = [
      "evalModules"
      "mkAfter"
      "mkDefault"
      "mkForce"
      "mkIf"
      "mkMerge"
      "mkRenamedOptionModule"
    ];
    "lib/options.nix" = [
      "literalExpression"
      "literalMD"
      "mergeEqualOption"
      "mkOption"
      "optionAttrSetToDocList"
      "showOption"
    ];
    "lib/strings.nix" = [
      "concatMapStringsSep"
      "concatStrings"
      "concatStringsSep"
      "escapeShellArg"
      "hasInfix"
      "hasPrefix"
      "hasSuffix"
      "optionalString"
      "removePrefix"
      "replaceStrings"
      "splitString"
      "stringLength"
      "substring"
    ];
    "lib/systems/doubles.nix" = [ "platforms.linux" ];
    "lib/trivial.nix" = [
      "importTOML"
      "trivial.release"
    ];
    "lib/types.nix" = [
      "mkOptionType"
      "types.anything"
      "types.attrsOf"
      "types.bool"
      "types.coercedTo"
      "types.deferredModule"
      "types.either"
      "types.enum"
      "types.int"
      "types.ints.positive"
      "types.ints.unsigned"
      "types.lines"
      "types.listOf"
      "types.nonEmptyStr"
      "types.nullOr"
      "types.oneOf"
      "types.package"
      "types.path"
      "types.port"
      "types.str"
      "types.strMatching"
      "types.submodule"
      "types.unspecified"
    ];
  };

  options = {
    "nixos/lib/systemd-unit-options.nix" = [
      "<unit>.after"
      "<unit>.before"
      "<unit>.description"
      "<unit>.documentation"
      "<unit>.environment"
      "<unit>.partOf"
      "<unit>.path"
      "<unit>.pathConfig"
      "<unit>.requiredBy"
      "<unit>.restartIfChanged"
      "<unit>.serviceConfig"
      "<unit>.socketConfig"
      "<unit>.startLimitIntervalSec"
      "<unit>.text"
      "<unit>.timerConfig"
      "<unit>.unitConfig"
      "<unit>.wantedBy"
      "<unit>.wants"
    ];
    "nixos/modules/config/networking.nix" = [
      "networking.hosts"
      "networking.proxy.default"
      "networking.proxy.envVars"
    ];
    "nixos/modules/config/nix.nix" = [
      "nix.extraOptions"
      "nix.settings"
    ];
    "nixos/modules/config/system-environment.nix" = [ "environment.sessionVariables" ];
    "nixos/modules/config/system-path.nix" = [ "environment.systemPackages" ];
    "nixos/modules/config/users-groups.nix" = [
      "users.groups"
      "users.users"
    ];
    "nixos/modules/misc/assertions.nix" = [
      "assertions"
      "warnings"
    ];
    "nixos/modules/misc/nixpkgs.nix" = [
      "nixpkgs.buildPlatform"
      "nixpkgs.hostPlatform"
      "nixpkgs.overlays"
      "nixpkgs.pkgs"
      "nixpkgs.system"
    ];
    "nixos/modules/misc/version.nix" = [
      "system.configurationRevision"
      "system.stateVersion"
    ];
    "nixos/modules/programs/ssh.nix" = [
      "programs.ssh.knownHosts"
      "programs.ssh.package"
    ];
    "nixos/modules/security/polkit.nix" = [
      "security.polkit.enable"
      "security.polkit.extraConfig"
    ];
    "nixos/modules/services/monitoring/prometheus/default.nix" = [
      "services.prometheus.enable"
      "services.prometheus.ruleFiles"
      "services.prometheus.scrapeConfigs"
    ];
    "nixos/modules/services/networking/firewall.nix" = [ "networking.firewall.allowedTCPPorts" ];
    "nixos/modules/services/networking/ssh/sshd.nix" = [
      "services.openssh.enable"
      "services.openssh.hostKeys"
    ];
    "nixos/modules/services/system/nix-daemon.nix" = [ "nix.package" ];
    "nixos/modules/system/activation/specialisation.nix" = [
      "specialisation"
      "specialisation.<name>.configuration"
    ];
    "nixos/modules/system/activation/switchable-system.nix" = [ "system.switch.enable" ];
    "nixos/modules/system/activation/top-level.nix" = [
      "system.build.toplevel"
      "system.extraDependencies"
      "system.systemBuilderCommands"
    ];
    "nixos/modules/system/boot/loader/loader.nix" = [ "boot.loader.timeout" ];
    "nixos/modules/system/boot/loader/systemd-boot/systemd-boot.nix" = [
      "boot.loader.systemd-boot.enable"
    ];
    "nixos/modules/system/boot/systemd.nix" = [
      "systemd.globalEnvironment"
      "systemd.package"
      "systemd.paths"
      "systemd.services"
      "systemd.sockets"
      "systemd.timers"
      "systemd.units"
    ];
    "nixos/modules/system/boot/systemd/user.nix" = [
      "systemd.user.paths"
      "systemd.user.services"
      "systemd.user.units"
    ];
    "nixos/modules/system/etc/etc.nix" = [
      "environment.etc"
      "environment.etc.<name>.mode"
      "environment.etc.<name>.source"
      "environment.etc.<name>.text"
    ];
    "nixos/modules/tasks/auto-upgrade.nix" = [ "system.autoUpgrade.enable" ];
    "nixos/modules/tasks/network-interfaces.nix" = [ "networking.hostName" ];
    "nixos/modules/virtualisation/guest-networking-options.nix" = [ "networking.primaryIPAddress" ];
    "nixos/modules/virtualisation/nixos-containers.nix" = [ "boot.isContainer" ];
    "nixos/modules/virtualisation/qemu-vm.nix" = [
      "virtualisation.diskSize"
      "virtualisation.memorySize"
      "virtualisation.useBootLoader"
      "virtualisation.useEFIBoot"
    ];
  };

  packages = {
    "lib/systems/default.nix" = [
      "stdenv.buildPlatform.canExecute"
      "stdenv.buildPlatform.system"
      "stdenv.hostPlatform.canExecute"
      "stdenv.hostPlatform.system"
    ];
    "pkgs/build-support/mkshell/default.nix" = [ "mkShell" ];
    "pkgs/build-support/testers/default.nix" = [ "testers.runNixOSTest" ];
    "pkgs/build-support/trivial-builders/default.nix" = [
      "runCommand"
      "symlinkJoin"
      "writeShellScript"
      "writeText"
    ];
    "pkgs/by-name/co/coreutils/package.nix" = [ "coreutils" ];
    "pkgs/by-name/fi/findutils/package.nix" = [ "findutils" ];
    "pkgs/by-name/gi/gitMinimal/package.nix" = [ "gitMinimal" ];
    "pkgs/by-name/in/installShellFiles/package.nix" = [ "installShellFiles" ];
    "pkgs/by-name/jq/jq/package.nix" = [ "jq" ];
    "pkgs/by-name/li/libnotify/package.nix" = [ "libnotify" ];
    "pkgs/by-name/ni/nixfmt-tree/package.nix" = [ "nixfmt-tree" ];
    "pkgs/by-name/ru/rust-analyzer/package.nix" = [ "rust-analyzer" ];
    "pkgs/by-name/ut/util-linux/package.nix" = [ "util-linux" ];
    "pkgs/development/compilers/rust/make-rust-platform.nix" = [ "rustPlatform.buildRustPackage" ];
    "pkgs/stdenv/generic/make-derivation.nix" = [ "stdenv.mkDerivation" ];
    "pkgs/top-level/all-packages.nix" = [
      "bash"
      "cargo"
      "clippy"
      "curl"
      "gnugrep"
      "gnupg"
      "gnused"
      "nix"
      "openssh"
      "pkg-config"
      "rustc"
      "rustfmt"
      "systemd"
      "zlib"
    ];
    "pkgs/top-level/splice.nix" = [ "callPackage" ];
    "pkgs/top-level/stage.nix" = [
      "lib"
      "path"
    ];
  };

  # The files that we read ourselves, and what we give them or take from them.
  files = {
    "default.nix" = [ ];
    "flake.nix" = [
      "legacyPackages"
      "lib"
    ];
    "nixos/default.nix" = [
      "configuration"
      "system"
    ];
    "nixos/lib/eval-config.nix" = [
      "modules"
      "system"
    ];
    "nixos/tests/ssh-keys.nix" = [
      "snakeOilEd25519PrivateKey"
      "snakeOilEd25519PublicKey"
    ];
  };
}
