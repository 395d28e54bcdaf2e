# A commit may remove comin: the switch that does so comes to its end.
{ lib, ... }:
{
  name = "comin-removal";
  systems.without.services.comin.enable = lib.mkForce false;
  script = ''
    push("without")
    machine.wait_until_succeeds("grep --quiet without /etc/label")
    machine.wait_until_fails("systemctl is-active nixos-rebuild-switch-to-configuration.service")
    machine.fail("systemctl cat comin.service", "systemctl cat comin-origin.timer")
    machine.fail("test -e /run/current-system/sw/bin/comin")
    # What a switch that did not end leaves.
    machine.fail("ls /run/nixos/*-list")
    assert machine.succeed("systemctl list-units --failed --plain --no-legend").strip() == ""

    reboot()
    assert label() == "without"
  '';
}
