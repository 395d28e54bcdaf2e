# As many of NixOS' options as we use, with its types, and with what it makes of them. It has no others than
# ../../used.nix lists.
{
  config,
  lib,
  options,
  pkgs,
  modules,
  ...
}:
let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };
  listOf = type: option (types.listOf type) [ ];

  # What `nixpkgs.hostPlatform = "aarch64-linux"` and `{ system = "aarch64-linux"; }` have in common.
  platform = types.either types.str (types.attrsOf types.unspecified);
  elaborate = given: if builtins.isString given then { system = given; } else given;

  ## Units.

  # Lists are appended to each other; of anything else, there must be one value.
  unitOption = lib.mkOptionType {
    name = "systemd option";
    merge =
      loc: definitions:
      if builtins.isList (builtins.head definitions).value then
        lib.concatMap (definition: definition.value) definitions
      else
        lib.mergeEqualOption loc definitions;
  };
  section = option (types.attrsOf unitOption) { };

  unit =
    { config, options, ... }:
    {
      options = {
        description = option types.str "";
        documentation = listOf types.str;
        after = listOf types.str;
        before = listOf types.str;
        wants = listOf types.str;
        requiredBy = listOf types.str;
        wantedBy = listOf types.str;
        partOf = listOf types.str;
        startLimitIntervalSec = mkOption { type = types.int; };
        unitConfig = section;
      };
      config.unitConfig =
        lib.optionalAttrs (config.description != "") { Description = config.description; }
        // lib.optionalAttrs (config.documentation != [ ]) { Documentation = toString config.documentation; }
        // lib.optionalAttrs (config.after != [ ]) { After = toString config.after; }
        // lib.optionalAttrs (config.before != [ ]) { Before = toString config.before; }
        // lib.optionalAttrs (config.wants != [ ]) { Wants = toString config.wants; }
        // lib.optionalAttrs (config.partOf != [ ]) { PartOf = toString config.partOf; }
        // lib.optionalAttrs options.startLimitIntervalSec.isDefined {
          StartLimitIntervalSec = toString config.startLimitIntervalSec;
        };
    };
  system = config;
  service =
    { config, ... }:
    {
      options = {
        restartIfChanged = option types.bool true;
        path = listOf (types.either types.package types.str);
        environment = option (types.attrsOf (
          types.nullOr (
            types.oneOf [
              types.str
              types.path
              types.package
            ]
          )
        )) { };
        serviceConfig = section;
      };
      # Every service has these.
      config.path = lib.mkAfter [
        pkgs.coreutils
        pkgs.findutils
        pkgs.gnugrep
        pkgs.gnused
        system.systemd.package
      ];
      config.environment.PATH = lib.concatMapStringsSep ":" (package: "${package}/bin") config.path;
    };
  of = kind: option (types.attrsOf (types.submodule ([ unit ] ++ kind))) { };
  ofSection = name: of [ { options.${name} = section; } ];

  value =
    v:
    if v == true then
      "true"
    else if v == false then
      "false"
    else
      toString v;
  linesOf =
    section:
    lib.concatStrings (
      lib.concatMap (
        key:
        map (v: "${key}=${value v}\n") (
          if builtins.isList section.${key} then section.${key} else [ section.${key} ]
        )
      ) (lib.attrNames section)
    );
  unitText =
    unit: lines:
    ''
      [Unit]
      ${linesOf unit.unitConfig}
    ''
    + lines
    + lib.optionalString (unit.wantedBy != [ ]) ''

      [Install]
      WantedBy=${toString unit.wantedBy}
    '';
  serviceText =
    unit:
    let
      environment = config.systemd.globalEnvironment // unit.environment;
    in
    unitText unit (
      "[Service]\n"
      + lib.concatMapStringsSep "" (
        name: "Environment=${builtins.toJSON "${name}=${environment.${name}}"}\n"
      ) (lib.attrNames environment)
      + lib.optionalString (!unit.restartIfChanged) "X-RestartIfChanged=false\n"
      + linesOf unit.serviceConfig
    );
  timerText = unit: unitText unit "[Timer]\n${linesOf unit.timerConfig}\n";
  pathText = unit: unitText unit "[Path]\n${linesOf unit.pathConfig}\n";
  # Two of its options are not used here, and leave an empty line each.
  socketText = unit: unitText unit "[Socket]\n${linesOf unit.socketConfig}\n\n\n";
  textsOf =
    suffix: text: units:
    lib.listToAttrs (
      map (name: lib.nameValuePair "${name}.${suffix}" { text = text units.${name}; }) (lib.attrNames units)
    );

  failed = lib.filter (one: !one.assertion) config.assertions;
in
{
  options = {
    assertions = listOf types.unspecified;
    warnings = listOf types.str;
    boot.isContainer = option types.bool false;
    boot.loader.systemd-boot.enable = option types.bool false;
    boot.loader.timeout = option types.int 5;
    environment.etc = option (types.attrsOf (
      types.submodule (
        { config, name, ... }:
        {
          options = {
            text = option (types.nullOr types.lines) null;
            source = mkOption { type = types.path; };
            mode = option types.str "symlink";
          };
          config.source = lib.mkIf (config.text != null) (pkgs.writeText "etc-file" config.text);
        }
      )
    )) { };
    environment.sessionVariables = mkOption {
      type = types.attrsOf (types.either (types.listOf types.str) types.str);
      default = { };
      apply = lib.mapAttrs (_: v: if lib.isList v then lib.concatStringsSep ":" v else v);
    };
    environment.systemPackages = listOf types.package;
    networking.firewall.allowedTCPPorts = listOf types.port;
    networking.hostName = option types.str "nixos";
    networking.hosts = option (types.attrsOf (types.listOf types.str)) { };
    networking.proxy.default = option (types.nullOr types.str) null;
    networking.proxy.envVars = option (types.attrsOf types.str) { };
    nix.extraOptions = option types.lines "";
    nix.package = option types.package pkgs.nix;
    nix.settings = option (types.attrsOf types.unspecified) { };
    nixpkgs.buildPlatform = mkOption {
      type = platform;
      default = config.nixpkgs.hostPlatform;
      apply = elaborate;
    };
    nixpkgs.hostPlatform = mkOption {
      type = platform;
      apply = elaborate;
    };
    nixpkgs.overlays = listOf types.unspecified;
    nixpkgs.pkgs = mkOption { type = types.unspecified; };
    nixpkgs.system = mkOption { type = types.str; };
    programs.ssh.knownHosts = option (types.attrsOf types.unspecified) { };
    programs.ssh.package = option types.package pkgs.openssh;
    security.polkit.enable = option types.bool false;
    security.polkit.extraConfig = option types.lines "";
    services.openssh.enable = option types.bool false;
    services.openssh.hostKeys = listOf types.unspecified;
    services.prometheus.enable = option types.bool false;
    services.prometheus.ruleFiles = listOf types.path;
    services.prometheus.scrapeConfigs = listOf types.unspecified;
    specialisation = option (types.attrsOf (
      types.submodule {
        options.configuration = mkOption {
          type = types.deferredModule;
          apply =
            configuration:
            (import ./lib/eval-config.nix {
              system = null;
              modules = modules ++ [ configuration ];
            }).config;
        };
      }
    )) { };
    system.autoUpgrade.enable = option types.bool false;
    system.build.toplevel = mkOption { type = types.package; };
    system.configurationRevision = option (types.nullOr types.str) null;
    system.extraDependencies = listOf types.package;
    system.stateVersion = option types.str lib.trivial.release;
    system.switch.enable = option types.bool true;
    system.systemBuilderCommands = option types.lines "";
    systemd.globalEnvironment = option (types.attrsOf types.str) { };
    systemd.package = option types.package pkgs.systemd;
    systemd.paths = ofSection "pathConfig";
    systemd.services = of [ service ];
    systemd.sockets = ofSection "socketConfig";
    systemd.timers = ofSection "timerConfig";
    systemd.units = option (types.attrsOf (
      types.submodule { options.text = option (types.nullOr types.str) null; }
    )) { };
    systemd.user.paths = ofSection "pathConfig";
    systemd.user.services = of [ service ];
    systemd.user.units = option (types.attrsOf (
      types.submodule { options.text = option (types.nullOr types.str) null; }
    )) { };
    users.groups = option (types.attrsOf types.unspecified) { };
    users.users = option (types.attrsOf types.unspecified) { };
  };

  config = {
    _module.args.pkgs =
      if options.nixpkgs.pkgs.isDefined then
        config.nixpkgs.pkgs
      else
        import ../. (
          if options.nixpkgs.hostPlatform.isDefined then
            {
              inherit (config.nixpkgs) overlays;
              localSystem = config.nixpkgs.buildPlatform;
              crossSystem = config.nixpkgs.hostPlatform;
            }
          else
            {
              inherit (config.nixpkgs) overlays;
              localSystem = { inherit (config.nixpkgs) system; };
            }
        );

    networking.proxy.envVars = lib.optionalAttrs (config.networking.proxy.default != null) (
      lib.genAttrs [
        "all_proxy"
        "ftp_proxy"
        "http_proxy"
        "https_proxy"
        "rsync_proxy"
      ] (_: config.networking.proxy.default)
      // {
        no_proxy = "127.0.0.1,localhost";
      }
    );

    systemd.globalEnvironment = {
      LOCALE_ARCHIVE = "/run/current-system/sw/lib/locale/locale-archive";
      TZDIR = "/etc/zoneinfo";
    };
    systemd.units =
      textsOf "path" pathText config.systemd.paths
      // textsOf "service" serviceText config.systemd.services
      // textsOf "socket" socketText config.systemd.sockets
      // textsOf "timer" timerText config.systemd.timers;
    systemd.user.units =
      textsOf "path" pathText config.systemd.user.paths
      // textsOf "service" serviceText config.systemd.user.services;

    # Whoever evaluates a system is told of what it asserts, and has what is in it evaluated.
    system.build.toplevel =
      if failed != [ ] then
        throw "Failed assertions:\n${lib.concatMapStringsSep "\n" (one: "- ${one.message}") failed}"
      else
        pkgs.stdenv.mkDerivation {
          name = "nixos-system-${config.networking.hostName}-${config.system.stateVersion}";
          contents =
            map (file: file.source) (lib.attrValues config.environment.etc)
            ++ config.environment.systemPackages;
          buildCommand = config.system.systemBuilderCommands;
          units = map (unit: unit.text) (
            lib.attrValues config.systemd.units ++ lib.attrValues config.systemd.user.units
          );
        };
  };
}
