// What a person sees and types. What happens then is in src/settle.rs.

import init, { Device } from "./pkg/subrosa_browser.js";
import { offerRestoration, openBackup } from "./backups.js";
import { canCall, telephone } from "./calls.js";
import { enter, openMembers, openNew, showRooms, titleOf } from "./rooms.js";
import { at, plain, report, trustOf } from "./shared.js";
import { drawAsked, drawVerify, openVerify } from "./verify.js";

const asked = new URLSearchParams(location.search);
const user = asked.get("user");
// One of several devices of a user in this browser.
const on = asked.get("on") ?? "";
const here = on ? `${user} on ${on}` : user;
// Whom lines are for: a user, or `&` and the digits of a group.
let peer = asked.get("with") ?? (user === "alice" ? "bob" : "alice");

if (user) {
    at("#people").hidden = true;
    at("#chat").hidden = false;
    at("#self").textContent = `you are ${here}`;
    chat().catch(report);
} else {
    init().then(offerRestoration, report);
}

async function chat() {
    await init();
    const device = await Device.open(user, on);
    // Or the browser may clear the account away when it needs the room.
    navigator.storage?.persist().catch(() => {});

    // Tabs of this browser wake each other; what a server has for that is its own.
    const bell = new BroadcastChannel("subrosa");
    let due = false;
    let running = null;
    let phone = null;
    // Resolves when all that is due now is done, whoever began it.
    function settle() {
        due = true;
        running ??= work().finally(() => (running = null));
        return running;
    }
    async function work() {
        try {
            while (due) {
                due = false;
                if (await device.receive()) bell.postMessage(null);
                await phone?.turn();
                // One tab of a device at a time sends, so that texts leave in the order in which they were written.
                // The browser takes the lock from a tab that is closed.
                if (await navigator.locks.request(`subrosa ${here}`, () => device.send())) bell.postMessage(null);
                await show(device);
            }
            report(null);
        } catch (error) {
            report(error);
        }
        await sleep();
    }
    // Until something is due, or a server says that there is something: here it is the bell. One that nobody rings is missed for five seconds.
    let waking = 0;
    async function sleep() {
        const wait = await device.nextDue().catch(() => 5_000);
        clearTimeout(waking);
        waking = setTimeout(settle, Math.min(wait, 5_000));
    }
    bell.onmessage = settle;
    document.addEventListener("visibilitychange", settle);

    device.usersOf = async (room) => {
        if (!room.startsWith("&")) return [room];
        const found = (await device.rooms()).find(({ id, standing }) => id === room && standing === "Joined");
        return (found?.members ?? []).filter((member) => member.user !== user && member.trust).map((member) => member.user);
    };
    const roomOf = async (id) => {
        const rooms = await device.rooms();
        const room = rooms.find((room) => room.id === id);
        return room ? titleOf(room, rooms) : plain(id);
    };
    const tell = (what) => say(what);
    if (canCall) phone = telephone(device, user, here, { settle, tell, turnTo: (room) => turnTo(room), roomOf });
    at("#phone").onclick = () => phone.begin(peer).then(settle, report);

    // The keyboard of a phone takes room.
    new ResizeObserver(() => (at("#lines").scrollTop = at("#lines").scrollHeight)).observe(at("#lines"));
    const form = at("#chat > form");
    const field = at("#field");
    form.onsubmit = async (event) => {
        event.preventDefault();
        const text = field.value.trim();
        if (!text || field.readOnly) return;
        // It stays in the field until it is stored.
        field.readOnly = true;
        try {
            await device.write(peer, text);
            field.value = "";
        } catch (error) {
            return report(error);
        } finally {
            field.readOnly = false;
        }
        await show(device).catch(report);
        settle();
    };
    // A file goes out whole or not at all: whoever reloads meanwhile chooses it again.
    const sendFile = async (file) => {
        form.classList.add("sending");
        try {
            await device.sendFile(peer, file.name, file.type, new Uint8Array(await file.arrayBuffer()));
        } catch (error) {
            return report(error);
        } finally {
            form.classList.remove("sending");
        }
        await show(device).catch(report);
        settle();
    };
    at("#file").onchange = async (event) => {
        const [file] = event.target.files;
        event.target.value = "";
        if (file) await sendFile(file);
    };
    recorder(sendFile);
    at("#trust").onclick = at("#look").onclick = () => compare(device, settle).then(settle, report);
    const turnTo = async (other) => {
        peer = other;
        asked.set("with", peer);
        // A reload comes back here.
        history.replaceState(null, "", `?${asked}`);
        await show(device);
        at("#lines").scrollTop = at("#lines").scrollHeight;
        field.focus();
    };
    at("#rooms").onclick = ({ target }) => {
        const button = target.closest("button");
        if (!button) return;
        if (button.id === "make") openNew(device, user).then((room) => room && turnTo(room)).then(settle, report);
        else turnTo(button.value).catch(report);
    };
    at("#who").onclick = () => openMembers(device, user, peer, settle).then((next) => (next ? turnTo(next) : show(device))).then(settle, report);
    at("#back-up").onclick = () => openBackup(device, here).then(settle, report);
    at("#join").onclick = () => device.joinGroup(peer).then(() => show(device)).then(settle, report);
    at("#decline").onclick = () => device.declineGroup(peer).then(() => show(device)).then(settle, report);

    await show(device);
    await settle();
    await phone?.again();
    // Whatever this tab had sent when it was closed, somebody should look.
    bell.postMessage(null);
    document.body.dataset.ready = "";
    field.focus();
}

async function show(device) {
    const shown = peer;
    const rooms = await device.rooms();
    const lines = await device.history(shown, 500);
    const known = await device.trust(shown);
    await showRooms(device, rooms, user, shown);
    // Somebody has turned to another conversation meanwhile, which shows itself.
    if (shown !== peer) return;
    const room = rooms.find(({ id }) => id === shown);
    const title = room ? titleOf(room, rooms) : plain(shown);
    document.title = `${user} and ${title}`;
    enter(room, title);
    const list = at("#lines");
    const wasAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    list.replaceChildren(...lines.map((line) => item(line, device)));
    if (wasAtEnd) list.scrollTop = list.scrollHeight;

    const words = { FirstUse: "not compared", Verified: "verified", Unaccepted: "the key changed" };
    const chip = at("#trust");
    chip.hidden = !known || Boolean(room);
    chip.dataset.trust = trustOf(known);
    chip.textContent = words[trustOf(known)];
    await drawAsked(device, shown, Boolean(room));
    await drawVerify();
    at("#phone").hidden = !canCall || room?.standing === "Invited" || room?.standing === "Out";
}

// What has happened, for a moment.
let said = 0;
function say(what) {
    clearTimeout(said);
    const line = at("#said");
    [line.hidden, line.textContent] = [false, plain(what)];
    said = setTimeout(() => (line.hidden = true), 8000);
}

function item(line, device) {
    const item = document.createElement("li");
    const author = line.notice ? "notice" : line.mine ? "mine" : "theirs";
    item.className = [author, line.waiting ? "waiting" : "", line.late ? "late" : ""].join(" ");
    // It may be late mail, or the work of somebody who has the device now.
    if (line.late) item.title = line.by ? "from somebody who is not in the group any more" : "from a device that was removed";
    const time = document.createElement("time");
    time.textContent = new Date(line.at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    if (line.by && !line.mine) {
        const by = document.createElement("strong");
        by.textContent = plain(line.by);
        item.append(by);
    }
    item.append(line.notice ? plain(line.text) : line.text, ...line.files.map((file) => figure(file, device)), time);
    return item;
}

// What is shown or played in the page, of types that can do nothing else. Anything else is saved.
const SHOWN = {
    "image/png": "img", "image/jpeg": "img", "image/gif": "img", "image/webp": "img",
    "audio/ogg": "audio", "audio/webm": "audio", "audio/mp4": "audio", "audio/mpeg": "audio", "audio/wav": "audio",
};

// Files that were fetched, checked and opened, as addresses that this page alone knows. Each is fetched once.
const opened = new Map();

function figure(file, device) {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const { id, size } = file;
    const name = plain(file.name);
    const media = file.media.split(";")[0].trim();
    const shown = Object.hasOwn(SHOWN, media) ? SHOWN[media] : "a";
    const element = document.createElement(shown);
    element.title = name;
    caption.textContent = `${name} (${size < 1000 ? `${size} bytes` : `${(size / 1000).toFixed(1)} kB`})`;
    figure.append(element, caption);
    const fetched = () => {
        if (!opened.has(id)) {
            const type = shown === "a" ? "application/octet-stream" : media;
            opened.set(id, device.fetch(file).then((bytes) => URL.createObjectURL(new Blob([bytes], { type }))));
            // It can be tried again.
            opened.get(id).catch(() => opened.delete(id));
        }
        return opened.get(id);
    };
    const failed = (error) => (caption.textContent = `${name}: ${error.message ?? error}`);
    if (shown === "a") {
        element.href = "#";
        element.textContent = "Save";
        element.onclick = (event) => {
            event.preventDefault();
            fetched().then((url) => Object.assign(document.createElement("a"), { href: url, download: name }).click(), failed);
        };
        return figure;
    }
    if (shown === "audio") element.controls = true;
    if (shown === "img") element.alt = name;
    fetched().then((url) => (element.src = url), failed);
    return figure;
}

// A voice note: one click begins it, the next one sends it.
function recorder(send) {
    const button = at("#record");
    if (!navigator.mediaDevices || !window.MediaRecorder) return;
    button.hidden = false;
    let recording = null;
    button.onclick = async () => {
        if (recording) return recording.stop();
        try {
            const sound = await navigator.mediaDevices.getUserMedia({ audio: true });
            const parts = [];
            recording = new MediaRecorder(sound, { audioBitsPerSecond: 24_000 });
            recording.ondataavailable = ({ data }) => parts.push(data);
            recording.onstop = () => {
                sound.getTracks().forEach((track) => track.stop());
                const type = recording.mimeType;
                recording = null;
                button.classList.remove("on");
                send(new File(parts, "voice note", { type }));
            };
            recording.start();
            button.classList.add("on");
        } catch (error) {
            recording = null;
            report(error);
        }
    };
}

// A new key is asked about, and accepting it is not verifying it; otherwise people compare.
async function compare(device, settle) {
    const theirs = await device.trust(peer);
    const changed = theirs.newKey;
    if (!changed) return openVerify(device, peer, settle);
    const dialog = at("#keys");
    at("#keys h2").textContent = `${peer} has a new key`;
    at("#keys p").textContent = `Whoever holds it reads what you write. Ask ${peer} in person before you accept it, and compare afterwards.`;
    at("#keys dt").textContent = `${peer}, new`;
    at("#keys dd").textContent = changed.replace(/(.{8})(?=.)/g, "$1 ");
    dialog.returnValue = "";
    dialog.showModal();
    await new Promise((resolve) => (dialog.onclose = resolve));
    if (dialog.returnValue === "accept") await device.acceptNewKey(peer, theirs);
}
