//! How people make sure that nobody is in between: a number, emoji, or a code on one screen that
//! the other one scans. What the page shows of them is `subrosa::guide::verification`'s.

use qrcode::{Color, EcLevel, QrCode};
use subrosa::{Error, IdentityKey, Rows, SasStage, SasValue, SystemRng};
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};

use crate::failure::{Failure, Result};
use crate::{Device, now};

/// The number of this user and another one.
#[wasm_bindgen(getter_with_clone)]
#[derive(Debug)]
pub struct Number {
    /// Sixty digits, in three lines of four groups.
    pub lines: Vec<String>,
    account: IdentityKey,
}

/// How far people are.
#[wasm_bindgen(getter_with_clone)]
#[derive(Debug)]
pub struct Comparison {
    /// `Started`, `Asked`, `Answered`, `Compare` or `Confirmed`; empty where there is none.
    pub stage: String,
    /// What is to be compared: seven pictures,
    pub emoji: Vec<String>,
    /// with their names,
    pub names: Vec<String>,
    /// or three numbers.
    pub numbers: Vec<u16>,
    /// Whether the code that this screen shows was scanned: the person is to look at the other one.
    pub scanned: bool,
    value: Option<SasValue>,
}

/// A code to scan from this screen.
#[wasm_bindgen(getter_with_clone)]
#[derive(Debug)]
pub struct Code {
    /// Its letters.
    pub text: String,
    /// How many modules a side of the picture has.
    pub width: usize,
    /// The modules, row by row: 1 is dark.
    pub modules: Vec<u8>,
}

/// Here while somebody says that they scanned the code of this screen: behind it, the user's name.
const SCANNED: &[u8] = b"scanned";

#[wasm_bindgen]
impl Device {
    /// What people compare from afar.
    ///
    /// # Errors
    /// As [`Device::open`]: a new key of one of the two waits for a person.
    #[wasm_bindgen(js_name = safetyNumber)]
    pub async fn safety_number(&self, user: &str) -> Result<Number, JsValue> {
        let number = self.rows.act(|client| client.safety_number(user)).await?;
        let groups = number.groups().map(|group| format!("{group:05}"));
        let lines = groups.chunks(4).map(|line| line.join(" ")).collect();
        Ok(Number { lines, account: number.account() })
    }

    /// It is the same on both screens.
    ///
    /// # Errors
    /// As [`Device::open`]: the key is another by now.
    #[wasm_bindgen(js_name = verifyNumber)]
    pub async fn verify_number(&self, user: &str, shown: &Number) -> Result<(), JsValue> {
        let key = shown.account;
        Ok(self.rows.act(|client| client.verify(user, &key, now()?, &mut SystemRng)).await?)
    }

    /// Takes back that people compared.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub async fn unverify(&self, user: &str) -> Result<(), JsValue> {
        Ok(self.rows.act(|client| client.unverify(user, now()?, &mut SystemRng)).await?)
    }

    /// How far people are with a comparison.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub async fn comparison(&self, user: &str) -> Result<Comparison, JsValue> {
        let comparison = self.rows.act(|client| {
            let stage = match client.sas(user, now()?) {
                Ok(stage) => stage,
                // Nothing is compared while a new key waits, or before the first message.
                Err(Error::IdentityChanged(_) | Error::DevicesNeeded(_)) => None,
                Err(error) => return Err(error),
            };
            let scanned = client.rows().get(&scanned(user))?.is_some();
            Ok(Comparison::new(stage, scanned))
        });
        Ok(comparison.await?)
    }

    /// Begins to compare emoji.
    ///
    /// # Errors
    /// As [`Device::open`]: there were too many.
    #[wasm_bindgen(js_name = startSas)]
    pub async fn start_sas(&self, user: &str) -> Result<(), JsValue> {
        Ok(self.rows.act(|client| client.start_sas(user, now()?, &mut SystemRng)).await?)
    }

    /// The person wants to compare as well.
    ///
    /// # Errors
    /// As [`Device::open`]: nobody asks any more.
    #[wasm_bindgen(js_name = acceptSas)]
    pub async fn accept_sas(&self, user: &str) -> Result<(), JsValue> {
        Ok(self.rows.act(|client| client.accept_sas(user, now()?, &mut SystemRng)).await?)
    }

    /// What this shows is the same on both screens.
    ///
    /// # Errors
    /// As [`Device::open`]: it is too late.
    #[wasm_bindgen(js_name = confirmSas)]
    pub async fn confirm_sas(&self, user: &str, shown: &Comparison) -> Result<(), JsValue> {
        let value = shown.value.as_ref().ok_or(Failure::Client(Error::OutOfTurn))?;
        Ok(self.rows.act(|client| client.confirm_sas(user, value, now()?, &mut SystemRng)).await?)
    }

    /// It differs.
    ///
    /// # Errors
    /// As [`Device::open`].
    #[wasm_bindgen(js_name = rejectSas)]
    pub async fn reject_sas(&self, user: &str) -> Result<(), JsValue> {
        Ok(self.rows.act(|client| client.reject_sas(user, now()?, &mut SystemRng)).await?)
    }

    /// The person does not want to, or stops.
    ///
    /// # Errors
    /// As [`Device::open`].
    #[wasm_bindgen(js_name = cancelSas)]
    pub async fn cancel_sas(&self, user: &str) -> Result<(), JsValue> {
        Ok(self.rows.act(|client| client.cancel_sas(user, now()?, &mut SystemRng)).await?)
    }

    /// A code for this user to scan from this screen, once.
    ///
    /// # Errors
    /// As [`Device::open`].
    #[wasm_bindgen(js_name = showCode)]
    pub async fn show_code(&self, user: &str) -> Result<Code, JsValue> {
        let shown = self.rows.act(|client| {
            client.rows().delete(&scanned(user))?;
            client.show_code(user, now()?, &mut SystemRng)
        });
        let text = shown.await?;
        let drawn = QrCode::with_error_correction_level(text.as_bytes(), EcLevel::M);
        let drawn = drawn.map_err(|_| Failure::Client(Error::TooLong))?;
        let modules = drawn.to_colors().into_iter().map(|module| u8::from(module == Color::Dark));
        Ok(Code { text: text.to_string(), width: drawn.width(), modules: modules.collect() })
    }

    /// The code is not on the screen any more, or the other one shows nothing.
    ///
    /// # Errors
    /// As [`Device::open`].
    #[wasm_bindgen(js_name = hideCode)]
    pub async fn hide_code(&self, user: &str) -> Result<(), JsValue> {
        let hidden = self.rows.act(|client| {
            client.rows().delete(&scanned(user))?;
            client.hide_code(user)
        });
        Ok(hidden.await?)
    }

    /// What was scanned from the other screen: `Match`, `OtherPerson`, `Mismatch` or
    /// `OtherVersion`.
    ///
    /// # Errors
    /// As [`Device::open`]: it is no such code.
    pub async fn scan(&self, user: &str, text: &str) -> Result<String, JsValue> {
        let scanned = self.rows.act(|client| client.scan(user, text, now()?, &mut SystemRng));
        Ok(format!("{:?}", scanned.await?))
    }

    /// The person sees that the other screen shows success.
    ///
    /// # Errors
    /// As [`Device::open`]: that was too long ago.
    #[wasm_bindgen(js_name = confirmScan)]
    pub async fn confirm_scan(&self, user: &str) -> Result<(), JsValue> {
        let confirmed = self.rows.act(|client| {
            client.rows().delete(&scanned(user))?;
            client.confirm_scan(user, now()?, &mut SystemRng)
        });
        Ok(confirmed.await?)
    }
}

impl Comparison {
    fn new(stage: Option<SasStage>, scanned: bool) -> Self {
        let value = match &stage {
            Some(SasStage::Compare(value)) => Some(*value),
            _ => None,
        };
        let (mut emoji, mut names, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(value) = &value {
            for one in value.emoji() {
                emoji.push(one.symbol().to_string());
                names.push(one.name().to_string());
            }
            numbers = value.numbers().to_vec();
        }
        let stage = match stage {
            None => "",
            Some(SasStage::Started) => "Started",
            Some(SasStage::Asked) => "Asked",
            Some(SasStage::Answered) => "Answered",
            Some(SasStage::Compare(_)) => "Compare",
            Some(_) => "Confirmed",
        };
        Self { stage: stage.into(), emoji, names, numbers, scanned, value }
    }
}

/// Somebody says that they scanned the code of this screen.
pub(crate) fn was_scanned(rows: &mut Rows<'_>, user: &str) -> Result<(), Error> {
    rows.put(&scanned(user), b"")
}

fn scanned(user: &str) -> Vec<u8> {
    [SCANNED, user.as_bytes()].concat()
}
