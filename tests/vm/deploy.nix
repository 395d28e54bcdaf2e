# A push is deployed, and stays over a reboot.
{
  name = "comin-deploy";
  systems.second = { };
  script = ''
    await_ended(push("second"))
    assert label() == "second"
    machine.succeed("journalctl --identifier comin --grep 'Deployed .* \\(origin/main\\) by switch: second'")
    reboot()
    assert label() == "second"
  '';
}
