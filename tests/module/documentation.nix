# module/options.md, from the options themselves: `UPDATE=1 tests/module/run.sh` writes it.
{ nixpkgs }:
let
  lib = import (nixpkgs + "/lib");
  inherit (builtins) concatStringsSep filter replaceStrings;

  inherit
    (import (nixpkgs + "/nixos/lib/eval-config.nix") {
      system = "x86_64-linux";
      modules = [ ../../module ];
    })
    options
    ;
  documented = filter (option: option.visible && !option.internal) (
    lib.optionAttrSetToDocList options.services.comin
  );

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
  isOneLine = text: builtins.match "[^\n]*" text != null;

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

  section = option: ''
    ## `${option.name}`

    ${plain (trimmed option.description)}

    ${concatStringsSep "\n" (
      [ "* Type: `${replaceStrings [ "\n" ] [ "\\n" ] option.type}`" ]
      ++ lib.optional (option ? default) (labelled "Default" option.default)
      ++ lib.optional (option ? example) (labelled "Example" option.example)
    )}
  '';
in
''
  # Options

  <!-- Written by `UPDATE=1 tests/module/run.sh` from options.nix. -->

  The options of the module, by name; `remotes.*` are those of each remote. What they make of
  a machine, and the keys of the configuration that they write, is in [README.md](README.md).

''
+ concatStringsSep "\n" (map section documented)
