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
    defaultText = lib.literalMD "`null`, which is comin's own: ${default}";
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
              What {command}`switch-to-configuration` is asked to do with a commit of this branch: `switch` activates
              it now and for the next boots, `boot` for the next boots only, `test` until the next boot.
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
        description = "Seconds after which ${what} is given up; 0 is never.";
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
      description = "Whether somebody has to confirm each commit before its system is ${what}.";
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
              `without` goes on at once. `manual` waits, across reboots, for {command}`comin confirm`. `auto` does
              so for a time, after which it goes on by itself, at the next fetch; {command}`comin suspend` or another
              commit keeps it from that. Where another commit is to be deployed meanwhile, that is asked for
              instead.
            '';
          };
          autoconfirm_duration = mkOption {
            type = types.ints.unsigned;
            default = 120;
            description = "Seconds that `auto` waits.";
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

  remote =
    { config, ... }:
    {
      options = {
        name = mkOption {
          type = types.str;
          example = "origin";
          description = ''
            Name of the remote, which also names the units `comin-<name>.service`, `.timer` and `.path`:
            at most 64 letters, digits, `-`, `_` and single dots, beginning with a letter or a digit and ending
            neither in a dot nor in `.lock`.
          '';
        };
        url = mkOption {
          type = types.str;
          example = "https://git.example.org/machines.git";
          description = ''
            Where the Git repository is: an absolute path on this machine, `file://`, `https://`, `http://`,
            `ssh://[user@]host[:port]/path`, or `user@host:path`.
          '';
        };
        auth = {
          access_token_path = mkOption {
            type = types.str;
            default = "";
            example = "/run/secrets/git-token";
            description = ''
              Path, on the machine, of a file that holds the token or password for the remote, which is sent by HTTP's
              basic authentication; empty for none. Everyone can read the Nix store, so keep the file out of it. systemd hands it to the
              remote's unit, from which the files of the other remotes are hidden.
            '';
          };
          username = mkOption {
            type = types.str;
            default = "comin";
            description = ''
              User name that goes with the token; GitHub and GitLab take any. On an SSH server, the user where
              {option}`services.comin.remotes.*.url` names none.
            '';
          };
          ssh_deploy_key_path = mkOption {
            type = types.str;
            default = "";
            example = "/run/secrets/deploy-key";
            description = ''
              Path, on the machine, of the private key that an SSH server wants to see; it has no passphrase. Empty
              for none. Required where the URL is one of SSH: no key of root's is tried, and no agent is asked.
              {file}`/etc/ssh/ssh_host_ed25519_key` will do, if the server allows its public key.
            '';
          };
          ssh_known_hosts_path = mkOption {
            type = publicFile;
            default = "";
            example = "/run/secrets/known_hosts";
            description = ''
              Path, on the machine, of the file with the host keys that are trusted; empty for
              {file}`/etc/ssh/ssh_known_hosts`, which {option}`programs.ssh.knownHosts` writes. A server
              whose key is not in it is refused.
            '';
          };
        };
        timeout = mkOption {
          type = types.ints.unsigned;
          default = 300;
          description = "Seconds after which a fetch is given up; 0 is never.";
        };
        branches = {
          main = branch {
            default = "main";
            operation = "switch";
            name = "Name of the branch; empty for a remote that is for testing only. At least one remote needs a main.";
            description = "The branch that is deployed.";
          };
          testing = branch {
            default = "testing-${cfg.hostname}";
            defaultText = lib.literalExpression ''"testing-''${config.services.comin.hostname}"'';
            operation = "test";
            name = "Name of the branch; empty for none.";
            description = "The branch that is tried out: its commits on top of main are deployed instead of main.";
          };
        };
        poller = {
          period = mkOption {
            type = types.ints.positive;
            default = 60;
            example = 300;
            apply = period: if config.watch != [ ] && period < 60 then 60 else period;
            description = ''
              Seconds between the end of one fetch and the start of the next. A repository that is watched (see
              `watch`) is fetched when it changes. Its timer is a fallback, so a period below 60 means 60 there.
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
              Times at which to fetch, in the format of {manpage}`systemd.time(7)`, section CALENDAR EVENTS, in
              place of `period`; empty for `period`. Another fetch follows each boot. {command}`nixos-rebuild` refuses
              a time that systemd cannot read, but does not know which time zones there are.
            '';
          };
          jitter = mkOption {
            type = types.nullOr types.ints.unsigned;
            default = null;
            defaultText = lib.literalMD ''
              `null`: none for a path on this machine. For a server 60 with `calendar`, else a tenth of `period` if that is
              60 or more, but at most 60
            '';
            description = ''
              A fetch, the first one included, waits up to this number of seconds longer, always the same on one
              machine and another one on the next, so that many machines do not ask a server at once; 0 is none.
            '';
          };
        };
        watch = mkOption {
          type =
            let
              folder = types.strMatching "/([^\n]*[^\n\\])?";
            in
            types.coercedTo (types.nullOr folder) (one: if one == null then [ ] else [ one ]) (types.listOf folder);
          default = (import ./url.nix).watchesOf config.url config.branches;
          defaultText = lib.literalMD ''
            for a `url` on this machine the folders of its branches below `<path>/.git/refs/heads`, or below
            `<path>/refs/heads` if the path ends in `.git`; none for any other
          '';
          example = "/home/me/machines/.git/refs/heads";
          description = ''
            Folders whose changes start a fetch at once; null or an empty list for none. Set it for a linked work tree
            (`refs/heads` of its main repository), for a repository with reftable (its folder `reftable`), and to null
            for a network file system or FUSE, because the kernel does not report the changes that others make there.
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
      description = "Whether this machine deploys its configuration from Git by itself.";
    };
    package = mkOption {
      type = types.package;
      default = pkgs.comin or (pkgs.callPackage ./package.nix { });
      defaultText = lib.literalMD ''
        `pkgs.comin` if an overlay has it, else the package of this module's flake, or for a cross-built system the same
        one cross-built
      '';
      description = "The comin to use.";
    };
    hostname = mkOption {
      type = types.str;
      default = config.networking.hostName;
      defaultText = lib.literalExpression "config.networking.hostName";
      description = ''
        Which configuration of a flake is this machine's:
        `nixosConfigurations."<hostname>".config.system.build.toplevel`.
      '';
    };
    machineId = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "0123456789abcdef0123456789abcdef";
      description = ''
        {file}`/etc/machine-id` of the machine that this configuration is for: 32 lower-case hexadecimal digits. Any
        other machine refuses to deploy it. Null is for any machine. While a host moves to new hardware, old and new
        machine can so follow the same repository.

        comin reads it from the configuration that it has evaluated, not from its own.
      '';
    };
    repositoryType = mkOption {
      type = types.enum [
        "flake"
        "nix"
      ];
      default = "flake";
      description = ''
        What the repository contains: a {file}`flake.nix`, or a {file}`default.nix`, in which
        {option}`services.comin.systemAttr` is this machine. The latter is evaluated with the
        machine's {option}`nix.nixPath`.
      '';
    };
    repositorySubdir = mkOption {
      type = types.str;
      default = ".";
      example = "machines";
      description = ''
        Folder of the repository that holds {file}`flake.nix` or {file}`default.nix`; `.` is its top.
      '';
    };
    systemAttr = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "hosts.web";
      description = ''
        Attribute of {file}`default.nix` that is this machine, where the repository is not a flake: what
        `import <nixpkgs/nixos>`, `pkgs.nixos` or `lib.nixosSystem` returns, or another set with `toplevel`.
        Null is the whole of {file}`default.nix`. {option}`services.comin.machineId` counts where the
        attribute has `config`.
      '';
    };
    submodules = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether the submodules of the repository are part of the configuration. A relative URL of theirs is
        relative to the remote's.
      '';
    };
    remotes = mkOption {
      type = types.listOf (types.submodule remote);
      default = [ ];
      example = lib.literalExpression ''
        [
          {
            name = "local";
            url = "/home/me/machines";
          }
          {
            name = "origin";
            url = "https://git.example.org/machines.git";
          }
        ]
      '';
      description = ''
        The repositories to follow. Where several have something to deploy, the first one wins; where several
        modules name some, `lib.mkBefore` and `lib.mkAfter` say whose are the first ones.
      '';
    };
    gpgPublicKeyPaths = mkOption {
      type = types.listOf publicFile;
      default = [ ];
      example = lib.literalExpression "[ ./keys/alice.asc ]";
      description = ''
        Files with armored public GPG keys, as {command}`gpg --armor --export` writes them. With any, or with
        {option}`services.comin.sshAllowedSignersPath`, only commits are deployed that one of these keys has
        signed. Whoever may run {command}`comin status` has to be able to read the files.
        One that changes at the same path counts from the next deploy on; {command}`comin retry` asks for that.
      '';
    };
    sshAllowedSignersPath = mkOption {
      type = types.nullOr publicFile;
      default = null;
      example = lib.literalExpression "./keys/allowed_signers";
      description = ''
        File with the SSH keys that may sign commits, in the format of {manpage}`ssh-keygen(1)`, section
        ALLOWED SIGNERS, with `cert-authority` and the like; null or empty for none. `valid-before` and
        `valid-after` are compared with the time at which a commit is looked at.
      '';
    };
    sshRevokedKeysPath = mkOption {
      type = types.nullOr publicFile;
      default = null;
      example = lib.literalExpression "./keys/revoked_keys";
      description = ''
        File with the SSH keys and certificates that may sign no longer: public keys, one a line, or a key
        revocation list of {command}`ssh-keygen -k`; null or empty for none.
      '';
    };
    signedAncestors = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether, where the head of a branch is not signed by one of the named GPG or SSH keys, its newest ancestor
        that is gets deployed, of the latest 100; otherwise the branch waits for a signed head.
      '';
    };
    exporter = {
      enable = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether metrics for Prometheus can be had at `/metrics`. systemd listens and starts comin for each
          request; between two nothing is in memory.
        '';
      };
      listen_address = mkOption {
        type = types.str;
        default = "";
        example = "127.0.0.1";
        description = "IP address at which the metrics can be had; empty for all of the machine's.";
      };
      port = mkOption {
        type = types.port;
        default = 4243;
        description = "TCP port at which the metrics can be had.";
      };
      openFirewall = mkOption {
        type = types.bool;
        default = false;
        description = ''
          Whether the firewall lets others reach the port. Everybody who can then learns which commits are
          deployed.
        '';
      };
    };
    prometheusRules.enable = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether the Prometheus of this machine ({option}`services.prometheus`) has alert rules for machines
        with comin: out of reach, not deploying, failing, given up, drifted, not polling, suspended, to be rebooted.
        It has to scrape them in a job `comin`. The machine itself need not have comin.
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
        How long something has to last before its alert fires, by the name of the alert. The names, and the times of
        the others, are in `module/alerts.yml`.
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
          Whether whoever is logged in to a desktop is told of deployments, and asked for what has to be confirmed: a
          click and a password, as polkit wants it, confirm that. Needs a notification server, which desktops have,
          and {option}`security.polkit.enable`.
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
        Program that is run as root after each deployment, successful or not; null for none. It finds
        `COMIN_GIT_SHA`, `COMIN_GIT_REF` (`remote/branch`), `COMIN_GIT_MSG`, `COMIN_HOSTNAME`, `COMIN_FLAKE_URL`,
        `COMIN_GENERATION` (the profile's, if there is a new one), `COMIN_STATUS` (`done`, `failed`,
        `rolled_back`, `skipped`) and `COMIN_ERROR_MSG` in its environment. It is stopped after ten minutes, and
        its failure is only logged.
      '';
    };
    retry = {
      firstDelay = mkOption (
        own "60"
        // {
          type = types.nullOr types.ints.positive;
          description = ''
            Seconds until a deployment whose evaluation or build failed is tried again, without a new commit;
            each further wait is twice as long.
          '';
        }
      );
      maxDelay = mkOption (
        own "3600"
        // {
          type = types.nullOr types.ints.positive;
          description = "Seconds until the next try of what failed, at the most.";
        }
      );
    };
    healthCheck = {
      commands = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "curl --fail --silent http://localhost/health" ];
        description = ''
          Commands that root's {command}`/bin/sh` runs, one after the other, after a system was activated by
          `switch` or `test`. Where one of them fails, the system before is activated again. They find what is in
          {option}`systemd.services.comin.path`.
        '';
      };
      timeout = timeout "one of `healthCheck.commands`" "60";
      connectivity = mkOption (
        own "true"
        // {
          type = types.nullOr types.bool;
          description = ''
            Whether a remote that could be fetched from before has to be within reach after an activation: one of the
            servers, or if none of them could, one of the repositories on this machine. If none is, the system before
            is activated again. If one is within reach then, it was the commit's fault; else the commit is tried again
            when one is back.
          '';
        }
      );
      connectivityTimeout = mkOption (
        own "120"
        // {
          type = types.nullOr types.ints.unsigned;
          description = "Seconds that this may take.";
        }
      );
      failedUnits = mkOption (
        own "false"
        // {
          type = types.nullOr types.bool;
          description = ''
            Whether a system with which units fail that had not failed before is rolled back; otherwise it stays,
            and the units are named.
          '';
        }
      );
    };
    rollback = {
      enable = mkOption (
        own "true"
        // {
          type = types.nullOr types.bool;
          description = "Whether a system that does not pass its checks gives way to the one before.";
        }
      );
      timeout = mkOption (
        own "900"
        // {
          type = types.nullOr types.ints.unsigned;
          description = ''
            Seconds that an activation and its checks may take together. After that a timer of systemd's rolls it
            back, whatever has become of comin; 0 is never.
          '';
        }
      );
    };
    reboot = {
      allow = mkOption {
        type = types.bool;
        default = false;
        description = ''
          Whether the machine reboots by itself where a deployment needs that: for another kernel, initrd or
          kernel modules, for what {option}`system.autoUpgrade.rebootTriggers` names, and for a system that is
          only there at the next boot. It does so once for each deployment, never while somebody holds a
          shutdown lock ({command}`systemd-inhibit --what=shutdown`), and not while comin is suspended.
        '';
      };
      window = mkOption {
        type = types.nullOr (
          types.submodule {
            options = {
              lower = timeOfDay "The beginning of the window." "01:00";
              upper = timeOfDay "The end of the window; over midnight where it is before the beginning." "05:00";
            };
          }
        );
        default = null;
        description = "The local time of day in which the machine may reboot by itself; null is any time.";
      };
      delay = mkOption (
        own "60"
        // {
          type = types.nullOr types.ints.unsigned;
          description = ''
            Seconds between the announcement of a reboot, to the journal and to whoever is logged in, and the
            first poll that may reboot the machine. {command}`comin suspend` keeps it from that.
          '';
        }
      );
    };
    # Written with underscores in the Go comin, too.
    retention = {
      deployment_boot_entry_capacity = capacity 3 ''
        How many different systems that comin has deployed with `switch` or `boot` stay in the profile, and with
        it in the boot loader's menu. What is older is removed after a deployment, but never the system that
        runs, has booted, boots next or would be rolled back to, and never a generation that comin did not
        make, such as one of {command}`nixos-rebuild`: those are {option}`nix.gc`'s. The menu loses them with
        the next deployment.
      '';
      deployment_successful_capacity = capacity 3 ''
        The systems of how many successful deployments are kept from Nix's garbage collection, whatever the
        operation.
      '';
      deployment_any_capacity = capacity 5 ''
        The systems of how many deployments are kept from Nix's garbage collection, however they ended, so
        that what was built need not be built again. comin remembers the latest 100.
      '';
    };
    profile = mkOption (
      own "system"
      // {
        type = types.nullOr types.str;
        example = "comin";
        description = ''
          Name of the profile that gets a generation for each deployment by `switch` or `boot`: `system` is the one
          that {command}`nixos-rebuild` and every boot loader know, any other lies in
          {file}`/nix/var/nix/profiles/system-profiles`.
        '';
      }
    );
    debug = mkOption {
      type = types.bool;
      default = false;
      description = "Whether comin logs in detail what it does. Secrets are not among that.";
    };
  };
}
