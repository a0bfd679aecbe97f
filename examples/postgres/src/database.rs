//! The account's rows in PostgreSQL: a query reads any number of them, and one statement compares
//! what was relied on and writes what changed.

use subrosa::store::{Changes, Missing, Row};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client as Connection, NoTls, Statement};

use crate::Result;

/// `commit_changes` returns the table of the first row that is not what it was; null: it is done.
///
/// It locks the names of the rows first, whether the rows exist or not: shared where it relies on
/// one, alone where it writes one. So what it compares stays as it is until the commit. All
/// transactions lock in the same order, so none waits for another in a circle, and none is refused
/// because another one touched a neighbouring row, as the level SERIALIZABLE would.
pub(crate) const SCHEMA: &str = "
create table rows (account text, table_name text, key bytea, value bytea not null,
    primary key (account, table_name, key)) with (fillfactor = 60);
create table mail (id bigserial primary key, sender text not null, share int not null, envelope bytea not null);
create table sent (id bigserial primary key, receiver text not null, envelope bytea not null);
create table blobs (id bigserial primary key, blob bytea not null);
create table costs (operation text, what text, count bigint);
create function lock_account(of_account text, alone bool) returns void language sql as $$
    select case when alone then pg_advisory_xact_lock(hashtextextended(of_account, 0))
        else pg_advisory_xact_lock_shared(hashtextextended(of_account, 0)) end;
$$;
create function commit_changes(of_account text,
    relied_tables text[], relied_keys bytea[], relied_values bytea[],
    written_tables text[], written_keys bytea[], written_values bytea[],
    received bigint, receivers text[], envelopes bytea[]) returns text language plpgsql as $$
declare
    changed text;
begin
    perform lock_account(of_account, false);
    perform case when lock.alone then pg_advisory_xact_lock(lock.name)
        else pg_advisory_xact_lock_shared(lock.name) end
        from (select bool_or(row.alone) as alone,
                hashtextextended(of_account || ' ' || row.of || ' ' || encode(row.key, 'hex'), 0)
                    as name
            from (select *, false as alone
                    from unnest(relied_tables, relied_keys) as relied (of, key)
                union all select *, true from unnest(written_tables, written_keys)) as row
            group by name order by name) as lock;
    select relied.of into changed
        from unnest(relied_tables, relied_keys, relied_values) as relied (of, key, value)
        where value is distinct from (select rows.value from rows
            where account = of_account and table_name = relied.of and rows.key = relied.key)
        limit 1;
    if found then
        return changed;
    end if;
    delete from rows
        using unnest(written_tables, written_keys, written_values) as written (of, key, value)
        where written.value is null
            and account = of_account and table_name = written.of and rows.key = written.key;
    insert into rows
        select of_account, written.*
        from unnest(written_tables, written_keys, written_values) as written (of, key, value)
        where value is not null
        on conflict (account, table_name, key) do update set value = excluded.value;
    if received is not null then
        delete from mail where id = received;
        if not found then
            raise exception 'another worker received it' using errcode = 'serialization_failure';
        end if;
    end if;
    insert into sent (receiver, envelope) select * from unnest(receivers, envelopes);
    return null;
end $$;";

/// `offset 0`: one look into the index for each row that is wanted.
const READ: &str = "
    select wanted.number, found.value from unnest($2::text[], $3::bytea[]) with ordinality as wanted (of, key, number)
    cross join lateral (select value from rows
        where account = $1 and table_name = wanted.of and key = wanted.key offset 0) as found";

/// `bytea` is compared by its bytes, as a scan is.
const SCAN: &str =
    "select key, value from rows where account = $1 and table_name = $2 and key >= $3
    and substring(key for length($3)) = $3 order by key limit $4";

const COMMIT: &str = "select commit_changes($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

/// The rows of an account.
pub(crate) struct Database {
    account: String,
    reading: Connection,
    read: Statement,
    scan: Statement,
    committing: Connection,
    scan_again: Statement,
    commit: Statement,
}

/// How a commit ended.
pub(crate) enum Committed {
    Done,
    /// Another worker changed what was relied on, in this table.
    Changed(String),
    /// Another worker received the mail, or the database refused to wait.
    Collided,
}

/// What happens in the transaction that commits, beside the account's rows.
#[derive(Default)]
pub(crate) struct Transport {
    /// The mail that was received.
    pub(crate) received: Option<i64>,
    /// The envelopes to send, and to whom.
    pub(crate) sent: Vec<(String, Vec<u8>)>,
}

pub(crate) async fn connect(url: &str) -> Result<Connection> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    drop(tokio::spawn(connection));
    Ok(client)
}

impl Database {
    pub(crate) async fn open(url: &str, account: &str) -> Result<Self> {
        let (reading, committing) = (connect(url).await?, connect(url).await?);
        let (read, scan) = (reading.prepare(READ).await?, reading.prepare(SCAN).await?);
        let (scan_again, commit) =
            (committing.prepare(SCAN).await?, committing.prepare(COMMIT).await?);
        Ok(Self { account: account.into(), reading, read, scan, committing, scan_again, commit })
    }

    /// For the app's own queries.
    pub(crate) const fn connection(&self) -> &Connection {
        &self.reading
    }

    /// Reads all that is missing: the rows with one query.
    pub(crate) async fn read(&self, missing: Vec<Missing>) -> Result<Vec<(Missing, Vec<Row>)>> {
        let (rows, scans): (Vec<_>, Vec<_>) =
            missing.into_iter().partition(|missing| matches!(missing, Missing::Row { .. }));
        let mut all = Vec::with_capacity(rows.len());
        for scan in scans {
            let found = read_scan(&self.reading, &self.scan, &self.account, &scan).await?;
            all.push((scan, found));
        }
        if rows.is_empty() {
            return Ok(all);
        }
        let tables: Vec<&str> = rows.iter().map(|row| row.table().name()).collect();
        let keys: Vec<&[u8]> = rows.iter().map(Missing::key).collect();
        let found = self.reading.query(&self.read, &[&self.account, &tables, &keys]).await?;
        let mut rows: Vec<(Missing, Vec<Row>)> =
            rows.into_iter().map(|row| (row, Vec::new())).collect();
        for row in found {
            let number = usize::try_from(row.try_get::<_, i64>(0)?)?;
            if let Some((row_of, found)) = number.checked_sub(1).and_then(|at| rows.get_mut(at)) {
                found.push((row_of.key().to_vec(), row.try_get::<_, Vec<u8>>(1)?.into()));
            }
        }
        all.extend(rows);
        Ok(all)
    }

    /// Writes what an operation changed, if what it relied on is still there.
    pub(crate) async fn commit(
        &self,
        changes: &Changes,
        transport: &Transport,
    ) -> Result<Committed> {
        let scans: Vec<&(Missing, Vec<Row>)> = changes
            .relied_on()
            .iter()
            .filter(|(what, _)| !matches!(what, Missing::Row { .. }))
            .collect();
        if scans.is_empty() {
            return refused(self.commit_rows(changes, transport).await);
        }
        self.committing.batch_execute("begin").await?;
        let done = self.commit_after(&scans, changes, transport).await;
        let end = if matches!(done, Ok(None)) { "commit" } else { "rollback" };
        let ended = self.committing.batch_execute(end).await;
        refused(done.and_then(|done| ended.map(|()| done).map_err(Into::into)))
    }

    /// Compares what scans found, too, while nobody else writes rows of the account.
    async fn commit_after(
        &self,
        scans: &[&(Missing, Vec<Row>)],
        changes: &Changes,
        transport: &Transport,
    ) -> Result<Option<String>> {
        self.committing.execute("select lock_account($1, true)", &[&self.account]).await?;
        for (what, rows) in scans {
            if read_scan(&self.committing, &self.scan_again, &self.account, what).await? != *rows {
                return Ok(Some(what.table().name().into()));
            }
        }
        self.commit_rows(changes, transport).await
    }

    async fn commit_rows(
        &self,
        changes: &Changes,
        transport: &Transport,
    ) -> Result<Option<String>> {
        let relied_on =
            changes.relied_on().iter().filter(|(what, _)| matches!(what, Missing::Row { .. }));
        let value = |rows: &'_ [Row]| rows.first().map(|(_, value)| value.to_vec());
        let (mut tables, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (what, rows) in relied_on {
            tables.push(what.table().name());
            keys.push(what.key());
            values.push(value(rows));
        }
        let (mut written_tables, mut written_keys, mut written_values) =
            (Vec::new(), Vec::new(), Vec::new());
        for change in changes.writes() {
            written_tables.push(change.table.name());
            written_keys.push(change.key.as_slice());
            written_values.push(change.value.as_ref().map(|value| value.as_slice()));
        }
        let (receivers, envelopes): (Vec<&str>, Vec<&[u8]>) =
            transport.sent.iter().map(|(to, envelope)| (to.as_str(), envelope.as_slice())).unzip();
        let arguments: [&(dyn ToSql + Sync); 10] = [
            &self.account,
            &tables,
            &keys,
            &values,
            &written_tables,
            &written_keys,
            &written_values,
            &transport.received,
            &receivers,
            &envelopes,
        ];
        Ok(self.committing.query_one(&self.commit, &arguments).await?.try_get(0)?)
    }
}

async fn read_scan(
    connection: &Connection,
    statement: &Statement,
    account: &str,
    scan: &Missing,
) -> Result<Vec<Row>> {
    let most = i64::try_from(scan.most()).unwrap_or(i64::MAX);
    let found =
        connection.query(statement, &[&account, &scan.table().name(), &scan.key(), &most]).await?;
    found.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<_, Vec<u8>>(1)?.into()))).collect()
}

/// What a commit came to. The database refuses some as errors.
fn refused(done: Result<Option<String>>) -> Result<Committed> {
    match done {
        Ok(None) => Ok(Committed::Done),
        Ok(Some(table)) => Ok(Committed::Changed(table)),
        Err(error) => {
            let code =
                error.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::code);
            let conflicts = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
            match code {
                Some(code) if conflicts.contains(code) => Ok(Committed::Collided),
                _ => Err(error),
            }
        }
    }
}
