//! How to build an app on this crate, a page for each question.
//!
//! | page | for |
//! | --- | --- |
//! | [`threads`] | where to call the client from: threads, async runtimes, debug builds |
//! | [`server`] | what the server does, and the loop that talks to it |
//! | [`database`] | keeping the client's rows in your own database |
//! | [`files`] | files, pictures and voice notes in messages |
//! | [`people`] | what to show people, and when |
//! | [`verification`] | comparing keys: codes, emoji, numbers; whose code runs |
//! | [`groups`] | groups: who is in, who may read, what to show |
//! | `calls` | audio and video calls (feature `calls`) |
//! | [`backups`] | backups, restoring, moving to another device |
//! | [`clocks`] | what a wrong clock does |
//! | [`no_std`] | without the standard library |
//!
//! The code on these pages is tested.

#[doc = include_str!("guide/threads.md")]
pub mod threads {}

#[doc = include_str!("guide/server.md")]
pub mod server {}

#[doc = include_str!("guide/database.md")]
pub mod database {}

#[doc = include_str!("guide/files.md")]
pub mod files {}

#[doc = include_str!("guide/people.md")]
pub mod people {}

#[doc = include_str!("guide/verification.md")]
pub mod verification {}

#[doc = include_str!("guide/groups.md")]
pub mod groups {}

#[cfg(feature = "calls")]
#[doc = include_str!("guide/calls.md")]
pub mod calls {}

#[doc = include_str!("guide/backups.md")]
pub mod backups {}

#[doc = include_str!("guide/clocks.md")]
pub mod clocks {}

#[doc = include_str!("guide/no_std.md")]
pub mod no_std {}
