# A commit on the testing branch is tried, and a reboot undoes it.
{
  name = "comin-testing";
  systems = {
    second = { };
    tried = { };
  };
  script = ''
    await_ended(push("second"))
    profile = machine.succeed("readlink /nix/var/nix/profiles/system")
    await_ended(push("tried", branch="testing-machine"))
    assert label() == "tried"
    await_status('.deployed.operation == "test"')
    assert machine.succeed("readlink /nix/var/nix/profiles/system") == profile

    # Or it would be tried again at once.
    origin.shutdown()
    reboot()
    assert label() == "second"
  '';
}
