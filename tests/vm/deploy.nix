# A push is deployed, and stays over a reboot.
{
  name = "comin-deploy";
  systems.second = { };
  script = ''
    second = push("second")
    await_ended(second)
    assert label() == "second"
    machine.succeed(
        f"journalctl --identifier comin --grep 'Deployed {second[:8]} .origin/main. by switch'"
    )
    reboot()
    assert label() == "second"
  '';
}
