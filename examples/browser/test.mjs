// People chat in a real browser, whose tabs are reloaded, closed and doubled: each message is shown once in every tab.
//   node test.mjs PAGE SCREENSHOTS [SEED]      (test.sh does it)

import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { backups } from "./backups.mjs";
import { calls } from "./calls.mjs";
import { groups } from "./groups.mjs";
import { openVerify, trustOf, verification } from "./verify.mjs";
import { Tab, browser, serve } from "./webdriver.mjs";

const [page, screenshots, seed = Date.now() % 1_000_000] = process.argv.slice(2);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Numbers below `end`, the same for a seed.
let state = Number(seed);
const below = (end) => ((state = (state * 48271 + 11) % 2147483647) >> 4) % end;

const folder = await mkdtemp(join(tmpdir(), "subrosa-browser-"));
const files = await serve(page);
const chrome = await browser({ driver: process.env.CHROMEDRIVER, binary: process.env.CHROMIUM, folder });
const troubles = [];

function tests() {
    let [alice, bob] = [null, null];
    const all = { alice: [], bob: [] };
    // Writes, and waits until that is stored.
    const write = async (tab, user, text) => {
        await until(() => tab.run(send, text), `${user}'s page takes "${text}"`);
        await until(() => tab.run(isStored), `"${text}" is stored`);
        all[user].push(text);
    };
    const settled = () => agree(all, [["alice", alice], ["bob", bob]]);
    return {
        "what is written to who is not there yet waits": async () => {
            alice = await open("alice");
            await alice.type("#field", "are you there?\uE007");
            all.alice.push("are you there?");
            await until(async () => (await lines(alice)).some((line) => line.waiting), "it waits");
        },
        "a message comes, and an answer": async () => {
            bob = await open("bob");
            await settled();
            await bob.type("#field", "I am. Meet me under the rose\uE007");
            all.bob.push("I am. Meet me under the rose");
            await settled();
            await write(alice, "alice", "at nine");
            await settled();
        },
        "people compare their safety number": async () => {
            const numbers = [];
            for (const tab of [alice, bob]) {
                await openVerify(tab);
                numbers.push(await tab.run(() => document.querySelector("#number").textContent));
                await shoot(tab, `number-${numbers.length}`);
                await tab.click("#number-same");
                await until(async () => (await trustOf(tab)) === "Verified", "it says so");
                await tab.click("#verify footer form button");
            }
            assert.match(numbers[0], /^(\d{5} \d{5} \d{5} \d{5}\n?){3}$/);
            assert.equal(numbers[0], numbers[1]);
        },
        "what was said is there after a reload": async () => {
            await reload(alice);
            await reload(bob);
            assert.equal((await lines(alice)).length, 3, "what was said");
            await shoot(alice, "alice");
            await settled();
        },
        "many messages both ways": async () => {
            for (let number = 0; number < 20; number++) {
                const [tab, user] = below(2) ? [alice, "alice"] : [bob, "bob"];
                await write(tab, user, `${user} says, ${number}`);
            }
            await settled();
        },
        "many messages both ways, while pages are reloaded": async () => {
            let reloads = 0;
            for (let number = 0; number < 40; number++) {
                const [tab, user] = below(2) ? [alice, "alice"] : [bob, "bob"];
                await write(tab, user, `${user} writes, ${number}`);
                if (below(4) === 0) {
                    await wait(below(40));
                    await reload(below(2) ? alice : bob);
                    reloads++;
                }
            }
            await settled();
            return `${reloads} reloads`;
        },
        "a tab that is reloaded again and again while mail comes": async () => {
            let reloads = 0;
            for (const [user, writer, reader] of [["alice", alice, bob], ["bob", bob, alice]]) {
                await begin(all, [[user, writer]], 30);
                while (!(await writer.run(isWritten)) || reloads % 10) {
                    await reader.reload();
                    await wait(below(150));
                    reloads++;
                }
                await ready(reader);
            }
            await settled();
            return `${reloads} reloads`;
        },
        "a page that stops after any of its transactions": async () => {
            let stopped = 0;
            for (let count = 1; count <= 12; count++) {
                const isReceiving = count % 2 === 0;
                const number = Math.ceil(count / 2);
                await alice.run(stopAfter, number);
                if (isReceiving) await write(bob, "bob", `stops after ${number}, receiving`);
                else await write(alice, "alice", `stops after ${number}, sending`);
                const isNew = () => alice.run(() => document.body.dataset.old === undefined);
                await until(isNew, "", 500).then(() => stopped++, () => alice.reload());
                await ready(alice);
            }
            await settled();
            return `stopped ${stopped} times`;
        },
        "a reload right after a click sends once or not at all": async () => {
            let stored = 0;
            for (let number = 0; number < 30; number++) {
                const text = `a click and a reload, ${number}`;
                const reloading = (text, ms) => {
                    document.querySelector("#field").value = text;
                    document.querySelector("#chat > form").requestSubmit();
                    document.body.dataset.old = "";
                    ms ? setTimeout(() => location.reload(), ms) : location.reload();
                };
                await alice.begin(reloading, text, number * 2);
                await until(() => alice.run(() => document.body.dataset.old === undefined), "it is reloaded");
                await ready(alice);
                const isStored = (await lines(alice)).some((line) => line.text === text);
                if (isStored) all.alice.push(text);
                stored += isStored;
            }
            await settled();
            return `${stored} of 30 were stored`;
        },
        "who has no tab open gets it later": async () => {
            await bob.close();
            for (let number = 0; number < 10; number++) await write(alice, "alice", `while bob is away, ${number}`);
            await reload(alice);
            bob = await open("bob");
            await settled();
        },
        "two tabs of both accounts write at once": async () => {
            const tabs = [["alice", alice], ["alice", await open("alice")], ["bob", bob], ["bob", await open("bob")]];
            await many(all, tabs, 15);
            await agree(all, tabs);
            await tabs[1][1].close();
            await tabs[3][1].close();
        },
        "no message key is used twice by two tabs": async () => {
            await bob.close();
            const second = await open("alice");
            await many(all, [["alice", alice], ["alice", second]], 15);
            await until(async () => (await lines(alice)).every((line) => !line.waiting), "all is encrypted");
            // Both tabs may have sent an envelope, which does no harm: it is one.
            const envelopes = async () => [...new Set((await mailbox(alice)).map(String))];
            await until(async () => (await envelopes()).length >= 30, "all is sent");
            const nonces = (await envelopes()).map(nonce);
            assert.equal(new Set(nonces).size, nonces.length, "two messages have one nonce");
            await second.close();
            bob = await open("bob");
            await settled();
            return `${nonces.length} envelopes`;
        },
        "a picture and a voice note are sent, shown and played": async () => {
            const picture = () => alice.run(sendPicture, "../../rose\u202e.png");
            await picture();
            const shown = (tab, what) => tab.run((what) => {
                const files = [...document.querySelectorAll(`#lines figure ${what}`)];
                return files.filter((file) => file.naturalWidth === 3 || file.duration > 0.9).length;
            }, what);
            for (const tab of [alice, bob]) await until(async () => (await shown(tab, "img")) === 1, "a picture of 3 pixels");
            const named = () => bob.run(() => document.querySelector("#lines figcaption").textContent);
            assert.match(await named(), /^\.\.\/\.\.\/rose\uFFFD\.png \(\d+ bytes\)$/, "its name turns nothing around");
            await bob.run(sendSound, "note.wav");
            for (const tab of [alice, bob]) await until(async () => (await shown(tab, "audio")) === 1, "a second of sound");
            await reload(bob);
            await until(async () => (await shown(bob, "img")) === 1, "it is there after a reload");
            await shoot(bob, "files");
            // What is no picture is neither shown nor run, whatever it says.
            await alice.run(sendFile, "page.html", "text/html", "<script>document.title = 'gone'</script>");
            await alice.run(sendFile, "page.svg", "image/svg+xml", "<svg xmlns='http://www.w3.org/2000/svg' onload='x'/>");
            await until(() => bob.run(() => document.querySelectorAll("#lines figure > a").length === 2), "two to save");
            // The server has nothing of it, and what it changes is not shown.
            await bob.run(damageBlobs);
            await reload(bob);
            await until(() => bob.run(() => document.querySelectorAll("#lines figcaption").length === 4), "four files");
            await until(() => bob.run(() => [...document.querySelectorAll("#lines figcaption")].filter((caption) => /damaged/.test(caption.textContent)).length === 2), "they are damaged");
            assert.equal((await shown(bob, "img")) + (await shown(bob, "audio")), 0);
        },
        "lost sessions heal": async () => {
            await bob.close();
            await alice.run(forgetSessions, "subrosa bob");
            await write(alice, "alice", "can you read this?");
            bob = await open("bob");
            await settled();
            await write(bob, "bob", "I can");
            await settled();
        },
        "a group of three tabs, which are reloaded meanwhile": async () => {
            const tabs = { alice: await open("alice"), bob: await open("bob"), carol: await open("carol") };
            const said = { alice: [], bob: [], carol: [] };
            await tabs.alice.click("#make");
            await tabs.alice.type("#title", "Roses");
            await shoot(tabs.alice, "group-new");
            await tabs.alice.click("#new .first");
            await until(() => tabs.alice.run(isAt, "Roses"), "the founder is there");
            for (const user of ["bob", "carol"]) {
                await turnTo(tabs[user], "Roses");
                await until(() => tabs[user].run(() => !document.querySelector("#invitation").hidden), "an invitation");
                if (user === "bob") await shoot(tabs.bob, "group-invited");
                await tabs[user].click("#join");
                await until(() => tabs[user].run(() => document.querySelector("#invitation").hidden), "it is answered");
            }
            let reloads = 0;
            for (let number = 0; number < 36; number++) {
                const user = ["alice", "bob", "carol"][below(3)];
                await until(() => tabs[user].run(send, `${user} to all, ${number}`), `${user}'s page takes it`);
                await until(() => tabs[user].run(isStored), "it is stored");
                said[user].push(`${user} to all, ${number}`);
                if (below(3) === 0) {
                    await wait(below(40));
                    await reload(tabs[["alice", "bob", "carol"][below(3)]]);
                    reloads++;
                }
            }
            await agreeInGroup(tabs, said);
            await shoot(tabs.bob, "group");
            // Another group with the same title does not look the same, whatever is in the title.
            await tabs.bob.click("#make");
            await tabs.bob.run(() => (document.querySelector("#title").value = "Roses\u202e"));
            await tabs.bob.click("#new .first");
            await until(() => tabs.bob.run(isAt, "Roses\uFFFD"), "it is there");
            await tabs.bob.click("#make");
            await tabs.bob.type("#title", "Roses");
            await tabs.bob.click("#new .first");
            const twins = () => tabs.bob.run(() => [...document.querySelectorAll("#rooms .group")].map((room) => room.textContent).filter((title) => /^Roses \u00b7 [0-9a-f]{4}$/.test(title)));
            await until(async () => new Set(await twins()).size === 2, "two that can be told apart");
            const room = await tabs.alice.run(() => new URLSearchParams(location.search).get("with"));
            await tabs.bob.click(`#rooms button[value="${room}"]`);
            const isBack = (room) => document.querySelector(`#rooms button[value="${room}"]`).ariaCurrent === "true";
            await until(() => tabs.bob.run(isBack, room), "it is back");

            await tabs.alice.click("#who");
            await until(() => tabs.alice.run(() => document.querySelectorAll("#members li").length === 3), "three members");
            await shoot(tabs.alice, "group-members");
            await tabs.alice.type("#invited", "dave\uE007");
            await until(() => tabs.alice.run(() => /nobody is registered as dave/.test(document.querySelector("#members .wrong").textContent)), "what to do");
            await tabs.alice.click("#members li:nth-child(3) button:last-child");
            await until(() => tabs.alice.run(() => document.querySelectorAll("#members li").length === 2), "two members");
            await tabs.alice.click("#members footer .first");
            const isOut = () => tabs.carol.run(() => document.querySelector("#chat > form").inert && document.querySelector("#who").textContent === "you are out");
            await until(isOut, "she is told that she is out");
            const { carol, ...others } = tabs;
            for (const user of ["alice", "bob", "alice"]) {
                const text = `${user} without carol`;
                await until(() => tabs[user].run(send, `${text}, ${said[user].length}`), "it is taken");
                await until(() => tabs[user].run(isStored), "it is stored");
                said[user].push(`${text}, ${said[user].length}`);
            }
            await agreeInGroup(others, said);
            await reload(carol);
            assert((await isOut()) && (await groupLines(carol)).every(({ text }) => !text.includes("without carol")), "she gets nothing more");
            await shoot(carol, "group-out", 420);
            for (const tab of Object.values(tabs)) await tab.close();
            return `${reloads} reloads`;
        },
        "all is there at the end": async () => {
            await reload(alice);
            await reload(bob);
            await settled();
            await shoot(bob, "bob-narrow", 420);
            for (const tab of [alice, bob]) await tab.close();
            return `${all.alice.length + all.bob.length} messages`;
        },
        ...verification({ open, reload, until, shoot }),
        ...calls({ open, reload, until, shoot, turnTo, wait }),
        ...groups({ open, until, shoot, turnTo }),
        // The last one: alice is somebody else afterwards.
        ...backups({ open, reload, fresh, ready, until, shoot, chat }),
    };
}

async function open(user) {
    const tab = await Tab.open(chrome, `${files.url}index.html?user=${user}`);
    await ready(tab);
    return tab;
}

// The page on which one chooses who one is.
const fresh = () => Tab.open(chrome, files.url);

// Writes, as a person does.
async function chat(tab, text) {
    await until(() => tab.run(send, text), `the page takes "${text}"`);
    await until(() => tab.run(isStored), "it is stored");
}

async function reload(tab) {
    await tab.reload();
    await ready(tab);
}

const ready = (tab) => until(() => tab.run(() => document.body.dataset.ready !== undefined), "the page is ready");

// What these pages show in the end: what either wrote once, in the order in which it was written where one tab wrote it, and
// in one order in all tabs of a user.
async function agree(all, tabs) {
    const seen = [];
    const isDone = async () => {
        seen.length = 0;
        for (const [, tab] of tabs) seen.push(await lines(tab));
        const everything = [...all.alice, ...all.bob].length;
        return seen.every((lines) => lines.length >= everything && lines.every((line) => !line.waiting));
    };
    const isAll = await until(isDone, "").then(() => true, () => false);
    for (const [index, [user]] of tabs.entries()) {
        for (const writer of ["alice", "bob"]) {
            const texts = seen[index].filter((line) => line.mine === (user === writer)).map((line) => line.text);
            const name = `what ${writer} wrote, in a tab of ${user}`;
            const lost = all[writer].filter((text) => !texts.includes(text));
            const more = texts.filter((text, at) => texts.indexOf(text) !== at || !all[writer].includes(text));
            assert(!lost.length && !more.length, `${name}: lost ${show(lost)}, too many ${show(more)}`);
            const first = tabs.findIndex(([other]) => other === writer);
            const order = seen[first].filter((line) => line.mine).map((line) => line.text);
            const late = texts.filter((text, at) => text !== order[at]);
            assert(!late.length, `${name}: in another order ${show(late)}`);
        }
        const twin = tabs.findIndex(([other]) => other === user);
        assert.deepEqual(seen[index], seen[twin], `two tabs of ${user}`);
    }
    assert(isAll, "something waits");
}

// What these tabs show of a group in the end: each text once, in the order of its author.
async function agreeInGroup(tabs, said) {
    const everything = Object.values(said).flat().length;
    for (const [reader, tab] of Object.entries(tabs)) {
        const isAll = async () => (await groupLines(tab)).filter(({ waiting }) => !waiting).length >= everything;
        const isDone = await until(isAll, "").then(() => true, () => false);
        const seen = await groupLines(tab);
        for (const [writer, texts] of Object.entries(said)) {
            const by = reader === writer ? null : writer;
            assert.deepEqual(seen.filter((line) => line.by === by).map(({ text }) => text), texts, `what ${writer} wrote, in the tab of ${reader}`);
        }
        assert(isDone, "something waits");
    }
}

const groupLines = (tab) =>
    tab.run(() =>
        [...document.querySelectorAll("#lines li:not(.notice)")].map((item) => ({
            text: [...item.childNodes].find((node) => node.nodeType === Node.TEXT_NODE).data,
            by: item.querySelector("strong")?.textContent ?? null,
            waiting: item.classList.contains("waiting"),
        })),
    );

async function turnTo(tab, title) {
    const click = (title) => {
        const button = [...document.querySelectorAll("#rooms button")].find((button) => button.textContent === title);
        button?.click();
        return Boolean(button);
    };
    await until(() => tab.run(click, title), `there is ${title}`);
    await until(() => tab.run(isAt, title), `it is at ${title}`);
}

const isAt = (title) => document.querySelector("#chat h1").textContent === title;

const show = (texts) => (texts.length ? `${texts.length} (${texts.slice(0, 3).join("; ")}..)` : "none");

// All these tabs write at the same time.
async function many(all, tabs, count) {
    await begin(all, tabs, count);
    for (const [, tab] of tabs) await until(() => tab.run(isWritten), "all is written");
}

const isWritten = () => document.body.dataset.writing === undefined;

// They write, without waiting for the others.
async function begin(all, tabs, count) {
    const writing = async (texts) => {
        const [field, form] = [document.querySelector("#field"), document.querySelector("#chat > form")];
        document.body.dataset.writing = "";
        for (const text of texts) {
            field.value = text;
            form.requestSubmit();
            while (field.value) await new Promise((resolve) => setTimeout(resolve, 1));
        }
        delete document.body.dataset.writing;
    };
    const batch = below(1_000_000);
    for (const [index, [user, tab]] of tabs.entries()) {
        const texts = Array.from({ length: count }, (_, number) => `at once ${batch}, tab ${index}, ${number}`);
        all[user].push(...texts);
        await tab.begin(writing, texts);
    }
}

const lines = (tab) =>
    tab.run(() =>
        [...document.querySelectorAll("#lines li:not(.notice, :has(figure))")].map((item) => ({
            text: item.firstChild.data,
            mine: item.classList.contains("mine"),
            waiting: item.classList.contains("waiting"),
        })),
    );

function send(text) {
    const field = document.querySelector("#field");
    if (field.readOnly || field.value) return false;
    field.value = text;
    document.querySelector("#chat > form").requestSubmit();
    return true;
}

// When so many transactions that write are committed, the page does no more and is loaded again.
function stopAfter(count) {
    document.body.dataset.old = "";
    const begin = IDBDatabase.prototype.transaction;
    const stop = () => {
        console.error = () => {};
        IDBDatabase.prototype.transaction = () => {
            throw new Error("stopped");
        };
        location.reload();
    };
    IDBDatabase.prototype.transaction = function (...args) {
        const tx = begin.apply(this, args);
        if (tx.mode === "readwrite") tx.addEventListener("complete", () => --count === 0 && stop());
        return tx;
    };
}

const isStored = () => document.querySelector("#field").value === "";

// What the server has for bob's device: envelopes, each of them in a row behind its sender's address.
const mailbox = (tab) =>
    tab.run(async () => {
        const database = await new Promise((resolve) => {
            indexedDB.open("subrosa server").onsuccess = (event) => resolve(event.target.result);
        });
        const mail = new TextEncoder().encode("mbob");
        const range = IDBKeyRange.bound(["app", mail], ["app", new TextEncoder().encode("mboc")]);
        const rows = await new Promise((resolve) => {
            database.transaction("rows").objectStore("rows").getAll(range).onsuccess = (event) => resolve(event.target.result);
        });
        database.close();
        return rows.map((row) => {
            let start = 1 + row[0] + 1;
            while (row[start++] >= 128);
            return [...row.slice(start)];
        });
    });

// The header's nonce, which is made from the message's key, comes after the envelope's head, the prefix, and the handshake of an initial message.
function nonce(text) {
    const envelope = text.split(",");
    const start = envelope[19] === "2" ? 1680 : 20;
    return String(envelope.slice(start, start + 12));
}

// As if a person had chosen it.
function sendFile(name, type, content) {
    const chosen = new DataTransfer();
    chosen.items.add(new File([content], name, { type }));
    const field = document.querySelector("#file");
    field.files = chosen.files;
    field.dispatchEvent(new Event("change"));
}

async function sendPicture(name) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [3, 2];
    const content = await new Promise((resolve) => canvas.toBlob(resolve));
    const chosen = new DataTransfer();
    chosen.items.add(new File([content], name, { type: "image/png" }));
    const field = document.querySelector("#file");
    field.files = chosen.files;
    field.dispatchEvent(new Event("change"));
}

// A second of silence: 8,000 samples of 8 bits.
function sendSound(name) {
    const head = new DataView(new ArrayBuffer(44));
    const write = (at, text) => [...text].forEach((letter, index) => head.setUint8(at + index, letter.charCodeAt(0)));
    write(0, "RIFF");
    head.setUint32(4, 8036, true);
    write(8, "WAVEfmt ");
    [[16, 16], [24, 8000], [28, 8000], [40, 8000]].forEach(([at, value]) => head.setUint32(at, value, true));
    [[20, 1], [22, 1], [32, 1], [34, 8]].forEach(([at, value]) => head.setUint16(at, value, true));
    write(36, "data");
    const chosen = new DataTransfer();
    chosen.items.add(new File([head, new Uint8Array(8000).fill(128)], name, { type: "audio/wav" }));
    const field = document.querySelector("#file");
    field.files = chosen.files;
    field.dispatchEvent(new Event("change"));
}

// The server changes a bit in each blob.
function damageBlobs() {
    return new Promise((resolve, reject) => {
        indexedDB.open("subrosa server").onsuccess = (event) => {
            const tx = event.target.result.transaction("rows", "readwrite");
            const range = IDBKeyRange.bound(["app", new TextEncoder().encode("b")], ["app", new TextEncoder().encode("c")]);
            tx.objectStore("rows").openCursor(range).onsuccess = ({ target: { result: cursor } }) => {
                if (!cursor) return;
                const value = new Uint8Array(cursor.value);
                value[20] ^= 1;
                cursor.update(value);
                cursor.continue();
            };
            tx.oncomplete = () => resolve(event.target.result.close());
            tx.onabort = () => reject(tx.error);
        };
    });
}

function forgetSessions(name) {
    return new Promise((resolve, reject) => {
        indexedDB.open(name).onsuccess = (event) => {
            const tx = event.target.result.transaction("rows", "readwrite");
            tx.objectStore("rows").delete(IDBKeyRange.bound(["session"], ["session", []]));
            tx.oncomplete = () => resolve(event.target.result.close());
            tx.onabort = () => reject(tx.error);
        };
    });
}

async function until(isSo, what, ms = 150_000) {
    const end = Date.now() + ms;
    while (Date.now() < end) {
        if (await isSo()) return;
        await wait(20);
    }
    throw new Error(`not within ${ms / 1000} seconds: ${what}`);
}

async function noTrouble() {
    const said = (await chrome.console()).filter(({ level }) => level === "SEVERE").map(({ message }) => message);
    troubles.push(...said);
    assert.deepEqual(troubles, [], "the console is silent");
}

async function shoot(tab, name, width = 900) {
    await writeFile(join(screenshots, `${name}.png`), await tab.screenshot(width, 760));
}

try {
    await mkdir(screenshots, { recursive: true });
    // ONLY=call: what makes people acquainted, and the tests whose claims say so.
    const isWanted = (claim, index) => index < 3 || claim === "all is there at the end" || new RegExp(process.env.ONLY ?? "").test(claim);
    for (const [claim, test] of Object.entries(tests()).filter(([claim], index) => isWanted(claim, index))) {
        const begun = Date.now();
        const found = await test();
        await noTrouble();
        console.log(`ok  ${claim}${found ? `: ${found}` : ""} (${((Date.now() - begun) / 1000).toFixed(1)} s)`);
    }
} catch (error) {
    await noTrouble().catch(() => {});
    console.error(`failed with seed ${seed}: ${error.message}`);
    troubles.forEach((trouble) => console.error(trouble));
    process.exitCode = 1;
} finally {
    files.stop();
    await chrome.stop();
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
}
