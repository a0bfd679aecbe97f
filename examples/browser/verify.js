// Whether somebody is who they seem: a code to scan, emoji to compare, a number. What is said here, and in which order, is the guide's.

import { at, plain, trustOf, words } from "./shared.js";

// What the dialog is about, while it is open.
let shown = null;

// Opens the dialog about a user; resolves when it is closed.
export async function openVerify(device, user, settle) {
    // A second click, while the first one is drawn.
    if (shown) return;
    const dialog = at("#verify");
    shown = { user, device, settle, code: null, result: null };
    at("#verify .wrong").hidden = true;
    at("#scanned-text").value = "";
    for (const [name, what] of Object.entries(doings(device, user))) {
        at(`#${name}`).onclick = () => act(what);
    }
    at("#scan").onsubmit = (event) => {
        event.preventDefault();
        const text = at("#scanned-text").value;
        act(async () => {
            shown.result = await device.scan(user, text);
        });
    };
    await drawVerify();
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    const { code } = shown;
    shown = null;
    // What is not on the screen any more nobody scans or compares.
    if (code) await device.hideCode(user);
    await device.cancelSas(user);
}

const doings = (device, user) => ({
    "show-code": async () => {
        shown.code = await device.showCode(user);
    },
    "scan-seen": () => device.confirmScan(user),
    "scan-unseen": async () => {
        shown.code = null;
        await device.hideCode(user);
    },
    "sas-start": () => device.startSas(user),
    "sas-accept": () => device.acceptSas(user),
    "sas-refuse": () => device.cancelSas(user),
    "sas-same": () => device.confirmSas(user, shown.comparison),
    "sas-differs": () => device.rejectSas(user),
    "number-same": () => device.verifyNumber(user, shown.number),
    unverify: () => device.unverify(user),
});

async function act(what) {
    const wrong = at("#verify .wrong");
    wrong.hidden = true;
    try {
        await what();
    } catch (error) {
        [wrong.hidden, wrong.textContent] = [false, words(error)];
    }
    await drawVerify();
    shown?.settle();
}

const RESULTS = {
    Match: (name) => `This is ${name}.`,
    Mismatch: (name) =>
        `This is NOT what your page knows of ${name}. Let both pages connect, and try once more. ` +
        "If it stays so, write nothing that others must not read.",
    OtherPerson: (name) => `This is not the code that ${name} shows to you: it is somebody else's, or for somebody else.`,
    OtherVersion: () => "This code is of another version: bring both pages up to date.",
};

// Draws the dialog anew, if it is open.
export async function drawVerify() {
    if (!shown) return;
    const { device, user } = shown;
    const name = plain(user);
    const known = await device.trust(user);
    const comparison = await device.comparison(user);
    const number = await device.safetyNumber(user).catch(() => null);
    if (shown?.user !== user) return;
    Object.assign(shown, { comparison, number });
    const isVerified = trustOf(known) === "Verified";
    at("#verify h2").textContent = isVerified ? `${name} is verified` : `Is it ${name}?`;
    at("#unverify").hidden = !isVerified;

    // One screen shows, the other one scans.
    const { code, result } = shown;
    at("#code").hidden = !code || comparison.scanned;
    at("#show-code").hidden = Boolean(code);
    if (code && at("#code").dataset.text !== code.text) {
        at("#code").dataset.text = code.text;
        drawCode(code);
    }
    at("#scan-question").hidden = !comparison.scanned;
    at("#scan-question p").textContent = `Does ${name}'s screen show that it worked?`;
    at("#scan-result").hidden = !result;
    at("#scan-result").dataset.result = result ?? "";
    at("#scan-result").textContent = result ? RESULTS[result](name) : "";

    // Both see the same emoji.
    const { stage } = comparison;
    at("#sas-start").hidden = !["", "Confirmed"].includes(stage);
    at("#sas-start").textContent = `Compare with ${name}`;
    at("#sas-wait").hidden = !["Started", "Answered"].includes(stage);
    at("#sas-wait").textContent = `Waiting for ${name}\u2026`;
    at("#sas-asked").hidden = stage !== "Asked";
    at("#sas-asked p").textContent = `${name} wants to compare emoji with you. Are you talking to ${name} right now?`;
    at("#sas").hidden = stage !== "Compare";
    at("#sas ul").replaceChildren(
        ...comparison.emoji.map((emoji, index) => {
            const [item, picture, label] = ["li", "span", "small"].map((kind) => document.createElement(kind));
            [picture.textContent, label.textContent] = [emoji, comparison.names[index]];
            picture.setAttribute("aria-hidden", "true");
            item.append(picture, label);
            return item;
        }),
    );
    at("#sas output").textContent = [...comparison.numbers].join(" ");

    at("#number").textContent = number ? number.lines.join("\n") : "";
    at("#number-same").hidden = isVerified || !number;
}

function drawCode({ text, width, modules }) {
    // Four modules of white around it, as readers want it.
    const side = width + 8;
    const dark = [...modules].flatMap((module, at) => (module ? [`M${(at % width) + 4} ${Math.floor(at / width) + 4}h1v1h-1z`] : []));
    const picture = at("#code svg");
    picture.setAttribute("viewBox", `0 0 ${side} ${side}`);
    picture.querySelector("path").setAttribute("d", dark.join(""));
    at("#code code").textContent = text;
}

// That somebody wants to compare, above the conversation.
export async function drawAsked(device, user, isGroup) {
    const section = at("#asked");
    const comparison = isGroup ? null : await device.comparison(user);
    const isOpen = Boolean(shown);
    section.hidden = isOpen || !(comparison && (comparison.stage === "Asked" || comparison.scanned));
    if (section.hidden) return;
    at("#asked p").textContent = comparison.scanned ? `${plain(user)} says that your code was scanned.` : `${plain(user)} wants to compare emoji with you.`;
}
