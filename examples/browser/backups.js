// Backups: a file and what opens it, which a person keeps apart; and an account that comes back from them, on a device that has nothing.

import { Found } from "./pkg/subrosa_browser.js";
import { at, plain, words } from "./shared.js";

const LAST = (user) => `backup ${user}`;

// Offers to write a backup.
export async function openBackup(device, user) {
    const dialog = at("#backup");
    const last = localStorage.getItem(LAST(user));
    at("#backup .last").textContent = last ? `The last one was made ${when(Number(last))}.` : "There is none yet.";
    at("#backup .made").hidden = at("#backup .wrong").hidden = true;
    at("#make-backup").onclick = async () => {
        at("#make-backup").disabled = true;
        try {
            const { file, code, lines } = await device.export(at("#backup [name=kind]:checked").value === "words");
            const link = at("#save-backup");
            URL.revokeObjectURL(link.href);
            link.href = URL.createObjectURL(new Blob([file], { type: "application/octet-stream" }));
            link.download = `${plain(user)}-${new Date().toISOString().slice(0, 10)}.subrosa`;
            at("#backup output").textContent = code;
            const size = `${lines} ${lines === 1 ? "line" : "lines"}, ${Math.ceil(file.length / 1000)} kB`;
            at("#backup .checked").textContent = `It was read again: ${size}.`;
            at("#backup .made").hidden = false;
            link.onclick = () => localStorage.setItem(LAST(user), String(Date.now()));
        } catch (error) {
            [at("#backup .wrong").hidden, at("#backup .wrong").textContent] = [false, words(error)];
        } finally {
            at("#make-backup").disabled = false;
        }
    };
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    // What opens it is not on the page any more.
    at("#backup output").textContent = "";
    URL.revokeObjectURL(at("#save-backup").href);
    at("#save-backup").removeAttribute("href");
}

// Brings an account back; then its page opens.
export function offerRestoration() {
    const wrong = at("#restore .wrong");
    const failed = (error) => ([wrong.hidden, wrong.textContent] = [false, words(error)]);
    let found = null;
    at("#open-restore").onclick = () => {
        found = null;
        at("#restore .found").hidden = wrong.hidden = true;
        at("#restore").showModal();
    };
    at("#look-in").onsubmit = async (event) => {
        event.preventDefault();
        wrong.hidden = true;
        try {
            const [file] = at("#archive").files;
            found = Found.open(new Uint8Array(await file.arrayBuffer()), at("#opens").value);
            at("#opens").value = "";
            const inside = `${found.contacts} contacts, ${found.lines} lines. What came later is not in it.`;
            at("#restore .whose").textContent = `The account of ${plain(found.user)}, as of ${when(found.at * 1000)}: ${inside}`;
            at("#restore .found").hidden = false;
        } catch (error) {
            failed(error);
        }
    };
    at("#bring-back").onsubmit = async (event) => {
        event.preventDefault();
        wrong.hidden = true;
        const [user, on] = [found.user, at("#on").value.trim()];
        try {
            await found.restore(on, at("#bring-back [name=old]:checked").value === "lost");
            location.assign(`?${new URLSearchParams({ user, ...(on && { on }) })}`);
        } catch (error) {
            // What is left of it is nothing: the file has to be opened again.
            at("#restore .found").hidden = true;
            failed(error);
        }
    };
}

const when = (ms) => new Date(ms).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
