# A small fake NixOS: a toplevel that looks and acts like one, for use from a flake without inputs:
# (import ./system { label = "b"; units."web.service" = "…"; }) is its derivation.
{
  label ? "x",
  # The systemd units it has: "name.service" -> text. Drop-ins: "name.service.d/a.conf" -> text.
  units ? { },
  # What pulls them in: "timers.target" -> [ "name.timer" ].
  wants ? { },
  # The same, for those that a target does without only if it fails.
  requires ? { },
  # Further files below /etc: "comin/config.json" -> text.
  etc ? { },
  # System users, each with a group of the same name.
  users ? [ ],
  # Shell code (sh -e) that activation runs last but one; setting /run/current-system is the last.
  # Its failure is the activation's. $PPID is switch-to-configuration, $$ the activation.
  activation ? "",
  # Shell code that switch-to-configuration itself runs after the activation; it can `exit 1` there.
  afterActivation ? "",
  # Shell code (sh -e) that runs as the boot loader's installer, before the default is set.
  bootloader ? "",
  # Further files of the toplevel, over those below: "switch-inhibitors" -> text; null leaves one out.
  extra ? { },
  # An absolute folder: /run, /boot and /nix/var are taken to be below it, and there is no systemd:
  # units and /etc are left alone. For `comin --root`.
  scratch ? "",
  system ? "x86_64-linux",
}:
let
  inherit (builtins)
    attrNames
    concatMap
    concatStringsSep
    filter
    listToAttrs
    readFile
    replaceStrings
    toJSON
    ;
  out = builtins.placeholder "out";

  quote = text: "'" + replaceStrings [ "'" ] [ "'\\''" ] text + "'";
  inFolder =
    folder: files:
    listToAttrs (
      map (name: {
        name = folder + name;
        value = files.${name};
      }) (attrNames files)
    );
  baked = file: replaceStrings [ "@toplevel@" "@root@" ] [ out (quote scratch) ] (readFile file);

  programs = [
    "activate"
    "bin/switch-to-configuration"
  ];
  files = {
    "activate" = baked ./activate.sh;
    "bin/switch-to-configuration" = baked ./switch-to-configuration.sh;
    "nixos-version" = label;
    "system" = system;
    "init-interface-version" = "systemd 2";
    "init" = "";
    "kernel" = "";
    "initrd" = "";
    "kernel-params" = "";
    "boot.json" = toJSON {
      "org.nixos.bootspec.v1" = {
        inherit label system;
        toplevel = out;
        init = "${out}/init";
        kernel = "${out}/kernel";
        initrd = "${out}/initrd";
        kernelParams = [ ];
      };
    };
    "activation" =
      concatStringsSep "" (
        map (user: "id ${user} >/dev/null 2>&1 || useradd --system --user-group --no-create-home ${user}\n") users
      )
      + activation;
    "after-activation" = afterActivation;
    "bootloader" = bootloader;
  }
  // inFolder "etc/" etc
  // inFolder "etc/systemd/system/" units
  // extra;
  present = filter (name: files.${name} != null);

  # The shell's own commands where possible: each process costs a millisecond.
  write = name: text: ''
    path=$out/${quote name}
    [ -d "''${path%/*}" ] || mkdir -p "''${path%/*}"
    printf %s ${quote text} >"$path"
  '';
  link = how: target: unit: ''
    mkdir -p $out/etc/systemd/system/${target}.${how}
    ln -s ../${unit} $out/etc/systemd/system/${target}.${how}/${unit}
  '';
in
derivation {
  name = "nixos-system-machine-${label}";
  inherit system;
  builder = "/bin/sh";
  # Ends in a builtin: a shell that ends in another program replaces itself by it, and such builds
  # have been seen to die.
  args = [
    "-euc"
    ''
      . "$scriptPath"
      :
    ''
  ];
  # Without Nix' sandbox: the tools of this machine, be it Debian or NixOS.
  PATH = "/usr/bin:/bin:/run/current-system/sw/bin";
  # In a file: an argument or variable has a limit.
  passAsFile = [ "script" ];
  script = concatStringsSep "" (
    map (name: write name files.${name}) (present (attrNames files))
    ++ map (name: "chmod +x $out/${name}\n") (present programs)
    ++ concatMap (target: map (link "wants" target) wants.${target}) (attrNames wants)
    ++ concatMap (target: map (link "requires" target) requires.${target}) (attrNames requires)
  );
}
