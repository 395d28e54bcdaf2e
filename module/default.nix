{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.comin;
  comin = lib.getExe' cfg.package "comin";
  inherit (import ./url.nix) isLocal isSsh isReadableOnTheWay;

  # Keys as in the Go comin; what is null is left to the defaults of the binary.
  given = lib.filterAttrs (_: value: value != null && value != { });
  settings = given {
    inherit (cfg) hostname submodules profile;
    repository_type = cfg.repositoryType;
    repository_subdir = cfg.repositorySubdir;
    system_attr = cfg.systemAttr;
    gpg_public_key_paths = cfg.gpgPublicKeyPaths;
    ssh_allowed_signers_path = cfg.sshAllowedSignersPath;
    ssh_revoked_keys_path = cfg.sshRevokedKeysPath;
    signed_ancestors = cfg.signedAncestors;
    evaluate_as_root = cfg.evaluateAsRoot;
    eval_timeout = cfg.evalTimeout;
    build_timeout = cfg.buildTimeout;
    build_confirmer = cfg.buildConfirmer;
    deploy_confirmer = cfg.deployConfirmer;
    post_deployment_command = cfg.postDeploymentCommand;
    gates = lib.mapAttrs (_: given) gates;
    deploy_window = if cfg.deployWindow == [ ] then null else cfg.deployWindow;
    min_free = cfg.minFree;
    retry = given {
      first_delay = cfg.retry.firstDelay;
      max_delay = cfg.retry.maxDelay;
    };
    health_check = given {
      inherit (cfg.healthCheck) timeout connectivity;
      commands = if cfg.healthCheck.commands == [ ] then null else cfg.healthCheck.commands;
      connectivity_timeout = cfg.healthCheck.connectivityTimeout;
      failed_units = cfg.healthCheck.failedUnits;
    };
    rollback = given { inherit (cfg.rollback) enable timeout; };
    boot_check = given cfg.bootCheck;
    drift = given cfg.drift;
    exporter = { inherit (cfg.exporter) listen_address port; };
    reboot = given cfg.reboot;
    retention = given cfg.retention;
    prebuilt = if cfg.prebuilt == null then null else given cfg.prebuilt;
    remotes = map (remote: {
      inherit (remote)
        name
        url
        timeout
        branches
        ;
      # The rest is the timer's. Where that goes by the calendar, there is no period.
      poller = lib.optionalAttrs (remote.poller.calendar == [ ]) { inherit (remote.poller) period; };
      auth = lib.filterAttrs (_: value: value != "") remote.auth;
    }) cfg.remotes;
  };

  # As the binary has it.
  bootCheck =
    if cfg.bootCheck.enable != null then
      cfg.bootCheck.enable
    else
      cfg.reboot.allow && cfg.rollback.enable != false;

  # The ready-made gates. They need nothing but a shell and systemd's busctl.
  gates =
    lib.optionalAttrs cfg.onACPower {
      ac-power = {
        before = "build";
        command = ''
          for supply in /sys/class/power_supply/*; do
            read -r type <"$supply/type" 2>/dev/null || continue
            read -r scope <"$supply/scope" 2>/dev/null && [ "$scope" = Device ] && continue
            case $type in
            Battery) battery=1 ;;
            *) read -r online <"$supply/online" 2>/dev/null && [ "$online" != 0 ] && exit 0 ;;
            esac
          done
          [ -z "''${battery:-}" ] || { echo "on battery"; exit 75; }
        '';
      };
    }
    // lib.optionalAttrs cfg.unmetered {
      unmetered = {
        before = "build";
        # 1 is yes, and 3 is a guess that it is.
        command = ''
          metered=$(busctl get-property org.freedesktop.NetworkManager /org/freedesktop/NetworkManager \
            org.freedesktop.NetworkManager Metered 2>/dev/null) || exit 0
          case $metered in
          "u 1" | "u 3") echo "the connection is metered"; exit 75 ;;
          esac
        '';
      };
    }
    // lib.listToAttrs (
      map (
        remote:
        lib.nameValuePair "validation-${remote.name}" {
          before = "build";
          command = ''
            case $COMIN_GIT_REF in
            ${lib.escapeShellArg "${remote.name}/"}*) exec ${lib.escapeShellArg remote.validation_hook} ;;
            esac
          '';
        }
      ) (lib.filter (remote: remote.validation_hook != null) cfg.remotes)
    )
    // cfg.gates;

  # A configuration that comin would refuse fails here, before any machine has it. A comin that is built for another
  # kind of machine cannot be run here.
  checkedSettings =
    pkgs.runCommand "comin-config.json"
      {
        json = builtins.toJSON settings;
        passAsFile = [ "json" ];
      }
      ''
        ${lib.optionalString (pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform) ''
          ${comin} check-config "$jsonPath"
          ${lib.concatMapStringsSep "\n" checkCalendar calendars}
        ''}
        cp "$jsonPath" "$out"
      '';

  # systemd ignores a time that it cannot read: the remote would not be fetched until the next boot.
  calendars = lib.concatMap (remote: remote.poller.calendar) cfg.remotes;
  checkCalendar =
    calendar:
    "${config.systemd.package}/bin/systemd-analyze calendar -- ${lib.escapeShellArg (withoutZone calendar)} >/dev/null";
  # The build's sandbox has no time zones. Only a weekday begins with a capital letter as they do.
  withoutZone =
    calendar:
    let
      parts = builtins.match "(.+) ([A-Z][A-Za-z0-9/_+-]*)" calendar;
      isZone = builtins.match "(Mon|Tue|Wed|Thu|Fri|Sat|Sun).*" (builtins.elemAt parts 1) == null;
    in
    if parts != null && isZone then builtins.head parts else calendar;

  units = import ./units.nix {
    inherit comin;
    inherit (cfg) remotes debug;
    exporter = if cfg.exporter.enable then cfg.exporter else null;
    inherit bootCheck;
    desktop = if cfg.desktop.enable then cfg.desktop else null;
  };

  # Its counterpart, ssh-keygen, comes with ssh, which comin.service needs anyway.
  gpg = lib.optional (cfg.gpgPublicKeyPaths != [ ]) pkgs.gnupg;

  # What users may be allowed to order. comin itself refuses all else that pkexec runs it for.
  polkitActions =
    pkgs.runCommand "comin-polkit"
      {
        policy = import ./polkit.nix "/run/current-system/sw/bin/comin";
        passAsFile = [ "policy" ];
      }
      ''
        mkdir -p "$out/share/polkit-1/actions"
        cp "$policyPath" "$out/share/polkit-1/actions/org.comin.policy"
      '';

  byDefault = lib.mapAttrs (_: lib.mkDefault);

  # The deploy and the fetches.
  withGit = removeAttrs units.services [
    "comin-boot-check"
    "comin-commit@"
    "comin-exporter@"
    "comin-fetcher"
  ];

  # Owners may change every setting of a unit, except those that comin relies on. Lists are appended to.
  changeable = lib.mapAttrs (
    _:
    lib.mapAttrs (
      name: value:
      if lib.hasSuffix "Config" name then
        lib.mapAttrs (
          key: setting: if lib.isList setting || lib.elem key fixed then setting else lib.mkDefault setting
        ) value
      else if name == "description" then
        lib.mkDefault value
      else
        value
    )
  );
  fixed = [
    "ExecStart"
    "RuntimeDirectory"
    "RuntimeDirectoryPreserve"
    "StateDirectory"
    "Type"
    "User"
    "X-StopOnRemoval"
  ];

  # The values of Environment= are subject to systemd's specifiers, and a proxy's password is percent-encoded.
  variables = lib.mapAttrs (_: lib.replaceStrings [ "%" ] [ "%%" ]);
  # Where `<nixpkgs>` is. Units have nothing of what sessions have.
  nixPath = lib.optionalAttrs (cfg.repositoryType == "nix") (
    variables (builtins.intersectAttrs { NIX_PATH = null; } config.environment.sessionVariables)
  );
  # Fetches use the proxy and the certificates of comin.service, which may have some of its own.
  network = lib.filterAttrs (
    name: _: builtins.match "[a-z]+_proxy|[A-Z]+_PROXY|.*SSL_C.*" name != null
  ) config.systemd.services.comin.environment;

  names = map (remote: remote.name) cfg.remotes;
  # Of a unit, and of a ref.
  isSafe =
    name:
    builtins.match "[A-Za-z0-9][A-Za-z0-9_-]*([.][A-Za-z0-9_-]+)*" name != null
    && !lib.hasSuffix ".lock" name
    && lib.stringLength name <= 64;
  # Units `comin-<name>` that are not a remote's.
  reserved = [
    "boot-check"
    "dead-man"
    "exporter"
    "fetcher"
  ];

  aboutRemotes = [
    {
      assertion = cfg.remotes != [ ];
      message = "services.comin.remotes is empty: name a repository, or set services.comin.enable to false.";
    }
    {
      assertion = cfg.remotes == [ ] || lib.any (remote: remote.branches.main.name != "") cfg.remotes;
      message =
        "services.comin.remotes.*.branches.main.name is empty for every remote:"
        + " name the branch to deploy for at least one of them.";
    }
    {
      assertion = lib.allUnique names;
      message =
        "services.comin.remotes.*.name: ${lib.concatMapStringsSep ", " builtins.toJSON (duplicates names)} is used"
        + " more than once. Each remote has units of its own: choose different names.";
    }
  ]
  ++ map (name: {
    assertion = isSafe name;
    message =
      "services.comin.remotes.*.name: ${builtins.toJSON name} cannot be part of a unit's name."
      + " Use at most 64 letters, digits, -, _ and single dots. Begin with a letter or a digit, and end neither in"
      + " a dot nor in .lock.";
  }) names
  ++ lib.concatMap aboutUrl cfg.remotes
  ++ lib.concatMap (
    remote:
    lib.mapAttrsToList (option: file: {
      assertion = builtins.match "(/[A-Za-z0-9/._:@%+=,~-]{0,200})?" file != null;
      message =
        "services.comin.remotes.*.auth.${option}: systemd cannot hand ${builtins.toJSON file} to the unit of"
        + " remote ${remote.name}. Use an absolute path of at most 200 letters, digits and /._:@%+=,~-.";
    }) (removeAttrs remote.auth [ "username" ])
  ) cfg.remotes
  ++ map (name: {
    assertion = !lib.elem name reserved;
    message =
      "services.comin.remotes.*.name: \"${name}\" is reserved:"
      + " comin-${name}.service is for something else. Choose another name.";
  }) names;
  duplicates = names: lib.unique (lib.filter (name: lib.count (n: n == name) names > 1) names);

  aboutUrl =
    remote:
    let
      inherit (remote) name url auth;
      about = option: "services.comin.remotes.*.${option}: remote ${name} ";
      unused = option: where: {
        assertion = auth.${option} == "";
        message = about "auth.${option}" + "is ${where}. Remove it.";
      };
    in
    if isLocal url then
      map (option: unused option "on this machine, and needs no credentials") [
        "access_token_path"
        "ssh_deploy_key_path"
        "ssh_known_hosts_path"
      ]
    else if isSsh url then
      [
        (unused "access_token_path" "on an SSH server, which takes no token")
        {
          assertion = auth.ssh_deploy_key_path != "";
          message =
            about "auth.ssh_deploy_key_path"
            + "is on an SSH server. Name the file of a key that may read the repository.";
        }
      ]
    else
      [
        (unused "ssh_deploy_key_path" "on an HTTP server, which takes no key")
        (unused "ssh_known_hosts_path" "on an HTTP server, which has no host key")
        {
          assertion = auth.access_token_path == "" || !isReadableOnTheWay url;
          message =
            about "auth.access_token_path"
            + "would get the token by http://, which everybody on the way can read. Use https://.";
        }
        {
          assertion = builtins.match "https?://[^/]*:[^/]*@.*" url == null;
          message =
            about "url"
            + "has a password in its URL, which everybody can read in the Nix store."
            + " Put it into a file, and name that in auth.access_token_path.";
        }
      ];

  # Files that may be in the store have to stay there.
  aboutFiles = lib.concatLists (
    lib.mapAttrsToList
      (
        option: files:
        map (value: {
          assertion = !lib.hasInfix "${builtins.storeDir}/" value || builtins.hasContext value;
          message =
            "services.comin.${option}: a garbage collection would remove ${builtins.toJSON value}, because Nix does not"
            + " know that the system needs it. Write the path without toString, as in ./keys/alice.asc.";
        }) (map (file: "${file}") (lib.filter (file: file != null) files))
      )
      {
        inherit (cfg) gpgPublicKeyPaths;
        sshAllowedSignersPath = [ cfg.sshAllowedSignersPath ];
        sshRevokedKeysPath = [ cfg.sshRevokedKeysPath ];
        postDeploymentCommand = [ cfg.postDeploymentCommand ];
        "healthCheck.commands" = cfg.healthCheck.commands;
        "gates.*.command" = lib.mapAttrsToList (_: gate: gate.command) gates;
        "remotes.*.auth.ssh_known_hosts_path" = map (remote: remote.auth.ssh_known_hosts_path) cfg.remotes;
      }
  );

  # Files that must not be in the store.
  aboutSecrets = lib.concatMap (
    remote:
    map
      (
        option:
        "services.comin.remotes.*.auth.${option}: everybody can read the file of remote ${remote.name}, because it is"
        + " in the Nix store. Name a file outside of it, such as /run/secrets/${remote.name}."
      )
      (
        lib.filter (option: lib.hasPrefix "${builtins.storeDir}/" remote.auth.${option}) [
          "access_token_path"
          "ssh_deploy_key_path"
        ]
      )
  ) cfg.remotes;

  identity = {
    inherit (cfg) hostname;
    machine_id = cfg.machineId;
    revision = config.system.configurationRevision;
  };

  hasConfirmer = lib.any (confirmer: confirmer.mode != "without") [
    cfg.buildConfirmer
    cfg.deployConfirmer
  ];

  users = {
    comin = "Fetches of comin";
  }
  // lib.optionalAttrs (!cfg.evaluateAsRoot) { comin-eval = "Evaluations of comin"; };

  # Whom the daemon of Nix serves.
  isServed = user: lib.elem user (config.nix.settings.allowed-users or [ "*" ] ++ config.nix.settings.trusted-users or [ ]);

  aboutUnits = map (
    unit:
    let
      inherit (config.systemd.services.${unit}) serviceConfig;
    in
    {
      assertion =
        !lib.elem (serviceConfig.Restart or "no") [
          "always"
          "on-success"
        ];
      message =
        "systemd.services.${builtins.toJSON unit}.serviceConfig.Restart = \"${serviceConfig.Restart}\" would start it over and"
        + " over, and systemd refuses it for a oneshot. Remove it: a timer or path unit starts comin again.";
    }
  ) (lib.attrNames units.services);
in
{
  imports = [
    ./options.nix
    ./alerts.nix
  ];

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.hostname != "";
        message =
          "services.comin.hostname is empty: set it, or networking.hostName,"
          + " to the name of this machine's configuration.";
      }
    ]
    ++ aboutRemotes
    ++ aboutFiles
    ++ aboutUnits
    ++ [
      {
        # comin reads it from the evaluated configuration; nothing else would evaluate it before.
        assertion = cfg.machineId == null || builtins.match "[0-9a-f]{32}" cfg.machineId != null;
        message =
          "services.comin.machineId: ${builtins.toJSON cfg.machineId} is not the content of an /etc/machine-id."
          + " Use its 32 lower-case hexadecimal digits, or null for any machine.";
      }
      {
        assertion = lib.elem cfg.systemAttr [
          null
          ""
        ] || cfg.repositoryType == "nix";
        message =
          "services.comin.systemAttr: of a flake, services.comin.hostname selects the configuration. Remove it, or"
          + " set services.comin.repositoryType to \"nix\".";
      }
      {
        assertion = builtins.match "[0-9a-fA-F.:]*" cfg.exporter.listen_address != null;
        message =
          "services.comin.exporter.listen_address: ${builtins.toJSON cfg.exporter.listen_address} is not an IP"
          + " address. Use one of this machine's, such as \"127.0.0.1\", or \"\" for all of them.";
      }
      {
        assertion = builtins.match "[^[:cntrl:]]*" cfg.desktop.title != null;
        message = "services.comin.desktop.title: ${builtins.toJSON cfg.desktop.title} is no line of text.";
      }
      {
        assertion = cfg.prebuilt == null || cfg.prebuilt.notes != null || cfg.prebuilt.url != null;
        message =
          "services.comin.prebuilt: nothing tells which systems are built. Set services.comin.prebuilt.notes or"
          + " services.comin.prebuilt.url, or set services.comin.prebuilt to null.";
      }
      {
        assertion =
          cfg.evaluateAsRoot
          || lib.any isServed [
            "*"
            "comin-eval"
            "@comin-eval"
          ];
        message =
          "nix.settings.allowed-users: the daemon of Nix would not serve the user comin-eval, who evaluates for comin."
          + " Add \"comin-eval\", or set services.comin.evaluateAsRoot.";
      }
      {
        assertion = cfg.exporter.openFirewall -> cfg.exporter.enable;
        message =
          "services.comin.exporter.openFirewall opens a port at which nobody listens: set"
          + " services.comin.exporter.enable, or remove it.";
      }
    ];

    warnings =
      aboutSecrets
      ++
        lib.optional config.system.autoUpgrade.enable
          "system.autoUpgrade.enable: it and services.comin undo each other's deployments. Set it to false."
      ++ lib.optional (cfg.desktop.enable && hasConfirmer && !config.security.polkit.enable) (
        "services.comin.desktop.enable: nobody can confirm a deployment on the desktop without polkit. Set"
        + " security.polkit.enable, or confirm with `sudo comin confirm`."
      );

    environment.etc."comin/config.json".source = checkedSettings;
    # For `comin status` and its like, which verify signatures as well.
    environment.systemPackages = [
      cfg.package
    ]
    ++ gpg
    ++ lib.optional config.security.polkit.enable polkitActions;

    # By these, a machine tells that a system which CI has built is its own, and of which commit it is.
    system.systemBuilderCommands = ''
      printf %s ${lib.escapeShellArg (builtins.toJSON identity)} >"$out/comin.json"
    '';

    # Who fetches, and who evaluates. Two users, so that neither can change what the other does.
    users.users = lib.mapAttrs (user: description: {
      isSystemUser = true;
      group = user;
      inherit description;
    }) users;
    users.groups = lib.mapAttrs (_: _: { }) users;

    networking.firewall.allowedTCPPorts = lib.optional cfg.exporter.openFirewall cfg.exporter.port;

    systemd = {
      services = lib.mkMerge [
        (changeable units.services)
        (lib.mapAttrs (_: _: {
          # comin fetches with git, and so does Nix.
          path = [ pkgs.gitMinimal ];
        }) withGit)
        (lib.mapAttrs (_: _: { environment = byDefault network; }) (removeAttrs withGit [ "comin" ]))
        (lib.listToAttrs (
          map (remote: lib.nameValuePair "comin-${remote.name}" { path = [ config.programs.ssh.package ]; }) (
            lib.filter (remote: isSsh remote.url) cfg.remotes
          )
        ))
        {
          comin = {
            path = [
              config.nix.package
              config.programs.ssh.package
              # wall, which announces reboots.
              pkgs.util-linux
            ]
            ++ gpg;
            environment = byDefault (
              variables config.networking.proxy.envVars
              // nixPath
              // {
                # Nix keeps its evaluation cache there, and git and ssh look for their settings.
                HOME = "/root";
              }
            );
          };
        }
      ];
      sockets = changeable units.sockets;
      timers = changeable units.timers;
      paths = changeable units.paths;
      user = {
        services = lib.mkMerge [
          (changeable units.user.services)
          (lib.mapAttrs (_: _: {
            path = [
              # pkexec, and the comin that it may run.
              "/run/wrappers"
              "/run/current-system/sw"
              pkgs.libnotify
            ];
          }) units.user.services)
        ];
        paths = changeable units.user.paths;
      };
    };
  };
}
