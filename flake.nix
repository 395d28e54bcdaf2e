{
  description = "Pull-mode deployment for NixOS";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      forAllSystems = nixpkgs.lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ];
      pkgsFor = system: nixpkgs.legacyPackages.${system};
    in
    {
      packages = forAllSystems (system: rec {
        comin = (pkgsFor system).callPackage ./module/package.nix { };
        default = comin;
      });

      overlays.default = final: _prev: {
        comin = final.callPackage ./module/package.nix { };
      };

      nixosModules = rec {
        comin =
          { lib, pkgs, ... }:
          {
            # Makes importing it under both of its names the same as importing it once.
            key = toString ./flake.nix;
            imports = [ ./module ];
            # With the nixpkgs that flake.lock pins, which is what our checks have built. A system that this flake
            # does not know, or that is cross-built, builds comin with its own nixpkgs.
            config =
              let
                inherit (pkgs.stdenv.hostPlatform) system;
                isNative = pkgs.stdenv.buildPlatform.system == system;
              in
              lib.mkIf (!pkgs ? comin && isNative && self.packages ? ${system}) {
                services.comin.package = lib.mkDefault self.packages.${system}.comin;
              };
          };
        default = comin;
      };
      nixosModule = self.nixosModules.default;

      checks = forAllSystems (
        system:
        {
          package = self.packages.${system}.comin;
          module =
            (import ./tests/module/module.nix {
              inherit nixpkgs system;
              module = self.nixosModules.default;
            }).check;
        }
        # Whole machines, for which CI has KVM.
        // nixpkgs.lib.optionalAttrs (system == "x86_64-linux") (
          import ./tests/vm {
            pkgs = pkgsFor system;
            module = self.nixosModules.default;
          }
        )
      );

      devShells = forAllSystems (
        system:
        let
          pkgs = pkgsFor system;
        in
        {
          default = pkgs.mkShell {
            inputsFrom = [ self.packages.${system}.comin ];
            packages = [
              pkgs.cargo
              pkgs.rustc
              pkgs.clippy
              pkgs.rustfmt
              pkgs.rust-analyzer
              pkgs.gitMinimal
              pkgs.gnupg
              pkgs.openssh
            ];
          };
        }
      );

      formatter = forAllSystems (system: (pkgsFor system).nixfmt-tree);
    };
}
