//! The operating system: files, processes, signals, the terminal, the journal.

pub mod command;
pub mod credential_file;
pub mod diagnosis;
pub mod fs;
pub mod hand_over;
pub mod inotify;
pub mod journal;
pub mod journald;
pub mod json;
pub mod mutex;
pub mod owner;
pub mod poll;
pub mod progress;
pub mod signal;
pub mod temp_dir;
pub mod terminal;
pub mod text;
pub mod who;
