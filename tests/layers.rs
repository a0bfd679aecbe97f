//! Imports point down: a module knows the rooms before it and no others.
//!
//! What counts as an import is any path that begins with `crate`, `super` or `self`, in a `use` or
//! in the middle of the code; comments do not count.
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
const ROOMS: &[&str] = &[
    "address",
    "error",
    "time",
    "codec",
    "at_rest",
    "crypto",
    "random",
    "lock",
    "store",
    "identity",
    "signal",
    "call",
    "prekey",
    "pqxdh",
    "ratchet",
    "padding",
    "file",
    "session",
    "devices",
    "link",
    "safety_number",
    "scan",
    "sas",
    "directory",
    "reference",
    "ticket",
    "certificate",
    "group",
    "content",
    "envelope",
    "archive",
    "sesame",
    "client",
    "loopback",
    "guide",
];

/// Rooms that know less than all before them.
const ONLY: &[(&str, &[&str])] = &[
    ("address", &[]),
    ("error", &["address"]),
    ("time", &["error"]),
    ("codec", &["error"]),
    ("at_rest", &["error"]),
    ("crypto", &["error", "at_rest"]),
    ("random", &[]),
    ("lock", &["error", "codec", "crypto"]),
    // Any app can keep its own rows in it.
    ("store", &["error", "codec", "at_rest", "crypto", "lock"]),
    ("identity", &["error", "codec", "at_rest", "crypto"]),
    ("signal", &["address", "error", "time", "codec", "at_rest", "identity"]),
    // Keys and frames alone: it reads no row, and its signals go through any client.
    ("call", &["address", "error", "time", "codec", "crypto", "identity", "signal"]),
    ("prekey", &["error", "codec", "at_rest", "crypto", "identity"]),
    ("pqxdh", &["error", "codec", "crypto", "identity", "prekey"]),
    // No identity, no prekey: it would serve any handshake.
    ("ratchet", &["error", "codec", "at_rest", "crypto"]),
    ("padding", &["error", "crypto"]),
    // An app uses it without a client, and without a session.
    ("file", &["error", "codec", "at_rest", "crypto", "padding"]),
    (
        "session",
        &[
            "error", "codec", "at_rest", "crypto", "identity", "prekey", "pqxdh", "ratchet",
            "padding",
        ],
    ),
    ("devices", &["error", "codec", "at_rest", "crypto", "identity"]),
    ("link", &["error", "codec", "crypto", "identity", "devices"]),
    // Comparing keys: values, which an app could use without a client.
    ("safety_number", &["codec", "crypto", "identity"]),
    ("scan", &["error", "codec", "crypto", "identity", "safety_number"]),
    ("sas", &["codec", "at_rest", "crypto", "identity", "safety_number"]),
    // A server needs no session, no store and no clock.
    ("directory", &["error", "codec", "crypto", "identity", "prekey", "devices"]),
    // The format alone: neither client nor store.
    (
        "archive",
        &["error", "time", "codec", "crypto", "lock", "identity", "padding", "file", "devices"],
    ),
    ("reference", &["codec", "at_rest", "crypto", "identity", "session"]),
    ("ticket", &["time", "codec", "at_rest", "crypto"]),
    // A server issues them.
    ("certificate", &["error", "time", "codec", "identity"]),
    // Values alone: rosters, chains and envelopes. It reads no row.
    (
        "group",
        &[
            "address", "error", "time", "codec", "at_rest", "crypto", "identity", "ratchet",
            "padding",
        ],
    ),
    (
        "content",
        &[
            "error",
            "time",
            "codec",
            "at_rest",
            "signal",
            "file",
            "devices",
            "reference",
            "ticket",
            "group",
        ],
    ),
    ("envelope", &["address", "error", "codec", "session", "reference", "ticket"]),
    // Rules alone: it reads no row, and nothing of it goes over the wire.
    ("sesame", &["error", "time", "at_rest", "identity", "session", "devices"]),
];

/// Within a room: what each file knows of the files beside it.
const INSIDE: &[(&str, &str, &[&str])] = &[
    ("error", "store", &[]),
    ("crypto", "mark", &[]),
    ("crypto", "stack", &[]),
    ("crypto", "secret", &["mark"]),
    ("crypto", "kdf", &["mark", "secret"]),
    ("crypto", "hash", &["kdf"]),
    ("crypto", "assembly", &["secret"]),
    ("crypto", "no_assembly", &["secret"]),
    ("crypto", "curve", &["mark", "secret", "kdf", "assembly"]),
    ("crypto", "signature", &["mark", "secret", "kdf", "assembly", "curve"]),
    ("crypto", "kem", &["mark", "secret", "kdf", "curve", "signature"]),
    ("crypto", "aead", &["mark", "secret", "kdf", "curve", "signature", "kem"]),
    ("group", "bits", &[]),
    ("group", "id", &[]),
    ("group", "change", &["id"]),
    ("group", "history", &["bits", "change", "id"]),
    ("group", "state", &["bits", "change", "history", "id"]),
    ("group", "roster", &["bits", "change", "history", "id", "state"]),
    ("group", "removed", &["bits", "change", "history", "id", "roster"]),
    ("group", "voided", &["change", "history", "id", "roster", "state"]),
    ("group", "label", &[]),
    ("group", "message", &["label"]),
    ("group", "distribution", &["label"]),
    ("group", "sender_key", &["distribution", "label", "message"]),
    ("group", "record", &["distribution", "label", "message"]),
    ("crypto", "gcm", &["aead"]),
    ("crypto", "hkdf512", &["secret"]),
    ("call", "header", &[]),
    ("call", "window", &[]),
    ("call", "frame", &["header", "window"]),
    ("call", "keys", &["frame"]),
    ("call", "message", &["frame"]),
    ("call", "receiving", &["frame", "keys", "message"]),
    ("call", "sending", &["frame", "keys", "message"]),
    ("call", "openers", &["frame", "keys"]),
    ("call", "roster", &["receiving"]),
    ("file", "layout", &[]),
    ("file", "descriptor", &["layout"]),
    ("file", "keys", &["descriptor", "layout"]),
    ("file", "opener", &["descriptor", "keys", "layout"]),
    ("file", "manifest", &["descriptor", "keys"]),
    ("file", "sealer", &["descriptor", "keys", "layout", "manifest"]),
    ("file", "builder", &["layout", "manifest", "sealer"]),
    ("file", "parallel", &["opener", "sealer"]),
    ("file", "reader", &["descriptor", "layout", "opener"]),
    ("file", "seek", &["descriptor", "opener"]),
    ("file", "stream", &["keys", "layout"]),
    ("file", "writer", &["descriptor", "sealer"]),
    ("archive", "frame", &[]),
    ("archive", "header", &[]),
    ("archive", "writer", &["frame", "header"]),
    ("archive", "reader", &["frame", "header", "writer"]),
    ("lock", "passphrase", &[]),
    ("lock", "recovery", &[]),
    ("lock", "slot", &[]),
    ("content", "moves", &[]),
    ("prekey", "bundle", &[]),
    ("prekey", "published", &["bundle"]),
    ("prekey", "rows", &[]),
    ("ratchet", "chain", &[]),
    ("ratchet", "erasure", &[]),
    ("ratchet", "header", &[]),
    ("ratchet", "braid", &["erasure"]),
    ("ratchet", "double", &["chain", "header"]),
    ("ratchet", "message", &["braid", "erasure"]),
    ("ratchet", "sender_key", &["chain"]),
    ("ratchet", "sparse", &["braid", "chain", "erasure", "message"]),
    ("ratchet", "triple", &["double", "header", "message", "sparse"]),
    ("sas", "emoji", &[]),
    ("session", "message", &[]),
    ("content", "sealed", &[]),
    ("store", "conformance", &[]),
    ("store", "tables", &[]),
    ("store", "staged", &["tables"]),
    ("store", "memory", &["staged", "tables"]),
    ("store", "overlay", &["staged"]),
    ("store", "redb", &[]),
    ("store", "lock_row", &[]),
    ("store", "sealed", &["lock_row"]),
    ("store", "rotation", &["sealed"]),
    ("store", "vault", &["lock_row", "rotation", "sealed"]),
    ("content", "history", &[]),
    ("content", "proposals", &[]),
    ("content", "groups", &["proposals"]),
    ("directory", "upload", &[]),
    ("directory", "summary", &["upload"]),
    ("directory", "doors", &[]),
    ("directory", "held", &["summary", "upload"]),
    ("content", "attachment", &[]),
    ("sesame", "device_record", &[]),
    // Rows, each kind in a file of its own.
    ("client", "transaction", &[]),
    ("client", "rows", &["transaction"]),
    ("client", "allowances", &["transaction"]),
    ("client", "aside", &["transaction"]),
    ("client", "backoff", &[]),
    ("client", "timers", &["backoff", "transaction"]),
    ("client", "asking", &["timers", "transaction"]),
    ("client", "offer", &[]),
    ("client", "linked", &["transaction"]),
    ("client", "events", &["offer", "transaction"]),
    ("client", "inbox", &["events", "offer", "transaction"]),
    ("client", "outgoing", &[]),
    ("client", "prekeys", &["transaction"]),
    ("client", "seen", &["transaction"]),
    ("client", "tickets", &["transaction"]),
    ("client", "wants", &["backoff", "transaction"]),
    ("client", "certificates", &["transaction", "wants"]),
    ("client", "doors", &["events", "inbox", "tickets", "transaction", "wants"]),
    ("client", "outbox", &["backoff", "certificates", "doors", "tickets", "timers", "transaction"]),
    ("client", "ceremonies", &["timers", "transaction"]),
    ("client", "log", &["timers", "transaction"]),
    ("client", "messages", &["log", "outbox", "transaction"]),
    ("client", "moves", &["ceremonies", "outbox", "transaction", "wants"]),
    ("client", "group_rows", &["backoff", "transaction"]),
    ("client", "group_outs", &["backoff", "log", "transaction"]),
    (
        "client",
        "group_texts",
        &[
            "events",
            "group_outs",
            "group_rows",
            "inbox",
            "log",
            "messages",
            "outbox",
            "transaction",
        ],
    ),
    (
        "client",
        "group_proposals",
        &["events", "group_rows", "inbox", "outbox", "timers", "transaction", "wants"],
    ),
    // What is done with them.
    (
        "client",
        "send",
        &[
            "asking",
            "events",
            "group_texts",
            "inbox",
            "log",
            "messages",
            "outbox",
            "outgoing",
            "transaction",
            "wants",
        ],
    ),
    (
        "client",
        "devices",
        &[
            "allowances",
            "asking",
            "doors",
            "events",
            "group_rows",
            "inbox",
            "linked",
            "log",
            "outbox",
            "seen",
            "send",
            "tickets",
            "timers",
            "transaction",
            "wants",
        ],
    ),
    ("client", "group_keys", &["group_rows", "timers", "transaction"]),
    (
        "client",
        "group_members",
        &[
            "group_keys",
            "group_proposals",
            "group_rows",
            "group_texts",
            "log",
            "timers",
            "transaction",
            "wants",
        ],
    ),
    ("client", "telling", &["allowances", "outbox", "transaction", "wants"]),
    (
        "client",
        "group_serve",
        &[
            "allowances",
            "group_members",
            "group_rows",
            "group_texts",
            "log",
            "outbox",
            "send",
            "telling",
            "tickets",
            "transaction",
            "wants",
        ],
    ),
    (
        "client",
        "group_send",
        &[
            "group_keys",
            "group_members",
            "group_outs",
            "group_rows",
            "group_serve",
            "group_texts",
            "log",
            "outgoing",
            "tickets",
            "transaction",
            "wants",
        ],
    ),
    ("client", "group_out", &["group_outs", "group_rows", "group_texts", "tickets", "transaction"]),
    (
        "client",
        "group_owed",
        &["group_rows", "group_texts", "outbox", "telling", "timers", "transaction"],
    ),
    (
        "client",
        "heal",
        &[
            "allowances",
            "asking",
            "events",
            "group_owed",
            "group_proposals",
            "group_rows",
            "group_serve",
            "inbox",
            "log",
            "moves",
            "outbox",
            "telling",
            "transaction",
            "wants",
        ],
    ),
    ("client", "admission", &["certificates", "devices", "inbox", "transaction", "wants"]),
    (
        "client",
        "calls",
        &["admission", "allowances", "log", "outbox", "timers", "transaction", "wants"],
    ),
    ("client", "group_events", &["events"]),
    ("client", "group_parts", &["group_serve", "transaction"]),
    (
        "client",
        "group_changes",
        &[
            "allowances",
            "events",
            "group_events",
            "group_keys",
            "group_members",
            "group_parts",
            "group_proposals",
            "group_rows",
            "group_serve",
            "inbox",
            "log",
            "outbox",
            "transaction",
            "wants",
        ],
    ),
    (
        "client",
        "group_intentions",
        &["group_changes", "group_members", "group_rows", "group_send", "transaction"],
    ),
    (
        "client",
        "group_proposed",
        &[
            "allowances",
            "events",
            "group_changes",
            "group_intentions",
            "group_proposals",
            "group_rows",
            "inbox",
            "transaction",
        ],
    ),
    (
        "client",
        "group_found",
        &["group_changes", "group_intentions", "group_rows", "group_send", "transaction"],
    ),
    ("client", "group_preview", &["events", "group_events", "group_intentions"]),
    (
        "client",
        "group_envelopes",
        &[
            "events",
            "group_keys",
            "group_members",
            "group_rows",
            "inbox",
            "seen",
            "transaction",
            "wants",
        ],
    ),
    (
        "client",
        "group_receive",
        &[
            "allowances",
            "events",
            "group_changes",
            "group_envelopes",
            "group_keys",
            "group_members",
            "group_owed",
            "group_proposed",
            "group_rows",
            "group_send",
            "group_serve",
            "group_texts",
            "inbox",
            "outbox",
            "transaction",
            "wants",
        ],
    ),
    (
        "client",
        "groups",
        &[
            "events",
            "group_changes",
            "group_events",
            "group_intentions",
            "group_members",
            "group_proposals",
            "group_rows",
            "group_send",
            "outgoing",
            "transaction",
        ],
    ),
    (
        "client",
        "trust",
        &[
            "allowances",
            "aside",
            "calls",
            "ceremonies",
            "devices",
            "doors",
            "events",
            "group_parts",
            "group_rows",
            "group_texts",
            "inbox",
            "log",
            "messages",
            "outbox",
            "telling",
            "tickets",
            "transaction",
            "wants",
        ],
    ),
    ("client", "verify", &["ceremonies", "events", "inbox", "moves", "transaction", "trust"]),
    (
        "client",
        "compare",
        &[
            "admission",
            "allowances",
            "ceremonies",
            "events",
            "inbox",
            "moves",
            "transaction",
            "trust",
        ],
    ),
    (
        "client",
        "silence",
        &["asking", "group_rows", "log", "outbox", "tickets", "timers", "transaction", "wants"],
    ),
    (
        "client",
        "expiry",
        &[
            "asking",
            "calls",
            "compare",
            "devices",
            "group_members",
            "group_owed",
            "group_proposals",
            "group_texts",
            "log",
            "messages",
            "seen",
            "silence",
            "timers",
            "transaction",
            "wants",
        ],
    ),
    (
        "client",
        "delivery",
        &[
            "events",
            "group_texts",
            "heal",
            "inbox",
            "messages",
            "outbox",
            "send",
            "tickets",
            "transaction",
        ],
    ),
    (
        "client",
        "work",
        &[
            "asking",
            "calls",
            "group_owed",
            "group_proposals",
            "heal",
            "moves",
            "outbox",
            "send",
            "transaction",
            "wants",
        ],
    ),
    ("client", "bundles", &["asking", "heal", "outbox", "telling", "transaction", "wants", "work"]),
    (
        "client",
        "upload",
        &[
            "backoff",
            "compare",
            "delivery",
            "events",
            "group_send",
            "inbox",
            "prekeys",
            "send",
            "tickets",
            "transaction",
            "wants",
        ],
    ),
    (
        "client",
        "account",
        &["devices", "linked", "prekeys", "telling", "timers", "transaction", "upload"],
    ),
    (
        "client",
        "history",
        &["admission", "allowances", "events", "inbox", "linked", "offer", "outbox", "transaction"],
    ),
    // Archives.
    ("client", "export", &["doors", "transaction"]),
    ("client", "import", &["devices", "doors", "offer", "rows", "transaction"]),
    ("client", "restore", &["account", "import", "rows", "transaction"]),
    ("client", "opening", &["allowances", "prekeys", "transaction"]),
    (
        "client",
        "take_in",
        &[
            "admission",
            "asking",
            "calls",
            "compare",
            "doors",
            "events",
            "group_changes",
            "group_receive",
            "heal",
            "history",
            "inbox",
            "opening",
            "outbox",
            "prekeys",
            "seen",
            "silence",
            "telling",
            "tickets",
            "transaction",
            "trust",
            "verify",
            "wants",
        ],
    ),
    (
        "client",
        "receive",
        &[
            "allowances",
            "aside",
            "doors",
            "events",
            "group_envelopes",
            "group_rows",
            "heal",
            "inbox",
            "opening",
            "seen",
            "take_in",
            "tickets",
            "timers",
            "transaction",
            "wants",
        ],
    ),
    (
        "client",
        "tasks",
        &[
            "certificates",
            "delivery",
            "doors",
            "events",
            "expiry",
            "group_out",
            "group_outs",
            "group_rows",
            "group_send",
            "group_texts",
            "outbox",
            "receive",
            "tickets",
            "transaction",
            "upload",
            "wants",
            "work",
        ],
    ),
    (
        "client",
        "next_due",
        &[
            "backoff",
            "group_outs",
            "group_rows",
            "group_send",
            "outbox",
            "tasks",
            "timers",
            "transaction",
            "upload",
            "wants",
        ],
    ),
    (
        "client",
        "complete",
        &[
            "account",
            "aside",
            "asking",
            "bundles",
            "certificates",
            "devices",
            "doors",
            "events",
            "group_out",
            "group_owed",
            "group_rows",
            "group_texts",
            "inbox",
            "messages",
            "outbox",
            "send",
            "tasks",
            "transaction",
            "upload",
            "wants",
        ],
    ),
];

/// Doors that hold types of their own, which the files behind them share. The other doors only lead
/// to files.
const SHARED_DOORS: &[&str] = &["lock", "prekey", "session", "store", "directory", "client"];

/// The only files that may give the open transaction methods: its own, and the door, which makes it
/// a scope. A method is called without an import, so any other could hide an arrow.
const OPEN_METHODS: &[&str] = &["client", "client::transaction"];

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
    for (from, to) in
        [("ratchet::sparse", "ratchet::braid"), ("prekey", "identity"), ("session", "padding")]
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
            [.., last] if last == "testing" => true,
            // Unit tests in files of their own, and the files of those.
            _ if is_test(module) => true,
            [room] => ROOMS.contains(&&**room),
            [room, file] => INSIDE.iter().any(|(in_room, name, _)| in_room == room && name == file),
            _ => false,
        };
        assert!(known, "{module:?} has no place in the order");
    }
    let named = ROOMS.iter().map(|room| vec![(*room).to_owned()]);
    let named = named
        .chain(INSIDE.iter().map(|(room, file, _)| vec![(*room).to_owned(), (*file).to_owned()]));
    for module in named {
        assert!(modules.contains(&module), "{module:?} is in the order but not in src");
    }
}

#[test]
fn the_order_has_no_circle() {
    // Each file knows only files that stand before it in the list, so the list is an order.
    for (place, (room, file, known)) in INSIDE.iter().enumerate() {
        for other in *known {
            let before = &INSIDE[..place];
            let stands = before.iter().any(|(in_room, name, _)| in_room == room && name == other);
            assert!(stands, "{room}::{file} knows {other}, which stands after it");
        }
    }
    for (room, known) in ONLY {
        let place = |name: &str| ROOMS.iter().position(|room| *room == name).unwrap();
        assert!(
            known.iter().all(|other| place(other) < place(room)),
            "{room} knows a room above it"
        );
    }
}

#[test]
fn no_arrow_of_the_client_is_left_out_or_made_up() {
    let files = sources();
    let modules = modules(&files);
    for (room, file, known) in INSIDE.iter().filter(|(room, ..)| *room == "client") {
        let module = vec![(*room).to_owned(), (*file).to_owned()];
        let (_, source) = files.iter().find(|(found, _)| *found == module).unwrap();
        let beside =
            imports(&module, source, &modules).into_iter().filter(|import| !import.in_test);
        let beside: BTreeSet<String> = beside
            .filter(|import| import.to[0] == *room)
            .filter_map(|mut import| import.to.pop())
            .collect();
        let known: BTreeSet<String> = known.iter().map(|name| (*name).to_owned()).collect();
        let beside = beside.into_iter().filter(|name| name != room).collect::<BTreeSet<_>>();
        assert_eq!(beside, known, "{room}::{file}");
    }
}

#[test]
fn methods_hide_no_arrow() {
    for (module, source) in sources() {
        assert_eq!(hidden(&module, &source), Vec::<String>::new());
    }
}

#[test]
fn a_method_that_hides_an_arrow_is_found() {
    for (module, source) in [
        ("client::send", "impl Open<'_> { fn write(&mut self) {} }"),
        ("client::send", "impl<'t> super::transaction::Open<'t> { fn write(&mut self) {} }"),
        (
            "client::send",
            "trait Writes { fn w(&mut self); } impl Writes for Open<'_> { fn w(&mut self) {} }",
        ),
        ("client::send", "impl<S: Scope> Client<S> { pub fn write(&mut self) { self.tasks() } }"),
        (
            "client::send",
            "impl<S: Scope> Client<S> { fn a(&mut self) { let b = 1; self.tasks(b) } }",
        ),
        ("client::send", "impl<S: Scope> Client<S> { fn a(&mut self) { Self::tasks(self) } }"),
        ("client::send", "impl<S: Scope> Client<S> { fn a(&mut self) { Client::tasks(self) } }"),
        (
            "client::send",
            "impl<S: Scope> Client<S> { fn a(&mut self) { self.scope.intend(c, w) } }",
        ),
        ("client::send", "impl<S> Client<S> where S: Scope { fn a(&mut self) { self.tasks() } }"),
    ] {
        let module: Module = module.split("::").map(str::to_owned).collect();
        assert!(!hidden(&module, source).is_empty(), "{source}");
    }
}

#[test]
fn a_method_that_hides_none_is_let_in() {
    for (module, source) in [
        ("client::transaction", "impl<'t> Open<'t> { fn get(&mut self) { self.tx.get() } }"),
        ("client", "impl Scope for Open<'_> { fn intend(&mut self) { work(self) } }"),
        (
            "client::send",
            "impl<S: Scope> Client<S> { fn a(&mut self) { self.run(|open| a(open)) } }",
        ),
        ("client::send", "impl<S: Scope> Client<S> { const MOST: usize = Session::MOST - 1; }"),
        (
            "client::rows",
            "impl<'t> Client<Open<'t>> { fn rows(&mut self) { self.scope.app_rows() } }",
        ),
        (
            "client::tasks",
            "impl Tasks { fn add(&mut self) { self.tasks.push(1); self.has_room() } }",
        ),
    ] {
        let module: Module = module.split("::").map(str::to_owned).collect();
        assert_eq!(hidden(&module, source), Vec::<String>::new(), "{source}");
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
        (
            "ratchet::chain",
            "const A: char = '\"'; use crate::session::Session; const B: char = '\"';",
        ),
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
        ("time", "use crate::address::Address;"),
        ("reference", "use crate::content::Content;"),
        ("content", "use crate::envelope::Envelope;"),
        ("directory", "use crate::session::Session;"),
        ("directory::upload", "use super::held::Held;"),
        ("devices", "use crate::time::UnixTime;"),
        ("link", "use crate::directory::Upload;"),
        ("at_rest", "use crate::codec::Reader;"),
        ("sesame::device_record", "use super::UserRecord;"),
        ("sesame::device_record", "use crate::store::Table;"),
        ("client::outbox", "use super::send;"),
        ("client::outbox", "fn post() { super::heal::answer() }"),
        ("client::log", "use super::{outbox, timers};"),
        ("client::devices", "use super::work;"),
        ("client::heal", "fn go_on() { crate::client::work::go_on() }"),
        ("client::inbox", "use super::trust::Trust;"),
        ("client::timers", "use super::log::{self, TextKey};"),
    ] {
        let found = planted(module, source);
        assert!(found.iter().any(|import| judge(import).is_err()), "{module}: {source}: {found:?}");
    }
}

#[test]
fn an_import_that_points_down_is_let_in() {
    for (module, source) in [
        ("ratchet::double", "use super::chain::{self, KeptKeys};\nuse crate::error::Error;"),
        (
            "ratchet::double",
            "// use crate::session::Session;\n/// [`crate::session`]\nuse super::chain;",
        ),
        ("ratchet::double", "const URL: &str = \"// crate::session in a text\"; use super::chain;"),
        (
            "ratchet::chain",
            "#[cfg(test)]\nmod tests {\n    use super::*;\n    use crate::testing::array;\n}",
        ),
        ("ratchet::chain", "mod inner { use super::{Secret, codec}; }\nuse crate::codec;"),
        ("prekey", "mod bundle;\npub use bundle::Bundle;"),
        ("prekey::published", "use super::bundle::Bundle;\nuse super::Keys;"),
        ("session", "use crate::pqxdh; use crate::padding; use alloc::vec::Vec;"),
        ("directory::held", "use super::summary::Summary; use super::{Refusal, upload};"),
        (
            "sesame",
            "use crate::time::UnixTime; mod device_record; pub(crate) use device_record::short;",
        ),
        (
            "client::heal",
            "use super::telling; use super::{Client, Scope}; use crate::sesame::Asked;",
        ),
        ("client::tasks", "use super::{receive, work}; use crate::content::MessageId;"),
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

/// Methods of the client that call what no import shows: of the open transaction outside its own
/// file, and intentions that call other intentions.
fn hidden(module: &Module, source: &str) -> Vec<String> {
    if module.first().is_none_or(|room| room != "client") {
        return Vec::new();
    }
    let name = module.join("::");
    let tokens = tokens(source);
    let mut found = Vec::new();
    for (at, _) in tokens.iter().enumerate().filter(|(_, token)| *token == "impl") {
        let head: Vec<&str> =
            tokens[at..].iter().map(|token| &**token).take_while(|token| *token != "{").collect();
        // `impl FnOnce(..)` in a signature is no block.
        if at > 0 && !matches!(&*tokens[at - 1], "}" | ";" | "]") {
            continue;
        }
        let subject = head
            .iter()
            .position(|token| *token == "for")
            .map_or_else(|| after_generics(&head), |at| at + 1);
        let path =
            head[subject..].iter().copied().take_while(|token| *token == "::" || is_word(token));
        let subject = path.last().unwrap_or_default();
        if subject == "Open" && !OPEN_METHODS.contains(&&*name) {
            found.push(format!("{name}: {}", head.join(" ")));
        }
        if subject == "Client" && head.contains(&"Scope") {
            let body = body(&tokens[at + head.len()..]);
            found.extend(calls(body).into_iter().map(|call| format!("{name}: {call}")));
        }
    }
    found
}

/// Where the subject of a block without a trait begins: after `impl<..>`.
fn after_generics(head: &[&str]) -> usize {
    if head.get(1) != Some(&"<") {
        return 1;
    }
    let mut depth = 0;
    for (at, token) in head.iter().enumerate().skip(1) {
        match *token {
            "<" => depth += 1,
            ">" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    panic!("generics without an end: {head:?}")
}

/// From the brace that opens to the one that closes it.
fn body(tokens: &[String]) -> &[String] {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match &**token {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &tokens[..at];
        }
    }
    panic!("a block without an end")
}

/// The methods that an intention calls on the client, but for the one that does an intention.
fn calls(body: &[String]) -> Vec<String> {
    let mut calls = Vec::new();
    for (at, token) in body.iter().enumerate() {
        if !matches!(&**token, "self" | "Self" | "Client") {
            continue;
        }
        let path: Vec<&str> = body[at + 1..]
            .iter()
            .map(|token| &**token)
            .take_while(|token| matches!(*token, "." | "::") || is_word(token))
            .collect();
        let is_call = body.get(at + 1 + path.len()).is_some_and(|next| next == "(");
        if is_call && path.len() > 1 && path != [".", "run"] {
            calls.push(format!("{token}{}", path.concat()));
        }
    }
    calls
}

fn judge(import: &Import) -> Result<(), String> {
    let Import { from, to, in_test } = import;
    let of_tests = |module: &[String]| module.iter().position(|part| part == "tests");
    let from = &from[..of_tests(from).unwrap_or(from.len())];
    let to = &to[..of_tests(to).filter(|_| *in_test).unwrap_or(to.len())];
    let allowed = match (from, to) {
        _ if from == to => true,
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
            let mut inside =
                INSIDE.iter().filter(|(in_room, name, _)| in_room == room && name == file);
            inside.any(|(_, _, known)| known.contains(&&**other))
        }
    };
    if allowed { Ok(()) } else { Err(format!("{} -> {}", from.join("::"), to.join("::"))) }
}

/// Whether it is a module of unit tests, or inside one.
fn is_test(module: &[String]) -> bool {
    module.iter().any(|part| part == "tests")
}

/// All files of src, by module. The front door is the empty path.
fn sources() -> Vec<(Module, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
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

/// The imports of a file from other files. Unit tests in a file of their own are part of the file
/// they test.
fn imports(module: &Module, source: &str, modules: &BTreeSet<Module>) -> Vec<Import> {
    let tests = Scope { name: None, test: is_test(module) };
    let mut walk = Walk {
        tokens: tokens(source),
        at: 0,
        module,
        modules,
        scopes: vec![tests],
        found: Vec::new(),
    };
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
                "{" => {
                    self.scopes.push(Scope { name: name.take(), test: std::mem::take(&mut test) })
                }
                "}" => drop(self.scopes.pop()),
                ";" => (test, name) = (false, None),
                "use" if self.token(1).is_some_and(|first| self.is_child(first)) => {
                    self.at += 1;
                    self.path(self.current(), test);
                    continue;
                }
                "crate" | "super" | "self"
                    if self.token(1) == Some("::") && self.before() != Some("::") =>
                {
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
        self.module
            .iter()
            .cloned()
            .chain(self.scopes.iter().filter_map(|scope| scope.name.clone()))
            .collect()
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
            let goes_on =
                self.token(1).is_some_and(|next| next == "{" || next == "*" || is_word(next));
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

/// Words, `::` and single signs. Comments are left out, and texts, unless they are paths (serde's
/// `with`).
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
