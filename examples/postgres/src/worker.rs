//! A worker: receives the mail of its share of the peers, and answers it.

use std::slice;

use subrosa::{
    Action, Address, Answer, Client, Error, Item, Open, Outgoing, Received, SystemRng, UnixTime,
};

use crate::account::Account;
use crate::database::Transport;
use crate::peers::{ACCOUNT, answer_to};
use crate::{Mode, Result, files};

/// Mail that a worker takes at a time.
const BATCH: i64 = 64;

/// Tasks and messages in one transaction.
const MANY: usize = 100;

/// An envelope that waits to be received.
struct Mail {
    id: i64,
    from: Address,
    envelope: Vec<u8>,
}

/// Works until there is no mail of its share.
pub(crate) async fn work(url: &str, number: i32, workers: i32, mode: Mode) -> Result<()> {
    let mut account = Account::open(url, ACCOUNT, mode != Mode::Cold).await?;
    loop {
        let batch = mail(&account, number, workers).await?;
        if batch.is_empty() {
            break;
        }
        for mail in &batch {
            match mode {
                Mode::Together => together(&mut account, mail).await?,
                Mode::Apart | Mode::Cold => apart(&mut account, mail).await?,
                Mode::Groups => in_a_group(&mut account, mail).await?,
            }
        }
    }
    let insert = "insert into costs values ($1, $2, $3)";
    for (operation, counts) in &account.costs {
        for (what, count) in counts {
            account.database.connection().execute(insert, &[operation, what, count]).await?;
        }
    }
    Ok(())
}

async fn mail(account: &Account, number: i32, workers: i32) -> Result<Vec<Mail>> {
    let next = "select id, sender, envelope from mail where share % $1 = $2 order by id limit $3";
    let rows = account.database.connection().query(next, &[&workers, &number, &BATCH]).await?;
    let mail = |row: &tokio_postgres::Row| {
        let (id, sender, envelope) =
            (row.try_get(0)?, row.try_get::<_, String>(1)?, row.try_get(2)?);
        Ok(Mail { id, from: Address::new(&sender, 1), envelope })
    };
    rows.iter().map(mail).collect()
}

/// A message in one transaction: it is received, the app has it, it is answered, and the answer is
/// with the transport.
async fn together(account: &mut Account, mail: &Mail) -> Result<()> {
    let now = UnixTime::now()?;
    let done = account.act("exchange", |client, transport| {
        let rng = &mut SystemRng;
        transport.received = Some(mail.id);
        let received = client.receive(Some(&mail.from), &mail.envelope, now, rng)?;
        let Received::Incoming(incoming) = &received else { return Ok(Some(received)) };
        let Item::Text(text) = &incoming.item else { return Ok(Some(received)) };
        client.rows().put(incoming.id.as_bytes(), &text.text)?;
        client.acknowledge(incoming.id)?;
        client.write(&mail.from.user, &answer_to(&text.text), now, rng)?;
        send(client, transport, now)?;
        Ok(None)
    });
    match done.await? {
        None => Ok(()),
        Some(received) => Err(format!("{} sent: {received:?}", mail.from).into()),
    }
}

/// The same, each step in a transaction of its own.
async fn apart(account: &mut Account, mail: &Mail) -> Result<()> {
    let now = UnixTime::now()?;
    let received = account.act("receive", |client, transport| {
        transport.received = Some(mail.id);
        client.receive(Some(&mail.from), &mail.envelope, now, &mut SystemRng)
    });
    if !matches!(received.await?, Received::Incoming(_)) {
        return Err("it is no text".into());
    }
    account.look_again();
    for incoming in account.act("inbox", |client, _| client.inbox(MANY)).await? {
        let Item::Text(text) = incoming.item else { return Err("an event".into()) };
        let (id, from) = (incoming.id, &text.from.user);
        account
            .act("acknowledge", |client, _| {
                client.rows().put(id.as_bytes(), &text.text)?;
                client.acknowledge(id)
            })
            .await?;
        let answer = answer_to(&text.text);
        account.act("write", |client, _| client.write(from, &answer, now, &mut SystemRng)).await?;
    }
    account.look_again();
    for task in account.act("tasks", |client, _| client.tasks(MANY, now, &mut SystemRng)).await? {
        let Action::Send { to, envelope, .. } = task.action else {
            return Err("no envelope".into());
        };
        account
            .act("complete", |client, transport| {
                transport.sent.push((to.user.clone(), envelope.clone()));
                client.complete(&task.id, Answer::Done, now, &mut SystemRng)
            })
            .await?;
    }
    Ok(())
}

/// A message to a group, with a file: it is received, its file is fetched, and both are answered
/// once the blob of the answer is there.
async fn in_a_group(account: &mut Account, mail: &Mail) -> Result<()> {
    let now = UnixTime::now()?;
    let received = account.act("receive", |client, transport| {
        transport.received = Some(mail.id);
        let received = client.receive(Some(&mail.from), &mail.envelope, now, &mut SystemRng)?;
        send(client, transport, now)?;
        Ok(received)
    });
    let (id, group, text) = match received.await? {
        Received::Incoming(incoming) => match incoming.item {
            Item::Group(text) => (incoming.id, text.group, text.text),
            item => return Err(format!("{} sent {item:?}", mail.from).into()),
        },
        // What opens the texts that come.
        Received::Handled => return Ok(()),
        received => return Err(format!("{} sent: {received:?}", mail.from).into()),
    };
    files::get(account.database.connection(), &text).await?;
    let answer = answer_to(&text.text);
    let (file, _) = files::put(account.database.connection(), &answer).await?;
    let answered = account.act("answer", |client, transport| {
        client.acknowledge(id)?;
        let message = Outgoing::new(&answer).files(slice::from_ref(&file));
        client.write_to_group(group, message, now, &mut SystemRng)?;
        send(client, transport, now)
    });
    answered.await
}

/// Gives the transport what there is to send. Both happen in one transaction, or neither.
fn send(
    client: &mut Client<Open<'_>>,
    transport: &mut Transport,
    now: UnixTime,
) -> Result<(), Error> {
    loop {
        let tasks = client.tasks(MANY, now, &mut SystemRng)?;
        let mut is_done = true;
        for task in tasks {
            // Anything else needs the network first: another worker's, that asks for tasks alone.
            if let Action::Send { to, envelope, .. } = task.action {
                transport.sent.push((to.user, envelope));
                client.complete(&task.id, Answer::Done, now, &mut SystemRng)?;
                is_done = false;
            }
        }
        if is_done {
            return Ok(());
        }
    }
}
