// Rows in IndexedDB. All are in one object store, under [table, key]: a table that comes later needs no new version of the database.
// IndexedDB orders binary keys by their bytes, as a scan of the crate does.

const STORE = "rows";

const answer = (request) =>
    new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });

// These three are `async`: Rust hears of a promise that is rejected, not of what is thrown before there is one.
export async function open(name) {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE);
    const database = await answer(request);
    // Another tab has a later version of the page, or the storage is cleared: this one must let go, and has to be loaded again.
    database.onversionchange = () => database.close();
    return database;
}

// The rows of each query as [key, value]: [table, key] asks for one, [table, prefix, most] for the first ones whose keys begin so.
export async function read(database, queries) {
    const tx = database.transaction(STORE);
    return Promise.all(queries.map((query) => find(tx, query)));
}

async function find(tx, [table, key, most]) {
    const store = tx.objectStore(STORE);
    if (most === undefined) {
        const value = await answer(store.get([table, key]));
        return value ? [[key, value]] : [];
    }
    if (most === 0) return []; // To IndexedDB it would be all.
    const range = beginning(table, key);
    const [keys, values] = await Promise.all([
        answer(store.getAllKeys(range, most)),
        answer(store.getAll(range, most)),
    ]);
    return keys.map(([, key], index) => [new Uint8Array(key), values[index]]);
}

// All keys of a table that begin with a prefix: below the prefix with its last byte one higher, or where that is none, below what comes
// after all bytes in IndexedDB's order, an array.
function beginning(table, prefix) {
    const length = prefix.findLastIndex((byte) => byte < 255) + 1;
    const end = prefix.slice(0, length);
    if (length > 0) end[length - 1] += 1;
    return IDBKeyRange.bound([table, prefix], [table, length > 0 ? end : []], false, true);
}

// Writes [table, key, value], or deletes where there is no value, if all that was relied on, [query, rows], is still there. Says whether it is.
//
// This is one transaction, so nobody else comes between comparing and writing. It lasts while an answer of its own is awaited and ends by
// itself where anything else is: so all questions are asked at once, and the writes follow in the turn of the last answer.
export async function commit(database, reliedOn, writes) {
    const tx = database.transaction(STORE, writes.length ? "readwrite" : "readonly", { durability: "strict" });
    const ended = new Promise((resolve, reject) => {
        tx.oncomplete = resolve;
        tx.onabort = () => reject(tx.error);
    });
    ended.catch(() => {}); // Who awaits it hears of it.
    const found = await Promise.all(reliedOn.map(([query]) => find(tx, query)));
    if (!reliedOn.every(([, rows], index) => isSame(rows, found[index]))) return false;
    try {
        const store = tx.objectStore(STORE);
        for (const [table, key, value] of writes) {
            value ? store.put(value, [table, key]) : store.delete([table, key]);
        }
    } catch (error) {
        try {
            tx.abort();
        } catch {} // It has ended, with nothing in it.
        throw error;
    }
    await ended;
    return true;
}

const isSame = (rows, others) =>
    rows.length === others.length &&
    rows.every(([key, value], index) => isEqual(key, others[index][0]) && isEqual(value, others[index][1]));

const isEqual = (bytes, others) => indexedDB.cmp(bytes, others) === 0;
