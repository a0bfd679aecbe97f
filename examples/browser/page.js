// What a person sees and types. What happens then is in src/settle.rs.

import init, { Device } from "./pkg/subrosa_browser.js";

const at = (selector) => document.querySelector(selector);
const asked = new URLSearchParams(location.search);
const user = asked.get("user");
const peer = asked.get("with") ?? (user === "alice" ? "bob" : "alice");

if (user) {
    at("#people").hidden = true;
    at("#chat").hidden = false;
    document.title = `${user} and ${peer}`;
    at("#chat h1").textContent = peer;
    at("#self").textContent = `you are ${user}`;
    chat().catch(report);
}

async function chat() {
    await init();
    const device = await Device.open(user);
    // Or the browser may clear the account away when it needs the room.
    navigator.storage?.persist().catch(() => {});

    // Tabs of this browser wake each other; what a server has for that is its own.
    const bell = new BroadcastChannel("subrosa");
    let due = false;
    let busy = false;
    async function settle() {
        due = true;
        if (busy) return;
        busy = true;
        try {
            while (due) {
                due = false;
                if (await device.settle()) bell.postMessage(null);
                await show(device);
            }
            report(null);
        } catch (error) {
            report(error);
        } finally {
            busy = false;
        }
    }
    bell.onmessage = settle;
    setInterval(settle, 5000);

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
    at("#trust").onclick = () => compare(device).then(settle, report);

    await show(device);
    await settle();
    // Whatever this tab had sent when it was closed, somebody should look.
    bell.postMessage(null);
    document.body.dataset.ready = "";
    field.focus();
}

async function show(device) {
    const lines = await device.history(peer, 500);
    const list = at("#lines");
    const wasAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    list.replaceChildren(...lines.map(item));
    if (wasAtEnd) list.scrollTop = list.scrollHeight;

    const known = await device.trust(peer);
    const words = { FirstUse: "not compared", Verified: "verified", Unaccepted: "the key changed" };
    const chip = at("#trust");
    chip.hidden = !known;
    chip.dataset.trust = known?.trust;
    chip.textContent = words[known?.trust];
}

function item(line) {
    const item = document.createElement("li");
    const author = line.notice ? "notice" : line.mine ? "mine" : "theirs";
    item.className = [author, line.waiting ? "waiting" : "", line.late ? "late" : ""].join(" ");
    // It may be late mail, or the work of somebody who has the device now.
    if (line.late) item.title = "from a device that was removed";
    const time = document.createElement("time");
    time.textContent = new Date(line.at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    item.append(line.text, time);
    return item;
}

async function compare(device) {
    const [mine, theirs] = [await device.trust(user), await device.trust(peer)];
    const changed = theirs.newKey;
    const dialog = at("#keys");
    at("#keys h2").textContent = changed ? `${peer} has a new key` : `Is it ${peer}?`;
    at("#keys p").textContent = changed
        ? `Whoever holds it reads what you write. Ask ${peer} in person before you accept it.`
        : `${peer} should see the same two keys. Compare them face to face or in a call, so that nobody is in between.`;
    at("#keys .first").textContent = changed ? "Accept" : "They are the same";
    const keys = changed ? [[`${peer}, new`, changed]] : [[user, mine.key], [peer, theirs.key]].sort();
    at("#keys dl").replaceChildren(
        ...keys.flatMap(([name, key]) => {
            const [term, value] = [document.createElement("dt"), document.createElement("dd")];
            term.textContent = name;
            value.textContent = key.replace(/(.{8})(?=.)/g, "$1 ");
            return [term, value];
        }),
    );
    dialog.returnValue = "";
    dialog.showModal();
    await new Promise((resolve) => (dialog.onclose = resolve));
    if (dialog.returnValue !== "same") return;
    await (changed ? device.acceptNewKey(peer, theirs) : device.verify(peer, theirs));
}

function report(error) {
    const trouble = at("#trouble");
    trouble.hidden = !error;
    if (!error) return;
    trouble.textContent = error.remedy ? `${error.message} (${error.remedy})` : `${error}`;
    console.error(error);
}
