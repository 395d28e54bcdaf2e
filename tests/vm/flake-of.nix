# The text of a flake whose machine is a system that has been built already. NixOS cannot be evaluated in a test: that
# needs what it is built from. So the flake copies the system, with the path of the copy in place of its own, which is as
# long, and the copy is a system like any other, but that its derivation is small.
{
  toplevel,
  # A folder with bin/{bash,cp,chmod,find,sed}.
  tools,
}:
''
  {
    outputs = _: {
      nixosConfigurations.machine.config = {
        services.comin.machineId = null;
        system.build.toplevel =
          let
            # builtins.storePath is not for flakes.
            stored = path: builtins.appendContext path { ''${path}.path = true; };
          in
          derivation {
            name = "${toplevel.name}";
            system = "${toplevel.system}";
            builder = stored "${tools}" + "/bin/bash";
            args = [
              "-euc"
              "cp -a $original $out; chmod -R u+w $out; find $out -type f -exec sed -i s,$original,$out,g {} +"
            ];
            PATH = stored "${tools}" + "/bin";
            original = stored "${toplevel}";
          };
      };
    };
  }
''
