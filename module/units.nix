# The systemd units of comin, in the form of NixOS' options `systemd.{services,sockets,timers,paths}`.
#
# A pure function that needs only builtins: the module passes the result on to NixOS, and render.nix turns
# the same result into unit files on any other systemd host.
{
  # Path of the executable.
  comin,
  # As in config.json, complete: name, url, timeout, branches, poller.period; besides `auth`, poller.{calendar,jitter}
  # and `watch` (a list of folders; left out: as the URL and the branches suggest). The module asserts that names can be those of units, and are
  # unique, and that files of `auth` can be credentials.
  remotes,
  # listen_address and port of the exporter; null: none.
  exporter ? null,
  # title of the notifications; null: none.
  desktop ? null,
  # Whether a system is judged after its first boot.
  bootCheck ? false,
  debug ? false,
}:
let
  inherit (builtins)
    concatMap
    concatStringsSep
    elemAt
    filter
    genList
    isList
    length
    listToAttrs
    mapAttrs
    match
    replaceStrings
    toJSON
    ;
  inherit (import ./url.nix) isLocal watchesOf;

  # systemd takes `%h` and the like for specifiers.
  escape = replaceStrings [ "%" ] [ "%%" ];
  executable = if match "[A-Za-z0-9/._+-]+" comin != null then comin else toJSON (escape comin);
  # A word of ExecStart=, where `$` would be a variable.
  quote = text: toJSON (replaceStrings [ "$" ] [ "$$" ] (escape text));
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

  watches = remote: remote.watch or (watchesOf remote.url remote.branches);
  isWatched = remote: watches remote != [ ];

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

  # Between two runs, /run/comin holds the outcome of the fetches and the request to deploy. `comin status` works
  # unprivileged.
  folders = runtime: state: {
    RuntimeDirectory = runtime;
    RuntimeDirectoryPreserve = true;
    StateDirectory = state;
    StateDirectoryMode = "0755";
    UMask = "0022";
  };

  # An idle poll, and a scrape, leave nothing in the journal, systemd's own lines included.
  quiet = if debug then { } else { LogLevelMax = "notice"; };

  fetch =
    remote:
    let
      network = if isLocal remote.url then [ ] else [ "network-online.target" ];
    in
    survivesSwitch
    // {
      description = "Fetch the configuration from remote ${remote.name}";
      after = [ "comin-fetcher.service" ] ++ network;
      wants = network;
      partOf = [ "comin-fetcher.service" ];
      unitConfig = survivesSwitch.unitConfig // {
        ConditionPathExists = "!${noFetcher}";
      };
      serviceConfig =
        # All that a fetch may write: the mirror, and how the fetch ended. If these folders are root's, because an older
        # comin or `comin run` has made them, systemd gives them to the user.
        folders "comin/remotes" "comin/repository"
        // sandbox
        // (if isLocal remote.url then sandboxLocal else sandboxNetwork)
        // credentialsFor remote
        // {
          User = "comin";
          Type = "oneshot";
          ExecStart = command [
            "fetch"
            remote.name
          ];
          # comin gives up by itself after `timeout`, and says so; this is for the case that it cannot.
          TimeoutStartSec = if remote.timeout == 0 then "infinity" else remote.timeout + 30;
          # What is pushed can be made to need any amount. The git that needs too much is killed, and comin says so.
          MemoryMax = "1G";
          OOMPolicy = "continue";
          # 1 is a remote that cannot be fetched: comin reports that once, systemd would at every poll.
          SuccessExitStatus = 1;
        }
        // quiet;
    };

  # Is there as long as no fetch may begin.
  noFetcher = "/run/comin/no-fetcher";

  # An older comin fetches as root, without the right to write to what another user owns. So root gets the mirror and the
  # records back before a switch to a system without this unit, whoever switches, and at a shutdown. Until the units of
  # that system are there, no fetch gives them to the user again. Of what the user may have left, nothing that could be
  # run, and no link that leads elsewhere, becomes root's.
  fetcher =
    let
      mirror = "/var/lib/comin/repository";
      both = "${mirror} /run/comin/remotes";
    in
    {
      description = "Let fetches run as the user comin";
      restartIfChanged = false;
      wantedBy = [ "multi-user.target" ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "/bin/sh -c 'rm -f ${noFetcher}'";
        ExecStop = [
          "-/bin/sh -c 'touch ${noFetcher}; chown -Rh root: ${mirror}/ /run/comin/remotes/; chmod -R go-w ${both}'"
          # From now on, nobody else can leave anything there. The link lets Nix take the mirror for a repository with files.
          "-/bin/sh -c 'find -H ${both} ! -type f ! -type d ! -lname . -delete; find ${mirror}/hooks -mindepth 1 -delete'"
        ];
      }
      // quiet;
    };

  # What all fetches and a scrape have in common. Nothing here needs a mount namespace, which is more than half of what
  # systemd does at a start: an unprivileged user may write to nothing else anyway.
  sandbox = {
    NoNewPrivileges = true;
    RestrictSUIDSGID = true;
    RestrictNamespaces = true;
    MemoryDenyWriteExecute = true;
    SystemCallArchitectures = "native";
    # @aio has io_uring, which opens sockets that RestrictAddressFamilies forbids. mknod also makes pipes: in the mirror, one
    # would let root wait.
    SystemCallFilter = "~@aio @clock @cpu-emulation @debug @keyring @module @mount @obsolete @privileged @raw-io @reboot @resources @swap mknod mknodat personality";
    SystemCallErrorNumber = "EPERM";
  };

  sandboxLocal = {
    # Reads whatever the repository's owner may read, wherever it lies.
    AmbientCapabilities = "CAP_DAC_READ_SEARCH";
    CapabilityBoundingSet = "CAP_DAC_READ_SEARCH";
    # Or access(2), by which git looks whether there is a repository, would not count the capability.
    SecureBits = "no-setuid-fixup";
    # No socket at all: git speaks to its own server side through pipes.
    RestrictAddressFamilies = "none";
    # To read every file is not to listen to a keyboard.
    DevicePolicy = "closed";
  };

  sandboxNetwork = {
    # What it reads is a credential.
    CapabilityBoundingSet = "";
    # AF_UNIX is for nscd and resolved; getaddrinfo(3) does without AF_NETLINK.
    RestrictAddressFamilies = [
      "AF_UNIX"
      "AF_INET"
      "AF_INET6"
    ];
  };

  # Read-only already by ProtectSystem, but with ProtectControlGroups it was found writable on systemd 257.
  notRun = [ "/run" ];

  # The files that a remote's fetch needs.
  filesOf =
    remote:
    filter (file: file != "") [
      (remote.auth.access_token_path or "")
      (remote.auth.ssh_deploy_key_path or "")
      (remote.auth.ssh_known_hosts_path or "")
    ];

  # A fetch gets its own remote's files from systemd: the originals are root's. comin.service reads those: it does so
  # much as root that it would be no protection.
  credentialsFor =
    remote:
    let
      list = key: values: if values == [ ] then { } else { ${key} = values; };
      files = filesOf remote;
    in
    list "LoadCredential" (map (file: "${credential file}:${escape file}") files)
    # An empty one is what comin gets where there is no such file: it says so once, and systemd would fail
    # the unit at each poll.
    // list "SetCredential" (map (file: "${credential file}:\\n") files);

  # The name, as credential.rs has it.
  credential = file: escape (replaceStrings [ "%" "/" ":" ] [ "%25" "%2F" "%3A" ] file);

  timer =
    remote:
    let
      inherit (remote) poller;
      calendar = poller.calendar or [ ];
      isPeriodic = calendar == [ ];
      # Machines that boot together, or are told the same time of day, are not to ask a server at once. It
      # delays the first fetch as well, and so is short.
      usual =
        if isLocal remote.url then
          0
        else if !isPeriodic || poller.period >= 600 then
          60
        else if poller.period >= 60 then
          poller.period / 10
        else
          0;
      jitter = if poller.jitter or null == null then usual else poller.jitter;
    in
    {
      description = "Poll remote ${remote.name}";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        # Has always passed already: a timer that is new starts at once, also within a switch, but for the jitter.
        OnBootSec = 0;
        # The default, one minute, would make a period of one second meaningless.
        AccuracySec = if isPeriodic then "${toString (poller.period * 50)}ms" else "1s";
      }
      // (
        if isPeriodic then
          # Not OnUnitActiveSec, which has been seen to stall (systemd#5840).
          { OnUnitInactiveSec = "${toString poller.period}s"; }
        else
          { OnCalendar = if isList calendar then map escape calendar else escape calendar; }
      )
      // (
        if jitter == 0 then
          { }
        else
          {
            RandomizedDelaySec = "${toString jitter}s";
            # Always the same on one machine, and another one on the next.
            FixedRandomDelay = true;
          }
      );
    };

  # One for each folder: if there are several in one unit, and one of them does not exist, systemd misses changes in the
  # others.
  pathsOf =
    remote:
    let
      folders = watches remote;
      path = number: {
        name = "comin-${remote.name}${if number == 0 then "" else "@${toString (number + 1)}"}";
        value = {
          description = "Watch remote ${remote.name} for commits";
          wantedBy = [ "paths.target" ];
          pathConfig = {
            PathChanged = escape (elemAt folders number);
            Unit = "comin-commit@${remote.name}.service";
            # Beyond its limit of 200 changes in 2 s, systemd would watch no longer.
            TriggerLimitIntervalSec = 0;
          };
        };
      };
    in
    genList path (length folders);

  # systemd does not see what changes while the unit that a path unit starts is active. So that unit does nothing,
  # and is over before the fetch begins. A change during a fetch starts it again when that fetch has ended.
  commit = {
    description = "Fetch remote %i because of a commit";
    restartIfChanged = false;
    after = [ "comin-%i.service" ];
    unitConfig = {
      OnSuccess = "comin-%i.service";
      StartLimitIntervalSec = 0;
    };
    serviceConfig = {
      Type = "oneshot";
      ExecStart = "/bin/sh -c :";
      # One of its own would be announced in the journal.
      Slice = "system.slice";
    }
    // quiet;
  };

  # comin.service judges a boot. Where systemd-boot counts boots, boot-complete.target pulls this one in, and the new entry
  # is only kept after a good verdict.
  bootCheckService = survivesSwitch // {
    description = "Await the verdict on the first boot of a system";
    before = [ "boot-complete.target" ];
    requiredBy = [ "boot-complete.target" ];
    serviceConfig = sandbox // {
      ProtectSystem = "strict";
      Type = "oneshot";
      RemainAfterExit = true;
      ExecStart = command [ "boot-check" ];
      TimeoutStartSec = "infinity";
    };
  };

  # A fetch asks for a deploy, too, but may wait for a network that does not come up.
  bootCheckTimer = {
    description = "Check the system after its first boot";
    wantedBy = [ "timers.target" ];
    timerConfig = {
      Unit = "comin.service";
      OnBootSec = 0;
      AccuracySec = "1s";
    };
  };

  address =
    if exporter.listen_address == "" then
      # All of them, of IPv6 and IPv4.
      toString exporter.port
    else if match ".*:.*" exporter.listen_address != null then
      "[${exporter.listen_address}]:${toString exporter.port}"
    else
      "${exporter.listen_address}:${toString exporter.port}";

  scrape = {
    description = "Answer one request for the metrics of comin";
    restartIfChanged = false;
    unitConfig = {
      # One that failed has said why; it is not kept for each of them.
      CollectMode = "inactive-or-failed";
      StartLimitIntervalSec = 0;
    };
    serviceConfig =
      sandbox
      // {
        ProtectSystem = "strict";
        PrivateDevices = true;
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        RestrictRealtime = true;
        LockPersonality = true;
        # Reads what `comin status` reads, which everybody may: there is nobody it would have to be.
        DynamicUser = true;
        CapabilityBoundingSet = "";
        PrivateUsers = true;
        ProtectHome = true;
        ProcSubset = "pid";
        ReadOnlyPaths = notRun;
        # The connection is there already, and no other can be made. (IPAddressDeny would cut that one.)
        RestrictAddressFamilies = "none";
        UMask = "0077";
        MemoryMax = "64M";
        TasksMax = 16;

        Type = "exec";
        # systemd is asked by a process that does not read the request: whoever answers that has no socket to ask by.
        ExecStartPre = "-+" + command [
          "exporter"
          "--record"
        ];
        ExecStart = command [ "exporter" ];
        StandardInput = "socket";
        # Or what comin has to say would go to whoever asks.
        StandardOutput = "journal";
        StandardError = "journal";
        # comin hangs up by itself after some seconds.
        RuntimeMaxSec = 30;
        # comin says why it failed, and once is enough.
        SuccessExitStatus = [
          1
          2
        ];
        # One of its own would be announced in the journal.
        Slice = "system.slice";
      }
      // quiet;
  };

  # What the Go comin leaves, and what this one has decided.
  goStore = "/var/lib/comin/store.json";
  state = "/var/lib/comin/state.json";

  # On a machine that comes from the Go comin, that one runs during the switch to this one and has the port: the socket
  # is opened when this one has begun a deployment, for that one has ended by then.
  opening =
    if exporter == null then
      { }
    else
      {
        comin-exporter = {
          description = "Watch for the first deployment to open the metrics";
          wantedBy = [ "paths.target" ];
          # Where the socket's is not met. Elsewhere it would try at each step of a deployment to get a port that is
          # taken.
          unitConfig.ConditionPathExists = [
            goStore
            "!${state}"
          ];
          pathConfig = {
            PathChanged = state;
            Unit = "comin-exporter.socket";
          };
        };
      };

  # Every unit names the manual.
  documented = mapAttrs (
    kind: units:
    if kind == "user" then
      documented units
    else
      mapAttrs (_: unit: unit // { documentation = [ "man:comin(1)" ]; }) units
  );
in
documented {
  services = unitsFor remotes fetch // (if exporter == null then { } else { "comin-exporter@" = scrape; })
  // (if filter isWatched remotes == [ ] then { } else { "comin-commit@" = commit; })
  // (if bootCheck then { comin-boot-check = bootCheckService; } else { }) // {
    comin-fetcher = fetcher;
    comin = survivesSwitch // {
      description = "Deploy the configuration";
      # No wantedBy: only comin.path and a timer start it, so that no target of a switch ever waits for it.
      # No sandbox: it builds and activates a system; whatever is hidden from it, is hidden from activation scripts as
      # well. The evaluation is a child that gives up its rights, and has a cache of its own in /var/cache/comin.
      serviceConfig = folders "comin" "comin" // {
        # A oneshot that runs a switch can deadlock with it, when the switch waits for the oneshot's own job.
        Type = "exec";
        ExecStart = command [ "deploy" ];
      };
    };
  };

  # Of every user who is logged in to a desktop.
  user =
    if desktop == null then
      {
        services = { };
        paths = { };
      }
    else
      {
        services.comin-desktop = {
          description = "Tell and ask what comin deploys";
          # What waits to be confirmed when somebody logs in is asked then.
          wantedBy = [ "graphical-session.target" ];
          after = [ "graphical-session.target" ];
          partOf = [ "graphical-session.target" ];
          # Deployments may follow each other closely.
          unitConfig.StartLimitIntervalSec = 0;
          # No sandbox: it is the user's own, and NoNewPrivileges would keep polkit's pkexec from asking who wants
          # to confirm.
          serviceConfig = {
            Type = "exec";
            ExecStart = command (
              [ "desktop" ] ++ (if desktop.title == "comin" then [ ] else [ (quote "--title=${desktop.title}") ])
            );
            Slice = "background.slice";
          };
        };
        paths.comin-desktop = {
          description = "Watch for what comin deploys";
          wantedBy = [ "graphical-session.target" ];
          partOf = [ "graphical-session.target" ];
          # A deploy replaces it when it begins, when it has decided, and when it ends; a poll does not. What
          # comes between is seen by the service itself, which stays until a deploy has ended.
          pathConfig.PathChanged = "/run/comin/decided.json";
        };
      };

  sockets =
    if exporter == null then
      { }
    else
      {
        comin-exporter = {
          description = "Metrics of comin for Prometheus";
          wantedBy = [ "sockets.target" ];
          # Else comin-exporter.path starts it.
          unitConfig.ConditionPathExists = [
            "|!${goStore}"
            "|${state}"
          ];
          socketConfig = {
            ListenStream = address;
            # A process for each request, and none between two.
            Accept = true;
            MaxConnections = 16;
            MaxConnectionsPerSource = 4;
            # The address may be of an interface that is not up yet.
            FreeBind = true;
            # Beyond its limit of 200 connections in 2 s, systemd would close the socket for good.
            TriggerLimitIntervalSec = 0;
            # Who has too many connections is turned away, without a line in the journal for each.
            LogLevelMax = "err";
          };
        };
      };

  timers = unitsFor remotes timer // (if bootCheck then { comin-boot-check = bootCheckTimer; } else { });

  paths = listToAttrs (concatMap pathsOf remotes) // opening // {
    comin = {
      description = "Watch for a configuration to deploy";
      wantedBy = [ "paths.target" ];
      pathConfig = {
        # Level-triggered: a request that arrives during a deployment starts the next one. The second file is that of
        # fetches, which may not write to the folder of the first one.
        PathExists = [
          "/run/comin/wanted"
          "/run/comin/remotes/.wanted"
        ];
        # `comin deploy` removes the file first. Should it ever fail to, systemd would start it over and
        # over; then rather this unit fails, visibly.
        TriggerLimitIntervalSec = "10s";
        TriggerLimitBurst = 100;
      };
    };
  };
}
