# What can be tested of module/ and flake.nix without nixpkgs. A list of { name, ok, message }.
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

  inherit (import ../../module/url.nix) isLocal isSsh watchOf;
  watches = {
    "/srv/machines" = "/srv/machines/.git/refs/heads";
    "/srv/machines/" = "/srv/machines/.git/refs/heads";
    "/srv/machines/.git" = "/srv/machines/.git/refs/heads";
    "/srv/machines.git" = "/srv/machines.git/refs/heads";
    "/srv/machines.git//" = "/srv/machines.git/refs/heads";
    "/srv/my git" = "/srv/my git/.git/refs/heads";
    "/srv/50%" = "/srv/50%/.git/refs/heads";
    "file:///srv/machines" = "/srv/machines/.git/refs/heads";
    "file:///srv/machines.git" = "/srv/machines.git/refs/heads";
    "file://localhost/srv/machines" = "/srv/machines/.git/refs/heads";
    # What a percent-encoded path stands for is left to Git.
    "file:///srv/my%20git" = null;
    "/" = null;
    "https://git.example.org/machines.git" = null;
    "git@example.org:machines.git" = null;
    "ssh://git@example.org/machines" = null;
  };

  accuracy =
    period:
    (import ../../module/units.nix {
      inherit comin;
      remotes = [
        {
          name = "r";
          url = "/r";
          timeout = 300;
          poller = { inherit period; };
        }
      ];
    }).timers.comin-r.timerConfig.AccuracySec;

  # The outputs of the flake with a nixpkgs that packages nothing.
  flake = import ../../flake.nix;
  outputs = flake.outputs {
    self = outputs;
    nixpkgs = {
      lib = {
        genAttrs =
          names: value:
          builtins.listToAttrs (
            map (name: {
              inherit name;
              value = value name;
            }) names
          );
        optionalAttrs = condition: set: if condition then set else { };
      };
      legacyPackages =
        let
          pkgs = system: {
            callPackage = file: _: "${builtins.baseNameOf file} for ${system}";
            nixfmt-tree = "nixfmt";
            testers.runNixOSTest = test: map (file: if builtins.isPath file then baseNameOf file else null) test.imports;
          };
        in
        {
          x86_64-linux = pkgs "x86_64-linux";
          aarch64-linux = pkgs "aarch64-linux";
        };
    };
  };
  systems = [
    "aarch64-linux"
    "x86_64-linux"
  ];
  moduleOn =
    system:
    outputs.nixosModule {
      lib = {
        mkDefault = value: value;
        mkIf = condition: value: if condition then value else { };
      };
      pkgs.stdenv.hostPlatform = { inherit system; };
    };
  lock = builtins.fromJSON (builtins.readFile ../../flake.lock);
  pinned = lock.nodes.nixpkgs;
in
map (url: test "watch of ${url}" watches.${url} (watchOf url)) (names watches)
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
    "comin-local.path"
    "comin-local.service"
    "comin-local.timer"
    "comin-origin.service"
    "comin-origin.timer"
    "comin.path"
    "comin.service"
  ] (names (render "two-remotes").files))
  (test "wanted units" {
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
  (test "watch = null has no path unit" [ "comin" ] (names (units "unwatched").paths))
  (test "watch is taken as it is" "/home/me/machines/.git/refs/heads"
    (units "elsewhere-watched").paths.comin-local.pathConfig.PathChanged
  )
  (test "without remotes there is still comin.service" [
    "comin.path"
    "comin.service"
  ] (names (render "no-remotes").files))
  (test "an exporter has a socket and a service for each connection"
    [
      [
        "comin-exporter.path"
        "comin-exporter.socket"
        "comin-exporter@.service"
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
  (test "each remote gets its own files, and none can read the others'"
    {
      local = [ ];
      token = [ "%%2Frun%%2Fsecrets%%2Ftoken:/run/secrets/token" ];
      key = [
        "%%2Fhome%%2Fme%%2F100%%25%%2Fkey%%3A1:/home/me/100%%/key:1"
        "%%2Fetc%%2Fknown_hosts:/etc/known_hosts"
      ];
      hidden = [
        "-/run/secrets/token"
        "-/home/me/100%%/key:1"
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
        hidden =
          assert (of "local").InaccessiblePaths == (of "token").InaccessiblePaths;
          (of "key").InaccessiblePaths;
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

  (test "flake systems" [
    systems
    systems
    systems
    systems
  ] (map names [ outputs.packages outputs.checks outputs.devShells outputs.formatter ]))
  (test "flake packages" {
    comin = "package.nix for x86_64-linux";
    default = "package.nix for x86_64-linux";
  } outputs.packages.x86_64-linux)
  (test "flake overlay" { comin = "built with final"; } (
    outputs.overlays.default { callPackage = _: _: "built with final"; } { }
  ))
  (test "flake modules" [
    "comin"
    "default"
  ] (names outputs.nixosModules))
  (test "the package is the flake's own" outputs.packages.aarch64-linux.comin
    (moduleOn "aarch64-linux").config.services.comin.package
  )
  (test "an unknown system packages it itself" { } (moduleOn "riscv64-linux").config)
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
  (test "a check of a whole machine" [
    null
    "deploy.nix"
  ] outputs.checks.x86_64-linux.vm-deploy)
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
