# Keys of the tests of whole machines.
pkgs: {
  snakeOilEd25519PrivateKey = pkgs.writeText "privkey.snakeoil" "a private key";
  snakeOilEd25519PublicKey = "ssh-ed25519 AAAA snakeoil";
}
