//! The frames of a call, in the worker that has the media: keys come from the page, whose client
//! this worker does not have. It knows no session, no account key and no text.

use std::collections::BTreeMap;
use std::fmt;

use subrosa::Error;
use subrosa::call::{ExportedKey, Openers, Sealer, Stream};
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};
use zeroize::Zeroizing;

/// The keys of one call.
#[wasm_bindgen]
#[derive(Default)]
pub struct Media {
    /// One of each stream, the newest.
    sealers: BTreeMap<u8, Sealer>,
    /// Of each device, as the page names it.
    openers: BTreeMap<String, Openers>,
}

#[wasm_bindgen]
impl Media {
    /// No frame goes out or comes in yet.
    #[wasm_bindgen(constructor)]
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the keys that this device seals with from now on: `ExportedKey`s, one after the
    /// other. Each may come once.
    ///
    /// # Errors
    /// They are none.
    #[wasm_bindgen(js_name = setSealers)]
    pub fn set_sealers(&mut self, keys: Vec<u8>) -> Result<(), JsValue> {
        for key in read(keys)? {
            self.sealers.insert(key.stream.number(), Sealer::from(key));
        }
        Ok(())
    }

    /// Takes all keys of another device.
    ///
    /// # Errors
    /// They are none.
    #[wasm_bindgen(js_name = setOpeners)]
    pub fn set_openers(&mut self, from: String, keys: Vec<u8>) -> Result<(), JsValue> {
        let keys = read(keys)?;
        self.openers.entry(from).or_default().set(&keys);
        Ok(())
    }

    /// A sealed frame; none where there is no key: then nothing goes out.
    #[must_use]
    pub fn seal(&mut self, stream: u8, mut frame: Vec<u8>) -> Option<Vec<u8>> {
        let clear = clear(stream, &frame);
        let sealer = self.sealers.get_mut(&stream)?;
        sealer.seal(clear, &mut frame).ok()?;
        Some(frame)
    }

    /// A frame of a device that opened: of this stream, and for the first time.
    ///
    /// # Errors
    /// Its name as a text: `WaitingForKey` is for the page. The frame is not to be played.
    pub fn open(&mut self, from: &str, stream: u8, mut frame: Vec<u8>) -> Result<Vec<u8>, JsValue> {
        let clear = clear(stream, &frame);
        let openers = self.openers.get_mut(from);
        let opened = openers.map_or(Err(Error::WaitingForKey), |keys| keys.open(clear, &mut frame));
        match opened {
            Ok(of) if of.number() == stream => Ok(frame),
            // A picture that comes as sound.
            Ok(_) => Err(name(&Error::Malformed)),
            Err(error) => Err(name(&error)),
        }
    }
}

/// Shows how many keys there are.
impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Media({} sealers, {} devices)", self.sealers.len(), self.openers.len())
    }
}

/// How many bytes stay in the clear. The browser cuts a frame of VP8 into packets, and says whether
/// it is a key frame, by its first bytes (RFC 6386, 9.1): 10 of a key frame, 3 of another. Of sound
/// it reads nothing.
fn clear(stream: u8, frame: &[u8]) -> usize {
    let Some(first) = frame.first().filter(|_| stream == Stream::Video.number()) else { return 0 };
    let clear = if first & 1 == 0 { 10 } else { 3 };
    clear.min(frame.len())
}

fn read(keys: Vec<u8>) -> Result<Vec<ExportedKey>, JsValue> {
    let keys = Zeroizing::new(keys);
    let keys = keys.chunks(ExportedKey::LENGTH).map(ExportedKey::from_bytes);
    keys.collect::<Result<_, _>>().map_err(|error| name(&error))
}

fn name(error: &Error) -> JsValue {
    JsValue::from_str(&format!("{error:?}"))
}
