//! Keys, signatures and commits by real git, gpg and ssh-keygen.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::sys::temp_dir::TempDir;

/// Everything that is made once, for key generation is slow: in memory, so nothing is left of it.
pub struct World {
    /// What the owner would name in the configuration, by the key's name.
    pub gpg: BTreeMap<&'static str, String>,
    pub fingerprints: BTreeMap<&'static str, String>,
    pub secret: String,
    /// The same, not in armor.
    pub secret_packets: Vec<u8>,
    pub ssh: BTreeMap<&'static str, String>,
    pub ssh_secret: String,
    pub ssh_fingerprints: BTreeMap<&'static str, String>,
    pub krl: Vec<u8>,
    pub krl_of_certificate: Vec<u8>,
    /// Whole commit objects.
    pub commits: BTreeMap<&'static str, String>,
    /// What the owners of keys signed, with no commit around it.
    pub armors: BTreeMap<&'static str, String>,
}

/// A folder of a test's own.
pub fn temporary() -> TempDir {
    TempDir::new("comin-test-").unwrap()
}

/// A folder in which git, gpg and ssh-keygen make commits, keys and signatures.
pub struct Workshop(pub TempDir);

impl Workshop {
    fn run(&self, program: &str, arguments: &[&str], input: &str) -> Vec<u8> {
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(self.0.path())
            .env("HOME", self.0.path())
            .env("GNUPGHOME", self.0.path().join("gnupg"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}\n{said}",
            output.status
        );
        output.stdout
    }

    pub fn text(&self, program: &str, arguments: &[&str], input: &str) -> String {
        String::from_utf8(self.run(program, arguments, input)).unwrap()
    }

    fn gpg(&self, arguments: &[&str], input: &str) -> String {
        let quiet = [
            "--utf8-strings",
            "--batch",
            "--quiet",
            "--pinentry-mode=loopback",
            "--passphrase=",
        ];
        self.text("gpg", &[&quiet, arguments].concat(), input)
    }

    /// A new GPG key.
    fn gpg_key(&self, made_at: &str, user: &str, kind: &[&str]) -> String {
        let mut arguments = vec![made_at, "--quick-generate-key", user];
        arguments.extend(kind);
        self.gpg(&arguments, "");
        let listed = self.gpg(&["--with-colons", "--list-keys", &format!("={user}")], "");
        let fingerprint = listed.lines().find(|line| line.starts_with("fpr:"));
        fingerprint.unwrap().split(':').nth(9).unwrap().to_string()
    }

    fn ssh_key(&self, name: &str, kind: &str) {
        self.run(
            "ssh-keygen",
            &["-q", "-t", kind, "-N", "", "-C", name, "-f", name],
            "",
        );
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    /// A signature by an SSH key.
    fn ssh_sign(&self, key: &str, namespace: &str, payload: &str) -> String {
        self.text(
            "ssh-keygen",
            &["-q", "-Y", "sign", "-n", namespace, "-f", key],
            payload,
        )
    }

    fn git(&self, arguments: &[&str]) -> String {
        self.text("git", arguments, "")
    }

    /// A commit by git itself, with these settings.
    fn commit(&self, arguments: &[&str]) -> String {
        let commit = ["commit", "--quiet", "--allow-empty", "--message=signed"];
        self.git(&[arguments, &commit].concat());
        self.git(&["cat-file", "commit", "HEAD"])
    }

    fn gpg_commit(&self, key: &str) -> String {
        let key = format!("user.signingKey={key}");
        self.commit(&["-c", "commit.gpgSign=true", "-c", &key])
    }

    fn ssh_commit(&self, key: &str) -> String {
        let key = format!("user.signingKey={}", self.0.path().join(key).display());
        self.commit(&[
            "-c",
            "gpg.format=ssh",
            "-c",
            "commit.gpgSign=true",
            "-c",
            &key,
        ])
    }
}

/// A commit with a signature that git did not make.
pub fn sign(payload: &str, signature: &str) -> String {
    let header = signature.trim_end().replace('\n', "\n ");
    let (headers, message) = payload.split_once("\n\n").unwrap();
    format!("{headers}\ngpgsig {header}\n\n{message}")
}

/// The signature of a commit or a tag.
pub fn armor_of(object: &str) -> String {
    let from = object.find("-----BEGIN").unwrap();
    let end = object.find("-----END").unwrap();
    let end = end + object[end..].find('\n').unwrap();
    object[from..end].replace("\n ", "\n")
}

impl World {
    /// `None` where a tool is missing: said at home, a failure in CI.
    pub fn get() -> Option<&'static Self> {
        static WORLD: OnceLock<World> = OnceLock::new();
        for tool in ["gpg", "ssh-keygen", "git"] {
            if Command::new(tool).arg("--help").output().is_err() {
                assert!(std::env::var_os("CI").is_none(), "{tool} is missing");
                let line = format!("skipped: {tool} is missing\n");
                std::io::stderr().write_all(line.as_bytes()).unwrap();
                return None;
            }
        }
        Some(WORLD.get_or_init(Self::make))
    }

    #[allow(clippy::too_many_lines)] // A list.
    fn make() -> Self {
        let shop = Workshop(temporary());
        let home = shop.0.path().join("gnupg");
        fs::create_dir(&home).unwrap();
        fs::set_permissions(&home, Permissions::from_mode(0o700)).unwrap();

        let ed25519 = ["ed25519", "sign,cert", "never"];
        let mut fingerprints = BTreeMap::new();
        for (name, user, kind) in [
            ("alice", "Alice Ü 100%0A <alice@example.org>", ed25519),
            (
                "bob",
                "Bob <bob@example.org>",
                ["rsa2048", "sign,cert", "never"],
            ),
            (
                "carol",
                "Carol <carol@example.org>",
                ["ed25519", "cert", "never"],
            ),
            ("mallory", "Alice <alice@example.org>", ed25519),
            (
                "old",
                "Old <old@example.org>",
                ["ed25519", "sign,cert", "30d"],
            ),
            ("gone", "Gone <gone@example.org>", ed25519),
        ] {
            // Older than every signature.
            let made_at = "--faked-system-time=20200101T000000!";
            fingerprints.insert(name, shop.gpg_key(made_at, user, &kind));
        }
        let in_2098 = "--faked-system-time=20980105T000000!";
        let user = "Young <young@example.org>";
        fingerprints.insert("young", shop.gpg_key(in_2098, user, &ed25519));
        shop.gpg(
            &[
                "--quick-add-key",
                &fingerprints["carol"],
                "ed25519",
                "sign",
                "never",
            ],
            "",
        );
        let weak = "--cert-digest-algo=SHA1";
        let user = "Weak <weak@example.org>";
        shop.gpg(
            &[
                weak,
                "--quick-generate-key",
                user,
                "ed25519",
                "sign,cert",
                "never",
            ],
            "",
        );

        for (name, kind) in [
            ("ed25519", "ed25519"),
            ("rsa", "rsa"),
            ("ecdsa", "ecdsa"),
            ("stranger", "ed25519"),
            ("certified", "ed25519"),
            ("outdated", "ed25519"),
            ("foreign", "ed25519"),
            ("ca", "ed25519"),
            ("other_ca", "ed25519"),
        ] {
            shop.ssh_key(name, kind);
        }
        for (name, ca, validity) in [
            ("certified", "ca", "20200101:20990101"),
            ("outdated", "ca", "20200101:20200201"),
            ("foreign", "other_ca", "20200101:20990101"),
        ] {
            let public = format!("{name}.pub");
            let about = ["-I", name, "-n", "dave@example.org", "-V", validity];
            let arguments = [&["-q", "-s", ca], &about[..], &[&public]].concat();
            shop.run("ssh-keygen", &arguments, "");
        }

        shop.git(&["init", "--quiet", "--initial-branch=main"]);
        shop.git(&["config", "user.name", "A"]);
        shop.git(&["config", "user.email", "a@example.org"]);
        let plain = shop.commit(&[]);
        let mut commits = BTreeMap::from([("plain", plain.clone())]);
        for name in ["alice", "bob", "carol", "mallory"] {
            let key = if name == "carol" {
                "carol"
            } else {
                &fingerprints[name]
            };
            commits.insert(name, shop.gpg_commit(key));
        }
        for name in ["ed25519", "rsa", "ecdsa", "stranger"] {
            commits.insert(name, shop.ssh_commit(name));
        }
        for name in ["certified", "outdated", "foreign"] {
            commits.insert(name, shop.ssh_commit(&format!("{name}-cert.pub")));
        }
        // A merge of a signed tag: its signature is in a header, too.
        let signing = format!("user.signingKey={}", fingerprints["alice"]);
        shop.git(&["checkout", "--quiet", "-b", "side", "HEAD^"]);
        commits.insert("side", shop.commit(&[]));
        shop.git(&["-c", &signing, "tag", "--sign", "--message=v1", "v1"]);
        shop.git(&["checkout", "--quiet", "main"]);
        let merge = ["merge", "--quiet", "--no-ff", "--no-edit", "v1"];
        shop.git(&[&["-c", &signing, "-c", "commit.gpgSign=true"], &merge[..]].concat());
        commits.insert("merge", shop.git(&["cat-file", "commit", "HEAD"]));
        shop.git(&["reset", "--quiet", "--hard", "HEAD^"]);
        shop.git(&merge);
        commits.insert(
            "merge of a signed tag",
            shop.git(&["cat-file", "commit", "HEAD"]),
        );

        let in_2019 = "--faked-system-time=20190105T000000!";
        let in_2020 = "--faked-system-time=20200105T000000!";
        let [alice, bob, mallory, old, gone] =
            ["alice", "bob", "mallory", "old", "gone"].map(|name| &*fingerprints[name]);
        let detached = |arguments: &[&str]| shop.gpg(&[arguments, &["-abs"]].concat(), &plain);
        let inline = |arguments: &[&str]| shop.gpg(&[arguments, &["-as"]].concat(), &plain);
        let note = "x@example.org=a%0A[GNUPG:] NEWSIG%0A[GNUPG:] GOODSIG 0 Root";
        let mut armors = BTreeMap::from([
            ("alice", detached(&["-u", alice])),
            ("text", detached(&["-u", alice, "--textmode"])),
            ("notation", detached(&["-u", alice, "--sig-notation", note])),
            (
                "notation of another",
                detached(&["-u", mallory, "--sig-notation", note]),
            ),
            ("two", detached(&["-u", alice, "-u", bob])),
            ("one of another", detached(&["-u", alice, "-u", mallory])),
            ("sha1", detached(&["-u", alice, "--digest-algo=SHA1"])),
            ("old", detached(&[in_2020, "-u", old])),
            ("gone", detached(&["-u", gone])),
            (
                "expired",
                detached(&[in_2020, "--default-sig-expire=1d", "-u", alice]),
            ),
            ("future", detached(&[in_2098, "-u", alice])),
            (
                "before the key",
                detached(&[in_2019, "--ignore-time-conflict", "-u", alice]),
            ),
            ("inline", inline(&["-u", alice])),
            (
                "inline, not compressed",
                inline(&["-u", alice, "--compress-algo=none"]),
            ),
            ("key", shop.gpg(&["--armor", "--export", alice], "")),
            ("tag", armor_of(&shop.git(&["cat-file", "tag", "v1"]))),
            ("ssh", shop.ssh_sign("ed25519", "git", &plain)),
            ("ssh of a file", shop.ssh_sign("ed25519", "file", &plain)),
        ]);
        // What gpg would take for a message of its own, if it were not given the commit: the
        // signature of another text, with that text.
        let text = shop.0.path().join("text");
        fs::write(&text, &commits["alice"]).unwrap();
        let of_text = shop.gpg(&["-u", alice, "-abs"], &commits["alice"]);
        let of_text = shop.run("gpg", &["--dearmor"], &of_text);
        let text = shop.run("gpg", &["-z0", "--store", "--output=-", "text"], "");
        let with_text = [
            ("a text behind", [&of_text[..], &text].concat()),
            ("a text before", [&text[..], &of_text].concat()),
        ];
        for (name, packets) in with_text {
            fs::write(shop.0.path().join("packets"), packets).unwrap();
            let armor = shop.gpg(&["--enarmor", "--output=-", "packets"], "");
            armors.insert(name, armor.replace("PGP ARMORED FILE", "PGP SIGNATURE"));
        }
        // A signature and a key, in one armor.
        let mut packets = shop.run("gpg", &["--dearmor"], &armors["alice"]);
        packets.extend(shop.run("gpg", &["--export", alice], ""));
        fs::write(shop.0.path().join("packets"), packets).unwrap();
        let both = shop.gpg(&["--enarmor", "--output=-", "packets"], "");
        armors.insert(
            "signature and key",
            both.replace("PGP ARMORED FILE", "PGP SIGNATURE"),
        );

        let revocation = shop.read(&format!("gnupg/openpgp-revocs.d/{gone}.rev"));
        shop.gpg(
            &["--import"],
            &revocation.replace(":-----BEGIN", "-----BEGIN"),
        );
        let export = |key: &str| shop.gpg(&["--armor", "--export", key], "");
        let gpg = ["alice", "bob", "carol", "mallory", "old", "gone", "young"]
            .map(|name| (name, export(&fingerprints[name])));
        let mut gpg = BTreeMap::from(gpg);
        gpg.insert("weak", export("weak@example.org"));
        let secret = shop.gpg(&["--armor", "--export-secret-keys", alice], "");

        let mut ssh = BTreeMap::new();
        let mut ssh_fingerprints = BTreeMap::new();
        for name in [
            "ed25519",
            "rsa",
            "ecdsa",
            "stranger",
            "certified",
            "outdated",
            "foreign",
            "ca",
        ] {
            let public = format!("{name}.pub");
            let told = shop.text("ssh-keygen", &["-l", "-f", &public], "");
            ssh_fingerprints.insert(name, told.split(' ').nth(1).unwrap().to_string());
            ssh.insert(name, shop.read(&public).trim().to_string());
        }
        let krl = |file: &str| {
            shop.run("ssh-keygen", &["-q", "-k", "-f", "krl", file], "");
            fs::read(shop.0.path().join("krl")).unwrap()
        };
        let world = Self {
            secret_packets: shop.run("gpg", &["--dearmor"], &secret),
            secret,
            ssh_secret: shop.read("ed25519"),
            krl: krl("ed25519.pub"),
            krl_of_certificate: krl("certified-cert.pub"),
            gpg,
            fingerprints,
            ssh,
            ssh_fingerprints,
            commits,
            armors,
        };
        shop.run("gpgconf", &["--kill", "all"], "");
        world
    }

    pub fn signed_by(&self, armor: &str) -> String {
        sign(&self.commits["plain"], &self.armors[armor])
    }

    /// As a person reads it.
    pub fn gpg_key(&self, name: &str) -> String {
        format!("GPG {}", self.fingerprints[name])
    }

    pub fn ssh_key(&self, name: &str) -> String {
        format!("SSH {}", self.ssh_fingerprints[name])
    }

    /// Allowed signers: one key with this before it.
    pub fn allowed(&self, before: &str, key: &str) -> String {
        format!("{before} {}\n", self.ssh[key])
    }
}
