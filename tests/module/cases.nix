# Arguments of module/units.nix that the tests render. Where there is a file expected/<case>, the unit files must
# look like it; all of them have to pass systemd-analyze.
{ comin }:
let
  remote =
    name: url: more:
    {
      inherit name url;
      timeout = 300;
      branches = {
        main.name = "main";
        testing.name = "testing-machine";
      };
      poller.period = 300;
    }
    // more;
in
{
  two-remotes = {
    inherit comin;
    remotes = [
      (remote "local" "/home/me/machines" { poller.period = 1; })
      (remote "origin" "https://git.example.org/machines.git" { })
    ];
  };

  odd-characters = {
    # Quotes and backslashes are left out: systemd refuses them in the path of an executable.
    comin = "/opt/50% of it/$HOME/comin";
    debug = true;
    remotes = [
      (remote "percent" "/home/me/100%h sure" { timeout = 0; })
      (remote "A_b-9.example.org" "https://me@git.example.org/a%20b.git?x=%n" { })
    ];
  };

  boot-check = {
    inherit comin;
    bootCheck = true;
    remotes = [ (remote "origin" "https://git.example.org/machines.git" { }) ];
  };

  bare = {
    inherit comin;
    remotes = [ (remote "bare" "/srv/git/machines.git/" { }) ];
  };

  file-url = {
    inherit comin;
    remotes = [ (remote "file" "file:///srv/machines" { }) ];
  };

  unwatched = {
    inherit comin;
    remotes = [ (remote "local" "/home/me/machines" { watch = [ ]; }) ];
  };

  elsewhere-watched = {
    inherit comin;
    remotes = [ (remote "local" "/home/me/worktree" { watch = [ "/home/me/machines/.git/refs/heads" ]; }) ];
  };

  branch-with-slash = {
    inherit comin;
    remotes = [
      (remote "local" "/home/me/machines" {
        branches = {
          main.name = "main";
          testing.name = "me/testing";
        };
      })
    ];
  };

  secrets = {
    inherit comin;
    remotes = [
      (remote "local" "/srv/machines" { })
      (remote "token" "https://git.example.org/machines.git" {
        auth.access_token_path = "/run/secrets/token";
        auth.username = "me";
      })
      (remote "key" "git@git.example.org:machines.git" {
        auth = {
          access_token_path = "";
          ssh_deploy_key_path = "/home/me/100%/key:1";
          ssh_known_hosts_path = "/etc/known_hosts";
        };
      })
    ];
  };

  timers = {
    inherit comin;
    remotes = [
      (remote "jitter" "/a" { poller = { period = 600; jitter = 7; }; })
      (remote "steady" "/b" { poller = { period = 600; jitter = 0; }; })
      (remote "seldom" "https://git.example.org/s" { poller.period = 3600; })
      (remote "quick" "https://git.example.org/c" { poller = { period = 59; jitter = null; calendar = [ ]; }; })
      (remote "daily" "https://git.example.org/d" { poller = { period = 60; calendar = "04:00"; }; })
      (remote "often" "/e" {
        poller = {
          period = 60;
          jitter = 0;
          calendar = [
            "Mon..Fri 08:00"
            "*:0/15"
          ];
        };
      })
    ];
  };

  exporter = {
    inherit comin;
    remotes = [ ];
    exporter = {
      listen_address = "";
      port = 4243;
    };
  };

  exporter-elsewhere = {
    inherit comin;
    debug = true;
    remotes = [ ];
    exporter = {
      listen_address = "fe80::1";
      port = 1;
    };
  };

  desktop = {
    inherit comin;
    remotes = [ ];
    desktop.title = "comin";
  };

  desktop-odd-title = {
    inherit comin;
    remotes = [ ];
    desktop.title = "100% of \"my\" $HOME's \\ --machine";
  };

  no-remotes = {
    inherit comin;
    remotes = [ ];
  };
}
