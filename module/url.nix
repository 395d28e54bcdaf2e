# What the URL of a remote says about where the repository is.
# Only builtins, so that units.nix can be evaluated without nixpkgs.
let
  # The path on this machine; null when the repository is elsewhere.
  localPath =
    url:
    let
      file = builtins.match "file://(localhost)?(/.*)" url;
    in
    if file != null then
      builtins.elemAt file 1
    else if builtins.match "/.*" url != null then
      url
    else
      null;

  isFileUrl = url: builtins.match "file://.*" url != null;
  isPercentEncoded = url: isFileUrl url && builtins.match ".*%.*" url != null;
in
rec {
  isLocal = url: localPath url != null || isFileUrl url;

  # ssh:// or user@host:path, and what comin would refuse.
  isSsh = url: !isLocal url && builtins.match "https?://.*" url == null;

  # Whether others see what is sent there: by http://, and to another machine.
  isReadableOnTheWay =
    url:
    builtins.match "http://.*" url != null
    && builtins.match "http://(localhost|127[.][0-9.]+|\\[::1])(:[0-9]*)?([/?#].*)?" url == null;

  # The folders in which git changes something when one of these branches moves; none if the URL does not tell.
  watchesOf =
    url: branches:
    let
      path = localPath url;
      trimmed = builtins.match "(.*[^/])/*" path;
      repository = builtins.head trimmed;
      gitFolder =
        # Bare repositories are named so by custom; `/srv/conf/.git` itself ends like that, too.
        if builtins.match ".*[.]git" repository != null then repository else "${repository}/.git";
      named = builtins.filter (name: name != "") (
        map (branch: branches.${branch}.name or "") [
          "main"
          "testing"
        ]
      );
      folders = map (name: builtins.dirOf "${gitFolder}/refs/heads/${name}") named;
    in
    if path == null || trimmed == null || isPercentEncoded url then
      [ ]
    else
      builtins.foldl' (all: one: if builtins.elem one all then all else all ++ [ one ]) [ ] folders;
}
