//! The user that fetches: what becomes of its files when a comin without that user takes over, and what a machine deploys if
//! somebody has taken over a fetch.

use serde_json::{json, Value};

use crate::machine::{Configuration, Host, OWNER};
use crate::support::await_that;
use crate::units::{fetch, install, take_over};

/// Who owns the mirror and the records.
fn owners(host: &Host) -> String {
    let said = host.try_run("stat --format=%U /var/lib/comin/repository /run/comin/remotes");
    said.out.replace('\n', " ").trim().to_string()
}

/// A system whose comin fetches as root, without the right to write to what others own, and deploys nothing.
fn older() -> Configuration {
    let fetch = "[Unit]\nX-StopOnRemoval=false\n[Service]\nX-RestartIfChanged=false\nType=oneshot\n\
        Environment=PATH=/usr/local/bin:/usr/bin\nExecStart=/usr/local/bin/comin --config /root/config.json fetch local\n\
        CapabilityBoundingSet=CAP_DAC_READ_SEARCH\nNoNewPrivileges=true\nProtectSystem=strict\nProtectHome=read-only\n\
        RuntimeDirectory=comin\nRuntimeDirectoryPreserve=true\nStateDirectory=comin/repository\nSuccessExitStatus=1\n";
    let timer = "[Timer]\nOnBootSec=0\nOnUnitInactiveSec=1s\nAccuracySec=50ms\n";
    Configuration::new("older").with("older", |c| {
        c["comin"] = Value::Null;
        c["system"]["units"] = json!({"comin-local.service": fetch, "comin-local.timer": timer});
        c["system"]["wants"] = json!({"timers.target": ["comin-local.timer"]});
    })
}

#[test]
fn older_comin_that_fetches_as_root_can_fetch_after_a_switch_or_a_reboot_and_so_can_this_one_afterwards(
) {
    need_host!();
    let first = Configuration::new("first");
    let host = Host::installed(&first);
    host.await_polls(1);
    assert_eq!(owners(&host), "comin comin");

    // Nothing of the user's is going to be run as root.
    host.write("/var/lib/comin/repository/hooks/post-checkout", "");
    host.run("chown comin: /var/lib/comin/repository/hooks/post-checkout");
    let older_fetches = || {
        let before = host.fetched("local");
        await_that("the older comin fetches", || {
            let record = host.json("/run/comin/remotes/local.json");
            record["attempted_at"] != before && record["error"].is_null()
        });
        assert_eq!(owners(&host), "root root");
        assert_eq!(host.run("ls /var/lib/comin/repository/hooks"), "");
        host.read("/boot/loader-default")
    };
    host.await_deployed(&host.commit(&older()));
    let older = older_fetches();

    let commit = host.commit(&first.named("second"));
    host.run("comin --config /root/config.json run local");
    host.await_deployed(&commit);
    host.await_polls(1);
    assert_eq!(owners(&host), "comin comin");
    let record = fetch(&host, "local");
    assert_eq!(record["error"], Value::Null, "{record:#}");

    host.write("/boot/loader-default", &older);
    host.reboot();
    older_fetches();
}

/// Lets the owner of the repository sign every commit.
const SIGN: &str = r#"#!/bin/sh
set -e
useradd --uid OWNER owner
owner() { setpriv --reuid=OWNER --regid=OWNER --clear-groups env HOME=/home/owner "$@"; }
owner ssh-keygen -q -t ed25519 -N '' -C owner -f /home/owner/key
echo "owner@example.org namespaces=\"git\" $(cut -d ' ' -f 1,2 /home/owner/key.pub)" >/etc/signers
owner git -C /home/owner/config config gpg.format ssh
owner git -C /home/owner/config config user.signingKey /home/owner/key
owner git -C /home/owner/config config commit.gpgSign true
"#;

/// Makes `$evil` of the commit `$signed`: the same with another label, and without a signature.
const FORGE: &str = r#"#!/bin/sh
set -e
cd /var/lib/comin/repository
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
in_mirror() { git -c safe.directory='*' --git-dir . "$@"; }
signed=$(in_mirror rev-parse refs/remotes/local/main)
file=$(in_mirror rev-parse "$signed:configuration.json")
forged=$(in_mirror cat-file blob "$file" | sed 's/"label":"[a-z]*"/"label":"evil"/' | in_mirror hash-object -w --stdin)
tree=$(in_mirror ls-tree "$signed" | sed "s/$file/$forged/" | in_mirror mktree)
evil=$(in_mirror commit-tree -p "$signed" -m evil "$tree")
[ "$file" != "$forged" ]
"#;

/// What somebody writes into the mirror who has taken over a fetch, so that another commit is deployed than the signed one.
const FORGERIES: [(&str, &str); 4] = [
    ("unsigned", "in_mirror update-ref refs/remotes/local/main $evil"),
    ("replaced", "in_mirror update-ref refs/replace/$signed $evil"),
    (
        "grafted",
        "mkdir -p info; echo $signed $evil >info/grafts; in_mirror update-ref refs/replace/$file $forged",
    ),
    (
        "swapped",
        r"mkdir aside
        mv objects/pack/* aside
        for pack in aside/*.pack; do in_mirror unpack-objects -q <$pack; done
        rm -r aside
        object() { echo $1 | sed 's,^..,objects/&/,'; }
        mv -f $(object $forged) $(object $file)",
    ),
];

#[test]
fn what_was_signed_is_deployed_whatever_a_fetch_that_was_taken_over_writes_and_whatever_users_do() {
    need_host!();
    let first = Configuration::new("first").with("first", |c| {
        c["settings"]["ssh_allowed_signers_path"] = json!("/etc/signers");
    });
    let host = Host::installed_with(&first, |host| {
        let sign = SIGN.replace("OWNER", &OWNER.to_string());
        install(host, "/usr/local/bin/sign", &sign);
        host.run("sign");
    });
    host.await_fetched("origin");
    let next = |label: &str| {
        host.stop_fetches();
        host.run("systemctl stop comin.path");
        let commit = host.commit(&first.named(label));
        assert_eq!(fetch(&host, "local")["error"], Value::Null, "{label}");
        commit
    };
    for (label, code) in FORGERIES {
        let commit = next(label);
        install(
            &host,
            "/usr/local/bin/attack",
            &format!("{FORGE}{code}\ntouch /run/comin/remotes/forged\n"),
        );
        take_over(&host, "origin", "/usr/local/bin/attack");
        let forged = host.path("/run/comin/remotes/forged");
        assert!(forged.exists(), "{label} is not forged");
        // The first deploy meets the forgery; if the mirror is made anew, the fetch brings it back.
        for _ in 0..2 {
            host.try_run("comin deploy");
            fetch(&host, "local");
        }
        host.run("comin deploy");
        host.await_deployed(&commit);
        host.run("rm /run/comin/remotes/forged");
        let deployed = host.read("/switch.log");
        assert!(!deployed.contains("evil"), "{label}: {deployed}");
        assert_eq!(host.systems().0, label);
    }

    // A user fills the folder for temporary files.
    let commit = next("full");
    host.run("mount -t tmpfs -o size=64k,mode=1777 tmpfs /tmp");
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    host.try_run(&format!("{nobody} dd if=/dev/zero of=/tmp/full"));
    assert_eq!(host.status()["selected"]["commit"], commit);
    host.run("umount /tmp");
    host.run("comin deploy");
    host.await_deployed(&commit);

    // Root has any umask.
    for umask in ["000", "077"] {
        let commit = next(&format!("umask-{umask}"));
        let script = format!("umask {umask}; comin suspend; comin resume; comin run local");
        host.write("/root/orders", &script);
        host.run("sh -e /root/orders");
        host.await_deployed(&commit);
        let writable = "find /var/lib/comin /run/comin -ignore_readdir_race ! -type l -perm /022";
        assert_eq!(host.run(writable), "", "umask {umask}");
        host.run(&format!("{nobody} comin status --json"));
    }
}
