//! An account's rows in IndexedDB, which answers later: each operation is run over what was read,
//! and committed if that is still there. So any number of tabs share an account.

use js_sys::{Array, Uint8Array};
use subrosa::store::{Changes, Missing, Overlay, Ran, Row, Transaction};
use subrosa::{Client, Error, Open, Policy};
use wasm_bindgen::prelude::{JsCast, JsValue, wasm_bindgen};

use crate::failure::Result;

#[wasm_bindgen(module = "/rows.js")]
extern "C" {
    #[wasm_bindgen(catch)]
    async fn open(name: &str) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(catch)]
    async fn read(database: &JsValue, queries: &Array) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(catch)]
    async fn commit(
        database: &JsValue,
        relied_on: &Array,
        writes: &Array,
    ) -> Result<JsValue, JsValue>;
}

/// A database of the browser.
pub(crate) struct Rows {
    database: JsValue,
    policy: Policy,
}

impl Rows {
    pub(crate) async fn open(name: &str) -> Result<Self> {
        Ok(Self { database: open(name).await?, policy: Policy::default() })
    }

    /// Does one or more intentions of a client, all in one transaction. `work` may run many times,
    /// and what it says is right only when this returns.
    pub(crate) async fn act<T>(
        &self,
        mut work: impl FnMut(&mut Client<Open<'_>>) -> Result<T, Error>,
    ) -> Result<T> {
        self.transact(|tx| Client::within(tx, &self.policy, &mut work)).await
    }

    /// The same, over the bare rows.
    pub(crate) async fn transact<T>(
        &self,
        mut work: impl FnMut(&mut dyn Transaction) -> Result<T, Error>,
    ) -> Result<T> {
        loop {
            let mut overlay = Overlay::new();
            let (done, changes) = loop {
                match overlay.run(&mut work) {
                    Ran::Done(done, changes) => break (done, changes),
                    Ran::Missing(missing) => {
                        let rows = self.read(&missing).await?;
                        overlay.supply_all(missing.into_iter().zip(rows));
                    }
                }
            };
            // An error, too, is right only where what it rests on is still there.
            if self.commit(&changes).await? {
                return Ok(done?);
            }
        }
    }

    /// Many rows and scans at once.
    async fn read(&self, missing: &[Missing]) -> Result<Vec<Vec<Row>>> {
        let found = Array::from(&read(&self.database, &missing.iter().map(query).collect()).await?);
        let rows = |rows: JsValue| {
            let rows = Array::from(&rows);
            rows.iter()
                .map(|row| pair(&row))
                .map(|(key, value)| (bytes(&key), bytes(&value).into()))
                .collect()
        };
        Ok(found.iter().map(rows).collect())
    }

    async fn commit(&self, changes: &Changes) -> Result<bool> {
        let relied_on = changes.relied_on().iter().map(|(missing, rows)| {
            let rows: Array =
                rows.iter().map(|(key, value)| Array::of2(&array(key), &array(value))).collect();
            Array::of2(&query(missing), &rows)
        });
        let writes = changes.writes().iter().map(|change| {
            let value =
                change.value.as_deref().map_or(JsValue::UNDEFINED, |value| array(value).into());
            Array::of3(&change.table.name().into(), &array(&change.key), &value)
        });
        let committed = commit(&self.database, &relied_on.collect(), &writes.collect()).await?;
        Ok(committed.is_truthy())
    }
}

fn query(missing: &Missing) -> Array {
    let query = Array::of2(&missing.table().name().into(), &array(missing.key()));
    if !matches!(missing, Missing::Row { .. }) {
        query.push(&u32::try_from(missing.most()).unwrap_or(u32::MAX).into());
    }
    query
}

/// A copy of its own: what points into the wasm's memory would change with it.
fn array(bytes: &[u8]) -> Uint8Array {
    Uint8Array::from(bytes)
}

fn pair(row: &JsValue) -> (JsValue, JsValue) {
    let row: &Array = row.unchecked_ref();
    (row.get(0), row.get(1))
}

fn bytes(value: &JsValue) -> Vec<u8> {
    Uint8Array::new(value).to_vec()
}
