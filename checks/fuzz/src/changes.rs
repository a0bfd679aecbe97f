//! Changes of a group: what a server, a member and somebody who was one can hand to a roster.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::{Signer, SigningKey};
use serde_json::Value;
use subrosa::group::{Change, GroupMember, MemberId, Roster};

use crate::input::Input;

/// A history with admins against each other, and who can sign.
struct History {
    roster: Roster,
    accounts: BTreeMap<Vec<u8>, SigningKey>,
    /// Who made these changes, and who is in.
    authors: Vec<(MemberId, Vec<u8>)>,
    changes: Vec<Change>,
}

thread_local! {
    static HISTORY: History = History::new();
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("hexadecimal");
    data_encoding::HEXLOWER.decode(text.as_bytes()).expect("hexadecimal")
}

impl History {
    fn new() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/group-roster.json");
        let text = std::fs::read_to_string(path).expect("it is there");
        let all: Value = serde_json::from_str(&text).expect("JSON");
        let accounts = all["accounts"].as_array().expect("a list").iter().map(|account| {
            let seed: [u8; 32] = bytes(&account["seed"]).try_into().expect("32 bytes");
            (bytes(&account["account"]), SigningKey::from_bytes(&seed))
        });
        let cases = all["cases"].as_array().expect("a list").iter();
        let longest = cases.max_by_key(|case| case["changes"].as_array().map_or(0, Vec::len));
        let longest = longest.expect("there is one")["changes"].as_array().expect("a list");
        let read =
            |change: &Value| Change::decode(&bytes(&change["bytes"])).expect("it is genuine");
        let roster = Roster::from_changes(longest.iter().map(read)).expect("it is whole");
        let changes: Vec<Change> = roster.changes().cloned().collect();
        let ids = changes.iter().map(Change::author);
        let ids: BTreeSet<MemberId> =
            ids.chain(roster.members().iter().map(|member| member.id)).collect();
        let account = |id: MemberId| {
            let (_, account) = roster.was_given_for(id).expect("it was added");
            (id, account.encode().to_vec())
        };
        let authors = ids.into_iter().map(account).collect();
        Self { roster, accounts: accounts.collect(), authors, changes }
    }

    /// A change that somebody signs who is, or was, a member, on whatever it likes, with any ops.
    fn signed(&self, input: &mut Input<'_>) -> Vec<u8> {
        let (author, account) = &self.authors[input.below(self.authors.len())];
        let mut parents: Vec<&Change> = (0..1 + input.small() % 3)
            .map(|_| &self.changes[input.below(self.changes.len())])
            .collect();
        parents.sort_by_key(|parent| parent.id());
        parents.dedup_by_key(|parent| parent.id());
        let height = parents.iter().map(|parent| parent.height()).max().unwrap_or(0) + 1;
        let mut change = [&[1][..], self.roster.group().as_bytes(), &height.to_be_bytes()].concat();
        change.push(u8::try_from(parents.len()).unwrap_or(0));
        parents.iter().for_each(|parent| change.extend_from_slice(parent.id().as_bytes()));
        change.extend_from_slice(author.as_bytes());
        change.extend_from_slice(&[0; 32]);
        let ops = input.small() % 4;
        change.push(u8::try_from(ops).unwrap_or(0));
        for _ in 0..ops {
            let (of, account) = &self.authors[input.below(self.authors.len())];
            let kind = input.byte().unwrap_or(1);
            change.push(kind % 7);
            match kind % 7 {
                0 => {
                    change.extend_from_slice(&[1, b'a' + kind % 26]);
                    change.extend_from_slice(account);
                    change.push(kind / 128);
                }
                1..=3 => change.extend_from_slice(of.as_bytes()),
                4 => change.extend_from_slice(&[0, 1, kind]),
                _ => change.extend_from_slice(input.run()),
            }
        }
        let signed = [b"Subrosa v1 group change", &change[..]].concat();
        let key = self.accounts.get(account).expect("it is known");
        change.extend_from_slice(&key.sign(&signed).to_bytes());
        change
    }
}

/// After a first byte that is even a change as it comes, and else some that former and present
/// members sign. What decodes encodes to the same bytes; a roster takes it or is as it was, and has
/// one outcome, in whatever order it learns of the changes.
pub fn group_change(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    HISTORY.with(|history| {
        let mut roster = history.roster.clone();
        let mut input = Input::new(rest);
        let all: Vec<Vec<u8>> = if first % 2 == 0 {
            vec![rest.to_vec()]
        } else {
            (0..1 + first / 2 % 4).map(|_| history.signed(&mut input)).collect()
        };
        for bytes in &all {
            let Ok(change) = Change::decode(bytes) else { continue };
            assert_eq!(change.encode(), &bytes[..]);
            let before: Vec<GroupMember> = roster.members().to_vec();
            let known = roster.changes().count();
            let accepted = roster.merge([change]).accepted;
            if accepted.is_empty() {
                assert_eq!(roster.members(), before);
            }
            assert_eq!(roster.changes().count(), known + accepted.len());
        }
        let mut backwards: Vec<Change> = roster.changes().cloned().collect();
        backwards.reverse();
        let other = Roster::from_changes(backwards).expect("it is whole");
        assert_eq!((other.members(), other.heads()), (roster.members(), roster.heads()));
        assert_eq!(other.settings(), roster.settings());
        let stored = Roster::decode(&roster.encode()).expect("what was stored loads");
        assert_eq!(stored.members(), roster.members());
    });
}
