{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.comin;

  branch =
    {
      default,
      defaultText ? default,
      operation,
      description,
    }:
    mkOption {
      inherit description;
      default = { };
      type = types.submodule {
        options = {
          name = mkOption {
            type = types.str;
            inherit default defaultText;
            description = "Name of the branch.";
          };
          operation = mkOption {
            type = types.enum [
              "switch"
              "test"
              "boot"
            ];
            default = operation;
            description = "What {command}`switch-to-configuration` is asked to do with a commit of this branch.";
          };
        };
      };
    };

  timeout =
    what:
    mkOption {
      type = types.nullOr types.ints.unsigned;
      default = null;
      description = "Seconds after which ${what} is given up; 0 is never, null is comin's own default.";
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
            letters, digits, `_` and `-`, at most 64, starting with a letter or a digit.
          '';
        };
        url = mkOption {
          type = types.str;
          example = "https://git.example.org/machines.git";
          description = "URL, or path on this machine, of the Git repository.";
        };
        auth = {
          access_token_path = mkOption {
            type = types.str;
            default = "";
            example = "/run/secrets/git-token";
            description = ''
              Path, on the machine, of a file that holds the token or password for the remote; empty for
              none. Everyone can read the Nix store, so keep the file out of it. systemd hands it to the
              remote's unit, from which the files of the other remotes are hidden.
            '';
          };
          username = mkOption {
            type = types.str;
            default = "comin";
            description = ''
              User name that goes with the token; GitHub and GitLab take any. On an SSH server, the user where
              the URL names none.
            '';
          };
          ssh_deploy_key_path = mkOption {
            type = types.str;
            default = "";
            example = "/run/secrets/deploy-key";
            description = ''
              Path, on the machine, of the private key that an SSH server wants to see; it has no passphrase.
              Required where the URL is one of SSH: no key of root's is tried, and no agent is asked.
              {file}`/etc/ssh/ssh_host_ed25519_key` will do, if the server allows its public key.
            '';
          };
          ssh_known_hosts_path = mkOption {
            type = types.str;
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
            description = "The branch that is deployed.";
          };
          testing = branch {
            default = "testing-${cfg.hostname}";
            defaultText = lib.literalExpression ''"testing-''${config.services.comin.hostname}"'';
            operation = "test";
            description = "The branch that is tried out: its commits on top of main are deployed instead of main.";
          };
        };
        poller = {
          period = mkOption {
            type = types.ints.positive;
            default = 60;
            description = "Seconds between the end of one fetch and the start of the next.";
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
              place of `period`. Another fetch follows each boot, for until a remote has been fetched since
              then, it does not count.
            '';
          };
          jitter = mkOption {
            type = types.nullOr types.ints.unsigned;
            default = null;
            description = ''
              A fetch, the first one included, waits up to this number of seconds longer, always the same on one
              machine and another one on the next, so that many machines do not ask a server at once; 0 is none.
              null is a tenth of `period` where that is 60 or more, but at most 60, and 60 with `calendar`.
            '';
          };
        };
        watch = mkOption {
          type = types.nullOr (types.strMatching "/([^\n]*[^\n\\])?");
          default = (import ./url.nix).watchOf config.url;
          defaultText = lib.literalMD ''
            for a `url` on this machine `<path>/.git/refs/heads`, or `<path>/refs/heads` where it ends in
            `.git`; null for any other
          '';
          description = ''
            Folder whose change starts a fetch at once; null for none. Branches with a slash in their name
            lie in a folder below, whose changes systemd does not see: those wait for the poller.
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
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalMD "comin as packaged by the flake that this module comes from";
      description = "The comin to use.";
    };
    hostname = mkOption {
      type = types.str;
      default = config.networking.hostName;
      defaultText = lib.literalExpression "config.networking.hostName";
      description = ''
        Which configuration of the repository is this machine's:
        `nixosConfigurations."<hostname>".config.system.build.toplevel`.
      '';
    };
    machineId = mkOption {
      type = types.nullOr (types.strMatching "[0-9a-f]{32}");
      default = null;
      example = "0123456789abcdef0123456789abcdef";
      description = ''
        {file}`/etc/machine-id` of the machine that this configuration is for; any other refuses to deploy
        it. While a host moves to new hardware, old and new machine can so follow the same repository.

        comin reads it from the configuration that it has evaluated, not from its own.
      '';
    };
    repositoryType = mkOption {
      type = types.enum [ "flake" ];
      default = "flake";
      description = "What the repository contains.";
    };
    repositorySubdir = mkOption {
      type = types.str;
      default = ".";
      description = "Folder of the repository that holds {file}`flake.nix`.";
    };
    submodules = mkOption {
      type = types.bool;
      default = false;
      description = "Whether the submodules of the repository are part of the configuration.";
    };
    remotes = mkOption {
      type = types.listOf (types.submodule remote);
      default = [ ];
      example = lib.literalExpression ''
        [
          {
            name = "local";
            url = "/home/me/machines";
            poller.period = 1;
          }
          {
            name = "origin";
            url = "https://git.example.org/machines.git";
          }
        ]
      '';
      description = "The repositories to follow. Where several have something to deploy, the first one wins.";
    };
    gpgPublicKeyPaths = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = lib.literalExpression ''[ "''${./keys/alice.asc}" ]'';
      description = ''
        Files with armored public GPG keys, as {command}`gpg --armor --export` writes them. With any, or with
        {option}`services.comin.sshAllowedSignersPath`, only commits are deployed that one of these keys has
        signed. Whoever may run {command}`comin status` has to be able to read the files.
      '';
    };
    sshAllowedSignersPath = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = lib.literalExpression ''"''${./keys/allowed_signers}"'';
      description = ''
        File with the SSH keys that may sign commits, in the format of {manpage}`ssh-keygen(1)`, section
        ALLOWED SIGNERS; null or empty for none. `valid-before` and the like are compared with the time at
        which a commit is looked at.
      '';
    };
    sshRevokedKeysPath = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = ''
        File with the SSH keys and certificates that may sign no longer: public keys, one a line, or a key
        revocation list of {command}`ssh-keygen -k`; null or empty for none.
      '';
    };
    signedAncestors = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether, where the head of a branch is not signed by one of these keys, its newest ancestor that is
        gets deployed; otherwise the branch waits for a signed head.
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
    evalTimeout = timeout "an evaluation";
    buildTimeout = timeout "a build";
    profile = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = ''
        Name of the profile that gets a generation for each deployment; null is comin's own default, the
        `system` profile that {command}`nixos-rebuild` and every boot loader know.
      '';
    };
    debug = mkOption {
      type = types.bool;
      default = false;
      description = "Whether comin logs what it does in detail.";
    };
  };
}
