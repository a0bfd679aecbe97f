//! Vectors that the crate makes itself: a file of answers, and a file for each fault in `reject/`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::replay::vectors;

/// A fault: the name of its file, and what is in it.
pub(crate) type Fault = (String, Value);

/// The files are what the formulas make, and `reject/` has no other file whose name begins so.
pub(crate) fn check(file: &str, answers: &Value, faults: &[Fault], prefixes: &[&str]) {
    assert_eq!(vectors(file), *answers);
    for (name, case) in faults {
        assert_eq!(vectors(&format!("reject/{name}")), *case, "{name}");
    }
    let names = fs::read_dir(folder().join("reject")).unwrap();
    let names = names.map(|file| file.unwrap().file_name().into_string().unwrap());
    let ours = |name: &String| prefixes.iter().any(|prefix| name.starts_with(prefix));
    assert_eq!(names.filter(ours).count(), faults.len());
}

/// Writes the files anew.
pub(crate) fn write(file: &str, answers: &Value, faults: &[Fault]) {
    let write = |name: &str, value: &Value| {
        let text = serde_json::to_string_pretty(value).unwrap().replace("  ", " ");
        fs::write(folder().join(name), text + "\n").unwrap();
    };
    write(file, answers);
    faults.iter().for_each(|(name, case)| write(&format!("reject/{name}"), case));
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}
