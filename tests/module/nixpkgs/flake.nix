# What our flake uses of the flake of nixpkgs.
{
  outputs =
    { self }:
    {
      lib = import ./lib;
      legacyPackages = self.lib.genAttrs [
        "aarch64-linux"
        "x86_64-linux"
      ] (system: import ./. { localSystem = { inherit system; }; });
    };
}
