//! Imports point down: a module knows the rooms before it and no others.
//!
//! What counts as an import is any path that begins with `crate`, `super` or `self`, in a `use` or in the middle of the
//! code; comments do not count.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a panic is how a test fails"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// From the bottom to the top.
const ROOMS: [&str; 15] = [
    "address", "error", "codec", "crypto", "random", "store", "identity", "prekey", "pqxdh", "ratchet",
    "padding", "session", "envelope", "sesame", "client",
];

/// Rooms that know less than all before them.
const ONLY: [(&str, &[&str]); 5] = [
    ("codec", &["error"]),
    // Any app can keep its own rows in it.
    ("store", &["error", "codec", "crypto"]),
    ("crypto", &["error", "codec"]),
    // No identity, no prekey: it would serve any handshake.
    ("ratchet", &["error", "codec", "crypto"]),
    ("padding", &["error", "crypto"]),
];

/// Within a room: what each file knows of the files beside it.
const INSIDE: [(&str, &str, &[&str]); 30] = [
    ("crypto", "mark", &[]),
    ("crypto", "secret", &["mark"]),
    ("crypto", "kdf", &["mark", "secret"]),
    ("crypto", "curve", &["mark", "secret", "kdf"]),
    ("crypto", "signature", &["mark", "secret", "kdf", "curve"]),
    ("crypto", "kem", &["mark", "secret", "kdf", "curve", "signature"]),
    ("crypto", "aead", &["mark", "secret", "kdf", "curve", "signature", "kem"]),
    ("prekey", "bundle", &[]),
    ("prekey", "published", &["bundle"]),
    ("ratchet", "chain", &[]),
    ("ratchet", "erasure", &[]),
    ("ratchet", "header", &[]),
    ("ratchet", "braid", &["erasure"]),
    ("ratchet", "double", &["chain", "header"]),
    ("ratchet", "sparse", &["braid", "chain", "erasure"]),
    ("ratchet", "triple", &["double", "header", "sparse"]),
    ("session", "message", &[]),
    ("store", "memory", &[]),
    ("store", "overlay", &[]),
    ("store", "redb", &[]),
    ("store", "vault", &[]),
    ("sesame", "devices", &[]),
    ("sesame", "link", &["devices"]),
    ("client", "actions", &[]),
    ("client", "send", &["actions"]),
    ("client", "receive", &["actions", "send"]),
    ("client", "lists", &["actions", "receive", "send"]),
    ("client", "heal", &["actions", "receive", "send"]),
    ("client", "account", &["actions", "receive", "send"]),
    ("client", "peers", &["actions", "send"]),
];

/// Doors that hold types of their own, which the files behind them share. The other doors only lead to files.
const SHARED_DOORS: [&str; 5] = ["prekey", "session", "store", "sesame", "client"];

type Module = Vec<String>;

/// One module that names another.
#[derive(Debug, PartialEq, Eq)]
struct Import {
    from: Module,
    to: Module,
    /// In code for tests alone.
    in_test: bool,
}

#[test]
fn imports_point_down() {
    let files = sources();
    let modules = modules(&files);
    let imports: Vec<Import> =
        files.iter().flat_map(|(module, source)| imports(module, source, &modules)).collect();
    let wrong: Vec<String> = imports.iter().filter_map(|import| judge(import).err()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // What is read is what is there: these three are in the architecture.
    for (from, to) in [("ratchet::sparse", "ratchet::braid"), ("prekey", "identity"), ("session", "padding")]
    {
        let known = |import: &Import| import.from.join("::") == from && import.to.join("::") == to;
        assert!(imports.iter().any(known), "{from} -> {to} is not found");
    }
}

#[test]
fn every_file_has_its_room() {
    let modules = modules(&sources());
    for module in &modules {
        let known = match &module[..] {
            [] => true,
            [.., last] if last == "testing" || last == "tests" => true,
            [room] => ROOMS.contains(&&**room),
            [room, file] => INSIDE.iter().any(|(in_room, name, _)| in_room == room && name == file),
            _ => false,
        };
        assert!(known, "{module:?} has no place in the order");
    }
    let named = ROOMS.iter().map(|room| vec![(*room).to_owned()]);
    let named =
        named.chain(INSIDE.iter().map(|(room, file, _)| vec![(*room).to_owned(), (*file).to_owned()]));
    for module in named {
        assert!(modules.contains(&module), "{module:?} is in the order but not in src");
    }
}

#[test]
fn an_import_that_points_up_is_found() {
    for (module, source) in [
        ("ratchet::double", "use crate::session::Session;"),
        ("ratchet::double", "use crate::{error::Error, identity::IdentityKey};"),
        ("ratchet::double", "use crate::crypto::{\n    secret::Secret,\n};\nuse crate::prekey;"),
        ("ratchet::double", "pub(crate) use super::triple::TripleRatchet;"),
        ("ratchet::double", "use super::sparse;"),
        ("ratchet::triple", "use super::braid::Braid;"),
        ("ratchet::chain", "mod inner { use super::super::double::Header; }"),
        ("ratchet::chain", "mod inner { mod more {} use super::super::double::Header; }"),
        ("ratchet::chain", "use super::super::identity::IdentityKey;"),
        ("ratchet::chain", "const N: usize = crate::padding::padded_length(1);"),
        ("ratchet::chain", "#[serde(with = \"crate::identity::checked\")] key: u8"),
        ("ratchet::chain", "#[cfg(test)] mod tests { use crate::session::Session; }"),
        ("ratchet::chain", "const A: char = '\"'; use crate::session::Session; const B: char = '\"';"),
        ("ratchet::chain", "/* not here */ use crate::session::Session;"),
        ("crypto::secret", "use super::kdf;"),
        ("crypto::curve", "use super::signature::SigningKey;"),
        ("crypto::aead", "use crate::crypto::{kem, secret}; use crate::identity::{self};"),
        ("codec", "use crate::crypto::secret::Secret;"),
        ("padding", "use crate::session::Session;"),
        ("error", "use crate::codec::Reader;"),
        ("identity", "use crate::Session;"),
        ("prekey::bundle", "use super::published::PublishedPrekeys;"),
        ("prekey::bundle", "use crate::testing::bytes;"),
    ] {
        let found = planted(module, source);
        assert!(found.iter().any(|import| judge(import).is_err()), "{module}: {source}: {found:?}");
    }
}

#[test]
fn an_import_that_points_down_is_let_in() {
    for (module, source) in [
        ("ratchet::double", "use super::chain::{self, KeptKeys};\nuse crate::error::Error;"),
        ("ratchet::double", "// use crate::session::Session;\n/// [`crate::session`]\nuse super::chain;"),
        ("ratchet::double", "const URL: &str = \"// crate::session in a text\"; use super::chain;"),
        ("ratchet::chain", "#[cfg(test)]\nmod tests {\n    use super::*;\n    use crate::testing::array;\n}"),
        ("ratchet::chain", "mod inner { use super::{Secret, codec}; }\nuse crate::codec;"),
        ("prekey", "mod bundle;\npub use bundle::Bundle;"),
        ("prekey::published", "use super::bundle::Bundle;\nuse super::Keys;"),
        ("session", "use crate::pqxdh; use crate::padding; use alloc::vec::Vec;"),
    ] {
        let found = planted(module, source);
        assert!(!found.is_empty(), "{module}: {source}");
        for import in found {
            assert_eq!(judge(&import), Ok(()), "{module}: {source}");
        }
    }
}

fn planted(module: &str, source: &str) -> Vec<Import> {
    let module: Module = module.split("::").map(str::to_owned).collect();
    imports(&module, source, &modules(&sources()))
}

fn judge(import: &Import) -> Result<(), String> {
    let Import { from, to, in_test } = import;
    let from = match &from[..] {
        [tested @ .., last] if last == "tests" => tested,
        from => from,
    };
    let allowed = match (from, &to[..]) {
        _ if *from == to[..] => true,
        // The front door leads everywhere, and nothing leads back to it.
        ([], _) => true,
        ([testing], _) if testing == "testing" => true,
        (_, []) => false,
        (_, [testing, ..]) if testing == "testing" => *in_test,
        ([room, ..], [other, ..]) if room != other => {
            let place = |name: &str| ROOMS.iter().position(|room| *room == name);
            let below = place(other).is_some() && place(other) < place(room);
            let only = ONLY.iter().find(|(name, _)| name == room);
            below && only.is_none_or(|(_, rooms)| rooms.contains(&&**other))
        }
        ([_], _) => true,
        ([room, ..], [_]) => SHARED_DOORS.contains(&&**room),
        ([room, file, ..], [_, other, ..]) => {
            let mut inside = INSIDE.iter().filter(|(in_room, name, _)| in_room == room && name == file);
            inside.any(|(_, _, known)| known.contains(&&**other))
        }
    };
    if allowed { Ok(()) } else { Err(format!("{} -> {}", from.join("::"), to.join("::"))) }
}

/// All files of src, by module. The front door is the empty path.
fn sources() -> Vec<(Module, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![(root, Module::new())];
    while let Some((folder, module)) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let mut module = module.clone();
            module.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
            if path.is_dir() {
                folders.push((path, module));
            } else if module == ["lib"] {
                files.push((Module::new(), fs::read_to_string(path).unwrap()));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push((module, fs::read_to_string(path).unwrap()));
            }
        }
    }
    files
}

/// Wherever it lies, there is a module of what unit tests share.
fn modules(files: &[(Module, String)]) -> BTreeSet<Module> {
    let files = files.iter().map(|(module, _)| module.clone());
    files.chain([vec!["testing".to_owned()]]).collect()
}

/// The imports of a file from other files. Unit tests in a file of their own are part of the file they test.
fn imports(module: &Module, source: &str, modules: &BTreeSet<Module>) -> Vec<Import> {
    let tests = Scope { name: None, test: module.last().is_some_and(|last| last == "tests") };
    let mut walk =
        Walk { tokens: tokens(source), at: 0, module, modules, scopes: vec![tests], found: Vec::new() };
    walk.file();
    walk.found
}

/// A walk through the tokens of a file that knows in which inline module it is.
struct Walk<'a> {
    tokens: Vec<String>,
    at: usize,
    module: &'a Module,
    modules: &'a BTreeSet<Module>,
    scopes: Vec<Scope>,
    found: Vec<Import>,
}

struct Scope {
    /// Of an inline module.
    name: Option<String>,
    test: bool,
}

impl Walk<'_> {
    fn file(&mut self) {
        // An attribute holds until the item's body or end.
        let mut test = false;
        let mut name = None;
        while let Some(token) = self.token(0).map(str::to_owned) {
            match &*token {
                "cfg" if self.token(1) == Some("(") && self.token(2) == Some("test") => test = true,
                "mod" => name = self.token(1).map(str::to_owned),
                "{" => self.scopes.push(Scope { name: name.take(), test: std::mem::take(&mut test) }),
                "}" => drop(self.scopes.pop()),
                ";" => (test, name) = (false, None),
                "use" if self.token(1).is_some_and(|first| self.is_child(first)) => {
                    self.at += 1;
                    self.path(self.current(), test);
                    continue;
                }
                "crate" | "super" | "self" if self.token(1) == Some("::") && self.before() != Some("::") => {
                    self.path(self.current(), test);
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    fn token(&self, ahead: usize) -> Option<&str> {
        self.tokens.get(self.at + ahead).map(|token| &**token)
    }

    fn before(&self) -> Option<&str> {
        self.tokens.get(self.at.checked_sub(1)?).map(|token| &**token)
    }

    fn current(&self) -> Module {
        self.module.iter().cloned().chain(self.scopes.iter().filter_map(|scope| scope.name.clone())).collect()
    }

    fn is_child(&self, name: &str) -> bool {
        let mut child = self.current();
        child.push(name.to_owned());
        self.modules.contains(&child)
    }

    /// A path or a tree of them, which begins in the module `base`.
    fn path(&mut self, mut base: Module, test: bool) {
        loop {
            match self.token(0) {
                Some("{") => {
                    self.at += 1;
                    while self.token(0).is_some_and(|token| token != "}") {
                        self.path(base.clone(), test);
                        if self.token(0) == Some(",") {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                Some("crate") => base.clear(),
                Some("super") => drop(base.pop()),
                Some("self" | "*") => {}
                Some(name) => base.push(name.to_owned()),
                None => return,
            }
            self.at += 1;
            let goes_on = self.token(1).is_some_and(|next| next == "{" || next == "*" || is_word(next));
            if self.token(0) != Some("::") || !goes_on {
                break;
            }
            self.at += 1;
        }
        if self.token(0) == Some("as") {
            self.at += 2;
        }
        self.name(base, test);
    }

    /// The longest beginning of the path that is a file.
    fn name(&mut self, mut path: Module, test: bool) {
        while !path.is_empty() && !self.modules.contains(&path) {
            path.pop();
        }
        if path != *self.module {
            let in_test = test || self.scopes.iter().any(|scope| scope.test);
            self.found.push(Import { from: self.module.clone(), to: path, in_test });
        }
    }
}

fn is_word(token: &str) -> bool {
    token.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Words, `::` and single signs. Comments are left out, and texts, unless they are paths (serde's `with`).
fn tokens(source: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            let text = text(rest);
            if text.split("::").all(|part| !part.is_empty() && is_word(part)) {
                tokens.extend(self::tokens(text));
            }
            text.len() + 2
        } else if let Some(length) = character(rest) {
            length
        } else if is_word(&first.to_string()) {
            let word = rest.find(|c: char| !is_word(&c.to_string())).unwrap_or(rest.len());
            tokens.push(rest[..word].to_owned());
            word
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length.min(rest.len())..];
    }
    tokens
}

/// What stands between the quotes.
fn text(rest: &str) -> &str {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '"' if !escaped => return &rest[1..at],
            _ => escaped = c == '\\' && !escaped,
        }
    }
    panic!("a text does not end: {rest}")
}

/// The length of a character in quotes, where that is what comes, and not a lifetime.
fn character(rest: &str) -> Option<usize> {
    let quoted = rest.strip_prefix('\'')?;
    if quoted.starts_with('\\') {
        return quoted[2..].find('\'').map(|end| end + 4);
    }
    let first = quoted.chars().next()?;
    quoted[first.len_utf8()..].starts_with('\'').then(|| first.len_utf8() + 2)
}
