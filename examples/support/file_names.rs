//! Names under which files of other people are saved.

/// A name that stays in the folder it is saved in, whatever it was: the last part of a path, of
/// letters and digits of any script, and a few marks. It begins with no dot, and is no device.
pub(crate) fn safe_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let is_plain = |letter: char| letter.is_alphanumeric() || " ._-()".contains(letter);
    let plain: String = last
        .chars()
        .take(MAX_LETTERS)
        .map(|letter| if is_plain(letter) { letter } else { '_' })
        .collect();
    let plain = plain.trim_start_matches([' ', '.']).trim_end_matches([' ', '.']);
    let stem = plain.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let numbered = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    let is_device = matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL")
        || numbered.is_some_and(|number| number.chars().count() == 1);
    match plain {
        "" => "file".into(),
        _ if is_device => format!("_{plain}"),
        _ => plain.to_owned(),
    }
}

/// Of a name that is saved: at most four bytes each, where a file system takes 255.
const MAX_LETTERS: usize = 60;

/// The same name with a number before its ending: `rose-2.jpg`.
pub(crate) fn numbered(name: &str, number: u32) -> String {
    match name.rsplit_once('.') {
        Some((stem, ending)) => format!("{stem}-{number}.{ending}"),
        None => format!("{name}-{number}"),
    }
}
