//! Calls: signals go through the client, and a [`Part`] is what this device does in one call. It
//! has no frames: those are sealed in a worker, which gets the keys of the call and nothing else
//! (`media/`).

use std::fmt;

use js_sys::{Date, Uint8Array};
use subrosa::call::{Call, ExportedKey, Stream, Suite, Taken};
use subrosa::{Address, CallId, Error, Members, ReceivedSignal, Signal, SignalKind, SystemRng};
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};

use crate::failure::{Failure, Result};
use crate::{Device, now};

/// A device of somebody.
#[wasm_bindgen(getter_with_clone)]
#[derive(Clone, Debug)]
pub struct Place {
    /// Whose.
    pub user: String,
    /// Its number.
    pub device: u32,
}

/// A signal that came, in a session that proves whose it is.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Heard(ReceivedSignal);

/// A signal to send.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Post {
    to: Vec<Address>,
    signal: Signal,
}

/// The devices that may be in a call.
#[wasm_bindgen]
#[derive(Debug)]
pub struct People(Members);

/// What this device does in one call. It is nowhere stored: a page that is loaded again begins
/// another one.
#[wasm_bindgen]
pub struct Part {
    call: Call,
    /// The clock of the page: it does not jump.
    clock: Clock,
}

/// Milliseconds since the Unix epoch, as they were at the beginning, and counted from there.
struct Clock {
    begun: f64,
    at: f64,
}

#[wasm_bindgen]
impl Heard {
    /// The device that sent it.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn from(&self) -> Place {
        place(self.0.from())
    }

    /// The call, in hexadecimal.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn call(&self) -> String {
        self.0.call().to_string()
    }

    /// `Offer`, `Answer`, `Candidates`, `Hangup`, `Busy`, or what a [`Part`] takes.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn kind(&self) -> String {
        format!("{:?}", self.0.kind())
    }

    /// What it says: any text at all.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.0.body()).into_owned()
    }
}

#[wasm_bindgen]
impl Device {
    /// This device.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn place(&self) -> Place {
        place(&self.me)
    }

    /// The signals that came. They are gone from the store then: one tab does this.
    ///
    /// # Errors
    /// As [`Device::open`].
    #[wasm_bindgen(js_name = takeSignals)]
    pub async fn take_signals(&self) -> Result<Vec<Heard>, JsValue> {
        let heard = self.rows.act(|client| client.take_signals(100, now()?)).await?;
        Ok(heard.into_iter().map(Heard).collect())
    }

    /// Sends signals, with the next [`Device::send`].
    ///
    /// # Errors
    /// As [`Device::open`].
    pub async fn post(&self, posts: Vec<Post>) -> Result<(), JsValue> {
        let posted = self.rows.act(|client| {
            for Post { to, signal } in &posts {
                // Where a device is not listed any more, nobody waits for it.
                client.signal(to, signal, now()?, &mut SystemRng)?;
            }
            Ok(())
        });
        Ok(posted.await?)
    }

    /// The devices that may be in a call of these users and this one, as their lists are known.
    ///
    /// # Errors
    /// As [`Device::open`].
    #[wasm_bindgen(js_name = callMembers)]
    pub async fn call_members(&self, users: Vec<String>) -> Result<People, JsValue> {
        let members = self.rows.act(|client| {
            let users: Vec<&str> = users.iter().map(String::as_str).collect();
            client.call_members(&users)
        });
        Ok(members.await.map(People)?)
    }

    /// Somebody who is called for the first time.
    ///
    /// # Errors
    /// As [`Device::open`]: nobody is registered by that name.
    #[wasm_bindgen(js_name = meet)]
    pub async fn meet_them(&self, user: &str) -> Result<(), JsValue> {
        Ok(self.meet(user).await?)
    }
}

#[wasm_bindgen]
impl Post {
    /// A signal of the page to one device: `Offer`, `Answer`, `Candidates`, `Hangup` or `Busy`.
    ///
    /// # Errors
    /// It is none.
    pub fn to(call: &str, kind: &str, text: &str, to: &Place) -> Result<Self, JsValue> {
        Ok(Self { to: vec![address(to)], signal: signal(call, kind, text)? })
    }

    /// The same, to every device of these people but those that are in the call.
    ///
    /// # Errors
    /// It is none.
    #[wasm_bindgen(js_name = toAll)]
    pub fn to_all(
        call: &str,
        kind: &str,
        text: &str,
        people: &People,
        part: &Part,
    ) -> Result<Self, JsValue> {
        let is_in = |device: &Address| {
            device == part.me() || part.call.present().any(|present| present == device)
        };
        let all = people.0.devices().map(|(device, _)| device);
        let to = all.filter(|device| !is_in(device)).cloned().collect();
        Ok(Self { to, signal: signal(call, kind, text)? })
    }
}

#[wasm_bindgen]
impl Part {
    /// Takes part in a call, or begins one. Nobody is told before [`Part::set_people`] and
    /// [`Part::tick`].
    ///
    /// # Errors
    /// That is no call.
    #[wasm_bindgen(constructor)]
    pub fn new(device: &Device, call: Option<String>, clock: f64) -> Result<Self, JsValue> {
        let id = match call {
            Some(call) => call_id(&call)?,
            None => CallId::random(&mut SystemRng),
        };
        let clock = Clock { begun: Date::now(), at: clock };
        let now = clock.at(clock.at);
        let call = Call::new(id, &device.me, Suite::default(), now, &mut SystemRng);
        Ok(Self { call, clock })
    }

    /// The call's name, in hexadecimal.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn id(&self) -> String {
        self.call.id().to_string()
    }

    /// Which beginning of this device's part it is.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn instance(&self) -> String {
        self.call.instance().to_string()
    }

    /// The same of another device; nothing where it is not in the call.
    #[wasm_bindgen(js_name = instanceOf)]
    #[must_use]
    pub fn instance_of(&self, of: &Place) -> Option<String> {
        self.call.instance_of(&address(of)).map(|instance| instance.to_string())
    }

    /// Takes who may be in the call.
    #[wasm_bindgen(js_name = setPeople)]
    pub fn set_people(&mut self, people: &People, clock: f64) {
        self.call.set_members(&people.0, self.clock.at(clock), &mut SystemRng);
    }

    /// Takes a signal: `Handled`, `ForApp`, `OtherCall`, or `Refused`.
    pub fn take(&mut self, heard: &Heard, clock: f64) -> String {
        match self.call.take(&heard.0, self.clock.at(clock)) {
            Ok(Taken::Handled) => "Handled".into(),
            Ok(Taken::ForApp) => "ForApp".into(),
            Ok(_) => "OtherCall".into(),
            Err(_) => "Refused".into(),
        }
    }

    /// What is to be sent now.
    pub fn tick(&mut self, clock: f64) -> Vec<Post> {
        let outgoing = self.call.tick(self.clock.at(clock), &mut SystemRng).into_iter();
        outgoing.map(|outgoing| Post { to: outgoing.to, signal: outgoing.signal }).collect()
    }

    /// In how many milliseconds there is something to do, if nothing comes before.
    #[wasm_bindgen(js_name = nextIn)]
    #[must_use]
    pub fn next_in(&self, clock: f64) -> Option<f64> {
        let wait = self.call.next_at()?.saturating_sub(self.clock.at(clock));
        u32::try_from(wait).ok().map(f64::from)
    }

    /// The other devices that are in the call.
    #[must_use]
    pub fn present(&self) -> Vec<Place> {
        self.call.present().map(place).collect()
    }

    /// Whether a device's frames can be opened.
    #[wasm_bindgen(js_name = hasKey)]
    #[must_use]
    pub fn has_key(&self, of: &Place) -> bool {
        self.call.has_key(&address(of))
    }

    /// The keys of this device's sound and picture, for the worker that seals: those that it was
    /// not given yet. Secret.
    #[wasm_bindgen(js_name = sealingKeys)]
    pub fn sealing_keys(&mut self, clock: f64) -> Uint8Array {
        let now = self.clock.at(clock);
        let streams = [Stream::Audio, Stream::Video].into_iter();
        let keys: Vec<_> =
            streams.filter_map(|stream| self.call.export_sender(stream, now)).collect();
        written(&keys)
    }

    /// All keys that open a device's frames now, for the worker that opens. Secret.
    #[wasm_bindgen(js_name = openingKeys)]
    #[must_use]
    pub fn opening_keys(&self, of: &Place) -> Uint8Array {
        written(&self.call.export(&address(of)))
    }

    /// The worker has no key for a frame of a device.
    pub fn missed(&mut self, of: &Place, clock: f64) {
        // Of a device that may not be in the call any more there is nothing to ask for.
        drop(self.call.missed(&address(of), self.clock.at(clock)));
    }

    /// Leaves: what is to be sent.
    #[must_use]
    pub fn leave(self) -> Vec<Post> {
        let outgoing = self.call.leave().into_iter();
        outgoing.map(|outgoing| Post { to: outgoing.to, signal: outgoing.signal }).collect()
    }

    fn me(&self) -> &Address {
        self.call.address()
    }
}

/// Shows which call it is.
impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part({:?})", self.call)
    }
}

impl Clock {
    /// `clock` is `performance.now()`.
    fn at(&self, clock: f64) -> u64 {
        let since =
            std::time::Duration::try_from_secs_f64((self.begun + clock - self.at) / 1_000.0);
        since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

fn place(of: &Address) -> Place {
    Place { user: of.user.to_string(), device: of.device }
}

fn address(of: &Place) -> Address {
    Address::new(&of.user, of.device)
}

fn signal(call: &str, kind: &str, text: &str) -> Result<Signal> {
    let kind = match kind {
        "Offer" => SignalKind::Offer,
        "Answer" => SignalKind::Answer,
        "Candidates" => SignalKind::Candidates,
        "Hangup" => SignalKind::Hangup,
        "Busy" => SignalKind::Busy,
        _ => return Err(Error::Malformed.into()),
    };
    Ok(Signal::new(call_id(call)?, kind, text.as_bytes())?)
}

fn call_id(call: &str) -> Result<CallId> {
    let mut id = [0; 16];
    let mut digits = call.as_bytes().chunks(2);
    for byte in &mut id {
        let pair = digits.next().and_then(|pair| std::str::from_utf8(pair).ok());
        let read = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        *byte = read.ok_or(Failure::Client(Error::Malformed))?;
    }
    Ok(CallId::new(id))
}

/// In the memory of JavaScript, which the page gives away to its worker at once.
fn written(keys: &[ExportedKey]) -> Uint8Array {
    let length = keys.len().saturating_mul(ExportedKey::LENGTH);
    let bytes = Uint8Array::new_with_length(u32::try_from(length).unwrap_or(0));
    for (at, key) in (0_u32..).zip(keys) {
        let key = key.to_bytes();
        let start = at.saturating_mul(u32::try_from(key.len()).unwrap_or(0));
        bytes.set(&Uint8Array::from(&key[..]), start);
    }
    bytes
}
