{
  lib,
  stdenv,
  rustPlatform,
  installShellFiles,
  pkg-config,
  openssl,
  zlib,
  gitMinimal,
  gnupg,
  openssh,
}:
let
  manifest = lib.importTOML ../Cargo.toml;
in
rustPlatform.buildRustPackage {
  pname = manifest.package.name;
  inherit (manifest.package) version;

  # Only what cargo reads: a change of the module or of the README builds nothing anew.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../src
      (lib.fileset.difference ../tests (
        lib.fileset.unions [
          (lib.fileset.maybeMissing ../tests/host)
          (lib.fileset.maybeMissing ../tests/module)
          (lib.fileset.maybeMissing ../tests/vm)
        ]
      ))
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;

  nativeBuildInputs = [
    installShellFiles
    pkg-config
  ];
  buildInputs = [
    openssl
    zlib
  ];

  # Tests that need Nix itself say "skipped" here.
  nativeCheckInputs = [
    gitMinimal
    gnupg
    openssh
  ];

  # The program writes them itself; one that is built for another kind of machine cannot.
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    $out/bin/comin generate manual
    installManPage manual/*.1
    installShellCompletion --bash manual/comin.bash --fish manual/comin.fish --zsh manual/_comin
  '';

  meta = {
    inherit (manifest.package) description;
    license = lib.licenses.mit;
    platforms = lib.platforms.linux;
    mainProgram = "comin";
  };
}
