//! What the sources keep to: each layer imports only what stands to its right in `main.rs`, no files import each other
//! in a circle, `model` is pure, a type has its methods in its own folder and a name of its own, and a file is not long.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The clock, the log, the operating system: nothing for plain data and pure functions.
const IMPURE: [&str; 9] = [
    "Timestamp::now",
    "Zoned::now",
    "SystemTime",
    "Instant",
    "std::fs",
    "std::env",
    "std::process",
    "log",
    "crate::sys",
];
/// What of it is pure all the same.
const PURE: &str = "crate::sys::text";

/// How many lines of code a file has at most.
const LONGEST: usize = 400;
/// The files that tell the story: each is read on one screen.
const STORY: [&str; 2] = ["deploy/mod.rs", "deploy/deployment.rs"];
const SCREEN: usize = 150;
/// How many folders there are at most, beside `main.rs`.
const FOLDERS: usize = 12;
/// The type whose methods may be in any folder that uses the mirror.
const MIRROR: &str = "Mirror";

/// The texts of files, such as `model/attempt.rs`.
type Sources = BTreeMap<String, String>;

/// The sources of the program. Tests may import what they like.
pub fn sources() -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Sources::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
            let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
            if is_test || name == "build.rs" {
                // The build has a program of its own.
            } else if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                sources.insert(name.to_string(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    sources
}

/// The layers from the top down; those that stand together do not know each other.
pub fn layers() -> Vec<Vec<&'static str>> {
    let mut lines = include_str!("../main.rs").lines();
    let line = lines.find(|line| line.contains('→')).unwrap();
    let layers = line.trim_matches(|c: char| !c.is_alphabetic()).split(" → ");
    let names = layers.map(|layer| layer.trim_matches(['{', '}']).split(", ").collect());
    names.collect()
}

/// The layer of a file: its folder, or `main`.
pub fn layer(file: &str) -> &str {
    file.split_once('/').map_or("main", |(folder, _)| folder)
}

/// The module of a file, as in `model::attempt`; that of `main.rs` has no name.
fn module(file: &str) -> String {
    let name = file.trim_end_matches(".rs").trim_end_matches("/mod");
    if name == "main" {
        return String::new();
    }
    name.replace('/', "::")
}

/// The lines of a source without its tests, its comments and blank lines.
fn code(source: &str) -> impl Iterator<Item = &str> {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    code.lines().filter(is_code)
}

/// The paths in a source that have more than one name, such as `std::fs` of `std::{fs, io}`.
fn paths(source: &str) -> BTreeSet<String> {
    let code = code(source).collect::<Vec<_>>().join("\n") + "\n";
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut paths = BTreeSet::new();
    let mut groups: Vec<String> = Vec::new();
    let (mut path, mut before) = (String::new(), ' ');
    for c in code.chars() {
        if is_name(c) {
            // In a group, what stands before its brace belongs to each of its paths.
            if path.is_empty() && matches!(before, '{' | ',') {
                path = groups.last().cloned().unwrap_or_default();
            }
            path.push(c);
        } else {
            let ended = std::mem::take(&mut path);
            match c {
                '{' if ended.ends_with("::") => groups.push(ended),
                '{' => groups.push(String::new()),
                _ if ended.contains("::") => {
                    paths.insert(ended);
                }
                _ => {}
            }
            if c == '}' {
                groups.pop();
            }
        }
        if !c.is_whitespace() {
            before = c;
        }
    }
    paths
}

/// Whether a path has these names in a row.
fn has(path: &str, names: &str) -> bool {
    format!("::{path}::").contains(&format!("::{names}::"))
}

/// The file that a path of another one leads to, if it leads to one of ours.
fn target<'a>(path: &str, file: &str, files: &BTreeMap<String, &'a str>) -> Option<&'a str> {
    let own = module(file);
    let mut segments = path.split("::").peekable();
    let mut base: Vec<&str> = own.split("::").filter(|name| !name.is_empty()).collect();
    match *segments.peek()? {
        "crate" => base.clear(),
        "super" => {}
        name if files.contains_key([&base[..], &[name]].concat().join("::").as_str()) => {}
        _ => return None,
    }
    for name in segments {
        match name {
            "crate" | "self" => {}
            "super" => {
                base.pop();
            }
            name => base.push(name),
        }
    }
    // What follows the module's own path is an item in it.
    let mut modules = (0..=base.len())
        .rev()
        .map(|length| base[..length].join("::"));
    modules.find_map(|module| files.get(&module).copied())
}

/// An import of one file by another.
pub struct Import<'a> {
    /// Who imports.
    pub file: &'a str,
    /// As it is written there.
    path: String,
    /// The file that the path leads to.
    pub target: &'a str,
}

/// Every import of one file by another.
pub fn imports(sources: &Sources) -> Vec<Import<'_>> {
    let files: BTreeMap<_, _> = sources.keys().map(|file| (module(file), &**file)).collect();
    let mut imports = Vec::new();
    for (file, source) in sources {
        for path in paths(source) {
            let target = target(&path, file, &files).filter(|target| target != file);
            imports.extend(target.map(|target| Import { file, path, target }));
        }
    }
    imports
}

/// The name of a type that a line defines, or gives methods to.
fn name_after<'a>(line: &'a str, words: &[&str]) -> Option<&'a str> {
    let rest = words.iter().find_map(|word| line.strip_prefix(word))?;
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let name = rest.split(|c| !is_name(c)).next()?;
    name.rsplit("::").next()
}

/// The type to which a line gives methods: `B` of `impl<T> A<T> for B {`. A conversion stands with whoever knows both.
fn receiver(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("impl")?;
    if rest.starts_with(" From<") {
        return None;
    }
    let rest = match rest.split_once("> ") {
        Some((generics, rest)) if generics.starts_with('<') => rest,
        _ => rest,
    };
    let name = rest.rsplit(" for ").next()?;
    name_after(name.trim_start(), &[""])
}

/// The files that are too long, the types that have methods outside of their folder, and those whose name says more than
/// one thing.
fn faults_of_size_and_place(sources: &Sources) -> Vec<String> {
    const DEFINES: [&str; 4] = ["struct ", "enum ", "trait ", "type "];
    let folder = |file: &str| {
        file.rsplit_once('/')
            .map_or("", |(folder, _)| folder)
            .to_string()
    };
    let mut faults = Vec::new();
    let mut homes: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut public: BTreeMap<&str, &str> = BTreeMap::new();
    for (file, source) in sources {
        let is_story = STORY.contains(&&**file);
        let most = if is_story { SCREEN } else { LONGEST };
        let lines = code(source).count();
        if lines > most {
            faults.push(format!(
                "src/{file} has {lines} lines of code: the most are {most}"
            ));
        }
        for line in code(source) {
            let is_public = line.starts_with("pub");
            let line = line
                .trim_start_matches("pub(super) ")
                .trim_start_matches("pub ");
            if let Some(name) = name_after(line, &DEFINES) {
                homes.entry(name).or_default().insert(folder(file));
                let other = is_public.then(|| public.insert(name, file)).flatten();
                faults.extend(
                    other.map(|other| format!("src/{other} and src/{file} both have a {name}")),
                );
            }
        }
    }
    for (file, source) in sources {
        for name in code(source)
            .filter_map(receiver)
            .filter(|name| *name != MIRROR)
        {
            if homes
                .get(name)
                .is_some_and(|homes| !homes.contains(&folder(file)))
            {
                faults.push(format!(
                    "src/{file} has methods of {name}, which is in another folder"
                ));
            }
        }
    }
    let folders: BTreeSet<&str> = sources.keys().map(|file| layer(file)).collect();
    // One of them is `main`, and is no folder.
    if folders.len() > FOLDERS + 1 {
        faults.push(format!(
            "src has {} folders: the most are {FOLDERS}",
            folders.len() - 1
        ));
    }
    faults
}

/// What the sources have against the rules, as sentences.
fn faults(sources: &Sources) -> Vec<String> {
    let layers = layers();
    let rank = |file| {
        layers
            .iter()
            .position(|together| together.contains(&layer(file)))
    };
    let mut faults = faults_of_size_and_place(sources);
    for (file, source) in sources {
        if rank(file).is_none() {
            faults.push(format!(
                "src/{file} is in no layer: main.rs does not name its folder"
            ));
        }
        let used = paths(source).into_iter();
        let impure = used.filter(|path| IMPURE.iter().any(|impure| has(path, impure)));
        for path in impure.filter(|path| layer(file) == "model" && !has(path, PURE)) {
            faults.push(format!(
                "src/{file} uses {path}: model has no clock, no disk, no log"
            ));
        }
    }
    let mut targets: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for Import { file, path, target } in imports(sources) {
        targets.entry(file).or_default().insert(target);
        let (from, to) = (layer(file), layer(target));
        if from != to && rank(target) <= rank(file) {
            faults.push(format!(
                "src/{file} imports {path}: {to} does not stand below {from}"
            ));
        }
    }
    let mut done = BTreeSet::new();
    let circles = sources
        .keys()
        .filter_map(|file| circle(&targets, &mut vec![file], &mut done));
    faults.extend(circles.map(|files| format!("Files import each other in a circle: {files}")));
    faults
}

/// The first circle that is met from the last file of a way.
fn circle<'a>(
    targets: &BTreeMap<&str, BTreeSet<&'a str>>,
    way: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<String> {
    let file = *way.last()?;
    if !done.insert(file) {
        return None;
    }
    for next in targets.get(file).into_iter().flatten() {
        way.push(next);
        let begin = way.iter().position(|file| file == next)?;
        if begin + 1 < way.len() {
            return Some(way[begin..].join(" → "));
        }
        if let Some(circle) = circle(targets, way, done) {
            return Some(circle);
        }
        way.pop();
    }
    None
}

#[test]
fn sources_keep_to_their_layers() {
    let sources = sources();
    assert!(sources.contains_key("deploy/mod.rs"));
    let faults = faults(&sources);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn each_breach_of_the_layers_is_a_fault() {
    // A file, its text, and what is wrong with it.
    #[rustfmt::skip]
    let table = [
        ("cli/a.rs", "use crate::model::names;", ""),
        ("cli/a.rs", "use crate::{deploy, report::{text, Page}};", ""),
        ("cli/a.rs", "use crate::sys::fs;\nfn f() { fs::read(); }", ""),
        ("git/a.rs", "// crate::deploy\n#[cfg(test)]\nmod tests {\n    use crate::deploy;\n}", ""),
        ("git/a.rs", "use crate::deploy;", "git/a.rs imports crate::deploy: deploy does not stand below git"),
        ("git/a.rs", "use crate::{config::{A, B}, state::store};", "imports crate::state::store"),
        ("report/a.rs", "fn f() -> crate::deploy::X { }", "imports crate::deploy::X"),
        ("sys/a.rs", "use super::super::model::names::{self as n};", "imports super::super::model::names::self"),
        ("sys/a.rs", "use crate::Failure;", "main does not stand below sys"),
        ("other/a.rs", "", "other/a.rs is in no layer"),
        ("model/a.rs", "use crate::sys::text::{self, printable};\nuse jiff::Timestamp;", ""),
        ("model/a.rs", "use crate::sys::{fs, text};", "uses crate::sys::fs: model has no clock"),
        ("model/a.rs", "let now = Timestamp::now();", "uses Timestamp::now"),
        ("model/a.rs", "let now = std::time::Instant::now();", "uses std::time::Instant::now"),
        ("model/a.rs", "use std::{collections::BTreeMap, fs};", "uses std::fs"),
        ("model/a.rs", "log::warn!(\"\");", "uses log::warn"),
        ("git/mod.rs", "pub mod fetch;\nuse fetch::X;", "in a circle: git/fetch.rs → git/mod.rs → git/fetch.rs"),
        ("git/refs.rs", "use super::mirror::{A, B as C};", "git/fetch.rs → git/refs.rs → git/mirror.rs → git/fetch.rs"),
        ("git/refs.rs", "use crate::git::errors as mirror;", ""),
        ("git/refs.rs", &"// not code\nfn f() {}\n\n".repeat(LONGEST), ""),
        ("git/refs.rs", &"fn f() {}\n".repeat(LONGEST + 1), "git/refs.rs has "),
        ("deploy/mod.rs", &"fn f() {}\n".repeat(SCREEN + 1), "deploy/mod.rs has 151 lines of code: the most are 150"),
        ("config/a.rs", "impl Names {}\nimpl From<File> for Names {}", "config/a.rs has methods of Names"),
        ("config/a.rs", "impl<'a> Iterator for Names<'a> {", "config/a.rs has methods of Names"),
        ("model/a.rs", "impl<T: From<Names>> fmt::Display for Names {", ""),
        ("state/a.rs", "impl Mirror {", ""),
        ("state/a.rs", "struct Names;", ""),
        ("state/a.rs", "pub(super) enum Names {", "src/model/names.rs and src/state/a.rs both have a Names"),
    ];
    let rest = [
        ("main.rs", "mod cli; mod git; use cli::Cli;"),
        ("cli/mod.rs", "pub mod a;"),
        ("deploy/mod.rs", ""),
        ("report/mod.rs", ""),
        ("state/store.rs", ""),
        ("config/mod.rs", "pub struct File;"),
        ("model/names.rs", "pub struct Names;"),
        ("sys/fs.rs", ""),
        ("sys/text.rs", ""),
        ("git/mod.rs", "pub mod fetch; pub mod mirror;"),
        ("git/errors.rs", ""),
        ("git/fetch.rs", "use super::A; use crate::git::refs::B;"),
        ("git/mirror.rs", "use super::fetch;\npub struct Mirror {"),
        ("git/refs.rs", ""),
    ];
    for (file, text, fault) in table {
        let all = rest.into_iter().chain([(file, text)]);
        let sources = all
            .map(|(file, text)| (file.to_string(), text.to_string()))
            .collect();
        let faults = faults(&sources);
        assert_eq!(
            faults.len(),
            usize::from(!fault.is_empty()),
            "{text}: {faults:?}"
        );
        assert!(faults.concat().contains(fault), "{text}: {faults:?}");
    }
}
