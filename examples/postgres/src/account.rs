//! Operations of an account over rows that are elsewhere: what an app would take from here.

use std::collections::BTreeMap;

use subrosa::store::{Changes, Missing, Overlay, Ran, Table};
use subrosa::{Client, Error, Open, Policy};

use crate::Result;
use crate::database::{Committed, Database, Transport};

/// An account, as one worker sees it.
pub(crate) struct Account {
    pub(crate) database: Database,
    /// What was read, and what became of it: the next operation finds it here. Another worker may
    /// have changed it, which the commit notices.
    overlay: Overlay,
    /// Whether the overlay is kept from one operation to the next.
    learns: bool,
    pub(crate) costs: Costs,
    operations: u32,
}

/// What operations cost, by their names.
pub(crate) type Costs = BTreeMap<&'static str, BTreeMap<String, i64>>;

/// After so many operations, what will hardly be asked for again is forgotten.
const OPERATIONS: u32 = 256;

impl Account {
    pub(crate) async fn open(url: &str, name: &str, learns: bool) -> Result<Self> {
        let (database, overlay) = (Database::open(url, name).await?, Overlay::new());
        Ok(Self { database, overlay, learns, costs: Costs::new(), operations: 0 })
    }

    /// What there is to do is looked for anew.
    pub(crate) fn look_again(&mut self) {
        self.overlay.retain(|what| !matches!(what, Missing::Peek { .. }));
    }

    /// Does an operation, and repeats it where another worker came between. `work` may run several
    /// times, and what it returns counts only for the last time.
    pub(crate) async fn act<T>(
        &mut self,
        name: &'static str,
        mut work: impl FnMut(&mut Client<Open<'_>>, &mut Transport) -> Result<T, Error>,
    ) -> Result<T> {
        let mut guesses = self.learns;
        loop {
            let mut transport = Transport::default();
            let (done, changes) = self.run(name, &mut work, &mut transport, guesses).await?;
            if done.is_err() && guesses {
                // Perhaps for what was kept: it is read anew.
                (self.overlay, guesses) = (Overlay::new(), false);
                continue;
            }
            let is_idle = changes.writes().is_empty() && transport.received.is_none();
            let committed = match is_idle {
                true => Committed::Done,
                false => self.database.commit(&changes, &transport).await?,
            };
            match committed {
                Committed::Done => {
                    self.count(name, "done", 1);
                    self.count(name, "rows written", changes.writes().len());
                    self.settle(&changes);
                    return Ok(done?);
                }
                Committed::Changed(table) => {
                    self.count(name, &format!("conflicts ({table})"), 1);
                    self.overlay.refused(&changes);
                    guesses = false;
                }
                // The rows that were read may still be what is there: the next commit compares
                // them.
                Committed::Collided => self.count(name, "conflicts (refused by the database)", 1),
            }
        }
    }

    async fn run<T>(
        &mut self,
        name: &'static str,
        work: &mut impl FnMut(&mut Client<Open<'_>>, &mut Transport) -> Result<T, Error>,
        transport: &mut Transport,
        guesses: bool,
    ) -> Result<(Result<T, Error>, Changes)> {
        let policy = Policy::default();
        loop {
            *transport = Transport::default();
            let ran = self
                .overlay
                .run(|rows| Client::within(rows, &policy, |client| work(client, transport)));
            self.count(name, "runs", 1);
            match ran {
                Ran::Done(done, changes) => return Ok((done, changes)),
                // Hardly a message comes twice: that these rows are not there is compared by the
                // commit, as everything is, and read where that refuses.
                Ran::Missing(missing) if guesses && missing.iter().all(is_for_repetitions) => {
                    self.overlay.supply_all(missing.into_iter().map(|row| (row, Vec::new())));
                }
                Ran::Missing(missing) => {
                    self.count(name, "queries", 1);
                    let read = self.database.read(missing).await?;
                    self.count(name, "rows read", read.iter().map(|(_, rows)| rows.len()).sum());
                    self.overlay.supply_all(read);
                }
            }
        }
    }

    fn settle(&mut self, changes: &Changes) {
        if !self.learns {
            self.overlay = Overlay::new();
            return;
        }
        self.overlay.committed(changes);
        self.operations = self.operations.wrapping_add(1);
        if self.operations.is_multiple_of(OPERATIONS) {
            let kept = [
                Table::Account,
                Table::User,
                Table::Device,
                Table::Session,
                Table::Ticket,
                Table::Log,
                Table::Task,
            ];
            self.overlay.retain(|what| kept.contains(&what.table()));
            self.look_again();
        }
    }

    pub(crate) fn count(&mut self, name: &'static str, what: &str, count: usize) {
        let counts = self.costs.entry(name).or_default();
        let sum = counts.entry(what.into()).or_default();
        *sum = sum.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

/// Whether a row is only there where a message was here before.
fn is_for_repetitions(missing: &Missing) -> bool {
    matches!(missing, Missing::Row { table: Table::Seen, .. })
}
