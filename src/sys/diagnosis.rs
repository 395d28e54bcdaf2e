//! Causes that tools and systems report in words of their own, by the words that a person looks for.

/// The cause that a message stands for, if it is one that nobody would look for in the configuration.
pub fn diagnose(message: &str) -> Option<&'static str> {
    const CAUSES: [(&str, &[&str]); 3] = [
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
            &[
                "not yet valid",
                "is not valid yet",
                "not activated yet",
                "NotValidYet",
            ],
        ),
    ];
    let mut causes = CAUSES.into_iter();
    let is_it = |words: &[&str]| words.iter().any(|words| message.contains(words));
    causes
        .find(|(_, words)| is_it(words))
        .map(|(cause, _)| cause)
}
