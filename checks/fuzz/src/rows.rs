//! A store whose rows somebody changed.

use subrosa::store::{Memory, Table};
use subrosa::{Address, Client, Error, NewDevice};

use crate::household::{Cell, contents, store_of, try_open};
use crate::input::{Input, changed};
use crate::network::{NOW, Seeded};

thread_local! {
    pub(crate) static ROWS: (Vec<Cell>, Vec<(Address, Vec<u8>)>) = {
        let (mut store, mail) = crate::receive::phone_in_use();
        (contents(&mut store), mail)
    };
}

/// Some rows are replaced, changed, exchanged or gone: whatever is done then does not panic, and what fails changes nothing.
pub fn rows(data: &[u8]) {
    ROWS.with(|(rows, mail)| {
        let mut input = Input::new(data);
        let mut rows = rows.clone();
        for _ in 0..4 {
            let Some(choice) = input.byte() else { break };
            let at = input.below(rows.len());
            match choice % 5 {
                0 => rows[at].2 = input.run().to_vec(),
                1 | 2 => rows[at].2 = changed(&rows[at].2, &mut input),
                3 => {
                    let other = input.below(rows.len());
                    let value = rows[other].2.clone();
                    rows[other].2 = std::mem::replace(&mut rows[at].2, value);
                }
                _ => drop(rows.swap_remove(at)),
            }
        }
        use_all(store_of(&rows), mail);
    });
}

/// An operation on a client.
type Step<'a> = Box<dyn Fn(&mut Client<&mut Memory>, &mut Seeded) -> Result<(), Error> + 'a>;

fn use_all(mut store: Memory, mail: &[(Address, Vec<u8>)]) {
    let rng = &mut Seeded::new(1, "rows");
    let device = NewDevice::generate(rng);
    let code = device.code();
    let mut steps: Vec<Step<'_>> = vec![
        Box::new(|client, _| {
            client.inbox(100)?.into_iter().try_for_each(|incoming| client.done(incoming.id))
        }),
        Box::new(|client, _| {
            client.outbox(100)?.into_iter().try_for_each(|outgoing| client.sent(outgoing.id))
        }),
        Box::new(|client, rng| {
            let needed = client.needed(100)?;
            needed.iter().try_for_each(|needed| client.supply(needed, None, NOW, rng))
        }),
        Box::new(|client, rng| client.encrypt("bob", b"to myself", NOW, rng).map(drop)),
        Box::new(|client, rng| client.encrypt("alice", b"to alice", NOW, rng).map(drop)),
        Box::new(|client, rng| client.encrypt_to_reachable("carol", b"to carol", NOW, rng).map(drop)),
        Box::new(|client, rng| match client.upload(0, NOW, rng)? {
            Some(upload) => client.uploaded(&upload),
            None => Ok(()),
        }),
        Box::new(|client, rng| client.link(&code, true, NOW, rng).map(drop)),
        Box::new(|client, rng| client.remove_device(2, NOW, rng)),
    ];
    for user in ["alice", "bob", "carol", "dave"] {
        steps.push(Box::new(move |client, _| {
            client.sessions(user, NOW)?;
            client.devices(user)?;
            let Some(safety) = client.safety(user)? else { return Ok(()) };
            client.verify(user, &safety.account)?;
            safety.changed_to.map_or(Ok(()), |key| client.accept(user, &key))
        }));
        steps.push(Box::new(move |client, _| client.reset(&Address::new(user, 1))));
    }
    for (from, envelope) in mail {
        steps.push(Box::new(|client, rng| client.receive(from, envelope, NOW, rng).map(drop)));
    }
    steps.push(Box::new(|client, _| client.forget("alice")));
    // First what is received, at last what is forgotten, since little is left to do after that.
    steps.rotate_right(mail.len() + 1);
    steps.rotate_left(1);
    let mut before = contents(&mut store);
    for step in steps {
        one(&mut store, &mut before, &step, rng);
    }
    let generation = try_open(store.clone()).and_then(|mut client| client.generation()).unwrap_or(0);
    let restored = Client::open_after(&mut store, generation.saturating_add(1), NOW, rng);
    if let Ok((mut client, is_older)) = restored {
        assert_eq!(is_older, generation != u64::MAX);
        let _: Result<_, _> = client.upload(0, NOW, rng);
    }
}

/// Opens the store again and does one thing: an error of an operation of one transaction changes nothing; those of several may have done some.
fn one(store: &mut Memory, before: &mut Vec<Cell>, step: &Step<'_>, rng: &mut Seeded) {
    let (mut is_error, mut is_changed) = (true, false);
    if let Ok(mut client) = try_open(&mut *store) {
        let generation = client.generation();
        is_error = step(&mut client, rng).is_err();
        is_changed = client.generation() != generation;
    }
    let after = contents(store);
    assert!(!is_error || is_changed || after == *before, "an error changed the store");
    // The app's own rows are nobody else's.
    let apps = |rows: &[Cell]| rows.iter().filter(|row| row.0 == Table::App).cloned().collect::<Vec<_>>();
    assert_eq!(apps(before), apps(&after));
    *before = after;
}
