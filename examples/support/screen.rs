//! The screen: lines above, and below them a prompt with what is being typed.
//!
//! Nothing that another person wrote can look like something else. Their text stands on a line that
//! begins with the time and their name; letters that would move the cursor, begin a line or turn
//! the direction of writing are shown as escapes; and a line that is too long for the terminal is
//! broken here, so that each of its rows has a beginning that no text can bring.

use std::io::{self, IsTerminal, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use crate::names::is_name;

/// A text as it may be shown: on one line, and in the order in which it was written.
pub(crate) fn visible(text: &[u8]) -> String {
    let mut shown = String::new();
    for letter in String::from_utf8_lossy(text).chars() {
        match letter {
            _ if letter.is_control() || is_invisible(letter) => {
                shown.extend(letter.escape_unicode())
            }
            _ => shown.push(letter),
        }
    }
    shown
}

/// A name as it may be shown. Anybody can write sealed mail under a name that nobody could
/// register, with anything in it.
pub(crate) fn name(user: &str) -> &str {
    if is_name(user) { user } else { "(a bad name)" }
}

/// Marks that order text, break lines, or take no room; but not joiners, which scripts and emoji
/// need.
const fn is_invisible(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// Something that was typed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    Line(String),
    End,
}

#[derive(Clone)]
pub(crate) struct Screen {
    shared: Arc<Mutex<State>>,
    /// Columns, where this is a terminal that gives each key at once.
    width: Option<usize>,
}

#[derive(Default)]
struct State {
    prompt: String,
    typed: String,
    /// The number of the message that is shown last, and its rows.
    last: Option<(u64, usize)>,
}

/// The beginning of a row that goes on with a text.
const GOES_ON: &str = "      | ";

impl Screen {
    /// Where both ends are a terminal with `stty`, keys come one by one until [`Screen::close`].
    pub(crate) fn open() -> Self {
        let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        let width = if is_terminal { columns() } else { None };
        let width = width.filter(|_| stty(&["-icanon", "-echo", "-isig"]).is_some());
        Self { shared: Arc::default(), width }
    }

    pub(crate) fn close(&self) {
        if self.width.is_some() {
            print!("\r\x1b[K");
            stty(&["icanon", "echo", "isig"]);
        }
    }

    pub(crate) const fn gives_keys(&self) -> bool {
        self.width.is_some()
    }

    /// Says something, on lines of its own.
    pub(crate) fn say(&self, lines: &str) {
        self.print(lines, None);
    }

    /// Shows a text after its head.
    pub(crate) fn text(&self, head: &str, text: &str) {
        self.print(&self.rows(head, text), None);
    }

    /// As [`Screen::text`], of a message that was written here. Where it is still the last one
    /// shown, it is shown in its place.
    pub(crate) fn message(&self, number: u64, head: &str, text: &str) {
        self.print(&self.rows(head, text), Some(number));
    }

    pub(crate) fn set_prompt(&self, prompt: &str) {
        let mut state = self.lock();
        prompt.clone_into(&mut state.prompt);
        self.draw(&state);
    }

    /// Takes a key.
    pub(crate) fn key(&self, key: char) -> Option<Typed> {
        let mut state = self.lock();
        let typed = match key {
            '\r' | '\n' => Some(Typed::Line(std::mem::take(&mut state.typed))),
            '\u{3}' => Some(Typed::End),
            '\u{4}' if state.typed.is_empty() => Some(Typed::End),
            '\u{8}' | '\u{7f}' => {
                state.typed.pop();
                None
            }
            '\u{15}' => {
                state.typed.clear();
                None
            }
            _ => {
                state.typed.extend(Some(key).filter(|key| !key.is_control()));
                None
            }
        };
        self.draw(&state);
        typed
    }

    fn rows(&self, head: &str, text: &str) -> String {
        let (mut rows, mut column) = (head.to_owned(), columns_of(head));
        for letter in text.chars() {
            let columns = columns_of(letter.encode_utf8(&mut [0; 4]));
            if self.width.is_some_and(|width| column.saturating_add(columns) > width) {
                rows.push('\n');
                rows.push_str(GOES_ON);
                column = GOES_ON.len();
            }
            rows.push(letter);
            column = column.saturating_add(columns);
        }
        rows
    }

    fn print(&self, lines: &str, number: Option<u64>) {
        let mut state = self.lock();
        let mut out = io::stdout().lock();
        if self.width.is_some() {
            match state.last {
                Some((last, rows)) if Some(last) == number => {
                    write!(out, "\r\x1b[{rows}A\x1b[J").ok()
                }
                _ => write!(out, "\r\x1b[K").ok(),
            };
        }
        writeln!(out, "{lines}").ok();
        drop(out);
        state.last = number.map(|number| (number, lines.lines().count()));
        self.draw(&state);
    }

    /// The prompt, and as much of the end of what is being typed as fits into its row.
    fn draw(&self, state: &State) {
        let Some(width) = self.width else { return };
        let typed = visible(state.typed.as_bytes());
        let room = width.saturating_sub(state.prompt.len()).saturating_sub(3);
        let fits =
            |(at, _): &(usize, char)| columns_of(typed.get(*at..).unwrap_or_default()) <= room;
        let start =
            typed.char_indices().rev().take_while(fits).last().map_or(typed.len(), |(at, _)| at);
        let typed = typed.get(start..).unwrap_or_default();
        let mut out = io::stdout().lock();
        write!(out, "\r\x1b[K{}> {typed}", state.prompt).ok();
        out.flush().ok();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// At most: what is not ASCII may be twice as wide.
fn columns_of(text: &str) -> usize {
    text.chars().map(|letter| if letter.is_ascii() { 1 } else { 2 }).sum()
}

/// Of the terminal, where there is one that is not absurdly narrow.
fn columns() -> Option<usize> {
    let size = stty(&["size"])?;
    size.split_whitespace().nth(1)?.parse().ok().filter(|columns| *columns >= 40)
}

/// What `stty` says of the terminal, or makes of it.
pub(crate) fn stty(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("stty");
    let output =
        command.args(arguments).stdin(Stdio::inherit()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
