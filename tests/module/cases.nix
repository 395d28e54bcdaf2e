# Arguments of module/units.nix that the tests render. Where there is a file expected/<case>, the unit files must
# look like it; all of them have to pass systemd-analyze.
{ comin }:
let
  remote =
    name: url: more:
    {
      inherit name url;
      timeout = 300;
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
      (remote "A_b-9" "https://me@git.example.org/a%20b.git?x=%n" { })
    ];
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
    remotes = [ (remote "local" "/home/me/machines" { watch = null; }) ];
  };

  elsewhere-watched = {
    inherit comin;
    remotes = [ (remote "local" "/home/me/worktree" { watch = "/home/me/machines/.git/refs/heads"; }) ];
  };

  no-remotes = {
    inherit comin;
    remotes = [ ];
  };
}
