# For whoever watches the machines, which need not be one of them.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.comin.prometheusRules;

  # The rules, with another line below the name of an alert.
  replace =
    rules: alert: time:
    let
      parts = builtins.split "(- alert: ${alert}\n        for: )[0-9a-z]+\n" rules;
      part = builtins.elemAt parts;
    in
    if builtins.length parts != 3 then
      throw "services.comin.prometheusRules.after.${alert}: there is no such alert"
    else
      "${part 0}${builtins.head (part 1)}${time}\n${part 2}";
  rules = builtins.foldl' (rules: alert: replace rules alert cfg.after.${alert}) (builtins.readFile ./alerts.yml) (
    builtins.attrNames cfg.after
  );
in
{
  config = lib.mkIf cfg.enable {
    services.prometheus.ruleFiles = [
      (if cfg.after == { } then ./alerts.yml else pkgs.writeText "comin-alerts.yml" rules)
    ];
  };
}
