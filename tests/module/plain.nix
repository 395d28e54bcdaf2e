# What can be tested of module/ without a nixpkgs, and of flake.nix with its stand-in. A list of { name, ok, message }.
let
  test = name: expected: actual: {
    inherit name;
    ok = expected == actual;
    message = "expected ${builtins.toJSON expected}, got ${builtins.toJSON actual}";
  };

  comin = "/bin/comin";
  cases = import ./cases.nix { inherit comin; };
  render = case: import ../../module/render.nix (import ../../module/units.nix cases.${case});
  units = case: import ../../module/units.nix cases.${case};
  names = attrs: builtins.attrNames attrs;

  inherit (import ../../module/url.nix) isLocal isSsh watchesOf;
  branches = {
    main.name = "main";
    testing.name = "testing";
  };
  watches = {
    "/srv/machines" = [ "/srv/machines/.git/refs/heads" ];
    "/srv/machines/" = [ "/srv/machines/.git/refs/heads" ];
    "/srv/machines/.git" = [ "/srv/machines/.git/refs/heads" ];
    "/srv/machines.git" = [ "/srv/machines.git/refs/heads" ];
    "/srv/machines.git//" = [ "/srv/machines.git/refs/heads" ];
    "/srv/my git" = [ "/srv/my git/.git/refs/heads" ];
    "/srv/50%" = [ "/srv/50%/.git/refs/heads" ];
    "file:///srv/machines" = [ "/srv/machines/.git/refs/heads" ];
    "file:///srv/machines.git" = [ "/srv/machines.git/refs/heads" ];
    "file://localhost/srv/machines" = [ "/srv/machines/.git/refs/heads" ];
    # What a percent-encoded path stands for is left to Git.
    "file:///srv/my%20git" = [ ];
    "/" = [ ];
    "https://git.example.org/machines.git" = [ ];
    "git@example.org:machines.git" = [ ];
    "ssh://git@example.org/machines" = [ ];
  };

  accuracy =
    period:
    (import ../../module/units.nix {
      inherit comin;
      remotes = [
        {
          name = "r";
          url = "https://git.example.org/r";
          timeout = 300;
          poller = { inherit period; };
        }
      ];
    }).timers.comin-r.timerConfig.AccuracySec;

  # The outputs of the flake with the stand-in for nixpkgs.
  flake = import ../../flake.nix;
  nixpkgs = (import ./nixpkgs/flake.nix).outputs { self = nixpkgs; } // {
    outPath = toString ./nixpkgs;
  };
  outputs = flake.outputs {
    self = outputs;
    inherit nixpkgs;
  };
  systems = [
    "aarch64-linux"
    "x86_64-linux"
  ];
  # The comin that a machine gets from the flake's module.
  packageOn =
    machine:
    (import ./nixpkgs/nixos/lib/eval-config.nix {
      system = null;
      modules = [
        outputs.nixosModule
        { nixpkgs = machine; }
      ];
    }).config.services.comin.package;
  comin-of-somebody = _: _: { comin = nixpkgs.legacyPackages.x86_64-linux.bash; };
  # What the stand-in for nixpkgs has: each attribute, or those below it where it is a set of others.
  offered = rec {
    namesBelow =
      prefix: set:
      builtins.concatMap (
        name:
        if builtins.elem name sets then namesBelow "${prefix}${name}." set.${name} else [ "${prefix}${name}" ]
      ) (names set);
    sets = [
      "buildPlatform"
      "fileset"
      "hostPlatform"
      "ints"
      "licenses"
      "platforms"
      "rustPlatform"
      "stdenv"
      "testers"
      "trivial"
      "types"
    ];
    lib = namesBelow "" nixpkgs.lib;
    packages = namesBelow "" nixpkgs.legacyPackages.x86_64-linux;
    options =
      let
        inherit (nixpkgs) lib;
        found = lib.optionAttrSetToDocList (
          removeAttrs
            (import ./nixpkgs/nixos/lib/eval-config.nix {
              system = "x86_64-linux";
              modules = [ ./nixpkgs/nixos/test-node.nix ];
            }).options
            [ "_module" ]
        );
        short =
          name:
          let
            parts = builtins.match "systemd[.].*[.]<name>([.].*)" name;
          in
          if parts == null then name else "<unit>${builtins.head parts}";
      in
      lib.unique (map (option: short option.name) found);
  };
  used = builtins.mapAttrs (_: files: builtins.concatLists (builtins.attrValues files)) (import ./used.nix);
  sorted = builtins.sort builtins.lessThan;

  # Whether a wrong value of an option is found when a system is evaluated, although nobody asks for that option.
  isRead =
    option:
    let
      inherit (nixpkgs) lib;
      wrong = lib.mkForce (throw "it is read");
      remote = {
        name = "origin";
        url = "https://git.example.org/machines.git";
      };
      machine = import ./nixpkgs/nixos/lib/eval-config.nix {
        system = "x86_64-linux";
        modules = [
          ../../module
          {
            services.comin = {
              enable = true;
              desktop.enable = true;
            };
          }
          (
            if lib.hasPrefix "services.comin.remotes.*." option.name then
              {
                services.comin.remotes = [
                  (_: { imports = [ remote (lib.setAttrByPath (tailFrom 4 option.loc) wrong) ]; })
                ];
              }
            else
              { imports = [ { services.comin.remotes = [ remote ]; } (lib.setAttrByPath option.loc wrong) ]; }
          )
        ];
      };
    in
    !(builtins.tryEval machine.config.system.build.toplevel.drvPath).success;
  tailFrom = count: list: if count == 0 then list else tailFrom (count - 1) (builtins.tail list);

  lock = builtins.fromJSON (builtins.readFile ../../flake.lock);
  pinned = lock.nodes.nixpkgs;
in
map (url: test "watch of ${url}" watches.${url} (watchesOf url branches)) (names watches)
++ [
  (test "local urls"
    [
      true
      true
      true
      false
      false
      false
    ]
    (
      map isLocal [
        "/a"
        "file:///a"
        "file://localhost/a"
        "https://a/b"
        "a@b:/c"
        "relative"
      ]
    )
  )

  (test "ssh urls"
    [
      true
      true
      false
      false
      false
      false
    ]
    (
      map isSsh [
        "ssh://git@host/r"
        "git@host:r"
        "https://git@host/r"
        "http://host/r"
        "/srv/git@host:r"
        "file:///srv/r"
      ]
    )
  )

  (test "units of two remotes" [
    "comin-commit@.service"
    "comin-fetcher.service"
    "comin-local.path"
    "comin-local.service"
    "comin-local.timer"
    "comin-origin.service"
    "comin-origin.timer"
    "comin.path"
    "comin.service"
  ] (names (render "two-remotes").files))
  (test "wanted units" {
    "multi-user.target" = [ "comin-fetcher.service" ];
    "paths.target" = [
      "comin.path"
      "comin-local.path"
    ];
    "timers.target" = [
      "comin-local.timer"
      "comin-origin.timer"
    ];
  } (render "two-remotes").wants)
  (test "a bare repository is watched" "/srv/git/machines.git/refs/heads"
    (units "bare").paths.comin-bare.pathConfig.PathChanged
  )
  (test "a file url is watched" "/srv/machines/.git/refs/heads"
    (units "file-url").paths.comin-file.pathConfig.PathChanged
  )
  (test "an empty watch has no path unit" [ "comin" ] (names (units "unwatched").paths))
  (test "each folder with a followed branch has a path unit"
    [
      "/home/me/machines/.git/refs/heads"
      "/home/me/machines/.git/refs/heads/me"
    ]
    (
      map (unit: (units "branch-with-slash").paths.${unit}.pathConfig.PathChanged) [
        "comin-local"
        "comin-local@2"
      ]
    )
  )
  (test "a branch without a name is not watched" [ "/srv/machines/.git/refs/heads/me" ] (
    watchesOf "/srv/machines" {
      main.name = "";
      testing.name = "me/testing";
    }
  ))
  (test "watch is taken as it is" "/home/me/machines/.git/refs/heads"
    (units "elsewhere-watched").paths.comin-local.pathConfig.PathChanged
  )
  (test "without remotes there is still comin.service" [
    "comin-fetcher.service"
    "comin.path"
    "comin.service"
  ] (names (render "no-remotes").files))
  (test "an exporter has a socket and a service for each connection"
    [
      [
        "comin-exporter.path"
        "comin-exporter.socket"
        "comin-exporter@.service"
        "comin-fetcher.service"
        "comin.path"
        "comin.service"
      ]
      [ "comin-exporter.socket" ]
      [ "4243" "[fe80::1]:1" ]
    ]
    [
      (names (render "exporter").files)
      (render "exporter").wants."sockets.target"
      (map (case: (units case).sockets.comin-exporter.socketConfig.ListenStream) [ "exporter" "exporter-elsewhere" ])
    ]
  )
  (test "each remote gets its own files"
    {
      local = [ ];
      token = [ "%%2Frun%%2Fsecrets%%2Ftoken:/run/secrets/token" ];
      key = [
        "%%2Fhome%%2Fme%%2F100%%25%%2Fkey%%3A1:/home/me/100%%/key:1"
        "%%2Fetc%%2Fknown_hosts:/etc/known_hosts"
      ];
    }
    (
      let
        of = name: (units "secrets").services."comin-${name}".serviceConfig;
      in
      {
        local = (of "local").LoadCredential or [ ];
        token = (of "token").LoadCredential;
        key = (of "key").LoadCredential;
      }
    )
  )
  (test "fetches are another user's, and only that of a local path reads all files"
    {
      local = [
        "comin"
        "CAP_DAC_READ_SEARCH"
        "CAP_DAC_READ_SEARCH"
        "none"
      ];
      token = [
        "comin"
        null
        ""
        [
          "AF_UNIX"
          "AF_INET"
          "AF_INET6"
        ]
      ];
      deploy = null;
    }
    (
      let
        services = (units "secrets").services;
        of =
          name:
          let
            unit = services."comin-${name}".serviceConfig;
          in
          [
            unit.User
            (unit.AmbientCapabilities or null)
            unit.CapabilityBoundingSet
            unit.RestrictAddressFamilies
          ];
      in
      {
        local = of "local";
        token = of "token";
        deploy = services.comin.serviceConfig.User or null;
      }
    )
  )
  (test "when the timers fetch"
    {
      jitter = [ "600s" null "7s" ];
      steady = [ "600s" null null ];
      quick = [ "59s" null null ];
      daily = [ null "04:00" "60s" ];
      often = [ null [ "Mon..Fri 08:00" "*:0/15" ] null ];
    }
    (
      builtins.listToAttrs (
        map (
          name:
          let
            timer = (units "timers").timers."comin-${name}".timerConfig;
          in
          {
            inherit name;
            value = [
              (timer.OnUnitInactiveSec or null)
              (timer.OnCalendar or null)
              (timer.RandomizedDelaySec or null)
            ];
          }
        ) [ "jitter" "steady" "quick" "daily" "often" ]
      )
    )
  )
  (test "a jitter of a tenth from 60 s on, up to 60 s"
    [
      "30s"
      "60s"
    ]
    [
      (units "two-remotes").timers.comin-origin.timerConfig.RandomizedDelaySec
      (units "timers").timers.comin-seldom.timerConfig.RandomizedDelaySec
    ]
  )
  (test "accuracy of 1 s" "50ms" (accuracy 1))
  (test "accuracy of 300 s" "15000ms" (accuracy 300))

  # Only a Prometheus would read that one.
  (test "the evaluation of a system reads every option" [
    "services.comin.prometheusRules.after"
    "services.comin.prometheusRules.enable"
  ] (
    map (option: option.name) (
      builtins.filter (option: !isRead option) (
        nixpkgs.lib.optionAttrSetToDocList
          (import ./nixpkgs/nixos/lib/eval-config.nix {
            system = "x86_64-linux";
            modules = [ ../../module ];
          }).options.services.comin
      )
    )
  ))

  (test "the stand-in has what we use of nixpkgs' library, and nothing else" (sorted used.lib) (
    sorted offered.lib
  ))
  (test "the stand-in has what we use of nixpkgs' packages, and nothing else" (sorted used.packages) (
    sorted offered.packages
  ))
  (test "the stand-in has what we use of NixOS' options, and nothing else" (sorted used.options) (
    sorted offered.options
  ))

  (test "flake systems" [
    systems
    systems
    systems
    systems
  ] (map names [ outputs.packages outputs.checks outputs.devShells outputs.formatter ]))
  (test "flake packages"
    [
      [
        "comin"
        "default"
      ]
      "aarch64-linux"
    ]
    [
      (names outputs.packages.x86_64-linux)
      outputs.packages.aarch64-linux.comin.system
    ]
  )
  (test "flake overlay" { comin = "built with final"; } (
    outputs.overlays.default { callPackage = _: _: "built with final"; } { }
  ))
  (test "flake modules" [
    "comin"
    "default"
  ] (names outputs.nixosModules))
  (test "the package is the flake's own" outputs.packages.aarch64-linux.comin.drvPath
    (packageOn { hostPlatform = "aarch64-linux"; }).drvPath
  )
  (test "a system that the flake does not know packages comin itself" "riscv64-linux"
    (packageOn { hostPlatform = "riscv64-linux"; }).system
  )
  (
    let
      cross = {
        buildPlatform = "x86_64-linux";
        hostPlatform = "aarch64-linux";
      };
      byOurOverlay = packageOn (cross // { overlays = [ outputs.overlays.default ]; });
    in
    test "a system that is cross-built has a cross-built comin"
      [
        "x86_64-linux"
        false
        byOurOverlay.drvPath
      ]
      [
        (packageOn cross).system
        ((packageOn cross).drvPath == outputs.packages.x86_64-linux.comin.drvPath)
        (packageOn cross).drvPath
      ]
  )
  (test "an overlay's comin comes first"
    [
      "bash"
      "bash"
    ]
    (
      map
        (
          machine: (packageOn (machine // { overlays = [ comin-of-somebody ]; })).name
        )
        [
          { hostPlatform = "x86_64-linux"; }
          {
            buildPlatform = "x86_64-linux";
            hostPlatform = "aarch64-linux";
          }
        ]
    )
  )
  (test "the package says what it is"
    [
      "changelog"
      "description"
      "homepage"
      "license"
      "mainProgram"
      "maintainers"
      "platforms"
    ]
    (names outputs.packages.x86_64-linux.comin.meta)
  )
  (test "the package is built from what cargo reads, and from nothing else"
    (
      [
        "Cargo.lock"
        "Cargo.toml"
      ]
      ++ map (name: "tests/nix/${name}") (builtins.attrNames (builtins.readDir ../nix))
      ++ [ "tests/states/0.1.json" ]
    )
    (
      let
        inherit (nixpkgs) lib;
        files = import ../../module/package.nix {
          lib = lib // {
            fileset = lib.fileset // {
              toSource = { fileset, ... }: lib.fileset.toList fileset;
            };
          };
          rustPlatform.buildRustPackage = package: package.src;
          stdenv = null;
          installShellFiles = null;
          pkg-config = null;
          zlib = null;
          gitMinimal = null;
          gnupg = null;
          openssh = null;
        };
        relative = file: lib.removePrefix "${toString ../..}/" (toString file);
      in
      builtins.sort builtins.lessThan (
        builtins.filter (file: !lib.hasPrefix "src/" file) (map relative files)
      )
    )
  )
  (test "flake checks"
    [
      "module"
      "package"
      "vm-deploy"
      "vm-network"
      "vm-removal"
      "vm-rewound"
      "vm-testing"
    ]
    (names outputs.checks.x86_64-linux)
  )
  (test "flake checks without whole machines" [
    "module"
    "package"
  ] (names outputs.checks.aarch64-linux))
  (test "a check of a whole machine" "vm-test-run-comin-deploy" outputs.checks.x86_64-linux.vm-deploy.name)
  (test "flake.lock fits flake.nix" flake.inputs.nixpkgs.url
    "${pinned.original.type}:${pinned.original.owner}/${pinned.original.repo}/${pinned.original.ref}"
  )
  (test "flake.lock locks what flake.nix names" [
    7
    (names flake.inputs)
    40
  ] [
    lock.version
    (names lock.nodes.root.inputs)
    (builtins.stringLength pinned.locked.rev)
  ])
]
