//! Causes that every tool reports in words of its own, named by the words that a person looks for.

/// A message, with its cause before it if that is one which nobody would look for in the configuration.
pub fn explained(message: &str) -> String {
    match diagnose(message) {
        Some(cause) => format!("{cause}: {message}"),
        None => message.to_string(),
    }
}

/// The cause that a message stands for, if it is one that nobody would look for in the configuration.
pub fn diagnose(message: &str) -> Option<&'static str> {
    const CAUSES: [(&str, &[&str]); 4] = [
        (
            "the disk is full",
            &["No space left on device", "database or disk is full"],
        ),
        (
            "out of memory",
            &[
                "out of memory",
                "Out of memory",
                "Cannot allocate memory",
                "std::bad_alloc",
                "failed due to signal 9",
                "exit code 137",
                "was killed by signal 9",
            ],
        ),
        (
            "the clock of this machine may be wrong",
            &["not yet valid", "not valid yet", "NotValidYet"],
        ),
        (
            "with signatures or confirmers, a configuration may read no files of the machine but those of its repository",
            &["is forbidden in restricted mode"],
        ),
    ];
    let mut causes = CAUSES.into_iter();
    let is_it = |words: &[&str]| words.iter().any(|words| message.contains(words));
    causes
        .find(|(_, words)| is_it(words))
        .map(|(cause, _)| cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_named_whatever_the_tool_calls_it() {
        for (message, cause) in [
            (
                "writing x: No space left on device (os error 28)",
                "the disk is full",
            ),
            (
                "builder for x failed due to signal 9 (Killed)",
                "out of memory",
            ),
            (
                "SSL certificate problem: certificate is not yet valid",
                "the clock of this machine may be wrong",
            ),
        ] {
            assert_eq!(explained(message), format!("{cause}: {message}"));
        }
        assert_eq!(explained("error: x"), "error: x");
    }
}
