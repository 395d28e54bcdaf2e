# module/options.md, from the options themselves: `UPDATE=1 tests/module/run.sh` writes it.
{ nixpkgs }:
let
  lib = import (nixpkgs + "/lib");
  inherit (builtins)
    any
    concatMap
    concatStringsSep
    filter
    map
    match
    replaceStrings
    ;

  inherit
    (import (nixpkgs + "/nixos/lib/eval-config.nix") {
      system = "x86_64-linux";
      modules = [ ../../module ];
    })
    options
    ;
  # Of a submodule, its options say all there is to say.
  documented = filter (option: option.visible && !option.internal && option.type != "submodule") (
    lib.optionAttrSetToDocList options.services.comin
  );

  # What belongs together, in the order of the page; options by the beginnings of their names.
  groups = [
    {
      title = "To begin with";
      page = "docs/getting-started.md";
      options = [
        "enable"
        "remotes"
        "remotes.*.name"
        "remotes.*.url"
        "hostname"
      ];
    }
    {
      title = "Credentials";
      page = "docs/private-repositories.md";
      options = [
        "remotes.*.auth."
        "submodules"
        "evaluateAsRoot"
      ];
    }
    {
      title = "Branches";
      page = "docs/live-testing.md";
      options = [ "remotes.*.branches." ];
    }
    {
      title = "When to fetch";
      page = "docs/fleet.md";
      options = [
        "remotes.*.poller."
        "remotes.*.watch"
        "remotes.*.timeout"
      ];
    }
    {
      title = "Signatures";
      page = "docs/signatures.md";
      options = [
        "sshAllowedSignersPath"
        "sshRevokedKeysPath"
        "gpgPublicKeyPaths"
        "signedAncestors"
      ];
    }
    {
      title = "Health checks and rollback";
      page = "docs/health-checks-and-rollback.md";
      options = [
        "healthCheck."
        "rollback."
        "retry."
      ];
    }
    {
      title = "Reboots and confirmations";
      page = "docs/reboots-and-pauses.md";
      options = [
        "reboot."
        "buildConfirmer."
        "deployConfirmer."
      ];
    }
    {
      title = "Boot checks";
      page = "docs/boot-checks.md";
      options = [ "bootCheck." ];
    }
    {
      title = "Drift";
      page = "docs/drift.md";
      options = [ "drift." ];
    }
    {
      title = "Systems from CI";
      page = "docs/systems-from-ci.md";
      options = [
        "prebuilt"
        "prebuilt."
      ];
    }
    {
      title = "Gates and windows";
      page = "docs/gates.md";
      options = [
        "gates"
        "gates."
        "deployWindow"
        "deployWindow."
        "minFree"
        "onACPower"
        "unmetered"
      ];
    }
    {
      title = "Monitoring";
      page = "docs/monitoring.md";
      options = [
        "postDeploymentCommand"
        "desktop."
        "exporter."
        "prometheusRules."
      ];
    }
    {
      title = "What is kept";
      page = "docs/files.md";
      options = [ "retention." ];
    }
    # All others.
    {
      title = "Advanced";
      page = "docs/configuration-file.md";
      options = [ "" ];
    }
  ];

  belongs = group: option: any (matches option) group.options;
  matches =
    option: beginning:
    let
      name = lib.removePrefix "services.comin." option.name;
    in
    name == beginning || beginning == "" || (lib.hasSuffix "." beginning && lib.hasPrefix beginning name);

  # What each group has: not what an earlier one has already.
  grouped =
    (builtins.foldl'
      (
        { left, done }:
        group: {
          left = filter (option: !belongs group option) left;
          done = done ++ [ (group // { found = sorted group (filter (belongs group) left); }) ];
        }
      )
      {
        left = documented;
        done = [ ];
      }
      groups
    ).done;
  # As the group lists them.
  sorted =
    group: found:
    concatMap (beginning: filter (option: firstOf group option == beginning) found) group.options;
  firstOf = group: option: builtins.head (filter (matches option) group.options);

  # The roles of NixOS' manual are nothing to GitHub.
  plain =
    replaceStrings
      [
        "{command}"
        "{file}"
        "{manpage}"
        "{option}"
      ]
      [
        ""
        ""
        ""
        ""
      ];

  trimmed =
    text:
    if lib.hasSuffix "\n" text then
      trimmed (lib.substring 0 (lib.stringLength text - 1) text)
    else
      text;
  indented = replaceStrings [ "\n" ] [ "\n  " ];
  isOneLine = text: match "[^\n]*" text != null;

  # A value that the library has put into words: code, or a sentence.
  labelled =
    label: value:
    let
      text = plain (trimmed value.text);
    in
    if value._type == "literalMD" then
      "* ${label}: ${replaceStrings [ "\n" ] [ " " ] text}"
    else if isOneLine text then
      "* ${label}: `${text}`"
    else
      "* ${label}:\n  ```nix\n  ${indented text}\n  ```";

  # Null is what comin itself has as the default, if the description does not say what else it is.
  typeOf =
    option:
    let
      inner = match "null or [(]?([^()]*)[)]?" option.type;
      saysNull = lib.any (word: lib.hasInfix word option.description) [
        "null"
        "Null"
      ];
      isOwn = option ? default && (option.default.text or "") != "null" && !saysNull;
    in
    replaceStrings [ "\n" ] [ "\\n" ] (
      if inner != null && isOwn then builtins.head inner else option.type
    );

  section = page: option: ''
    ### `${option.name}`

    ${plain (trimmed option.description)}

    ${concatStringsSep "\n" (
      lib.optional (match ".*submodule.*" option.type == null) "* Type: `${typeOf option}`"
      ++ lib.optional (option ? default) (labelled "Default" option.default)
      ++ lib.optional (option ? example) (labelled "Example" option.example)
      ++ [ "* More: [${titleOf page}](${page})." ]
    )}
  '';
  titleOf =
    page:
    lib.removePrefix "# " (builtins.head (lib.splitString "\n" (builtins.readFile (../../module + "/${page}"))));
in
''
  # Options

  <!-- Written by `UPDATE=1 tests/module/run.sh` from options.nix. -->

  All options of the NixOS module. Only `enable`, and `name` and `url` of one remote are required. `remotes.*` are the options of
  each remote.
''
+ concatStringsSep "" (
  map (group: ''

    ## ${group.title}

    ${concatStringsSep "\n" (map (section group.page) group.found)}'') grouped
)
