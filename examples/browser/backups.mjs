// An account goes into a file, and comes back from it on a device that has nothing.

import assert from "node:assert/strict";

const texts = (tab) =>
    tab.run(() => {
        const text = (line) => [...line.childNodes].find((node) => node.nodeType === Node.TEXT_NODE)?.data ?? "";
        return [...document.querySelectorAll("#lines li:not(.notice)")].map(text);
    });

// All tests of backups, for `test.mjs`. `fresh` opens the page on which nobody is anybody yet.
export function backups({ open, reload, fresh, ready, until, shoot, chat }) {
    let [alice, bob] = [null, null];
    let backup = null;
    // Writes one of a kind, and takes what a person would keep.
    const make = async (tab, kind) => {
        await tab.click("#back-up");
        await tab.click(`#backup [value=${kind}]`);
        await tab.click("#make-backup");
        await until(() => tab.run(() => !document.querySelector("#backup .made").hidden), "a backup");
        if (kind === "code") await shoot(tab, "backup");
        const made = await tab.run(async () => {
            const link = document.querySelector("#save-backup");
            link.addEventListener("click", (event) => event.preventDefault());
            link.click();
            const bytes = new Uint8Array(await (await fetch(link.href)).arrayBuffer());
            const [code, checked] = ["output", ".checked"].map((what) => document.querySelector(`#backup ${what}`).textContent);
            return { name: link.download, bytes: [...bytes], code, checked };
        });
        await tab.click("#backup footer form button");
        assert.equal(await tab.run(() => document.querySelector("#backup output").textContent), "", "it is shown once");
        return made;
    };
    const look = async (tab, bytes, code) => {
        await tab.run(
            (bytes, code) => {
                const chosen = new DataTransfer();
                chosen.items.add(new File([new Uint8Array(bytes)], "alice.subrosa"));
                document.querySelector("#archive").files = chosen.files;
                document.querySelector("#opens").value = code;
                document.querySelector("#look-in").requestSubmit();
            },
            bytes,
            code,
        );
    };
    const begin = (tab) =>
        until(() => tab.run(() => document.querySelector("#restore").open || void document.querySelector("#open-restore").click()), "it asks for a file");
    const wrong = (tab) => tab.run(() => !document.querySelector("#restore .wrong").hidden && document.querySelector("#restore .wrong").textContent);
    return {
        "a backup is made, and opens with what belongs to it alone": async () => {
            [alice, bob] = [await open("alice"), await open("bob")];
            const lines = await texts(alice);
            assert(lines.length > 2);
            backup = { ...(await make(alice, "code")), lines };
            assert.match(backup.code, /^([a-z2-7]{4}[ -]?){10}$/);
            assert.match(backup.name, /^alice-\d{4}-\d\d-\d\d\.subrosa$/);
            assert.match(backup.checked, /It was read again: \d+ lines/);
            assert.equal(Buffer.from(backup.bytes).subarray(0, 8).toString(), "SUBROSAA");
            assert(!Buffer.from(backup.bytes).includes(lines[0]), "nothing of it can be read");
            const words = await make(alice, "words");
            assert.match(words.code, /^([a-z]+ ){5}[a-z]+$/);
            const tab = await fresh();
            await begin(tab);
            await look(tab, backup.bytes, words.code);
            await until(() => wrong(tab), "the words of another one do not open it");
            const damaged = [...backup.bytes];
            damaged[damaged.length - 40] ^= 1;
            await look(tab, damaged, backup.code);
            await until(async () => /damaged/.test((await wrong(tab)) || ""), "what was changed is noticed");
            await look(tab, words.bytes, ` ${words.code.toUpperCase()} `);
            await until(() => tab.run(() => !document.querySelector("#restore .found").hidden), "words as a person types them");
            await tab.close();
            return `${backup.bytes.length} bytes`;
        },
        "an account is restored from a backup, on a new device, beside the old one": async () => {
            const tab = await fresh();
            await begin(tab);
            await look(tab, backup.bytes, backup.code);
            await until(() => tab.run(() => !document.querySelector("#restore .found").hidden), "it opens");
            assert.match(await tab.run(() => document.querySelector("#restore .whose").textContent), /^The account of alice, as of .*: \d+ contacts, \d+ lines\./);
            await shoot(tab, "restore");
            // Where there is an account already, nothing is written over it.
            await tab.run(() => document.querySelector("#bring-back").requestSubmit());
            await until(() => wrong(tab), "there is one");
            await look(tab, backup.bytes, backup.code);
            await until(() => tab.run(() => !document.querySelector("#restore .found").hidden), "it opens");
            await tab.type("#on", "phone");
            await tab.run(() => document.querySelector("#bring-back").requestSubmit());
            await ready(tab);
            assert.equal(await tab.run(() => document.querySelector("#self").textContent), "you are alice on phone");
            assert.deepEqual(await texts(tab), backup.lines, "what was written is there");
            assert.equal(await tab.run(() => document.querySelector("#trust").dataset.trust), "Verified", "and what was compared");
            // All three hear each other.
            const phone = tab;
            await chat(phone, "from the phone");
            for (const other of [alice, bob]) await until(async () => (await texts(other)).includes("from the phone"), "it comes");
            await chat(bob, "to both");
            for (const other of [alice, phone]) await until(async () => (await texts(other)).includes("to both"), "it comes to both");
            await until(() => bob.run(() => /alice has a new device, number 2/.test(document.querySelector("#lines").textContent)), "he is told of the device");
            await phone.close();
        },
        "an account whose device was lost is restored, and everybody is asked": async () => {
            const tab = await fresh();
            await begin(tab);
            await look(tab, backup.bytes, backup.code);
            await until(() => tab.run(() => !document.querySelector("#restore .found").hidden), "it opens");
            await tab.click("#bring-back [value=lost]");
            await tab.type("#on", "laptop");
            await tab.run(() => document.querySelector("#bring-back").requestSubmit());
            await ready(tab);
            await chat(tab, "it is me");
            await until(() => bob.run(() => document.querySelector("#trust").dataset.trust === "Unaccepted"), "he is asked");
            assert(!(await texts(bob)).includes("it is me"), "and reads nothing before he has answered");
            await shoot(bob, "key-changed");
            // The device that was lost learns it from the server.
            await until(() => alice.run(() => /alice has a new key/.test(document.querySelector("#lines").textContent)), "it is told");
            await shoot(alice, "lost");
            for (const one of [tab, alice, bob]) await one.close();
        },
    };
}
