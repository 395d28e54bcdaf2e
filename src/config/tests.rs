use std::path::Path;

use jiff::SignedDuration;

use super::*;
use crate::model::{names::check_branch, Confirmer, Operation, Retention};

impl Config {
    /// The configuration that is written like this.
    pub fn for_tests(json: &str) -> Self {
        Self::parse(json.as_bytes()).unwrap()
    }
}

/// The smallest configuration.
pub fn for_tests() -> Config {
    Config::for_tests(r#"{"hostname": "m", "remotes": [{"name": "o", "url": "/r"}]}"#)
}

fn parse(json: &str) -> Result<Config> {
    Config::parse(json.as_bytes())
}

fn error(json: &str) -> String {
    format!("{:#}", parse(json).unwrap_err())
}

fn with_remote(remote: &str) -> String {
    format!(r#"{{"hostname": "m", "remotes": [{remote}]}}"#)
}

#[test]
fn only_hostname_name_and_url_are_required() {
    let config = parse(&with_remote(r#"{"name": "origin", "url": "/r"}"#)).unwrap();
    let remote = config.remote("origin").unwrap();
    let main = remote.main.as_ref().unwrap();
    assert_eq!(main.name, "main");
    assert_eq!(main.operation, Operation::Switch);
    let testing = remote.testing.as_ref().unwrap();
    assert_eq!(testing.name, "testing-m");
    assert_eq!(testing.operation, Operation::Test);
    assert_eq!(remote.timeout, Some(Duration::from_secs(300)));
    assert_eq!(config.state_dir, Path::new("/var/lib/comin"));
    assert_eq!(config.profile, "system");
    assert_eq!(config.build_timeout, None);
    assert_eq!(config.confirmer(ConfirmStep::Build), Confirmer::Without);
    assert_eq!(config.confirmer(ConfirmStep::Deploy), Confirmer::Without);
    assert!(!config.reboot.allow);
    let Retention {
        boot_entries,
        successful,
        any,
    } = config.retention;
    assert_eq!((boot_entries, successful, any), (3, 3, 5));
}

#[test]
fn the_wait_doubles_up_to_its_most() {
    let backoff = parse(&with_remote(r#"{"name": "o", "url": "/r"}"#))
        .unwrap()
        .retry;
    let minutes: Vec<i64> = (1..=9).map(|n| backoff.after(n).as_mins()).collect();
    assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(backoff.after(u32::MAX).as_mins(), 60);
}

#[test]
fn a_limit_that_nobody_lives_to_see_is_none() {
    let limit = |seconds: u64| {
        let remote = format!(r#"{{"name": "o", "url": "/r", "timeout": {seconds}}}"#);
        parse(&with_remote(&remote)).unwrap().remotes[0].timeout
    };
    let longest = u64::from(u32::MAX);
    assert_eq!(limit(1), Some(Duration::from_secs(1)));
    assert_eq!(limit(longest), Some(Duration::from_secs(longest)));
    for none in [0, longest + 1, u64::MAX] {
        assert_eq!(limit(none), None);
    }
}

#[test]
fn null_is_absence() {
    let json = r#"{"hostname": "m", "repository_type": null, "repository_subdir": null, "system_attr": null, "profile": null, "evaluate_as_root": null, "eval_timeout": null,
        "gpg_public_key_paths": null, "ssh_allowed_signers_path": null, "ssh_revoked_keys_path": null,
        "exporter": null, "build_confirmer": null, "deploy_confirmer": {"mode": null, "autoconfirm_duration": null},
        "remotes": [{"name": "o", "url": "/r", "auth": null, "branches": null, "poller": null, "timeout": null}]}"#;
    assert!(parse(json).is_ok());
}

#[test]
fn each_step_has_a_confirmer_of_its_own() {
    let config = parse(
        r#"{"hostname": "m", "build_confirmer": {"mode": "auto"},
            "deploy_confirmer": {"mode": "manual", "autoconfirm_duration": 5},
            "remotes": [{"name": "o", "url": "/r"}]}"#,
    )
    .unwrap();
    let two_minutes = SignedDuration::from_mins(2);
    assert_eq!(
        config.confirmer(ConfirmStep::Build),
        Confirmer::Auto(two_minutes)
    );
    assert_eq!(config.confirmer(ConfirmStep::Deploy), Confirmer::Manual);
}

#[test]
fn the_exporter_listens_on_an_address_or_on_all() {
    for exporter in [
        "{}",
        r#"{"listen_address": "", "port": 4243}"#,
        r#"{"listen_address": "::1"}"#,
    ] {
        let remote = r#""remotes": [{"name": "o", "url": "/r"}]"#;
        let json = format!(r#"{{"hostname": "m", "exporter": {exporter}, {remote}}}"#);
        assert!(parse(&json).is_ok(), "{exporter}");
    }
}

#[test]
fn an_empty_testing_name_is_no_testing() {
    let remote = r#"{"name": "o", "url": "/r", "branches": {"testing": {"name": ""}}}"#;
    assert!(parse(&with_remote(remote)).unwrap().remotes[0]
        .testing
        .is_none());
}

#[test]
fn signers_need_not_be_there_when_the_configuration_is_checked() {
    let with = |keys: &str| {
        let remote = r#""remotes": [{"name": "o", "url": "/r"}]"#;
        parse(&format!(r#"{{"hostname": "m", {keys}, {remote}}}"#))
    };
    let config = with(
        r#""gpg_public_key_paths": ["/no/a", "/no/b"], "ssh_allowed_signers_path": "/no/c",
        "ssh_revoked_keys_path": "/no/d""#,
    )
    .unwrap();
    assert_eq!(
        config.gpg_public_key_paths,
        [Path::new("/no/a"), Path::new("/no/b")]
    );
    let ssh = config.ssh_signers.unwrap();
    assert_eq!(ssh.allowed_signers_path, Path::new("/no/c"));
    assert_eq!(ssh.revoked_keys_path.unwrap(), Path::new("/no/d"));

    let none = r#""gpg_public_key_paths": [], "ssh_allowed_signers_path": "", "ssh_revoked_keys_path": """#;
    let config = with(none).unwrap();
    assert!(config.gpg_public_key_paths.is_empty() && config.ssh_signers.is_none());

    for (keys, wanted) in [
        (
            r#""gpg_public_key_paths": ["/a", "b"]"#,
            "gpg_public_key_paths[1]: b is not an absolute path",
        ),
        (
            r#""gpg_public_key_paths": [""]"#,
            "gpg_public_key_paths[0]: ",
        ),
        (
            r#""gpg_public_key_paths": "/a""#,
            "gpg_public_key_paths: invalid type",
        ),
        (
            r#""ssh_allowed_signers_path": "~/x""#,
            "ssh_allowed_signers_path: ~/x is not",
        ),
        (
            r#""ssh_allowed_signers_path": "/a", "ssh_revoked_keys_path": "x""#,
            "ssh_revoked_keys_path: x is not",
        ),
        (
            r#""ssh_revoked_keys_path": "/a""#,
            "ssh_revoked_keys_path: it has no effect without",
        ),
    ] {
        let error = format!("{:#}", with(keys).unwrap_err());
        assert!(error.contains(wanted), "{keys}: {error}");
    }
}

#[test]
fn what_is_no_configuration_at_all() {
    let ok = r#"{"name": "o", "url": "/r"}"#;
    for (json, wanted) in [
        ("", "it is no JSON: EOF"),
        (
            r#"{"hostname": "m", "remotes": [{"#,
            "it is no JSON: EOF while parsing an object at line 1 column 31",
        ),
        ("[]", "invalid length 0, expected an object"),
        ("3", "invalid type: integer `3`, expected an object"),
        ("{}", "missing field `hostname`"),
        ("{} x", "it is no JSON: trailing characters"),
        (r#"{"hostname": "m"}"#, "missing field `remotes`"),
        (
            r#"{"hostname": "m", "remotes": []}"#,
            "remotes: name at least one",
        ),
        (
            r#"{"hostname": 1, "remotes": []}"#,
            "hostname: invalid type: integer",
        ),
        (
            &format!(r#"{{"hostname": "m", "remotes": [{ok},{ok}]}}"#),
            "remotes[1].name: there is already",
        ),
        (
            &format!(r#"{{"hostname": "a/b", "remotes": [{ok}]}}"#),
            "hostname: \"a/b\" is not",
        ),
    ] {
        let error = error(json);
        assert!(
            error.contains(wanted) && !error.contains('?'),
            "{json}: {error}"
        );
    }
}

/// A wrong key, and what is said of it.
const WRONG: &str = r#"
    "colour": 1                                     | unknown field `colour`
    "repository_type": "nix-flake"                  | repository_type: "nix-flake" is not supported: use "flake" or "nix"
    "repository_type": ""                           | repository_type: "" is not
    "system_attr": "hosts.m"                        | system_attr: the hostname selects
    "repository_subdir": "../x"                     | repository_subdir:
    "state_dir": "x"                                | state_dir:
    "profile": "../x"                               | profile:
    "eval_timeout": -1                              | eval_timeout: invalid value
    "retry": {"first_delay": 9, "max_delay": 3}     | retry.max_delay: 3 is less
    "health_check": {"commands": [" "]}             | health_check.commands[0]:
    "health_check": {"connectivity_timeout": 1e12}  | health_check.connectivity_timeout: invalid
    "rollback": {"on": true}                        | rollback.on: unknown field
    "post_deployment_command": "notify"             | post_deployment_command: notify is not an absolute
    "gates": {"a b": {"before": "build", "command": "true"}} | gates: "a b" is no name of a gate
    "gates": {"min_free": {"before": "build", "command": "true"}} | gates: "min_free" is no name of a gate
    "gates": {"deploy_window": {"before": "build", "command": "true"}} | gates: "deploy_window" is no name of a gate
    "gates": {"a": {"before": "boot", "command": "true"}} | gates.a.before: unknown variant `boot`
    "gates": {"a": {"before": "build", "command": ""}} | gates.a.command: "" is no command
    "gates": {"a": {"before": "build", "command": "true", "timeout": 0}} | gates.a.timeout: a gate that may take for ever
    "deploy_window": [{"lower": "01:00", "upper": "01:00"}] | deploy_window[0].upper: a window from 01:00 to 01:00
    "deploy_window": [{"lower": "01:00", "upper": "02:00", "days": ["monday"]}] | deploy_window[0].days: "monday" is not a day
    "min_free": -1                                  | min_free: invalid value
    "reboot": {"window": {"lower": "1", "upper": "02:00"}} | reboot.window.lower: "1" is not a time of day
    "reboot": {"window": {"lower": "01:00"}}        | reboot.window: missing field `upper`
    "rollback": true                                | rollback: invalid type: boolean `true`, expected an object
    "build_confirmer": {"mode": 3}                  | build_confirmer.mode: expected value
    "build_confirmer": {"mode": "always"}           | build_confirmer.mode: unknown variant `always`, expected one of `without`, `auto`, `manual`
    "deploy_confirmer": {"autoconfirm_duration": -1} | deploy_confirmer.autoconfirm_duration: invalid value
    "retention": {"deployment_any_capacity": 0}     | retention.deployment_any_capacity: 0 would keep nothing
    "exporter": {"listen_address": "localhost"}     | exporter.listen_address: "localhost" is not an IP address
    "exporter": {"port": 0}                         | exporter.port: 0 is no port
    "exporter": {"port": 65536}                     | exporter.port: invalid value
    "prebuilt": {}                                  | prebuilt: name the notes or the URL
    "prebuilt": {"notes": "a b"}                    | prebuilt.notes: "a b" is not
    "prebuilt": {"url": "/systems/{commit}"}        | prebuilt.url: it is not the address of a server
    "prebuilt": {"url": "https://ci/latest"}        | prebuilt.url: it does not name the commit
    "prebuilt": {"notes": "n", "otherwise": "fail"} | prebuilt.otherwise: unknown variant `fail`, expected `wait` or `evaluate`
    "prebuilt": {"notes": "n", "patience": -1}      | prebuilt.patience: invalid value
"#;

#[test]
fn errors_name_the_key() {
    let rows = WRONG.lines().filter_map(|line| line.split_once(" | "));
    let mut checked = 0;
    for (key, wanted) in rows {
        let remote = r#"{"name": "o", "url": "/r"}"#;
        let error = error(&format!(
            r#"{{"hostname": "m", {key}, "remotes": [{remote}]}}"#
        ));
        assert!(error.contains(wanted.trim()), "{key}: {error}");
        checked += 1;
    }
    assert_eq!(checked, 38);
}

#[test]
fn systems_are_built_here_unless_ci_names_them() {
    let prebuilt = |json: &str| {
        let remote = r#"{"name": "o", "url": "/r"}"#;
        let json = format!(r#"{{"hostname": "m", "prebuilt": {json}, "remotes": [{remote}]}}"#);
        let config = parse(&json).unwrap();
        (config.remotes[0].notes.clone(), config.prebuilt)
    };
    assert_eq!(prebuilt("null"), (None, None));
    let (notes, found) = prebuilt(r#"{"notes": "comin"}"#);
    assert_eq!(notes.as_deref(), Some("comin"));
    assert_eq!(found.unwrap().patience, None);
    let (_, found) = prebuilt(r#"{"notes": "n", "otherwise": "evaluate"}"#);
    assert_eq!(found.unwrap().patience, Some(SignedDuration::from_hours(1)));
    let (notes, found) = prebuilt(r#"{"notes": "", "url": "http://ci/{commit}", "patience": 5}"#);
    let found = found.unwrap();
    assert_eq!((notes, found.notes, found.patience), (None, None, None));
}

#[test]
fn repository_types() {
    let with = |keys: &str| {
        let remote = r#""remotes": [{"name": "o", "url": "/r"}]"#;
        parse(&format!(r#"{{"hostname": "m", {keys}, {remote}}}"#))
    };
    let nix = |system_attr: Option<&str>| RepositoryType::Nix {
        system_attr: system_attr.map(str::to_string),
    };
    for (keys, wanted) in [
        (r#""repository_type": null"#, RepositoryType::Flake),
        (r#""repository_type": "flake""#, RepositoryType::Flake),
        (
            r#""repository_type": "flake", "system_attr": null"#,
            RepositoryType::Flake,
        ),
        (r#""system_attr": """#, RepositoryType::Flake),
        (r#""repository_type": "nix""#, nix(None)),
        (r#""repository_type": "nix", "system_attr": """#, nix(None)),
        (
            r#""repository_type": "nix", "system_attr": "hosts.m""#,
            nix(Some("hosts.m")),
        ),
        (
            r#""repository_type": "nix", "system_attr": "hosts.\"a.b\"""#,
            nix(Some("hosts.\"a.b\"")),
        ),
    ] {
        assert_eq!(with(keys).unwrap().repository_type, wanted, "{keys}");
    }
    for bad in ["-x", ".", ".a", "a.", "a..b", "a^out", "a\\nb"] {
        let keys = format!(r#""repository_type": "nix", "system_attr": "{bad}""#);
        let error = format!("{:#}", with(&keys).unwrap_err());
        assert!(error.contains("is not an attribute path"), "{bad}: {error}");
    }
}

#[test]
fn errors_of_a_remote_name_its_key() {
    for (remote, wanted) in [
        (r#"{"url": "/r"}"#, "remotes[0]: missing field `name`"),
        (
            r#""/r""#,
            "remotes[0]: invalid type: string \"/r\", expected an object",
        ),
        ("[]", "remotes[0]: invalid length 0, expected an object"),
        (
            r#"{"name": "o", "url": "/r", "auth": 3}"#,
            "remotes[0].auth: invalid type: integer `3`, expected an object",
        ),
        (
            r#"{"name": "o", "url": "/r", "branches": {"main": "main"}}"#,
            "remotes[0].branches.main: invalid type: string \"main\", expected an object",
        ),
        (
            r#"{"name": "o", "url": "/r", "branches": {"main": {"operation": 3}}}"#,
            "remotes[0].branches.main.operation: expected value",
        ),
        (r#"{"name": "o"}"#, "remotes[0]: missing field `url`"),
        (
            r#"{"name": "a/b", "url": "/r"}"#,
            "remotes[0].name: \"a/b\" cannot name",
        ),
        (r#"{"name": "..", "url": "/r"}"#, "remotes[0].name: "),
        (r#"{"name": "-x", "url": "/r"}"#, "remotes[0].name: "),
        (r#"{"name": "", "url": "/r"}"#, "remotes[0].name: "),
        (r#"{"name": "exporter", "url": "/r"}"#, "remotes[0].name: "),
        (r#"{"name": "dead-man", "url": "/r"}"#, "remotes[0].name: "),
        (r#"{"name": "fetcher", "url": "/r"}"#, "remotes[0].name: "),
        (
            r#"{"name": "boot-check", "url": "/r"}"#,
            "remotes[0].name: ",
        ),
        (
            r#"{"name": "o", "url": "r"}"#,
            "remotes[0].url: \"r\" is not supported",
        ),
        (
            r#"{"name": "o", "url": "git@h:r", "auth": {}}"#,
            "remotes[0].auth.ssh_deploy_key_path: an SSH server",
        ),
        (
            r#"{"name": "o", "url": "/r", "timeout": "5"}"#,
            "remotes[0].timeout: invalid type: string",
        ),
        (
            r#"{"name": "o", "url": "/r", "poller": {"period": 0}}"#,
            "remotes[0].poller.period: 0",
        ),
        (
            r#"{"name": "o", "url": "/r", "branches": {"main": {"name": "a..b"}}}"#,
            "remotes[0].branches.main.name: ",
        ),
        (
            r#"{"name": "o", "url": "/r", "branches": {"main": {"name": ""}}}"#,
            "remotes[].branches.main.name: it is empty for every remote",
        ),
        (
            r#"{"name": "o", "url": "/r", "branches": {"main": {"name": ""}, "testing": {"name": ""}}}"#,
            "remotes[0].branches: main.name and testing.name are both empty",
        ),
        (
            r#"{"name": "o", "url": "/r", "branches": {"main": {"operation": "go"}}}"#,
            "remotes[0].branches.main.operation: unknown variant `go`",
        ),
        (
            r#"{"name": "o", "url": "/r", "branches": {"staging": {}}}"#,
            "remotes[0].branches.staging: unknown field",
        ),
    ] {
        let error = error(&with_remote(remote));
        assert!(error.contains(wanted), "{remote}: {error}");
    }
}

#[test]
fn names_of_remotes() {
    let with = |name: &str| {
        parse(&with_remote(&format!(
            r#"{{"name": "{name}", "url": "/r"}}"#
        )))
    };
    let longest = "x".repeat(64);
    for good in [
        "origin",
        "A_b-9",
        "codeberg.org",
        "git.a-b.example",
        "a.lock.b",
        "a.timer",
        &longest,
    ] {
        assert!(with(good).is_ok(), "{good}");
    }
    let too_long = "x".repeat(65);
    for bad in [
        "", ".", "..", ".a", "a.", "a..b", "a.lock", "-a", "_a", "a/b", "a b", "a@b", "a%", "a:b",
        "ü", "a\\n", &too_long,
    ] {
        let error = format!("{:#}", with(bad).unwrap_err());
        let rule = "use at most 64 letters, digits, -, _ and single dots. Begin with a letter or digit, and do not end in a dot or in .lock";
        assert!(error.contains(rule), "{bad}: {error}");
    }
}

#[test]
fn branch_names() {
    for good in ["main", "a/b", "feature-1", "ü", "a.b", "testing-m"] {
        assert!(check_branch(good).is_ok(), "{good}");
    }
    for bad in [
        "", "/", "a//b", "/a", "a/", ".a", "a/.b", "a..b", "a.lock", "a.", "@{", "-a", "a b",
        "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "a\x1bb", "../../x",
    ] {
        assert!(check_branch(bad).is_err(), "{bad}");
    }
}
