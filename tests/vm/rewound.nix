# A main that was rewound is refused, until the operator accepts it.
{
  name = "comin-rewound";
  systems = {
    second = { };
    third = { };
  };
  script = ''
    old = push("second")
    await_ended(old)
    new = push("third")
    await_ended(new)

    origin.succeed(f"git -C /srv/machines.git update-ref refs/heads/main {old}")
    await_status(f'.remotes[0].main.commit == "{old}" and .remotes[0].main.refused != null')
    machine.wait_until_succeeds("journalctl --identifier comin --grep 'Refused .*origin/main'")
    await_status(f'.phase == "idle" and .deployed.commit == "{new}" and .accepted_main == "{new}"')
    assert label() == "third"

    machine.succeed(f"comin accept {old}")
    await_ended(old)
    assert label() == "second"
  '';
}
