//! What can go wrong, as a JavaScript `Error`: its message for a person, its `remedy` for the app.

use js_sys::Reflect;
use subrosa::{Error, Remedy};
use wasm_bindgen::prelude::JsValue;

#[derive(Debug)]
pub(crate) enum Failure {
    Client(Error),
    /// IndexedDB's.
    Browser(JsValue),
    /// By the server.
    Refused(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl From<JsValue> for Failure {
    fn from(error: JsValue) -> Self {
        Self::Browser(error)
    }
}

impl From<Failure> for JsValue {
    fn from(failure: Failure) -> Self {
        let (text, remedy) = match failure {
            Failure::Client(error) => (error.to_string(), format!("{:?}", error.remedy())),
            Failure::Browser(error) => return error,
            Failure::Refused(why) => (why.to_owned(), "FixCall".to_owned()),
        };
        let error = js_sys::Error::new(&text);
        // An object of our own takes any property.
        Reflect::set(&error, &"remedy".into(), &remedy.into()).expect("it is an object");
        error.into()
    }
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// What nobody but the owner of the store can help, or of the device. Any other error is about what somebody said.
pub(crate) fn is_fatal(error: &Error) -> bool {
    matches!(error.remedy(), Remedy::Retry | Remedy::RestoreState) || *error == Error::Unlinked
}

/// Whether what the server gave was of use. Where it was not, that is the server's doing, and nothing changed.
pub(crate) fn taken(result: Result<()>) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(Failure::Client(error)) if !is_fatal(&error) => Ok(false),
        Err(failure) => Err(failure),
    }
}
