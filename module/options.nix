{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.comin;

  # What is null is left to comin itself, which has the default.
  own = default: {
    default = null;
    defaultText = lib.literalExpression default;
  };

  # The path of a file that everybody may read. A path of Nix's is copied into the store, and kept there.
  publicFile = types.coercedTo types.path (file: "${file}") types.str;

  branch =
    {
      default,
      defaultText ? default,
      operation,
      description,
      name,
    }:
    mkOption {
      inherit description;
      default = { };
      type = types.submodule {
        options = {
          name = mkOption {
            type = types.str;
            inherit default defaultText;
            description = name;
          };
          operation = mkOption {
            type = types.enum [
              "switch"
              "test"
              "boot"
            ];
            default = operation;
            description = ''
              How {command}`switch-to-configuration` activates a commit of this branch. `switch`: now and for all
              later boots. `boot`: only for later boots. `test`: now, until the next boot.
            '';
          };
        };
      };
    };

  timeout =
    what: default:
    mkOption (
      own default
      // {
        type = types.nullOr types.ints.unsigned;
        description = "Seconds after which ${what} is stopped; `0` is no limit.";
      }
    );

  # With defaults of the module, as in the Go comin: others may read them.
  capacity =
    default: description:
    mkOption {
      inherit default description;
      type = types.ints.positive;
    };

  confirmer =
    what:
    mkOption {
      description = "Whether somebody must confirm each commit before its system is ${what}.";
      default = { };
      type = types.submodule {
        options = {
          mode = mkOption {
            type = types.enum [
              "without"
              "auto"
              "manual"
            ];
            default = "without";
            description = ''
              `without`: continue at once. `manual`: wait for {command}`comin confirm`, also across reboots. `auto`:
              wait `autoconfirm_duration` seconds for an objection ({command}`comin suspend`, or a newer commit),
              then continue with the next fetch.
            '';
          };
          autoconfirm_duration = mkOption {
            type = types.ints.unsigned;
            default = 120;
            description = "Seconds that `auto` waits for an objection.";
          };
        };
      };
    };

  timeOfDay =
    description: example:
    mkOption {
      inherit description example;
      type = types.strMatching "([01][0-9]|2[0-3]):[0-5][0-9]";
    };

  windows = {
    lower = timeOfDay "The beginning of the window." "01:00";
    upper = timeOfDay ''
      The end of the window. If it is before the beginning, the window spans midnight. The same time as the beginning is
      allowed only with `days`, and means whole days.
    '' "05:00";
    days = mkOption {
      type = types.listOf (
        types.enum [
          "mon"
          "tue"
          "wed"
          "thu"
          "fri"
          "sat"
          "sun"
        ]
      );
      default = [ ];
      example = [
        "sat"
        "sun"
      ];
      description = "The days on which the window opens; empty for every day.";
    };
  };

  remote =
    { config, ... }:
    {
      options = {
        name = mkOption {
          type = types.str;
          example = "origin";
          description = ''
            Name of the remote. Its units are `comin-<name>.service`, `.timer` and `.path`. Use at most 64 letters,
            digits, `-`, `_` and single dots. Begin with a letter or a digit, and do not end with a dot or `.lock`.
          '';
        };
        url = mkOption {
          type = types.str;
          example = "https://git.example.org/machines.git";
          description = ''
            The Git repository: an absolute path on this machine, `file://`, `https://`, `http://`,
            `ssh://[user@]host[:port]/path`, or `user@host:path`.
          '';
        };
        auth = {
          access_token_path = mkOption {
            type = types.str;
            default = "";
            example = "/run/secrets/git-token";
            description = ''
              File on the machine with the token or password for the remote; empty for none. Keep the file out of the
              Nix store, which everybody can read. comin sends it by HTTP's basic authentication. The fetches of other
              remotes cannot read the file.
            '';
          };
          username = mkOption {
            type = types.str;
            default = "comin";
            description = ''
              User name that belongs to the token. GitHub and GitLab take any. With SSH, the user if
              {option}`services.comin.remotes.*.url` names none.
            '';
          };
          ssh_deploy_key_path = mkOption {
            type = types.str;
            default = "";
            example = "/run/secrets/deploy-key";
            description = ''
              File on the machine with a private key without a passphrase; empty for none. Required for SSH: comin
              tries no key of root and asks no agent. {file}`/etc/ssh/ssh_host_ed25519_key` will do, if the server
              allows its public key.
            '';
          };
          ssh_known_hosts_path = mkOption {
            type = publicFile;
            default = "";
            example = "/run/secrets/known_hosts";
            description = ''
              File on the machine with the trusted host keys. If empty, comin uses {file}`/etc/ssh/ssh_known_hosts`,
              which {option}`programs.ssh.knownHosts` writes. Servers with other keys are refused.
            '';
          };
        };
        timeout = mkOption {
          type = types.ints.unsigned;
          default = 300;
          description = "Seconds after which a fetch is stopped; `0` is no limit.";
        };
        validation_hook = mkOption {
          type = types.nullOr publicFile;
          default = null;
          example = lib.literalExpression ''pkgs.writeShellScript "validate" "exit 0"'';
          description = ''
            Program that root runs before a commit of this remote is built; null for none. It is a gate as in
            {option}`services.comin.gates`.
          '';
        };
        branches = {
          main = branch {
            default = "main";
            operation = "switch";
            name = "Name of the branch. If empty, the remote is for testing only. At least one remote needs a main.";
            description = "The branch that is deployed.";
          };
          testing = branch {
            default = "testing-${cfg.hostname}";
            defaultText = lib.literalExpression ''"testing-''${config.services.comin.hostname}"'';
            operation = "test";
            name = "Name of the branch; empty for no testing.";
            description = "The branch for tests. Its commits on top of main are deployed instead of main.";
          };
        };
        poller = {
          period = mkOption {
            type = types.ints.positive;
            default = 60;
            example = 300;
            apply = period: if config.watch != [ ] && period < 60 then 60 else period;
            description = ''
              Seconds between the end of one fetch and the start of the next. A watched repository (see `watch`) is
              fetched when it changes. Its timer is only a fallback, so a period below 60 counts as 60.
            '';
          };
          calendar = mkOption {
            type = types.coercedTo types.nonEmptyStr lib.singleton (types.listOf types.nonEmptyStr);
            default = [ ];
            example = [
              "Mon..Fri 06:00"
              "Sat 09:30"
            ];
            description = ''
              Times at which to fetch, instead of `period`. The format is that of {manpage}`systemd.time(7)`, section
              CALENDAR EVENTS. comin also fetches once after every boot. A time that systemd cannot read is refused
              when the system is built, but the time zone is not checked.
            '';
          };
          jitter = mkOption {
            type = types.nullOr types.ints.unsigned;
            default = null;
            defaultText = lib.literalMD ''
              a tenth of a `period` of 60 or more, at most 60. 60 with `calendar`. 0 for a path on this machine
            '';
            description = ''
              Each fetch waits up to this number of seconds longer, so that many machines do not ask a server at once.
              A machine always waits the same time, and other machines wait other times. `0` is no delay.
            '';
          };
        };
        watch = mkOption {
          type =
            let
              folder = types.strMatching "/([^\n]*[^\n\\])?" // {
                description = "path";
              };
            in
            types.coercedTo (types.nullOr folder) (one: if one == null then [ ] else [ one ]) (types.listOf folder);
          default = (import ./url.nix).watchesOf config.url config.branches;
          defaultText = lib.literalMD ''
            the directories of the branches of a repository on this machine, below `refs/heads`. Otherwise none
          '';
          example = "/home/me/machines/.git/refs/heads";
          description = ''
            Directories whose changes start a fetch at once; null or an empty list for none. For a linked work tree, name
            `refs/heads` of its main repository. For a repository with reftable, name its directory `reftable`. For a
            network file system or FUSE, use null, because the kernel does not report the changes of other machines.
          '';
        };
      };
    };
in
{
  imports = [
    (lib.mkRenamedOptionModule
      [
        "services"
        "comin"
        "flakeSubdirectory"
      ]
      [
        "services"
        "comin"
        "repositorySubdir"
      ]
    )
  ];

  options.services.comin = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = "Whether this machine deploys its configuration from Git.";
    };
    package = mkOption {
      type = types.package;
      default = pkgs.comin or (pkgs.callPackage ./package.nix { });
      defaultText = lib.literalMD ''
        `pkgs.comin` if an overlay has it, else the package of this module's flake, cross-built if the system is
      '';
      description = "The package of comin.";
    };
    hostname = mkOption {
      type = types.str;
      default = config.networking.hostName;
      defaultText = lib.literalExpression "config.networking.hostName";
      description = ''
        Name of this machine's configuration in the flake. comin deploys
        `nixosConfigurations."<hostname>".config.system.build.toplevel`.
      '';
    };
    machineId = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "0123456789abcdef0123456789abcdef";
      description = ''
        Only deploy on the machine with this {file}`/etc/machine-id` (32 lower-case hexadecimal digits); null is any
        machine. Useful while you move a host to new hardware and both machines follow the same repository.

        comin reads this from the configuration that it evaluates, and not from its own.
      '';
    };
    repositoryType = mkOption {
      type = types.enum [
        "flake"
        "nix"
      ];
      default = "flake";
      description = ''
        What the repository contains: `flake` is a {file}`flake.nix`, `nix` is a {file}`default.nix`. With `nix`,
        {option}`services.comin.systemAttr` names this machine, and `<nixpkgs>` is that of the machine's
        {option}`nix.nixPath`.
      '';
    };
    repositorySubdir = mkOption {
      type = types.str;
      default = ".";
      example = "machines";
      description = ''
        Directory in the repository with {file}`flake.nix` or {file}`default.nix`; `.` is the top.
      '';
    };
    systemAttr = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "hosts.web";
      description = ''
        Attribute of {file}`default.nix` that is this machine, if the repository is not a flake. It is the result of
        `import <nixpkgs/nixos>`, `pkgs.nixos` or `lib.nixosSystem`, or another set with `toplevel`. Null is the whole
        of {file}`default.nix`. {option}`services.comin.machineId` counts only if the attribute has `config`.
      '';
    };
    submodules = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether the submodules of the repository are part of the configuration. A relative URL of a submodule is
        relative to the URL of the remote.
      '';
    };
    remotes = mkOption {
      type = types.listOf (types.submodule remote);
      default = [ ];
      example = lib.literalExpression ''
        [
          {
            name = "origin";
            url = "https://git.example.org/machines.git";
          }
          {
            name = "local";
            url = "/home/me/machines";
            branches.main.name = ""; # for testing only
          }
        ]
      '';
      description = ''
        The repositories to follow. If several remotes have newer commits, the first one in the list wins. If several
        modules name remotes, `lib.mkBefore` and `lib.mkAfter` decide which come first.
      '';
    };
    gpgPublicKeyPaths = mkOption {
      type = types.listOf publicFile;
      default = [ ];
      example = lib.literalExpression "[ ./keys/alice.asc ]";
      description = ''
        Files with armored public GPG keys, as {command}`gpg --armor --export` writes them. If this or
        {option}`services.comin.sshAllowedSignersPath` is set, only commits that one of these keys signed are deployed.
        Everybody who runs {command}`comin status` must be able to read the files. If a file changes at the same
        path, the new keys count from the next deploy on. {command}`comin retry` starts one.
      '';
    };
    sshAllowedSignersPath = mkOption {
      type = types.nullOr publicFile;
      default = null;
      example = lib.literalExpression "./keys/allowed_signers";
      description = ''
        File with the SSH keys that may sign commits; null or empty for none. The format is that of
        {manpage}`ssh-keygen(1)`, section ALLOWED SIGNERS, with `cert-authority` and the like. `valid-before` and
        `valid-after` are compared with the current time.
      '';
    };
    sshRevokedKeysPath = mkOption {
      type = types.nullOr publicFile;
      default = null;
      example = lib.literalExpression "./keys/revoked_keys";
      description = ''
        File with SSH keys and certificates that no longer count; null or empty for none. The file has a public key on
        each line, or is a key revocation list of {command}`ssh-keygen -k`.
      '';
    };
    signedAncestors = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether comin deploys the newest signed ancestor, among the latest 100 commits, if the head of a branch is not
        signed. If off, the branch waits for a signed head.
      '';
    };
    exporter = {
      enable = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether to serve metrics for Prometheus at `/metrics`. systemd listens, and starts comin for each request.
        '';
      };
      listen_address = mkOption {
        type = types.str;
        default = "";
        example = "127.0.0.1";
        description = "IP address at which the metrics are served; empty for all addresses of the machine.";
      };
      port = mkOption {
        type = types.port;
        default = 4243;
        description = "TCP port at which the metrics are served.";
      };
      openFirewall = mkOption {
        type = types.bool;
        default = false;
        description = ''
          Whether the firewall lets others reach the port. Everybody who reaches it can see which commits are
          deployed.
        '';
      };
    };
    prometheusRules.enable = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether the Prometheus of this machine ({option}`services.prometheus`) gets alert rules for machines with
        comin. It must scrape them in a job named `comin`. The machine itself need not have comin.
      '';
    };
    prometheusRules.after = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = {
        CominDrifted = "6h";
        CominSuspended = "7d";
      };
      description = ''
        How long the cause of an alert must last before the alert fires, by the name of the alert. The names, and the
        times of the others, are in `module/alerts.yml`.
      '';
    };
    evaluateAsRoot = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether root evaluates the configuration. If off, the user `comin-eval` evaluates it through the Nix daemon, with
        the credentials of the remotes and Nix's access tokens. This user has no other file or key of root.

        Set this if the configuration needs files that only root can read, keys of root for flake inputs,
        or inputs in Git repositories on the machine.
      '';
    };
    evalTimeout = timeout "an evaluation" "1800";
    buildTimeout = timeout "a build" "0";
    buildConfirmer = confirmer "built";
    deployConfirmer = confirmer "activated";
    desktop = {
      enable = mkOption {
        type = types.bool;
        default = false;
        description = ''
          Whether desktop users are notified of deployments, and asked for confirmations with a button and a password.
          Needs a notification server, which desktops have, and {option}`security.polkit.enable`.
        '';
      };
      title = mkOption {
        type = types.str;
        default = "comin";
        description = "Title of the notifications.";
      };
    };
    postDeploymentCommand = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = lib.literalExpression ''pkgs.writeShellScript "notify" "echo $COMIN_GIT_SHA: $COMIN_STATUS"'';
      description = ''
        Program that root runs after each deployment, also after a failed one; null for none. It is stopped after ten
        minutes. A failure of the program is only logged.

        Its environment has `COMIN_GIT_SHA`, `COMIN_GIT_REF` (`remote/branch`), `COMIN_GIT_MSG`, `COMIN_HOSTNAME`,
        `COMIN_FLAKE_URL`, `COMIN_GENERATION` (if the profile has a new one), `COMIN_STATUS` (`done`, `failed`,
        `rolled_back`, `skipped`), `COMIN_ERROR_MSG` and `COMIN_OUT` (the path of the system).
      '';
    };
    retry = {
      firstDelay = mkOption (
        own "60"
        // {
          type = types.nullOr types.ints.positive;
          description = ''
            Seconds until comin tries again after a failed evaluation or build. Each further wait is twice as long.
          '';
        }
      );
      maxDelay = mkOption (
        own "3600"
        // {
          type = types.nullOr types.ints.positive;
          description = "The longest wait before the next try, in seconds.";
        }
      );
    };
    prebuilt = mkOption {
      type = types.nullOr (
        types.submodule {
          options = {
            notes = mkOption {
              type = types.nullOr types.str;
              default = "comin";
              description = ''
                Name of the Git notes in which CI names the systems that it has built. comin fetches
                `refs/notes/<name>` from each remote. The note of a commit has a line `<hostname> <store path>` for each
                machine, and the last line of a machine counts. Null if only {option}`services.comin.prebuilt.url` is
                asked.
              '';
            };
            url = mkOption {
              type = types.nullOr types.str;
              default = null;
              example = "https://ci.example.org/systems/{hostname}/{commit}";
              description = ''
                Address that answers with the store path of a system, as text or within JSON, if the notes do not name
                one. comin replaces `{hostname}`, `{commit}` and `{branch}`. HTTP status 404 means that there is no
                system yet. Every system must tell its commit then: set {option}`system.configurationRevision`.
              '';
            };
            otherwise = mkOption {
              type = types.enum [
                "wait"
                "evaluate"
              ];
              default = "wait";
              description = ''
                What happens to a commit whose system CI does not name. `wait` keeps the running system until CI does.
                `evaluate` lets this machine evaluate and build the commit after
                {option}`services.comin.prebuilt.patience`.
              '';
            };
            patience = mkOption (
              own "3600"
              // {
                type = types.nullOr types.ints.unsigned;
                description = "Seconds until `otherwise = \"evaluate\"` evaluates a commit that CI has not built.";
              }
            );
          };
        }
      );
      default = null;
      example = { };
      description = ''
        Deploys systems that CI has built: comin fetches them from the binary caches of this machine, and neither
        evaluates nor builds. Null lets this machine evaluate and build every commit. Whoever has a key of
        {option}`nix.settings.trusted-public-keys` and may push to the repository can become root on this machine.
      '';
    };
    gates = mkOption {
      type = types.attrsOf (
        types.submodule {
          options = {
            before = mkOption {
              type = types.enum [
                "build"
                "deploy"
                "reboot"
              ];
              description = ''
                What the gate stands before: `build` a build, `deploy` an activation, `reboot` a reboot of
                {option}`services.comin.reboot.allow`.
              '';
            };
            command = mkOption {
              type = types.str;
              example = "test ! -e /run/maintenance || { echo 'maintenance'; exit 75; }";
              description = ''
                Command that root's {command}`/bin/sh` runs. Exit code 0 lets the deployment pass. With 75 it waits,
                and the gate is asked again at each poll, at most once a minute. With any other exit code the commit is
                held: comin leaves it alone until somebody pushes or runs {command}`comin retry`. The last line that the
                command prints is the reason in {command}`comin status`.

                The command finds the variables of {option}`services.comin.postDeploymentCommand`, and the programs in
                {option}`systemd.services.comin.path`.
              '';
            };
            timeout = mkOption {
              type = types.nullOr types.ints.positive;
              inherit (own "60") default defaultText;
              description = "Seconds after which the command is stopped. The deployment waits then, as with exit code 75.";
            };
          };
        }
      );
      default = { };
      example = {
        maintenance = {
          before = "deploy";
          command = "test ! -e /run/maintenance || { echo 'maintenance'; exit 75; }";
        };
      };
      description = ''
        Commands that must let a deployment pass. comin asks them in the order of their names. The first gate that is closed
        decides, and no gate after it is asked. {command}`comin confirm --past-gates` lets one commit pass all of them.
      '';
    };
    deployWindow = mkOption {
      type = types.listOf (types.submodule { options = windows; });
      default = [ ];
      example = [
        {
          lower = "22:00";
          upper = "05:00";
          days = [
            "mon"
            "tue"
            "wed"
            "thu"
          ];
        }
      ];
      description = ''
        The local times in which a commit of a main branch may be activated; empty for any time. Before the window
        opens, the commit is evaluated and built. A testing branch is activated at any time.
      '';
    };
    minFree = mkOption {
      type = types.nullOr types.ints.unsigned;
      inherit (own "0") default defaultText;
      example = lib.literalExpression "5 * 1024 * 1024 * 1024";
      description = "Bytes that must be free on the disk of {file}`/nix/store` before a system is built.";
    };
    onACPower = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether a laptop builds only while it is plugged in. This is the gate `ac-power` in
        {option}`services.comin.gates`. A machine without a battery always builds.
      '';
    };
    unmetered = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether the machine builds only while NetworkManager does not take the connection for a metered one, such as
        that of a phone. This is the gate `unmetered` in {option}`services.comin.gates`. Without NetworkManager, the
        machine always builds.
      '';
    };
    healthCheck = {
      commands = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "curl --fail --silent http://localhost/health" ];
        description = ''
          Commands that root's {command}`/bin/sh` runs after each activation by `switch` or `test`, one after the
          other. If one fails, the previous system is activated again. Commands find the programs in
          {option}`systemd.services.comin.path`.
        '';
      };
      timeout = timeout "one of `healthCheck.commands`" "60";
      connectivity = mkOption (
        own "true"
        // {
          type = types.nullOr types.bool;
          description = ''
            After an activation, require that at least one remote that was reachable before still is; otherwise roll
            back. If the remote is reachable after the rollback, the commit is held; if not, it is retried when the
            remote returns. Repositories on this machine count only if no server was reachable before.
          '';
        }
      );
      connectivityTimeout = mkOption (
        own "120"
        // {
          type = types.nullOr types.ints.unsigned;
          description = "Seconds within which a remote must be reachable.";
        }
      );
      failedUnits = mkOption (
        own "false"
        // {
          type = types.nullOr types.bool;
          description = ''
            Roll back if the new system makes units fail that did not fail before. If off, the system stays and the
            failed units are reported.
          '';
        }
      );
    };
    rollback = {
      enable = mkOption (
        own "true"
        // {
          type = types.nullOr types.bool;
          description = "Whether to activate the previous system again if the new one fails its checks.";
        }
      );
      timeout = mkOption (
        own "900"
        // {
          type = types.nullOr types.ints.unsigned;
          description = ''
            Seconds that an activation and its checks may take together. After that, a systemd timer rolls back, even
            if comin is dead. `0` is no limit.
          '';
        }
      );
    };
    bootCheck = {
      enable = mkOption {
        type = types.nullOr types.bool;
        default = null;
        defaultText = lib.literalExpression "config.services.comin.reboot.allow && config.services.comin.rollback.enable != false";
        description = ''
          Whether comin checks the machine after the first boot of a system that it deployed. A remote must answer,
          as with {option}`services.comin.healthCheck.connectivity`, and the other health checks apply. If a check
          fails, comin makes the previous system boot next, and reboots the machine once. It leaves the commit alone
          until somebody pushes or runs {command}`comin retry`. A testing branch is not checked. Nothing is checked while comin
          is suspended.
        '';
      };
      timeout = mkOption (
        own "300"
        // {
          type = types.nullOr types.ints.unsigned;
          description = "Seconds within which the machine must pass the checks after the boot.";
        }
      );
    };
    drift = {
      heal = mkOption (
        own "false"
        // {
          type = types.nullOr types.bool;
          description = ''
            Whether comin activates again what it activated last if the machine runs or boots something else, for example
            after a {command}`nixos-rebuild switch`. Nothing is evaluated for that. comin heals at most three times in 24
            hours. A drift stays while comin is suspended, or while the selected commit waits or is held. It also stays after
            {command}`comin rollback`, and after another entry was chosen in the boot menu.
          '';
        }
      );
      grace = mkOption (
        own "3600"
        // {
          type = types.nullOr types.ints.unsigned;
          description = ''
            Seconds between the poll that sees the drift and the healing. Another system, activated in the meantime, begins
            this time anew.
          '';
        }
      );
    };
    reboot = {
      allow = mkOption {
        type = types.bool;
        default = false;
        description = ''
          Whether comin reboots the machine if a deployment needs that. Reasons are another kernel, initrd or kernel
          modules, {option}`system.autoUpgrade.rebootTriggers`, or a system that starts only at the next boot. comin
          reboots once for each deployment. It waits while somebody holds a shutdown lock
          ({command}`systemd-inhibit --what=shutdown`), and while comin is suspended.
        '';
      };
      window = mkOption {
        type = types.nullOr (
          types.submodule { options = windows; }
        );
        default = null;
        description = "The local time in which comin may reboot the machine; null is any time.";
      };
      delay = mkOption (
        own "60"
        // {
          type = types.nullOr types.ints.unsigned;
          description = ''
            Seconds between the announcement of a reboot and the reboot. The journal and everybody who is logged in get
            the announcement. {command}`comin suspend` prevents the reboot.
          '';
        }
      );
    };
    # Written with underscores in the Go comin, too.
    retention = {
      deployment_boot_entry_capacity = capacity 3 ''
        How many different systems that comin deployed with `switch` or `boot` stay in the profile and the boot menu.
        comin removes older generations that it created itself. It keeps the running and the booted system, the
        next boot and the way back. It never touches generations made by anyone else: those are {option}`nix.gc`'s.
        The boot menu loses removed generations with the next deployment.
      '';
      deployment_successful_capacity = capacity 3 ''
        How many successful deployments keep their systems from Nix's garbage collection.
      '';
      deployment_any_capacity = capacity 5 ''
        How many deployments, also failed ones, keep their systems from Nix's garbage collection, so that they need
        not be built again. comin remembers the latest 100.
      '';
    };
    profile = mkOption (
      own "\"system\""
      // {
        type = types.nullOr types.str;
        example = "comin";
        description = ''
          Name of the profile that gets a generation for each deployment by `switch` or `boot`. `system` is the profile
          of {command}`nixos-rebuild` and of every boot loader. Any other lies in
          {file}`/nix/var/nix/profiles/system-profiles`.
        '';
      }
    );
    debug = mkOption {
      type = types.bool;
      default = false;
      description = "Whether comin logs in detail what it does. Secrets are never logged.";
    };
  };
}
