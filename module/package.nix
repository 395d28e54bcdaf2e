{
  lib,
  stdenv,
  rustPlatform,
  installShellFiles,
  pkg-config,
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
      # The tests, without those on whole machines, and the files that they read.
      (lib.fileset.fileFilter (
        file: file.hasExt "rs" && file.name != "host.rs" && !lib.hasPrefix "host_" file.name
      ) ../tests)
      ../tests/support/host.rs
      ../tests/host/system
      ../tests/states
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;

  nativeBuildInputs = [
    installShellFiles
    pkg-config
  ];
  buildInputs = [ zlib ];

  # Tests that need Nix itself, or an account that may log in, say "skipped" here.
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
    homepage = manifest.package.repository;
    changelog = "${manifest.package.repository}/blob/main/CHANGELOG.md";
    license = lib.licenses.mit;
    maintainers = [ { name = "the comin authors"; } ];
    platforms = lib.platforms.linux;
    mainProgram = "comin";
  };
}
