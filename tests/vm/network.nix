# A commit that cuts the machine off is undone, and the next one is deployed.
{ lib, ... }:
{
  name = "comin-network";
  systems = {
    second = { };
    # Forgets where the server is.
    cut =
      { nodes, ... }:
      {
        networking.hosts.${nodes.origin.networking.primaryIPAddress} = lib.mkForce [ ];
      };
    third = { };
  };
  script = ''
    await_ended(push("second"))
    cut = push("cut")
    await_ended(cut, "rolled_back")
    assert label() == "second"
    await_status('.hindrance | contains("held")')

    await_ended(push("third"))
    assert label() == "third"
    reboot()
    assert label() == "third"
  '';
}
