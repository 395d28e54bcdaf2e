# The systemd units of comin, in the form of NixOS' options `systemd.{services,timers,paths}`.
#
# A pure function that needs only builtins: the module passes the result on to NixOS, and render.nix turns
# the same result into unit files on any other systemd host.
{
  # Path of the executable.
  comin,
  # As in config.json, complete: name, url, timeout, poller.period; besides `watch` (left out: as the URL
  # suggests; null: none). Names are unit names: the module asserts that they are unique and safe.
  remotes,
  debug ? false,
}:
let
  inherit (builtins)
    concatStringsSep
    filter
    listToAttrs
    match
    replaceStrings
    toJSON
    ;
  inherit (import ./url.nix) isLocal watchOf;

  # systemd takes `%h` and the like for specifiers.
  escape = replaceStrings [ "%" ] [ "%%" ];
  executable = if match "[A-Za-z0-9/._+-]+" comin != null then comin else toJSON (escape comin);
  command =
    arguments: concatStringsSep " " ([ executable ] ++ (if debug then [ "--debug" ] else [ ]) ++ arguments);

  unitsFor =
    remotes: unit:
    listToAttrs (
      map (remote: {
        name = "comin-${remote.name}";
        value = unit remote;
      }) remotes
    );

  watch = remote: remote.watch or (watchOf remote.url);
  isWatched = remote: watch remote != null;

  # Both kinds of service outlive a switch that changes or removes them. NixOS reads X-StopOnRemoval from
  # the unit that runs, and has no option for it.
  survivesSwitch = {
    restartIfChanged = false;
    unitConfig = {
      X-StopOnRemoval = false;
      # A poll every second is beyond systemd's default of five starts in ten seconds.
      StartLimitIntervalSec = 0;
    };
  };

  folders = {
    RuntimeDirectory = "comin";
    # Between two runs it holds the outcome of the fetches and the request to deploy.
    RuntimeDirectoryPreserve = true;
    StateDirectory = "comin";
    # `comin status` works unprivileged.
    StateDirectoryMode = "0755";
    UMask = "0022";
  };

  fetch =
    remote:
    survivesSwitch
    // {
      description = "Fetch the configuration from remote ${remote.name}";
      serviceConfig =
        folders
        // sandbox
        // {
          Type = "oneshot";
          ExecStart = command [
            "fetch"
            remote.name
          ];
          # comin gives up by itself after `timeout`, and says so; this is for the case that it cannot.
          TimeoutStartSec = if remote.timeout == 0 then "infinity" else remote.timeout + 30;
          # 1 is a remote that cannot be fetched: comin reports that once, systemd would at every poll.
          SuccessExitStatus = 1;
        }
        # An idle poll leaves nothing in the journal, systemd's own lines included.
        // (if debug then { } else { LogLevelMax = "notice"; });
    }
    // (
      if isLocal remote.url then
        { }
      else
        {
          after = [ "network-online.target" ];
          wants = [ "network-online.target" ];
        }
    );

  # What costs nothing, and the one mount namespace that is worth its price. A start every second makes
  # each setting count: measured on systemd 257 with an empty oneshot (15 ms of CPU for a start),
  # ProtectSystem=strict adds 4 ms, a SystemCallFilter 7 ms, PrivateDevices and ProtectKernel* 20 ms.
  # Left out as well: PrivateTmp and ProtectHome, because local repositories lie in /tmp and in homes.
  sandbox = {
    NoNewPrivileges = true;
    # Reads whatever the repository's owner may read; writes only where systemd has made a folder for it.
    CapabilityBoundingSet = "CAP_DAC_READ_SEARCH";
    ProtectSystem = "strict";
    RestrictSUIDSGID = true;
    LockPersonality = true;
    RestrictRealtime = true;
  };

  timer = remote: {
    description = "Poll remote ${remote.name}";
    wantedBy = [ "timers.target" ];
    timerConfig = {
      # Has always passed already: a timer that is new starts at once, also within a switch.
      OnBootSec = 0;
      # Not OnUnitActiveSec, which has been seen to stall (systemd#5840).
      OnUnitInactiveSec = "${toString remote.poller.period}s";
      # The default, one minute, would make a period of one second meaningless.
      AccuracySec = "${toString (remote.poller.period * 50)}ms";
    };
  };

  path = remote: {
    description = "Watch remote ${remote.name} for commits";
    wantedBy = [ "paths.target" ];
    # Exactly one PathChanged: where a second one does not exist, systemd misses events of the first.
    pathConfig.PathChanged = escape (watch remote);
  };
in
{
  services = unitsFor remotes fetch // {
    comin = survivesSwitch // {
      description = "Deploy the configuration";
      # No wantedBy: only comin.path starts it, so that no target of a switch ever waits for it.
      # No sandbox: it evaluates, builds and activates a system; whatever is hidden from it, is hidden
      # from activation scripts as well.
      serviceConfig = folders // {
        # A oneshot that runs a switch can deadlock with it, when the switch waits for the oneshot's own job.
        Type = "exec";
        ExecStart = command [ "deploy" ];
      };
    };
  };

  timers = unitsFor remotes timer;

  paths = unitsFor (filter isWatched remotes) path // {
    comin = {
      description = "Watch for a configuration to deploy";
      wantedBy = [ "paths.target" ];
      pathConfig = {
        # Level-triggered: a request that arrives during a deployment starts the next one.
        PathExists = "/run/comin/wanted";
        # `comin deploy` removes the file first. Should it ever fail to, systemd would start it over and
        # over; then rather this unit fails, visibly.
        TriggerLimitIntervalSec = "10s";
        TriggerLimitBurst = 100;
      };
    };
  };
}
