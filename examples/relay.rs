//! A server for `chat`: it keeps device lists, prekeys, mailboxes, and grants for new devices. It sees ciphertext alone.
//!
//! ```text
//! cargo run --release --example relay -- [ADDRESS] [--data FOLDER] [--forget NAME]
//! ```
//!
//! What it keeps survives a restart; `--forget` frees a name, whose owner has lost every device. The protocol is in
//! `support/wire.rs`, what is kept in `support/desk.rs`.
//!
//! It believes whoever connects the name that they give. That costs nobody a secret, but somebody may take mail away and use up
//! prekeys: a real server has its users log in, speaks TLS, and limits how many bundles it hands to whom.

use std::error::Error;
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{env, io};

use subrosa::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::block_in_place;
use tokio::time::{sleep, timeout};

#[path = "support/desk.rs"]
mod desk;
#[path = "support/wire.rs"]
mod wire;

use desk::Desk;
use wire::{MAX_SILENCE, Request, Response};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const MAX_CONNECTIONS: usize = 256;

#[tokio::main]
async fn main() -> Result<()> {
    let (mut address, mut folder, mut forget) =
        ("127.0.0.1:7001".to_owned(), PathBuf::from("relay-data"), None);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--data" => folder = arguments.next().ok_or("--data FOLDER")?.into(),
            "--forget" => forget = Some(arguments.next().ok_or("--forget NAME")?),
            _ => address = argument,
        }
    }
    let desk = Desk::open(&folder)?;
    if let Some(user) = forget {
        desk.forget(&user)?;
    }
    let relay = Arc::new(Relay { desk, posted: watch::Sender::new(()) });
    let listener = TcpListener::bind(address).await?;
    println!("relay: listening on {}", listener.local_addr()?);
    let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let seat = Arc::clone(&seats).acquire_owned().await?;
        let Ok((socket, _)) = listener.accept().await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let relay = Arc::clone(&relay);
        tokio::spawn(async move {
            if let Err(error) = relay.serve(socket).await {
                eprintln!("relay: a connection ended: {error}");
            }
            drop(seat);
        });
    }
}

struct Relay {
    desk: Desk,
    /// Says that there is new mail, for whomever.
    posted: watch::Sender<()>,
}

impl Relay {
    /// Requests and mail at the same time, until one of them fails.
    async fn serve(&self, socket: TcpStream) -> Result<()> {
        let (mut reader, writer) = socket.into_split();
        let writer = Mutex::new(writer);
        let Some(first) = read(&mut reader).await? else { return Ok(()) };
        let from = match first {
            Request::Hello(from) => {
                write(&writer, &wire::encode(&Response::Done)?).await?;
                Some(from)
            }
            other => {
                let response = block_in_place(|| self.desk.answer(None, other))?;
                write(&writer, &wire::encode(&response)?).await?;
                None
            }
        };
        let requests = async {
            while let Some(request) = read(&mut reader).await? {
                let is_mail = matches!(request, Request::Send { .. });
                let response = block_in_place(|| self.desk.answer(from.as_ref(), request))?;
                if is_mail {
                    self.posted.send_replace(());
                }
                write(&writer, &wire::encode(&response)?).await?;
            }
            Ok(())
        };
        tokio::select! {
            ended = requests => ended,
            ended = self.push(from.as_ref(), &writer) => ended,
        }
    }

    /// Hands out the mail of a device, what is there and what comes.
    async fn push(&self, to: Option<&Address>, writer: &Mutex<OwnedWriteHalf>) -> Result<()> {
        let Some(to) = to else { return pending().await };
        let (mut posted, mut next) = (self.posted.subscribe(), 0);
        loop {
            posted.borrow_and_update();
            while let Some((number, frame)) = block_in_place(|| self.desk.mail(to, next))? {
                write(writer, &frame).await?;
                next = number.saturating_add(1);
            }
            posted.changed().await?;
        }
    }
}

/// None at the end of the connection.
async fn read(reader: &mut OwnedReadHalf) -> Result<Option<Request>> {
    let whole = async {
        let mut head = [0; 4];
        match reader.read_exact(&mut head).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        };
        let mut value = vec![0; wire::length(head).ok_or("a frame is too long")?];
        reader.read_exact(&mut value).await?;
        Ok(Some(wire::decode(&value)?))
    };
    timeout(Duration::from_secs(MAX_SILENCE), whole).await?
}

/// Who does not read is disconnected.
async fn write(writer: &Mutex<OwnedWriteHalf>, frame: &[u8]) -> Result<()> {
    let whole = async { writer.lock().await.write_all(frame).await };
    Ok(timeout(Duration::from_secs(MAX_SILENCE), whole).await??)
}
