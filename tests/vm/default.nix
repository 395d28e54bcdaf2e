# Whole machines of NixOS that follow a repository on another one. A set of checks for a flake; they need KVM.
{ pkgs, module }:
let
  test =
    file:
    pkgs.testers.runNixOSTest {
      imports = [
        (import ./machine.nix { inherit pkgs module; })
        file
      ];
    };
in
{
  vm-deploy = test ./deploy.nix;
  vm-testing = test ./testing.nix;
  vm-rewound = test ./rewound.nix;
  vm-removal = test ./removal.nix;
  vm-network = test ./network.nix;
}
