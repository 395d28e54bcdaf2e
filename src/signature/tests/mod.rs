//! Commits by real git, gpg and ssh-keygen, and what becomes of them.

pub mod world;

use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::config::{self, paths::Paths, Config, SshSigners};
use crate::git::mirror::Mirror;
use crate::model::Commit;
use crate::signature::signers::Signers;
use world::{armor_of, sign, temporary, Workshop, World};

/// What the owner writes.
#[derive(Default)]
struct Trust<'a> {
    gpg: Vec<&'a [u8]>,
    ssh: Option<&'a [u8]>,
    revoked: Option<&'a [u8]>,
}

impl Trust<'_> {
    fn config(&self, folder: &Path) -> Config {
        let file = |name: &str, content: &[u8]| {
            let path = folder.join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let mut config = config::for_tests();
        for (index, content) in self.gpg.iter().enumerate() {
            let path = file(&format!("gpg-{index}"), content);
            config.gpg_public_key_paths.push(path);
        }
        config.ssh_signers = self.ssh.map(|content| SshSigners {
            allowed_signers_path: file("allowed_signers", content),
            revoked_keys_path: self.revoked.map(|content| file("revoked_keys", content)),
        });
        config
    }

    fn load(&self) -> Result<Option<Signers>> {
        let folder = temporary();
        Signers::load(&self.config(folder.path()), &std::env::temp_dir())
    }

    fn says(&self, commit: &str) -> String {
        says(&self.load().unwrap().unwrap(), commit)
    }
}

fn says(signers: &Signers, commit: &str) -> String {
    match signers.verify(commit.as_bytes()) {
        Ok(signer) => format!("ok: {signer}"),
        Err(refused) => refused.to_string(),
    }
}

/// Compares all of them before it fails.
fn check(cases: &[(&str, String, &str)]) {
    let wrong = |(name, said, wanted): &&(&str, String, &str)| {
        let right = said.starts_with(wanted);
        if !right {
            eprintln!("{name}\n  wanted {wanted}\n  got    {said}");
        }
        !right
    };
    assert_eq!(cases.iter().filter(wrong).count(), 0);
}

#[test]
#[allow(clippy::too_many_lines)] // A table.
fn commits_by_gpg() {
    let Some(world) = World::get() else {
        return;
    };
    let trusted = ["alice", "bob", "carol", "old", "gone"].map(|name| world.gpg[name].as_bytes());
    let trust = Trust {
        gpg: trusted.to_vec(),
        ..Trust::default()
    };
    let signers = trust.load().unwrap().unwrap();
    let says = |commit: &str| says(&signers, commit);
    let commit = |name: &str| says(&world.commits[name]);
    let armor = |name: &str| says(&world.signed_by(name));
    let key = |name: &str| world.gpg_key(name);
    let by =
        |what: &str, name: &str| format!("its signature is by a key that {what}: {}; ", key(name));
    let unreadable = "its signature cannot be read: ";
    // Why depends on the version of gpg.
    let refused = "its signature ";
    let alice = format!("ok: Alice Ü 100%0A <alice@example.org> ({})", key("alice"));
    let signed = &world.commits["alice"];
    let changed = |from: &str, to: &str| {
        assert!(signed.contains(from), "{from} in {signed}");
        says(&signed.replacen(from, to, 1))
    };
    let forged = format!(
        "its signature by GPG {} is not of this",
        &key("alice")[28..]
    );
    let other_tree = format!("tree {}", "1".repeat(40));
    let tree = signed.lines().next().unwrap();
    let parent = signed.lines().nth(1).unwrap();
    let untrusted = by("is not trusted", "mallory");
    let relabelled = |name: &str, label: &str| {
        let armor = world.armors[name].replace(label, "PGP SIGNATURE");
        says(&sign(&world.commits["plain"], &armor))
    };
    let part = |lines: usize| {
        let armor: Vec<&str> = world.armors["alice"].lines().collect();
        [&armor[..2], &armor[lines..]].concat().join("\n")
    };
    let twice = signed.replacen(
        "\n\n",
        &format!("\ngpgsig {}\n\n", part(2).replace('\n', "\n ")),
        1,
    );
    let spliced = |armor: &str| says(&sign(&world.commits["plain"], armor));

    check(&[
        ("ed25519", commit("alice"), &alice),
        (
            "RSA, the second file",
            commit("bob"),
            &format!("ok: Bob <bob@example.org> ({})", key("bob")),
        ),
        (
            "a subkey",
            commit("carol"),
            &format!("ok: Carol <carol@example.org> ({})", key("carol")),
        ),
        ("a merge", commit("merge"), &alice),
        ("by hand", armor("alice"), &alice),
        ("a text signature", armor("text"), &alice),
        (
            "a notation that looks like a status",
            armor("notation"),
            &alice,
        ),
        (
            "unsigned",
            commit("plain"),
            "it is not signed; sign it, e.g. with git commit -S",
        ),
        (
            "a merge of a signed tag",
            commit("merge of a signed tag"),
            "it is not signed",
        ),
        (
            "signed in the message",
            says(&format!(
                "{}\ngpgsig {}",
                world.commits["plain"], world.armors["alice"]
            )),
            "it is not signed",
        ),
        (
            "another key, of the same name",
            commit("mallory"),
            &untrusted,
        ),
        (
            "another key, with a notation",
            armor("notation of another"),
            &untrusted,
        ),
        (
            "an expired key",
            armor("old"),
            &format!(
                "its signature is by a key that expired on 2020-01-31: {}; prolong it",
                key("old")
            ),
        ),
        ("a revoked key", armor("gone"), &by("is revoked", "gone")),
        (
            "an expired signature",
            armor("expired"),
            &format!(
                "its signature by {} expired on 2020-01-06; sign it anew",
                key("alice")
            ),
        ),
        ("a clock that is ahead", armor("future"), &alice),
        (
            "older than its key",
            armor("before the key"),
            &format!("its signature by {} does not count: ", key("alice")),
        ),
        (
            "SHA-1",
            armor("sha1"),
            &format!("its signature by {} rests on SHA-1", key("alice")),
        ),
        (
            "another message",
            changed("\n\nsigned", "\n\nSigned"),
            &forged,
        ),
        ("another tree", changed(tree, &other_tree), &forged),
        (
            "another parent",
            changed(parent, &other_tree.replace("tree", "parent")),
            &forged,
        ),
        (
            "another author",
            changed("author A <a@", "author B <b@"),
            &forged,
        ),
        (
            "another header",
            changed("\ngpgsig ", "\nencoding x\ngpgsig "),
            &forged,
        ),
        (
            "another commit's",
            says(&sign(&world.commits["plain"], &armor_of(signed))),
            &forged,
        ),
        ("a tag's", armor("tag"), &forged),
        (
            "two in one armor",
            armor("two"),
            "it has more than one signature; sign it anew",
        ),
        (
            "two, one of another key",
            armor("one of another"),
            "it has more than one signature",
        ),
        (
            "two armors",
            spliced(&format!("{0}{0}", world.armors["alice"])),
            "it has more than one signature",
        ),
        (
            "two headers",
            says(&twice),
            "it has more than one signature",
        ),
        (
            "for SHA-256 ids",
            says(&signed.replace("\ngpgsig ", "\ngpgsig-sha256 ")),
            "its signature is for a repository with SHA-256 ids",
        ),
        (
            "a truncated armor",
            spliced(&world.armors["alice"][..80]),
            "its signature cannot be read: its last line is missing; sign it anew",
        ),
        ("an armor with a line less", spliced(&part(3)), refused),
        (
            "an armor of nothing",
            spliced(&part(world.armors["alice"].lines().count() - 1)),
            unreadable,
        ),
        (
            "garbage in an armor",
            spliced("-----BEGIN PGP SIGNATURE-----\n\n?!\n-----END PGP SIGNATURE-----"),
            unreadable,
        ),
        (
            "garbage",
            spliced("x"),
            "its signature cannot be read: its kind is unknown",
        ),
        (
            "an empty signature",
            spliced(""),
            "its signature cannot be read: it is empty",
        ),
        (
            "an inline-signed message",
            armor("inline"),
            "its signature cannot be read: it is a message of its own",
        ),
        (
            "one in disguise",
            relabelled("inline", "PGP MESSAGE"),
            unreadable,
        ),
        (
            "one that is not compressed",
            relabelled("inline, not compressed", "PGP MESSAGE"),
            unreadable,
        ),
        (
            "a key in disguise",
            relabelled("key", "PGP PUBLIC KEY BLOCK"),
            refused,
        ),
        ("a text behind it", armor("a text behind"), refused),
        ("a text before it", armor("a text before"), refused),
        (
            "a key behind the signature",
            armor("signature and key"),
            unreadable,
        ),
        (
            "X.509",
            spliced("-----BEGIN SIGNED MESSAGE-----\nx\n-----END SIGNED MESSAGE-----"),
            "it is signed with X.509 (gpgsm), which comin does not verify",
        ),
        (
            "SSH, of which no key is trusted",
            commit("ed25519"),
            "it is signed with SSH, and no SSH key is trusted; sign it with GPG",
        ),
    ]);
}

#[test]
#[allow(clippy::too_many_lines)] // A table.
fn commits_by_ssh() {
    let Some(world) = World::get() else {
        return;
    };
    let allowed = [
        world.allowed("# not a key", "stranger"),
        world.allowed("a@example.org,b@example.org", "ed25519"),
        world.allowed(
            "\"a name\" namespaces=\"file,git\",valid-after=\"20200101\"",
            "rsa",
        ),
        world.allowed("-x", "ecdsa"),
        world.allowed("*@example.org cert-authority", "ca"),
        "\n".to_string(),
    ]
    .concat();
    let trust = Trust {
        ssh: Some(allowed.as_bytes()),
        ..Trust::default()
    };
    let signers = trust.load().unwrap().unwrap();
    let says = |commit: &str| says(&signers, commit);
    let commit = |name: &str| says(&world.commits[name]);
    let armor = |name: &str| says(&world.signed_by(name));
    let key = |name: &str| world.ssh_key(name);
    let by =
        |what: &str, name: &str| format!("its signature is by a key that {what}: {}; ", key(name));
    let unreadable = "its signature cannot be read: ";
    let only = |line: &str, commit: &str| {
        let trust = Trust {
            ssh: Some(line.as_bytes()),
            ..Trust::default()
        };
        trust.says(&world.commits[commit])
    };
    let without = |revoked: &[u8], commit: &str| {
        let trust = Trust {
            ssh: Some(allowed.as_bytes()),
            revoked: Some(revoked),
            ..Trust::default()
        };
        trust.says(&world.commits[commit])
    };
    let ed25519 = |before: &str| only(&world.allowed(before, "ed25519"), "ed25519");
    let ed25519_ok = format!("ok: a@example.org ({})", key("ed25519"));
    let signed = &world.commits["ed25519"];
    let changed = |from: &str, to: &str| says(&signed.replacen(from, to, 1));
    let forged =
        "its signature is not of this commit, or the commit was changed afterwards; sign it anew";
    let untrusted = |name: &str| by("is not trusted", name);
    let revoked = |name: &str| by("is revoked", name);
    let spliced = |armor: &str| says(&sign(&world.commits["plain"], armor));
    let around = |what: &str| {
        spliced(&format!(
            "-----BEGIN SSH SIGNATURE-----\n{what}-----END SSH SIGNATURE-----"
        ))
    };
    let allow = |before: &str, name: &str| world.allowed(before, name);
    let public = |name: &str| world.ssh[name].as_bytes();

    check(&[
        ("ed25519, of two principals", commit("ed25519"), &ed25519_ok),
        (
            "RSA, of a principal in quotes",
            commit("rsa"),
            &format!("ok: a name ({})", key("rsa")),
        ),
        (
            "ECDSA, of a principal like an option",
            commit("ecdsa"),
            &format!("ok: -x ({})", key("ecdsa")),
        ),
        (
            "a certificate",
            commit("certified"),
            &format!("ok: dave@example.org ({})", key("certified")),
        ),
        ("by hand", armor("ssh"), &ed25519_ok),
        (
            "valid until later",
            ed25519("x valid-before=\"20990101\""),
            &format!("ok: x ({})", key("ed25519")),
        ),
        ("unsigned", commit("plain"), "it is not signed"),
        ("another key", commit("stranger"), &untrusted("stranger")),
        (
            "another namespace",
            armor("ssh of a file"),
            "its signature was made for something else than Git; sign it",
        ),
        (
            "a key for another namespace",
            ed25519("x namespaces=\"file\""),
            &by("is not trusted for Git", "ed25519"),
        ),
        (
            "a key until earlier",
            ed25519("x valid-before=\"20200101\""),
            &by("expired", "ed25519"),
        ),
        (
            "a key from later on",
            ed25519("x valid-after=\"20980101\""),
            &by("is not valid yet", "ed25519"),
        ),
        (
            "an option that does not exist",
            ed25519("x valid-befor=\"20990101\""),
            &untrusted("ed25519"),
        ),
        (
            "a key revoked by a KRL",
            without(&world.krl, "ed25519"),
            &revoked("ed25519"),
        ),
        (
            "a key revoked by a list",
            without(public("ed25519"), "ed25519"),
            &revoked("ed25519"),
        ),
        (
            "a certificate revoked by a KRL",
            without(&world.krl_of_certificate, "certified"),
            &revoked("certified"),
        ),
        (
            "a revoked CA",
            without(public("ca"), "certified"),
            &revoked("certified"),
        ),
        (
            "other keys revoked",
            without(&[public("rsa"), public("stranger")].join(&b'\n'), "ed25519"),
            &ed25519_ok,
        ),
        (
            "an expired certificate",
            commit("outdated"),
            &by("expired", "outdated"),
        ),
        (
            "a certificate of another CA",
            commit("foreign"),
            &untrusted("foreign"),
        ),
        (
            "a certificate whose CA is a mere key",
            only(&allow("dave@example.org", "ca"), "certified"),
            &untrusted("certified"),
        ),
        (
            "a certificate for another principal",
            only(&allow("eve@example.org cert-authority", "ca"), "certified"),
            &untrusted("certified"),
        ),
        (
            "another message",
            changed("\n\nsigned", "\n\nSigned"),
            forged,
        ),
        ("another author", changed("author A", "author B"), forged),
        (
            "another commit's",
            says(&sign(&world.commits["plain"], &armor_of(signed))),
            forged,
        ),
        ("garbage in an armor", around("?!\n"), unreadable),
        ("an empty armor", around(""), unreadable),
        (
            "a truncated armor",
            spliced(&world.armors["ssh"][..90]),
            "its signature cannot be read: its last line is missing",
        ),
        (
            "two armors",
            spliced(&format!("{0}{0}", world.armors["ssh"])),
            "it has more than one signature",
        ),
        (
            "GPG, of which no key is trusted",
            commit("alice"),
            "it is signed with GPG, and no GPG key is trusted",
        ),
    ]);
}

#[test]
fn either_mechanism_will_do_and_none_means_none() {
    let Some(world) = World::get() else {
        return;
    };
    assert!(Trust::default().load().unwrap().is_none());
    let allowed = world.allowed("a", "ed25519");
    let both = Trust {
        gpg: vec![world.gpg["alice"].as_bytes()],
        ssh: Some(allowed.as_bytes()),
        revoked: None,
    };
    let signers = both.load().unwrap().unwrap();
    for (commit, wanted) in [
        ("alice", "ok: Alice"),
        ("ed25519", "ok: a ("),
        ("bob", "its signature is by a key that is not trusted: GPG"),
        (
            "stranger",
            "its signature is by a key that is not trusted: SSH",
        ),
    ] {
        let said = says(&signers, &world.commits[commit]);
        assert!(said.starts_with(wanted), "{commit}: {said}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_an_error_that_names_it() {
    let Some(world) = World::get() else {
        return;
    };
    let alice = &world.gpg["alice"];
    let fails = |trust: &Trust| format!("{:#}", trust.load().unwrap_err());
    let half = &alice[..alice.len() / 2];
    let two = format!("{alice}{}", world.secret);
    for (content, wanted) in [
        ("", "it is empty: put"),
        (" \n", "it is empty"),
        (
            "hello",
            "; replace it by the output of gpg --armor --export KEY",
        ),
        (half, "replace it by the output of gpg"),
        (&world.secret, "it holds a secret key"),
        (&two, "it holds a secret key"),
        (&world.armors["alice"], "replace it by the output of gpg"),
        (&world.gpg["young"], "newer than this machine's clock"),
        (
            &world.gpg["weak"],
            "gpg accepts no user id of it. It may rest on SHA-1",
        ),
        (&world.ssh["ed25519"], "replace it by the output of gpg"),
    ] {
        // Behind a good one, so that nothing hides it.
        let error = fails(&Trust {
            gpg: vec![alice.as_bytes(), content.as_bytes()],
            ..Trust::default()
        });
        assert!(error.starts_with("gpg_public_key_paths: /"), "{error}");
        assert!(error.contains("gpg-1 cannot be used: "), "{error}");
        assert!(error.contains(wanted), "wanted {wanted}: {error}");
    }

    let error = fails(&Trust {
        gpg: vec![alice.as_bytes(), &world.secret_packets],
        ..Trust::default()
    });
    assert!(
        error.contains("gpg-1 cannot be used: it holds a secret"),
        "{error}"
    );

    let good = world.allowed("a", "ed25519");
    let garbage = format!("{good}b ssh-ed25519 AAAA\n");
    let no_principal = format!("{good}{}\n", world.ssh["rsa"]);
    for (content, wanted) in [
        ("", "it is empty"),
        (
            "# nobody\n",
            "not all of its lines are as in \"PRINCIPALS [OPTIONS] KEY\"",
        ),
        ("hello", "not all of its lines"),
        (&garbage, "not all of its lines"),
        (&no_principal, "not all of its lines"),
        (&world.ssh_secret, "it holds a secret key"),
        (alice, "not all of its lines"),
    ] {
        let error = fails(&Trust {
            ssh: Some(content.as_bytes()),
            ..Trust::default()
        });
        assert!(error.starts_with("ssh_allowed_signers_path: /"), "{error}");
        assert!(error.contains(wanted), "wanted {wanted}: {error}");
    }
    let with_options = world.allowed("a", "rsa");
    for (content, wanted) in [
        (&b""[..], "it is empty"),
        (b"hello", "not all of its lines are as in \"KEY\""),
        (&world.krl[..world.krl.len() / 2], "cannot be used: "),
        (with_options.as_bytes(), "not all of its lines"),
        (world.ssh_secret.as_bytes(), "it holds a secret key"),
    ] {
        let error = fails(&Trust {
            ssh: Some(good.as_bytes()),
            revoked: Some(content),
            ..Trust::default()
        });
        assert!(error.starts_with("ssh_revoked_keys_path: /"), "{error}");
        assert!(error.contains(wanted), "wanted {wanted}: {error}");
    }

    let mut config = config::for_tests();
    config.gpg_public_key_paths.push("/no/such/key".into());
    let error = format!("{:#}", Signers::load(&config, Path::new("/")).unwrap_err());
    assert_eq!(error, "gpg_public_key_paths: /no/such/key cannot be used: No such file or directory (os error 2): put the keys there, or leave the file out of the configuration");
}

#[test]
fn the_bytes_of_a_commit_are_those_of_its_id() {
    let Some(world) = World::get() else {
        return;
    };
    let shop = Workshop(temporary());
    let paths = Paths::new(shop.0.path(), Path::new(config::STATE_DIR));
    Mirror::open_or_create(&paths, &[]).unwrap();
    let repository = paths.repository();
    let write = |kind: &str, content: &str| -> Commit {
        let repository = repository.to_str().unwrap();
        let write = ["-C", repository, "hash-object", "-w", "-t", kind, "--stdin"];
        let id = shop.text("git", &write, content);
        id.trim().parse().unwrap()
    };
    let object = |id: &Commit| {
        let (folder, file) = id.as_str().split_at(2);
        repository.join("objects").join(folder).join(file)
    };
    let signed = write("commit", &world.commits["alice"]);
    let other = write("commit", &world.commits["plain"]);
    let read = |id: &Commit| Mirror::open(&paths).unwrap().raw_commit(id);
    assert_eq!(read(&signed).unwrap(), world.commits["alice"].as_bytes());

    // The signed commit's bytes in place of another's.
    fs::remove_file(object(&other)).unwrap();
    fs::copy(object(&signed), object(&other)).unwrap();
    for id in [other, write("blob", "x"), "1".repeat(40).parse().unwrap()] {
        let error = read(&id).unwrap_err().to_string();
        assert_eq!(error, format!("Failed to read {id}"));
    }
}

/// The folder that [`verify_as_told`] is told of.
const TOLD: &str = "COMIN_TEST_SIGNATURES";

/// Verifies in a process of its own what a folder holds.
#[test]
#[ignore = "other tests start it, with an environment of its own"]
fn verify_as_told() {
    let Some(folder) = std::env::var_os(TOLD) else {
        return;
    };
    let folder = Path::new(&folder);
    let mut config = config::for_tests();
    config.gpg_public_key_paths.push(folder.join("gpg-0"));
    config.ssh_signers = Some(SshSigners {
        allowed_signers_path: folder.join("allowed_signers"),
        revoked_keys_path: None,
    });
    let signers = Signers::load(&config, &std::env::temp_dir())
        .unwrap()
        .unwrap();
    for name in ["alice", "mallory", "ed25519", "stranger"] {
        let commit = fs::read_to_string(folder.join(name)).unwrap();
        println!("\n{name}: {}", says(&signers, &commit));
    }
}

/// What is said of `alice`, `mallory`, `ed25519` and `stranger` in another environment, where the
/// first key of each kind is trusted.
fn elsewhere(world: &World, change: impl FnOnce(&mut Command, &Path)) -> Vec<String> {
    let folder = temporary();
    let allowed = world.allowed("a", "ed25519");
    let trust = Trust {
        gpg: vec![world.gpg["alice"].as_bytes()],
        ssh: Some(allowed.as_bytes()),
        revoked: None,
    };
    trust.config(folder.path());
    let names = ["alice", "mallory", "ed25519", "stranger"];
    for name in names {
        fs::write(folder.path().join(name), &world.commits[name]).unwrap();
    }
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", "signature::tests::verify_as_told"])
        .args(["--ignored", "--nocapture"])
        .env(TOLD, folder.path());
    change(&mut test, folder.path());
    let output = test.output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("1 passed"), "{printed}");
    let said = |name| {
        let line = printed
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap().to_string()
    };
    names.map(said).to_vec()
}

#[test]
fn nothing_of_the_user_has_a_say() {
    let Some(world) = World::get() else {
        return;
    };
    let said = elsewhere(world, |test, folder| {
        // A home that knows and trusts the other keys, says so in every way, and has a keyring of
        // its own as well as one that is named.
        let home = folder.join("home");
        let gnupg = home.join(".gnupg");
        fs::create_dir_all(home.join(".ssh")).unwrap();
        fs::create_dir(&gnupg).unwrap();
        fs::set_permissions(&gnupg, Permissions::from_mode(0o700)).unwrap();
        let key = folder.join("mallory.asc");
        fs::write(&key, &world.gpg["mallory"]).unwrap();
        let mut import = Command::new("gpg");
        import.args(["--batch", "--quiet", "--homedir"]).arg(&gnupg);
        assert!(import.arg("--import").arg(&key).status().unwrap().success());
        let ring = gnupg.join("pubring.kbx");
        let conf = format!("trust-model always\nkeyring {}\n", ring.display());
        fs::write(gnupg.join("gpg.conf"), conf).unwrap();
        let allowed = world.allowed("*", "stranger");
        fs::write(home.join(".ssh/allowed_signers"), allowed).unwrap();
        test.env("HOME", &home)
            .env("GNUPGHOME", &gnupg)
            .env("GPG_AGENT_INFO", "/nowhere")
            .env("SSH_AUTH_SOCK", "/nowhere")
            .env("LANGUAGE", "de")
            .env("LC_ALL", "de_DE.UTF-8");
    });
    assert!(said[0].starts_with("ok: Alice"), "{said:?}");
    assert!(said[1].contains("not trusted: GPG"), "{said:?}");
    assert!(said[2].starts_with("ok: a ("), "{said:?}");
    assert!(said[3].contains("not trusted: SSH"), "{said:?}");
}

#[test]
fn where_no_tool_can_run_nothing_is_verified() {
    let Some(world) = World::get() else {
        return;
    };
    let said = elsewhere(world, |test, folder| {
        test.env("PATH", folder);
    });
    for (said, tool) in said.iter().zip(["gpg", "gpg", "ssh-keygen", "ssh-keygen"]) {
        let wanted =
            format!("its signature could not be checked: Failed to start {tool}: is it installed?");
        assert!(said.starts_with(&wanted), "{said}");
    }
    let said = elsewhere(world, |test, folder| {
        test.env("TMPDIR", folder.join("gpg-0"));
    });
    for said in said {
        let wanted = "its signature could not be checked: Failed to create a temporary directory";
        assert!(said.starts_with(wanted), "{said}");
    }
}
