//! A store whose rows somebody changed.

use subrosa::store::{Memory, Table};
use subrosa::{Action, Address, Answer, Client, Error, NewDevice, Open, Role};

use crate::household::{BEGIN, Cell, contents, store_of, try_open};
use crate::input::{Input, changed};
use crate::network::Seeded;

thread_local! {
    pub(crate) static ROWS: (Vec<Cell>, Vec<(Address, Vec<u8>)>) = {
        let (mut store, mail) = crate::receive::phone_in_use();
        (contents(&mut store), mail)
    };
}

/// Some rows are replaced, changed, exchanged or gone: what is done then does not panic, and what
/// fails changes nothing.
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

/// What a client does, all in one transaction.
type Step<'a> = Box<dyn Fn(&mut Client<Open<'_>>, &mut Seeded) -> Result<(), Error> + 'a>;

fn use_all(mut store: Memory, mail: &[(Address, Vec<u8>)]) {
    let rng = &mut Seeded::new(1, "rows");
    let device = NewDevice::generate(rng);
    let code = device.code();
    let mut steps: Vec<Step<'_>> = Vec::new();
    for (from, envelope) in mail {
        steps.push(Box::new(|client, rng| {
            client.receive(Some(from), envelope, BEGIN, rng).map(drop)
        }));
    }
    steps.extend::<[Step<'_>; 10]>([
        Box::new(|client, _| {
            client.inbox(100)?.into_iter().try_for_each(|incoming| client.acknowledge(incoming.id))
        }),
        Box::new(|client, rng| tasks(client, Answer::Missing, rng)),
        Box::new(|client, rng| client.encrypt("bob", b"to myself", BEGIN, rng).map(drop)),
        Box::new(|client, rng| client.encrypt("alice", b"to alice", BEGIN, rng).map(drop)),
        Box::new(|client, rng| {
            let message = client.write("carol", b"to carol", BEGIN, rng)?;
            client.progress(message)?;
            client.withdraw(message).map(drop)
        }),
        Box::new(|client, rng| tasks(client, Answer::Failed, rng)),
        Box::new(|client, rng| client.link(&code, Role::Manager, BEGIN, rng).map(drop)),
        Box::new(|client, rng| client.remove_device(2, BEGIN, rng)),
        Box::new(|client, rng| tasks(client, Answer::Done, rng)),
        Box::new(|client, _| client.apply_policy(BEGIN.after(30 * 24 * 60 * 60))),
    ]);
    for user in ["alice", "bob", "carol", "dave"] {
        steps.push(Box::new(move |client, rng| {
            client.sessions(user)?;
            client.devices(user)?;
            client.held(user, 100)?;
            let Some(trust) = client.trust(user)? else { return Ok(()) };
            match trust.new_account {
                Some(key) => client.accept_new_key(user, &key, BEGIN, rng),
                None => client.verify(user, &trust.account, BEGIN, rng),
            }
        }));
        steps.push(Box::new(move |client, _| client.reset(&Address::new(user, 1))));
    }
    // Little is left to do after that.
    steps.push(Box::new(|client, _| client.forget("alice")));
    let mut before = contents(&mut store);
    for step in steps {
        one(&mut store, &mut before, &step, rng);
    }
}

/// Asks for tasks as after a start, and answers all of them alike.
fn tasks(client: &mut Client<Open<'_>>, answer: Answer<'_>, rng: &mut Seeded) -> Result<(), Error> {
    client.connected()?;
    for _ in 0..4 {
        for task in client.tasks(100, BEGIN, rng)? {
            let answer = if task.action == Action::FetchSummary { Answer::Missing } else { answer };
            client.complete(&task.id, answer, BEGIN, rng)?;
        }
    }
    Ok(())
}

/// Opens the store again and does one thing: an error changes nothing.
fn one(store: &mut Memory, before: &mut Vec<Cell>, step: &Step<'_>, rng: &mut Seeded) {
    let opened = try_open(&mut *store);
    let is_error =
        opened.and_then(|mut client| client.transact(|client| step(client, rng))).is_err();
    let after = contents(store);
    assert!(!is_error || after == *before, "an error changed the store");
    // The app's own rows are nobody else's.
    let apps =
        |rows: &[Cell]| rows.iter().filter(|row| row.0 == Table::App).cloned().collect::<Vec<_>>();
    assert_eq!(apps(before), apps(&after));
    *before = after;
}
