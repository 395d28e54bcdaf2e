# The module in a machine of NixOS: of nixpkgs' own, or of its stand-in.
# results: a list of { name, ok, message }.
{
  # A folder like that of nixpkgs.
  nixpkgs ? ./nixpkgs,
  system ? "x86_64-linux",
  module ? ../../module,
  # Files with the Nix code of the documentation: of modules, or of flakes or sets of machines.
  examples ? [ ],
}:
let
  lib = import (nixpkgs + "/lib");

  evaluate =
    machine:
    import (nixpkgs + "/nixos/lib/eval-config.nix") {
      inherit system;
      modules = [
        module
        machine
        {
          networking.hostName = lib.mkDefault "machine";
          # Has neither a boot loader nor file systems that would have to be set.
          boot.isContainer = true;
          system.stateVersion = lib.trivial.release;
        }
      ];
    };
  configOf = machine: (evaluate machine).config;

  comin = settings: {
    services.comin = {
      enable = true;
    }
    // settings;
  };
  local = {
    name = "local";
    url = "/srv/machines";
  };

  # The machines of an example.
  machinesOf =
    file:
    let
      example = import file;
    in
    if example ? outputs then
      lib.attrValues
        (example.outputs {
          # Either is there already.
          comin.nixosModules.comin = { };
          nixpkgs.lib = lib // {
            nixosSystem = { modules }: evaluate { imports = modules; };
          };
        }).nixosConfigurations
    else if builtins.isAttrs example && lib.all (value: value ? config) (lib.attrValues example) then
      map (
        name:
        assert example.${name}.config.services.comin.systemAttr == name;
        example.${name}
      ) (lib.attrNames example)
    else
      [
        (evaluate {
          imports = [
            example
            othersOptions
            (comin { remotes = lib.mkDefault [ local ]; })
          ];
        })
      ];

  # As much of sops-nix, agenix, Hydra and buildbot-nix as examples use.
  othersOptions =
    let
      filesIn =
        folder:
        lib.mkOption {
          default = { };
          type = lib.types.attrsOf (
            lib.types.submodule (
              { name, ... }:
              {
                options.file = lib.mkOption {
                  type = lib.types.unspecified;
                  default = null;
                };
                options.path = lib.mkOption {
                  type = lib.types.str;
                  default = "${folder}/${name}";
                };
              }
            )
          );
        };
    in
    {
      options.sops.secrets = filesIn "/run/secrets";
      options.age.secrets = filesIn "/run/agenix";
      options.services.hydra.extraConfig = lib.mkOption {
        default = "";
        type = lib.types.lines;
      };
      options.services.buildbot-nix.master.postBuildSteps = lib.mkOption {
        default = [ ];
        type = lib.types.unspecified;
      };
    };

  # As someone has it who used the Go comin.
  fromGoComin = comin {
    hostname = "web";
    machineId = "0123456789abcdef0123456789abcdef";
    debug = true;
    flakeSubdirectory = "machines";
    submodules = true;
    gpgPublicKeyPaths = [ "/etc/keys/alice.asc" ];
    sshAllowedSignersPath = "/etc/keys/allowed_signers";
    retention.deployment_boot_entry_capacity = 5;
    buildConfirmer.mode = "manual";
    deployConfirmer = {
      mode = "auto";
      autoconfirm_duration = 60 * 5;
    };
    remotes = [
      {
        name = "origin";
        url = "https://git.example.org/machines.git";
        auth.access_token_path = "/run/secrets/token";
        timeout = 20;
        branches.main.name = "production";
        branches.testing.operation = "boot";
        poller.period = 60;
      }
      {
        name = "local";
        url = "/srv/machines";
        poller.period = 2;
        branches.main.operation = "test";
      }
      {
        name = "deploy-key";
        url = "git@git.example.org:machines.git";
        auth.ssh_deploy_key_path = "/run/secrets/key";
      }
    ];
  };
  go = configOf fromGoComin;
  goUnits = import ../../module/units.nix {
    comin = "${go.services.comin.package}/bin/comin";
    inherit (go.services.comin) remotes debug exporter;
  };

  minimal = configOf (comin { remotes = [ local ]; });

  # What the Go comin does not have.
  changed = configOf (comin {
    remotes = [ local ];
    profile = "comin";
    evaluateAsRoot = true;
    evalTimeout = 0;
    buildTimeout = 3600;
    sshRevokedKeysPath = "/etc/keys/revoked";
    signedAncestors = true;
    retry.firstDelay = 30;
    prebuilt = {
      url = "https://ci.example.org/{hostname}/{commit}";
      otherwise = "evaluate";
    };
    healthCheck = {
      commands = [ "true" ];
      connectivity = false;
      failedUnits = true;
    };
    rollback.timeout = 0;
    deployWindow = [
      {
        lower = "00:00";
        upper = "00:00";
        days = [ "sat" ];
      }
      {
        lower = "22:00";
        upper = "05:00";
      }
    ];
    minFree = 1024 * 1024;
    reboot = {
      allow = true;
      delay = 300;
      window = {
        lower = "23:00";
        upper = "05:30";
      };
    };
    retention = {
      deployment_boot_entry_capacity = 10;
      deployment_successful_capacity = 1;
      deployment_any_capacity = 2;
    };
  });

  # Gates, ready-made and of one's own.
  gated = configOf (comin {
    remotes = [
      local
      {
        name = "origin";
        url = "https://git.example.org/machines.git";
        validation_hook = "/etc/it's valid";
      }
    ];
    onACPower = true;
    unmetered = true;
    gates.lock = {
      before = "deploy";
      command = "test ! -e /run/lock";
    };
  });

  jsonOf = config: config.environment.etc."comin/config.json".source.json;
  settingsOf = config: builtins.fromJSON (builtins.unsafeDiscardStringContext (jsonOf config));
  pathOf = config: service: map toString config.systemd.services.${service}.path;
  failures =
    config: map (a: a.message) (lib.filter (a: !a.assertion && lib.hasInfix "comin" a.message) config.assertions);

  test = name: expected: actual: {
    inherit name;
    ok = expected == actual;
    message = "expected ${builtins.toJSON expected}, got ${builtins.toJSON actual}";
  };
  accepts = name: machine: test "accepts ${name}" [ ] (failures (configOf machine));
  # The assertion that is to name the option, and the cure.
  asserts = name: machine: sentence: {
    name = "asserts ${name}";
    ok = lib.any (lib.hasInfix sentence) (failures (configOf machine));
    message = "no such assertion: ${sentence}, but ${builtins.toJSON (failures (configOf machine))}";
  };
  warns = name: machine: sentence: {
    name = "warns ${name}";
    ok = lib.any (lib.hasInfix sentence) (configOf machine).warnings;
    message = "no such warning: ${sentence}, but ${builtins.toJSON (configOf machine).warnings}";
  };
  # Values that the type of an option refuses.
  refuses = name: settings: {
    name = "refuses ${name}";
    ok =
      !(builtins.tryEval (
        builtins.deepSeq (removeAttrs (configOf (comin settings)).services.comin [
          "package"
          "flakeSubdirectory"
        ]) true
      )).success;
    message = "it evaluates";
  };
  server = url: auth: {
    name = "server";
    inherit url auth;
  };
  served = allowed-users: evaluateAsRoot: {
    imports = [
      (comin {
        remotes = [ local ];
        inherit evaluateAsRoot;
      })
    ];
    nix.settings = { inherit allowed-users; };
  };
  named = name: comin { remotes = [ (local // { inherit name; }) ]; };
  withRestart = unit: {
    imports = [ (comin { remotes = [ local ]; }) ];
    systemd.services.${unit}.serviceConfig.Restart = "always";
  };
  longName = lib.concatStrings (lib.genList (_: "x") 65);

  # NixOS adds the environment, which render.nix leaves out.
  withoutEnvironment =
    text:
    lib.concatStringsSep "\n" (
      lib.filter (line: !lib.hasPrefix "Environment=" line) (lib.splitString "\n" text)
    );
  rendered = import ../../module/render.nix goUnits;

  results = [
    (accepts "a configuration for the Go comin" fromGoComin)
    (accepts "every option of the Go comin 0.13" (comin {
      package = pkgs.curl;
      hostname = "web";
      machineId = "0123456789abcdef0123456789abcdef";
      debug = true;
      repositoryType = "nix";
      repositorySubdir = "machines";
      systemAttr = "web";
      submodules = true;
      gpgPublicKeyPaths = [ "/etc/keys/alice.asc" ];
      postDeploymentCommand = "/etc/post-deployment";
      exporter = {
        listen_address = "127.0.0.1";
        port = 4243;
        openFirewall = true;
      };
      buildConfirmer = {
        mode = "auto";
        autoconfirm_duration = 120;
      };
      deployConfirmer = {
        mode = "manual";
        autoconfirm_duration = 120;
      };
      desktop.title = "comin";
      retention = {
        deployment_boot_entry_capacity = 3;
        deployment_successful_capacity = 3;
        deployment_any_capacity = 5;
      };
      remotes = [
        {
          name = "origin";
          url = "https://git.example.org/machines.git";
          timeout = 300;
          auth = {
            access_token_path = "/run/secrets/token";
            username = "comin";
          };
          poller.period = 60;
          branches = {
            main = {
              name = "main";
              operation = "switch";
            };
            testing = {
              name = "testing-web";
              operation = "test";
            };
          };
        }
      ];
    }))
    (accepts "one remote with a name and a url" (comin { remotes = [ local ]; }))
    (accepts "a name of 64 characters" (named (lib.substring 0 64 longName)))
    (accepts "the name of a server" (named "git.a-b.example.org"))
    (accepts "no remotes while disabled" { services.comin.enable = false; })
    (test "adds nothing while disabled" false (
      (configOf { services.comin.enable = false; }).systemd.services ? comin
    ))

    (test "config.json of a configuration for the Go comin" {
      hostname = "web";
      repository_type = "flake";
      repository_subdir = "machines";
      submodules = true;
      gpg_public_key_paths = [ "/etc/keys/alice.asc" ];
      ssh_allowed_signers_path = "/etc/keys/allowed_signers";
      signed_ancestors = false;
      evaluate_as_root = false;
      exporter = {
        listen_address = "";
        port = 4243;
      };
      reboot.allow = false;
      retention = {
        deployment_boot_entry_capacity = 5;
        deployment_successful_capacity = 3;
        deployment_any_capacity = 5;
      };
      build_confirmer = {
        mode = "manual";
        autoconfirm_duration = 120;
      };
      deploy_confirmer = {
        mode = "auto";
        autoconfirm_duration = 300;
      };
      remotes = [
        {
          name = "origin";
          url = "https://git.example.org/machines.git";
          auth = {
            access_token_path = "/run/secrets/token";
            username = "comin";
          };
          timeout = 20;
          branches = {
            main = {
              name = "production";
              operation = "switch";
            };
            testing = {
              name = "testing-web";
              operation = "boot";
            };
          };
          poller.period = 60;
        }
        {
          name = "local";
          url = "/srv/machines";
          auth.username = "comin";
          timeout = 300;
          branches = {
            main = {
              name = "main";
              operation = "test";
            };
            testing = {
              name = "testing-web";
              operation = "test";
            };
          };
          poller.period = 60;
        }
        {
          name = "deploy-key";
          url = "git@git.example.org:machines.git";
          auth = {
            ssh_deploy_key_path = "/run/secrets/key";
            username = "comin";
          };
          timeout = 300;
          branches = {
            main = {
              name = "main";
              operation = "switch";
            };
            testing = {
              name = "testing-web";
              operation = "test";
            };
          };
          poller.period = 60;
        }
      ];
    } (settingsOf go))
    (test "only where it is needed there is ssh"
      [
        true
        false
        false
      ]
      (
        map (name: lib.elem go.programs.ssh.package go.systemd.services."comin-${name}".path) [
          "deploy-key"
          "origin"
          "local"
        ]
      )
    )
    (test "nobody has to confirm anything by default"
      [
        "without"
        "without"
      ]
      [
        (settingsOf minimal).build_confirmer.mode
        (settingsOf minimal).deploy_confirmer.mode
      ]
    )
    (test "hostname by default" "machine" (settingsOf minimal).hostname)
    (test "period by default" 60 (builtins.head (settingsOf minimal).remotes).poller.period)
    (
      let
        wanted = {
          profile = "comin";
          evaluate_as_root = true;
          eval_timeout = 0;
          build_timeout = 3600;
          ssh_revoked_keys_path = "/etc/keys/revoked";
          signed_ancestors = true;
          retry.first_delay = 30;
          prebuilt = {
            notes = "comin";
            url = "https://ci.example.org/{hostname}/{commit}";
            otherwise = "evaluate";
          };
          health_check = {
            commands = [ "true" ];
            connectivity = false;
            failed_units = true;
          };
          rollback.timeout = 0;
          reboot = {
            allow = true;
            delay = 300;
            window = {
              lower = "23:00";
              upper = "05:30";
              days = [ ];
            };
          };
          deploy_window = [
            {
              lower = "00:00";
              upper = "00:00";
              days = [ "sat" ];
            }
            {
              lower = "22:00";
              upper = "05:00";
              days = [ ];
            }
          ];
          min_free = 1048576;
          retention = {
            deployment_boot_entry_capacity = 10;
            deployment_successful_capacity = 1;
            deployment_any_capacity = 2;
          };
        };
      in
      test "new settings" wanted (builtins.intersectAttrs wanted (settingsOf changed))
    )
    (test "gates, ready-made and of one's own"
      [
        "ac-power build"
        "lock deploy"
        "unmetered build"
        "validation-origin build"
      ]
      (lib.mapAttrsToList (name: gate: "${name} ${gate.before}") (settingsOf gated).gates)
    )
    (test "no gates by default" false (settingsOf minimal ? gates))
    (test "gpg is where it is needed"
      [
        true
        false
        false
      ]
      (
        let
          has = service: lib.any (package: lib.hasInfix "gnupg" "${package}") service.path;
        in
        [
          (has go.systemd.services.comin)
          (has go.systemd.services.comin-origin)
          (has minimal.systemd.services.comin)
        ]
      )
    )
    (test "a repository without a flake"
      [
        {
          repository_type = "nix";
          system_attr = "hosts.web";
        }
        "nixpkgs=/srv/100%%:/srv/channels"
        false
      ]
      (
        let
          config = configOf {
            imports = [
              (comin {
                remotes = [ local ];
                repositoryType = "nix";
                systemAttr = "hosts.web";
              })
            ];
            environment.sessionVariables.NIX_PATH = lib.mkForce [
              "nixpkgs=/srv/100%"
              "/srv/channels"
            ];
          };
        in
        [
          (builtins.intersectAttrs {
            repository_type = null;
            system_attr = null;
          } (settingsOf config))
          config.systemd.services.comin.environment.NIX_PATH
          # A flake says itself where everything is.
          (go.systemd.services.comin.environment ? NIX_PATH)
        ]
      )
    )
    (test "the exporter of the Go comin"
      {
        port = 4243;
        stream = "4243";
        wantedBy = [ "sockets.target" ];
        firewall = [ ];
      }
      {
        inherit (go.services.comin.exporter) port;
        stream = go.systemd.sockets.comin-exporter.socketConfig.ListenStream;
        inherit (go.systemd.sockets.comin-exporter) wantedBy;
        firewall = go.networking.firewall.allowedTCPPorts;
      }
    )
    (test "an exporter elsewhere, behind an open port"
      {
        settings = {
          listen_address = "::1";
          port = 9000;
        };
        stream = "[::1]:9000";
        firewall = [ 9000 ];
      }
      (
        let
          elsewhere = configOf (comin {
            remotes = [ local ];
            exporter = {
              listen_address = "::1";
              port = 9000;
              openFirewall = true;
            };
          });
        in
        {
          settings = (settingsOf elsewhere).exporter;
          stream = elsewhere.systemd.sockets.comin-exporter.socketConfig.ListenStream;
          firewall = elsewhere.networking.firewall.allowedTCPPorts;
        }
      )
    )
    (test "no exporter" [ false false ]
      (
        let
          inherit
            (configOf (comin {
              remotes = [ local ];
              exporter.enable = false;
            }))
            systemd
            ;
        in
        [
          (systemd.sockets ? comin-exporter)
          (systemd.services ? "comin-exporter@")
        ]
      )
    )
    (test "alert rules only where they are wanted, also without comin"
      [
        [ ]
        [ "alerts.yml" ]
        false
      ]
      (
        let
          watching = configOf { services.comin.prometheusRules.enable = true; };
        in
        [
          go.services.prometheus.ruleFiles
          (map builtins.baseNameOf watching.services.prometheus.ruleFiles)
          (watching.systemd.services ? comin)
        ]
      )
    )
    (test "alerts fire after the time that the owner wants"
      [
        1
        1
        1
        13
      ]
      (
        let
          watching = configOf {
            services.comin.prometheusRules = {
              enable = true;
              after.CominDrifted = "6h";
              after.CominSuspended = "7d";
            };
          };
          rules = (builtins.head watching.services.prometheus.ruleFiles).text;
          count = text: builtins.length (lib.splitString text rules) - 1;
        in
        [
          (count "- alert: CominDrifted\n        for: 6h\n        expr: ")
          (count "- alert: CominSuspended\n        for: 7d\n        expr: ")
          (count "- alert: CominNotDeploying\n        for: 2h\n        expr: ")
          (count "- alert: ")
        ]
      )
    )
    (test "an exporter needs nothing but comin" (pathOf (configOf { systemd.services.bare = { }; }) "bare") (
      pathOf go "comin-exporter@"
    ))
    (test "a calendar is one time or several, and is checked at build time"
      [
        [ "hourly" ]
        [
          "04:00"
          "16:00"
        ]
        true
      ]
      (
        let
          with' =
            calendar:
            configOf (comin {
              remotes = [ (local // { poller = { inherit calendar; }; }) ];
            });
          times = config: config.systemd.timers.comin-local.timerConfig.OnCalendar;
        in
        [
          (times (with' "hourly"))
          (times (with' [
            "04:00"
            "16:00"
          ]))
          (lib.hasInfix "systemd-analyze calendar -- hourly" (
            with' "hourly"
          ).environment.etc."comin/config.json".source.buildCommand)
        ]
      )
    )
    (test "secrets are handed to their remote's unit" [ "%%2Frun%%2Fsecrets%%2Ftoken:/run/secrets/token" ]
      go.systemd.services.comin-origin.serviceConfig.LoadCredential
    )
    (test "what others read has the defaults of the Go comin"
      {
        debug = false;
        enable = true;
        exporter = {
          listen_address = "";
          openFirewall = false;
          port = 4243;
        };
        gpgPublicKeyPaths = [ ];
        hostname = "machine";
        machineId = null;
        postDeploymentCommand = null;
        remotes = [
          {
            auth = {
              access_token_path = "";
              username = "comin";
            };
            branches = {
              main = {
                name = "main";
                operation = "switch";
              };
              testing = {
                name = "testing-machine";
                operation = "test";
              };
            };
            name = "local";
            poller.period = 60;
            timeout = 300;
            url = "/srv/machines";
          }
        ];
        repositorySubdir = ".";
        repositoryType = "flake";
        retention = {
          deployment_any_capacity = 5;
          deployment_boot_entry_capacity = 3;
          deployment_successful_capacity = 3;
        };
        submodules = false;
        systemAttr = null;
      }
      (
        let
          asInGo = found: {
            inherit (found)
              debug
              enable
              gpgPublicKeyPaths
              hostname
              machineId
              postDeploymentCommand
              repositorySubdir
              repositoryType
              retention
              submodules
              systemAttr
              ;
            exporter = { inherit (found.exporter) listen_address openFirewall port; };
            remotes = map (remote: {
              inherit (remote)
                branches
                name
                timeout
                url
                ;
              auth = { inherit (remote.auth) access_token_path username; };
              poller = { inherit (remote.poller) period; };
            }) found.remotes;
          };
        in
        asInGo minimal.services.comin
      )
    )
    (test "values are computed, and read elsewhere"
      {
        period = 300;
        branches = [
          "deploy-machine"
          ""
        ];
        port = "4243";
        kept = "6";
      }
      (
        let
          computed = configOf (
            { config, ... }:
            {
              services.comin = {
                enable = true;
                remotes = [
                  {
                    name = "origin";
                    url = "https://git.example.org/machines.git";
                    poller.period = 60 * 5;
                    branches.main.name = "deploy-${config.networking.hostName}";
                    branches.testing.name = "";
                  }
                ];
              };
              environment.etc.scraped.text = toString config.services.comin.exporter.port;
              environment.etc.kept.text = toString (config.services.comin.retention.deployment_boot_entry_capacity * 2);
            }
          );
          remote = builtins.head (settingsOf computed).remotes;
        in
        {
          inherit (remote.poller) period;
          branches = [
            remote.branches.main.name
            remote.branches.testing.name
          ];
          port = computed.environment.etc.scraped.text;
          kept = computed.environment.etc.kept.text;
        }
      )
    )
    (test "several modules define a part each, under conditions"
      [
        [
          "local"
          "always"
          "included"
        ]
        9000
        "web"
        [ "true" ]
      ]
      (
        let
          inherit
            (configOf {
              imports = [
                (comin {
                  remotes = [
                    (local // { name = "always"; })
                    (lib.mkIf false (local // { name = "excluded"; }))
                    (lib.mkIf true (local // { name = "included"; }))
                  ];
                  hostname = lib.mkDefault "default";
                })
                { services.comin.remotes = lib.mkIf true [ local ]; }
                { services.comin.remotes = lib.mkIf false [ local ]; }
                (
                  { config, ... }:
                  {
                    services.comin = lib.mkIf config.services.comin.enable {
                      exporter.port = 9000;
                      healthCheck.commands = lib.mkMerge [ [ "true" ] ];
                    };
                  }
                )
                { services.comin.exporter = lib.mkDefault { port = 1; }; }
                { services.comin.hostname = "web"; }
              ];
            })
            services
            ;
        in
        [
          (map (remote: remote.name) services.comin.remotes)
          services.comin.exporter.port
          services.comin.hostname
          services.comin.healthCheck.commands
        ]
      )
    )
    (test "keys are the options' names, with underscores" [ ] (
      let
        keysOf =
          prefix: value:
          if lib.isList value && lib.any builtins.isAttrs value then
            lib.concatMap (keysOf "${prefix}.*") value
          else if builtins.isAttrs value then
            lib.concatMap (name: keysOf "${prefix}.${name}" value.${name}) (lib.attrNames value)
          else
            [ prefix ];
        capitals = lib.genList (n: lib.substring n 1 "ABCDEFGHIJKLMNOPQRSTUVWXYZ") 26;
        small = lib.genList (n: "_" + lib.substring n 1 "abcdefghijklmnopqrstuvwxyz") 26;
        options = map (option: lib.replaceStrings capitals small option.name) (
          lib.optionAttrSetToDocList (evaluate fromGoComin).options.services.comin
        );
      in
      lib.filter (key: !lib.elem key options) (
        lib.concatMap (config: keysOf "services.comin" (settingsOf config)) [
          go
          minimal
          changed
        ]
      )
    ))
    (
      let
        told =
          module:
          let
            commands = (configOf module).system.systemBuilderCommands;
            json = builtins.match "printf %s '([^']*)' >\"[$]out/comin.json\"\n" commands;
          in
          builtins.fromJSON (builtins.head json);
      in
      test "system tells its host, machine and commit"
        [
          {
            hostname = "web";
            machine_id = "0123456789abcdef0123456789abcdef";
            revision = "0123";
          }
          {
            hostname = "machine";
            machine_id = null;
            revision = null;
          }
        ]
        [
          (told {
            imports = [ fromGoComin ];
            system.configurationRevision = "0123";
          })
          (told (comin { remotes = [ local ]; }))
        ]
    )
    (test "machineId can be read by evaluation" "0123456789abcdef0123456789abcdef" go.services.comin.machineId)

    (test "remotes.*.watch of a local path" [ "/srv/machines/.git/refs/heads" ]
      (builtins.head minimal.services.comin.remotes).watch
    )
    (test "a watched repository is polled once a minute at most"
      [
        60
        300
        1
      ]
      (
        map
          (
            more:
            let
              machine = configOf (comin { remotes = [ (local // more) ]; });
            in
            (builtins.head (settingsOf machine).remotes).poller.period
          )
          [
            { poller.period = 1; }
            { poller.period = 300; }
            {
              poller.period = 1;
              watch = null;
            }
          ]
      )
    )
    (test "debug is passed on" true (
      lib.hasSuffix "/bin/comin --debug deploy" go.systemd.services.comin.serviceConfig.ExecStart
    ))
    (test "timers of the remotes" "60s" go.systemd.timers.comin-origin.timerConfig.OnUnitInactiveSec)
    (test "path units only for local remotes" [
      "comin"
      "comin-exporter"
      "comin-local"
    ] (lib.filter (lib.hasPrefix "comin") (lib.attrNames go.systemd.paths)))
    (test "nothing but comin.path starts comin.service" [ ] go.systemd.services.comin.wantedBy)
    (test "a user's settings of a unit merge"
      [
        "50%"
        "exec"
      ]
      (
        let
          inherit
            (configOf {
              imports = [ (comin { remotes = [ local ]; }) ];
              systemd.services.comin.serviceConfig.CPUQuota = "50%";
            })
            systemd
            ;
        in
        [
          systemd.services.comin.serviceConfig.CPUQuota
          systemd.services.comin.serviceConfig.Type
        ]
      )
    )
    (
      let
        settable =
          kind: units:
          lib.concatMap (
            unit:
            lib.concatMap (
              section:
              map
                (key: [
                  kind
                  unit
                  section
                  key
                ])
                (
                  lib.filter (key: !lib.isList units.${unit}.${section}.${key}) (
                    lib.attrNames (removeAttrs units.${unit}.${section} [
                      "ExecStart"
                      "RuntimeDirectory"
                      "RuntimeDirectoryPreserve"
                      "StateDirectory"
                      "Type"
                      "User"
                      "X-StopOnRemoval"
                    ])
                  )
                )
            ) (lib.filter (lib.hasSuffix "Config") (lib.attrNames units.${unit}))
          ) (lib.attrNames units);
        settings = lib.concatMap (kind: settable kind goUnits.${kind}) [
          "services"
          "sockets"
          "timers"
          "paths"
        ];
        owned = configOf {
          imports = [ fromGoComin ] ++ map (path: { systemd = lib.setAttrByPath path "owner"; }) settings;
        };
        valueOf = builtins.foldl' (set: name: set.${name}) owned.systemd;
      in
      test "owners may change every setting of a unit, except those that comin relies on"
        [
          true
          [ ]
        ]
        [
          (lib.elem [
            "services"
            "comin"
            "serviceConfig"
            "UMask"
          ] settings)
          (lib.filter (path: valueOf path != "owner") settings)
        ]
    )
    (test "owners may change limits, environment and description"
      [
        "30"
        "/var/empty"
        "mine"
      ]
      (
        let
          inherit
            (configOf {
              imports = [ (comin { remotes = [ local ]; }) ];
              systemd.services.comin = {
                description = "mine";
                environment.HOME = "/var/empty";
                startLimitIntervalSec = 30;
              };
            })
            systemd
            ;
        in
        [
          systemd.services.comin.unitConfig.StartLimitIntervalSec
          systemd.services.comin.environment.HOME
          systemd.services.comin.description
        ]
      )
    )
    (
      let
        inherit
          (configOf {
            imports = [ fromGoComin ];
            networking.proxy.default = "http://everybody.example.org";
            systemd.services.comin.environment = {
              https_proxy = "http://comin.example.org";
              NO_PROXY = "localhost";
              SSL_CERT_FILE = "/etc/own.pem";
            };
          })
          systemd
          ;
        of =
          service:
          map (name: systemd.services.${service}.environment.${name} or null) [
            "http_proxy"
            "https_proxy"
            "NO_PROXY"
            "SSL_CERT_FILE"
            "HOME"
          ];
      in
      test "a proxy and certificates of comin.service are those of the fetches"
        [
          "http://everybody.example.org"
          "http://comin.example.org"
          "localhost"
          "/etc/own.pem"
          null
        ]
        (of "comin-origin")
    )
    (test "proxies reach the units, % doubled"
      [
        "http://me:a%%20b@proxy.example.org"
        "http://me:a%%20b@proxy.example.org"
      ]
      (
        let
          inherit
            (configOf {
              imports = [ (comin { remotes = [ local ]; }) ];
              networking.proxy.default = "http://me:a%20b@proxy.example.org";
            })
            systemd
            ;
        in
        [
          systemd.services.comin.environment.http_proxy
          systemd.services.comin-local.environment.http_proxy
        ]
      )
    )

    (
      let
        of = settings: (configOf (comin ({ remotes = [ local ]; } // settings))).systemd.user;
        desktop = of { desktop.enable = true; };
      in
      test "a desktop's user units, only where they are wanted"
        [
          "comin-desktop"
          "comin-desktop"
          true
          [
            "/run/wrappers"
            true
          ]
          false
        ]
        [
          (toString (lib.filter (lib.hasPrefix "comin") (lib.attrNames desktop.services)))
          (toString (lib.filter (lib.hasPrefix "comin") (lib.attrNames desktop.paths)))
          (lib.hasSuffix "/bin/comin desktop" desktop.services.comin-desktop.serviceConfig.ExecStart)
          [
            (builtins.head desktop.services.comin-desktop.path)
            (lib.any (package: lib.hasInfix "libnotify" "${package}") desktop.services.comin-desktop.path)
          ]
          ((of { }).services ? comin-desktop)
        ]
    )

    (asserts "a title of one line" (comin {
      remotes = [ local ];
      desktop.title = "a\nb";
    }) "services.comin.desktop.title")
    (asserts "remotes" (comin { }) "services.comin.remotes is empty: name a repository")
    (asserts "a main" (comin {
      remotes = [ (local // { branches.main.name = ""; }) ];
    }) "services.comin.remotes.*.branches.main.name is empty for every remote")
    (accepts "a remote for testing only" (comin {
      remotes = [
        (local // { branches.main.name = ""; })
        (local // { name = "origin"; })
      ];
    }))
    (asserts "different names" (comin {
      remotes = [
        local
        (local // { timeout = 1; })
      ];
    }) ''services.comin.remotes.*.name: "local" is used more than once.'')
    (asserts "names without a space" (named "a b") ''services.comin.remotes.*.name: "a b" cannot be part'')
    (asserts "names without a slash" (named "../x") ''services.comin.remotes.*.name: "../x" cannot be part'')
    (asserts "names without a line end" (named "a\n") ''services.comin.remotes.*.name: "a\n" cannot be part'')
    (asserts "names that begin with a letter" (named "-a") ''services.comin.remotes.*.name: "-a" cannot be part'')
    (asserts "names" (named "") ''services.comin.remotes.*.name: "" cannot be part'')
    (asserts "names without two dots" (named "a..b") ''services.comin.remotes.*.name: "a..b" cannot be part'')
    (asserts "names that do not end in a dot" (named "a.") ''services.comin.remotes.*.name: "a." cannot be part'')
    (asserts "names that do not begin with a dot" (named ".a") ''services.comin.remotes.*.name: ".a" cannot be part'')
    (asserts "names that lock no ref" (named "a.lock") "and end neither in a dot nor in .lock")
    (asserts "names of 64 characters at most" (named longName) "Use at most 64 letters, digits, -, _ and single dots")
    (asserts "names that no other unit has" (named "exporter") ''"exporter" is reserved'')
    (asserts "names that no timer of a deploy's has" (named "dead-man") ''"dead-man" is reserved'')
    (asserts "no Restart of a oneshot" (withRestart "comin-local")
      ''systemd.services."comin-local".serviceConfig.Restart = "always" would start it over and over''
    )
    (asserts "no Restart of comin.service" (withRestart "comin") "Remove it: a timer or path unit")
    (asserts "files that can be credentials" (comin {
      remotes = [ (local // { auth.access_token_path = "/run/my secrets/token"; }) ];
    }) ''services.comin.remotes.*.auth.access_token_path: systemd cannot hand "/run/my secrets/token" to'')
    (asserts "an address to listen at" (comin {
      remotes = [ local ];
      exporter.listen_address = "localhost";
    }) ''exporter.listen_address: "localhost" is not an IP address'')
    (asserts "that a port is opened for somebody" (comin {
      remotes = [ local ];
      exporter.enable = false;
      exporter.openFirewall = true;
    }) "services.comin.exporter.openFirewall opens a port at which nobody listens")
    (asserts "no systemAttr of a flake" (comin {
      remotes = [ local ];
      systemAttr = "hosts.web";
    }) "services.comin.systemAttr: of a flake, services.comin.hostname selects the configuration. Remove it")
    (asserts "a place where systems are named" (comin {
      remotes = [ local ];
      prebuilt.notes = null;
    }) "services.comin.prebuilt: nothing tells which systems are built")
    (asserts "a hostname" (comin {
      hostname = "";
      remotes = [ local ];
    }) "services.comin.hostname is empty: set it, or networking.hostName")

    (asserts "a machine id without capitals" (comin {
      remotes = [ local ];
      machineId = "0123456789ABCDEF0123456789ABCDEF";
    }) ''services.comin.machineId: "0123456789ABCDEF0123456789ABCDEF" is not the content of an /etc/machine-id'')
    (asserts "a machine id" (comin {
      remotes = [ local ];
      machineId = "";
    }) ''services.comin.machineId: "" is not the content of an /etc/machine-id'')
    (asserts "a key for an SSH server" (comin {
      remotes = [ (server "git@git.example.org:machines.git" { }) ];
    }) "services.comin.remotes.*.auth.ssh_deploy_key_path: remote server is on an SSH server")
    (asserts "that no token is sent in the clear" (comin {
      remotes = [ (server "http://git.example.org/machines.git" { access_token_path = "/run/secrets/token"; }) ];
    }) "services.comin.remotes.*.auth.access_token_path: remote server would get the token by http://")
    (accepts "a token for a server on this machine" (comin {
      remotes =
        lib.mapAttrsToList
          (name: url: {
            inherit name url;
            auth.access_token_path = "/run/secrets/token";
          })
          {
            name = "http://localhost/machines.git";
            ipv4 = "http://127.0.0.1:3000/machines.git";
            ipv6 = "http://[::1]:3000/machines.git";
          };
    }))
    (asserts "that no password is in a URL" (comin {
      remotes = [ (server "https://me:secret@git.example.org/machines.git" { }) ];
    }) "services.comin.remotes.*.url: remote server has a password in its URL")
    (asserts "that a local repository needs no key" (comin {
      remotes = [ (server "/srv/machines" { ssh_deploy_key_path = "/run/secrets/key"; }) ];
    }) "services.comin.remotes.*.auth.ssh_deploy_key_path: remote server is on this machine")
    (asserts "that an SSH server takes no token" (comin {
      remotes = [ (server "ssh://git@git.example.org/machines.git" { access_token_path = "/run/secrets/token"; }) ];
    }) "services.comin.remotes.*.auth.access_token_path: remote server is on an SSH server")
    (asserts "that an HTTP server takes no key" (comin {
      remotes = [ (server "https://git.example.org/machines.git" { ssh_deploy_key_path = "/run/secrets/key"; }) ];
    }) "services.comin.remotes.*.auth.ssh_deploy_key_path: remote server is on an HTTP server")

    (warns "of system.autoUpgrade" {
      imports = [ (comin { remotes = [ local ]; }) ];
      system.autoUpgrade.enable = true;
    } "system.autoUpgrade.enable: it and services.comin undo each other's deployments")
    (warns "of a desktop that cannot confirm" (comin {
      remotes = [ local ];
      desktop.enable = true;
      deployConfirmer.mode = "manual";
    }) "services.comin.desktop.enable: nobody can confirm a deployment on the desktop without polkit")
    (warns "of a secret in the store" (comin {
      remotes = [ (server "https://git.example.org/m" { access_token_path = "${builtins.toFile "token" "secret"}"; }) ];
    }) "services.comin.remotes.*.auth.access_token_path: everybody can read the file of remote server")
    (test "warns of nothing else" [ ] (
      lib.filter (lib.hasInfix "comin")
        (configOf {
          imports = [
            (comin {
              remotes = [ local ];
              desktop.enable = true;
              deployConfirmer.mode = "manual";
            })
          ];
          security.polkit.enable = true;
        }).warnings
    ))

    (test "polkit gets the actions of comin, where there is polkit" [ 1 0 ] (
      map (
        enable:
        builtins.length (
          lib.filter (package: lib.hasPrefix "comin-polkit" (package.name or "")) (configOf {
            imports = [ (comin { remotes = [ local ]; }) ];
            security.polkit.enable = enable;
          }).environment.systemPackages
        )
      ) [ true false ]
    ))
    (test "who fetches and who evaluates are system users with groups"
      [
        [ true "comin" true ]
        [ true "comin-eval" true ]
        false
      ]
      (
        let
          usersOf = evaluateAsRoot: (configOf (comin { remotes = [ local ]; inherit evaluateAsRoot; })).users;
          of = user: users: [
            users.users.${user}.isSystemUser
            users.users.${user}.group
            (users.groups ? ${user})
          ];
        in
        [
          (of "comin" (usersOf true))
          (of "comin-eval" (usersOf false))
          ((usersOf true).users ? comin-eval)
        ]
      )
    )
    (asserts "that the daemon of Nix serves who evaluates" (served [ "@wheel" ] false)
      "nix.settings.allowed-users: the daemon of Nix would not serve the user comin-eval"
    )
    (accepts "a daemon of Nix that serves who evaluates" (served [ "@wheel" "comin-eval" ] false))
    (accepts "a daemon of Nix that serves few, if root evaluates" (served [ "@wheel" ] true))

    (test "files that are written as paths are kept in the store" [ ] (
      let
        machine = configOf (comin {
          remotes = [
            (server "git@git.example.org:m" {
              ssh_deploy_key_path = "/run/secrets/key";
              ssh_known_hosts_path = ./expected/exporter;
            })
          ];
          gpgPublicKeyPaths = [ ./expected/secrets ];
          sshAllowedSignersPath = ./expected/desktop;
          sshRevokedKeysPath = "${./expected/two-remotes}";
          postDeploymentCommand = ./run.sh;
        });
        kept = map (path: baseNameOf path) (lib.attrNames (builtins.getContext (jsonOf machine)));
      in
      failures machine
      ++ lib.filter (name: !lib.any (lib.hasSuffix "-${name}") kept) [
        "exporter"
        "secrets"
        "desktop"
        "two-remotes"
        "run.sh"
      ]
    ))
    (asserts "that a key is kept" (comin {
      remotes = [ local ];
      gpgPublicKeyPaths = [ "${builtins.storeDir}/z-source/keys/alice.asc" ];
    }) "services.comin.gpgPublicKeyPaths: a garbage collection would remove")
    (asserts "that a health check is kept" (comin {
      remotes = [ local ];
      healthCheck.commands = [ "${builtins.storeDir}/z-source/check --all" ];
    }) "services.comin.healthCheck.commands: a garbage collection would remove")
    (asserts "that host keys are kept" (comin {
      remotes = [
        (server "git@git.example.org:m" {
          ssh_deploy_key_path = "/run/secrets/key";
          ssh_known_hosts_path = "${builtins.storeDir}/z-source/known_hosts";
        })
      ];
    }) "services.comin.remotes.*.auth.ssh_known_hosts_path: a garbage collection would remove")

    (test "what is refused is not refused for another reason" false (refuses "" { remotes = [ local ]; }).ok)
    (refuses "a confirmer of another mode" {
      remotes = [ local ];
      buildConfirmer.mode = "always";
    })
    (refuses "a time before the beginning" {
      remotes = [ local ];
      deployConfirmer.autoconfirm_duration = -1;
    })
    (refuses "a period of 0" { remotes = [ (local // { poller.period = 0; }) ]; })
    (refuses "a negative jitter" { remotes = [ (local // { poller.jitter = -1; }) ]; })
    (refuses "an empty calendar" { remotes = [ (local // { poller.calendar = ""; }) ]; })
    (refuses "a port that is none" {
      remotes = [ local ];
      exporter.port = 65536;
    })
    (refuses "a negative timeout" { remotes = [ (local // { timeout = -1; }) ]; })
    (refuses "an unknown operation" { remotes = [ (local // { branches.main.operation = "reboot"; }) ]; })
    (refuses "a window that ends at no time of day" {
      remotes = [ local ];
      reboot.window = {
        lower = "23:00";
        upper = "24:00";
      };
    })
    (refuses "a gate before something else" {
      remotes = [ local ];
      gates.lock = {
        before = "evaluation";
        command = "true";
      };
    })
    (refuses "an unknown day" {
      remotes = [ local ];
      deployWindow = [
        {
          lower = "23:00";
          upper = "05:00";
          days = [ "monday" ];
        }
      ];
    })
    (refuses "half a window" {
      remotes = [ local ];
      reboot.window.lower = "23:00";
    })
    (refuses "to keep no boot entry" {
      remotes = [ local ];
      retention.deployment_boot_entry_capacity = 0;
    })
    (refuses "a relative watch" { remotes = [ (local // { watch = "machines"; }) ]; })
    (refuses "a watch of two lines" { remotes = [ (local // { watch = "/a\nUnit=x"; }) ]; })
    (refuses "a key that would be copied into the store" {
      remotes = [ (local // { auth.ssh_deploy_key_path = ./module.nix; }) ];
    })
    (refuses "a repository of another type" { repositoryType = "nix-flake"; })
    (refuses "an option that does not exist" { remotes = [ (local // { branch = "main"; }) ]; })
  ]
  ++ lib.concatMap (
    file:
    map (machine: {
      name = "example ${baseNameOf file}";
      ok =
        failures machine.config == [ ]
        && builtins.deepSeq [
          machine.config.services.comin.remotes
          (machine.config.services.comin.enable -> settingsOf machine.config != { })
        ] true;
      message = builtins.toJSON (failures machine.config);
    }) (machinesOf file)
  ) examples
  ++ map (
    name:
    test "NixOS writes ${name} like render.nix" rendered.files.${name} (
      withoutEnvironment go.systemd.units.${name}.text
    )
  ) (lib.attrNames rendered.files);

  failed = lib.filter (result: !result.ok) results;
  pkgs = (evaluate fromGoComin).pkgs;
in
{
  inherit results;

  # What the module writes to config.json, for a comin to check.
  configuration = jsonOf go;

  # Of the machine of an example.
  settingsWith = file: settingsOf (builtins.head (machinesOf file)).config;

  gates = jsonOf gated;
  # Not in JSON, whose escapes a shell does not know.
  gateCommand = gate: (settingsOf gated).gates.${gate}.command;

  # A machine that fetches at certain times, with what checks them.
  timed =
    {
      calendar,
      comin,
      systemd,
    }:
    let
      package = folder: {
        type = "derivation";
        name = baseNameOf folder;
        outPath = folder;
      };
      inherit
        (configOf {
          services.comin = {
            enable = true;
            package = package comin;
            remotes = [ (local // { poller = { inherit calendar; }; }) ];
          };
          systemd.package = package systemd;
        })
        environment
        ;
    in
    environment.etc."comin/config.json".source;

  # A derivation that needs all results to be ok; to build it is also to let comin check a configuration.
  check =
    if failed == [ ] then
      pkgs.runCommand "comin-module" { } ''
        cp ${go.environment.etc."comin/config.json".source} "$out"
      ''
    else
      throw (lib.concatMapStringsSep "\n" (result: "not ok ${result.name}: ${result.message}") failed);
}
