# For whoever watches the machines, which need not be one of them.
{ config, lib, ... }:
{
  config = lib.mkIf config.services.comin.prometheusRules.enable {
    services.prometheus.ruleFiles = [ ./alerts.yml ];
  };
}
