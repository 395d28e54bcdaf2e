//! A system that CI has built, on a whole machine that cannot evaluate its configuration.

use std::fs;

use serde_json::json;

use crate::machine::{Configuration, Host, LOCAL};
use crate::support::await_that;
use crate::support::memory::{numbers, Memory};

/// What comin and all that it starts may need at a time, in MiB.
const MOST: u64 = 100;

/// CI on the machine itself: evaluates what it is given, builds it, copies it to the cache, and leaves nothing behind.
const BUILD: &str = "set -eu
out=$(nix --extra-experimental-features 'nix-command flakes' build --no-link --print-out-paths \
    path:/srv/ci#nixosConfigurations.machine.config.system.build.toplevel)
nix --extra-experimental-features nix-command copy --to 'file:///srv/cache?secret-key=/root/key' $out
nix-store --delete --ignore-liveness $out >&2
echo machine $out
";

/// Makes a cache, of which the machine trusts the key.
fn trust_cache(host: &Host) {
    host.run("nix-store --generate-binary-cache-key cache-1 /root/key /root/key.pub");
    let key = host.read("/root/key.pub");
    let settings = host.read("/etc/nix/nix.conf");
    let settings = settings.replace("substitute = false", "substitute = true");
    host.write(
        "/etc/nix/nix.conf",
        &format!("{settings}substituters = file:///srv/cache\ntrusted-public-keys = {key}\n"),
    );
}

/// Watches the memory of the services of comin.
fn watch(host: &Host) -> Memory {
    let services = host.path("/sys/fs/cgroup/system.slice");
    Memory::watch(move || {
        let services = fs::read_dir(&services).unwrap().flatten();
        let services =
            services.filter(|it| it.file_name().as_encoded_bytes().starts_with(b"comin"));
        let processes = services.map(|it| fs::read_to_string(it.path().join("cgroup.procs")));
        processes
            .flat_map(|list| numbers(&list.unwrap_or_default()))
            .collect()
    })
}

#[test]
fn system_of_a_flake_that_nobody_can_evaluate_is_deployed_with_little_memory() {
    need_host!();
    let first = Configuration::new("first");
    let host = Host::installed_with(&first, trust_cache);
    let second = first.with("second", |c| {
        c["settings"]["prebuilt"] = json!({"notes": "comin"});
    });
    let commit = host.commit(&second);
    host.await_deployed(&commit);
    host.await_idle();

    let memory = watch(&host);
    let flake = format!("{LOCAL}/flake.nix");
    let good = host.read(&flake);
    host.write(&flake, "this is not Nix");
    let third = second.named("third");
    let commit = host.commit(&third);
    await_that("it waits for CI", || {
        host.status()["action"] == "await_prebuilt"
    });
    host.await_idle();

    host.run(&format!("cp -r {LOCAL} /srv/ci"));
    host.write("/srv/ci/flake.nix", &good);
    let mut configuration = host.json("/srv/ci/configuration.json");
    let identity = json!({"hostname": "machine", "machine_id": null, "revision": commit});
    configuration["system"]["extra"]["comin.json"] = json!(identity.to_string());
    host.write("/srv/ci/configuration.json", &configuration.to_string());
    host.write("/srv/build", BUILD);
    let note = host.run("sh /srv/build");
    host.write("/srv/note", &note);
    let append = format!("notes --ref=comin append --file=/srv/note {commit}");
    host.local.git(&host, &append);

    let attempt = host.await_deployed(&commit);
    let peak = memory.peak();
    assert!((1..MOST).contains(&peak), "{peak} MiB");
    assert_eq!(attempt["out"].as_str(), note.strip_prefix("machine "));
    assert_eq!(attempt["derivation"], json!(null));
    assert_eq!(
        host.switches(),
        ["switch first", "switch second", "switch third"]
    );
    assert_eq!(host.systems(), ("third".into(), "third".into()));
    host.await_idle();
    let failed = host.units("--state=failed");
    assert!(failed.is_empty(), "{failed:?}");
}
