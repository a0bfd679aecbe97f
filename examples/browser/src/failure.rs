//! What can go wrong, as a JavaScript `Error`: its message for a person, its `remedy` for the app.

use js_sys::Reflect;
use subrosa::Error;
use wasm_bindgen::prelude::JsValue;

#[derive(Debug)]
pub(crate) enum Failure {
    Client(Error),
    /// IndexedDB's.
    Browser(JsValue),
    /// Something that a person can put right, as it says.
    Person(String),
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
        let error = match failure {
            Failure::Client(error) => error,
            Failure::Browser(error) => return error,
            Failure::Person(why) => return js_sys::Error::new(&why).into(),
        };
        let remedy = format!("{:?}", error.remedy());
        let error = js_sys::Error::new(&error.to_string());
        // An object of our own takes any property.
        Reflect::set(&error, &"remedy".into(), &remedy.into()).expect("it is an object");
        error.into()
    }
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;
