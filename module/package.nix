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

  # Only the files that the build and the unit tests read: a change of anything else builds nothing anew.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../src
      ../tests/nix
      ../tests/states
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;

  nativeBuildInputs = [
    installShellFiles
    pkg-config
  ];
  buildInputs = [ zlib ];

  # The unit tests, compiled without optimization. The other tests need Nix itself or a whole machine:
  # tests/run.sh runs them.
  checkType = "debug";
  cargoTestFlags = [
    "--bin"
    "comin"
  ];
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
