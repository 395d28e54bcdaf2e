# The text of unit files, as NixOS writes them, for what units.nix returns: tests on any systemd host
# install the same units as users. Only builtins.
#
# { services, sockets, timers, paths, user }  ->  { files = { "comin.service" = "[Unit]\n…"; … };
#                                    wants = { "timers.target" = [ "comin-origin.timer" ]; … };
#                                    requires = { … };
#                                    userFiles = { … }; }
#
# Not rendered is what NixOS adds to every service by itself: Environment= with PATH, LOCALE_ARCHIVE, TZDIR.
{
  services ? { },
  sockets ? { },
  timers ? { },
  paths ? { },
  user ? { },
}:
let
  inherit (builtins)
    attrNames
    concatMap
    concatStringsSep
    foldl'
    isList
    listToAttrs
    ;

  value =
    v:
    if v == true then
      "true"
    else if v == false then
      "false"
    else
      toString v;

  # One line for each key; a list repeats the key.
  lines =
    keys:
    concatStringsSep "" (
      concatMap (
        key: map (v: "${key}=${value v}\n") (if isList keys.${key} then keys.${key} else [ keys.${key} ])
      ) (attrNames keys)
    );

  install =
    unit:
    let
      line = key: targets: if targets == [ ] then "" else "${key}=${concatStringsSep " " targets}\n";
      lines = line "RequiredBy" (unit.requiredBy or [ ]) + line "WantedBy" (unit.wantedBy or [ ]);
    in
    if lines == "" then "" else "\n[Install]\n${lines}";

  unitSection =
    unit:
    let
      list = key: names: if names == [ ] then { } else { ${key} = toString names; };
    in
    (unit.unitConfig or { })
    // list "After" (unit.after or [ ])
    // list "Before" (unit.before or [ ])
    // list "Documentation" (unit.documentation or [ ])
    // list "PartOf" (unit.partOf or [ ])
    // list "Wants" (unit.wants or [ ])
    // (if unit.description or "" == "" then { } else { Description = unit.description; });

  text =
    unit: section: keys:
    "[Unit]\n${lines (unitSection unit)}\n[${section}]\n${keys}${install unit}";

  serviceText =
    unit:
    text unit "Service" (
      (if unit.restartIfChanged or true then "" else "X-RestartIfChanged=false\n")
      + lines (unit.serviceConfig or { })
    );
  # The empty line at the end is NixOS's.
  timerText = unit: text unit "Timer" (lines unit.timerConfig + "\n");
  pathText = unit: text unit "Path" (lines unit.pathConfig + "\n");
  # And two more, in place of options that are not used here.
  socketText = unit: text unit "Socket" (lines unit.socketConfig + "\n\n\n");

  ofKind =
    suffix: toText: units:
    map (name: {
      name = "${name}.${suffix}";
      text = toText units.${name};
      wantedBy = units.${name}.wantedBy or [ ];
      requiredBy = units.${name}.requiredBy or [ ];
    }) (attrNames units);

  all =
    ofKind "path" pathText paths
    ++ ofKind "service" serviceText services
    ++ ofKind "socket" socketText sockets
    ++ ofKind "timer" timerText timers;
  # The units that each target pulls in.
  pulledInBy =
    how:
    foldl' (
      pulled: unit:
      foldl' (
        pulled: target: pulled // { ${target} = (pulled.${target} or [ ]) ++ [ unit.name ]; }
      ) pulled unit.${how}
    ) { } all;
  filesOf =
    units:
    listToAttrs (
      map (unit: {
        inherit (unit) name;
        value = unit.text;
      }) units
    );
in
{
  files = filesOf all;

  # For users' own systemd.
  userFiles = filesOf (
    ofKind "path" pathText (user.paths or { }) ++ ofKind "service" serviceText (user.services or { })
  );

  wants = pulledInBy "wantedBy";
  requires = pulledInBy "requiredBy";
}
