# What the tests have in common: the server `origin` with a repository, and `machine`, which follows it by SSH and
# boots by a boot loader, so that a reboot shows what was deployed to stay.
{ pkgs, module }:
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  inherit (config) systems script;
  keys = import (pkgs.path + "/nixos/tests/ssh-keys.nix") pkgs;
  tools = pkgs.symlinkJoin {
    name = "tools";
    paths = [
      pkgs.bash
      pkgs.coreutils
      pkgs.findutils
      pkgs.gnused
    ];
  };
  # A name that the test driver does not know: a system can forget it.
  host = "machines.example";
  repository = "/srv/machines.git";
in
{
  options = {
    systems = mkOption {
      type = types.attrsOf types.deferredModule;
      description = "What each commit makes of the machine, by the commit's subject. /etc/label is that, too.";
    };
    script = mkOption {
      type = types.lines;
      description = "What happens after the machine has booted: Python with the functions of below.";
    };
  };

  config = {
    nodes.origin = {
      environment.systemPackages = [ pkgs.gitMinimal ];
      environment.etc.host_key = {
        source = keys.snakeOilEd25519PrivateKey;
        mode = "0400";
      };
      services.openssh = {
        enable = true;
        hostKeys = [
          {
            type = "ed25519";
            path = "/etc/host_key";
          }
        ];
      };
      users.users.root.openssh.authorizedKeys.keys = [ keys.snakeOilEd25519PublicKey ];
    };

    nodes.machine =
      { nodes, ... }:
      {
        imports = [ module ];
        environment.etc.label.text = "installed";
        # They are in the closure of the machine, so that nothing has to be built or fetched.
        specialisation = lib.mapAttrs (name: system: {
          configuration.imports = [
            system
            { environment.etc.label.text = lib.mkForce name; }
          ];
        }) systems;
        system.extraDependencies = [ tools ];

        services.comin = {
          enable = true;
          remotes = [
            {
              name = "origin";
              url = "ssh://root@${host}${repository}";
              auth.ssh_deploy_key_path = "/etc/deploy_key";
              poller.period = 1;
            }
          ];
          healthCheck.connectivityTimeout = 5;
        };
        environment.etc.deploy_key = {
          source = keys.snakeOilEd25519PrivateKey;
          mode = "0400";
        };
        programs.ssh.knownHosts.${host}.publicKey = keys.snakeOilEd25519PublicKey;
        networking.hosts.${nodes.origin.networking.primaryIPAddress} = [ host ];

        environment.systemPackages = [ pkgs.jq ];
        nix.settings.substituters = lib.mkForce [ ];
        system.switch.enable = true;
        boot.loader.systemd-boot.enable = true;
        boot.loader.timeout = 0;
        virtualisation = {
          useBootLoader = true;
          useEFIBoot = true;
          diskSize = 8192;
          memorySize = 2048;
        };
      };

    testScript =
      { nodes, ... }:
      let
        toplevel = name: nodes.machine.specialisation.${name}.configuration.system.build.toplevel;
        flakes = lib.mapAttrs (
          name: _:
          import ./flake-of.nix {
            inherit tools;
            toplevel = toplevel name;
          }
        ) systems;
      in
      ''
        import shlex

        # JSON of strings is Python, too.
        flakes = ${builtins.toJSON flakes}
        git = "git -C /root/machines -c user.name=a -c user.email=a@example.org"


        def push(system, branch="main"):
            """Commits a system on top of the last one, pushes it to a branch, and returns the commit."""
            origin.succeed(
                f"echo {shlex.quote(flakes[system])} >/root/machines/flake.nix",
                f"{git} add flake.nix",
                f"{git} commit --quiet --message {system}",
                f"{git} push --quiet ${repository} HEAD:refs/heads/{branch}",
            )
            return origin.succeed(f"{git} rev-parse HEAD").strip()


        def await_status(condition):
            """Waits for what jq finds to be true of the status."""
            machine.wait_until_succeeds(
                f"comin status --json | jq --exit-status {shlex.quote(condition)}"
            )


        def await_ended(commit, status="done"):
            """Waits for the end of the deployment of a commit."""
            await_status(
                f'.phase == "idle" and .deployed.commit == "{commit}" and .deployed.status == "{status}"'
            )


        def label():
            """The system that runs."""
            return machine.succeed("cat /etc/label").strip()


        def reboot():
            machine.shutdown()
            machine.start()
            machine.wait_for_unit("multi-user.target")


        origin.start()
        origin.wait_for_unit("sshd.service")
        origin.succeed(
            "git init --quiet --bare ${repository}",
            "git init --quiet --initial-branch=main /root/machines",
        )
        machine.start()
        machine.wait_for_unit("multi-user.target")
        assert label() == "installed"

        ${script}
      '';
  };
}
