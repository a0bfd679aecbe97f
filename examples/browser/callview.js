// What a person sees of a call: who is in, whether each one is verified, and what it says of itself.

import { at, plain, trustOf } from "./shared.js";

const TRUST = { FirstUse: "not compared", Verified: "verified", Unaccepted: "the key changed" };

const STATES = { waiting: "connecting", keyless: "waiting for the key", deaf: "what comes cannot be opened" };

let clock = 0;

export async function drawCall(device, call, { user, settle, leave, mute }) {
    const section = at("#call");
    section.hidden = !call;
    section.dataset.call = call?.id ?? "";
    if (!call) {
        clearInterval(clock);
        clock = 0;
        at("#call .tiles").replaceChildren();
        delete section.dataset.counts;
        return;
    }
    clock ||= setInterval(() => passing(call, settle), 1000);
    at("#hang-up").onclick = leave;
    for (const [button, kind, title] of [["#mute", "audio", "Microphone"], ["#dark", "video", "Camera"]]) {
        const isOn = call.mine.getTracks().some((track) => track.kind === kind && track.enabled);
        at(button).textContent = `${title} ${isOn ? "on" : "off"}`;
        at(button).setAttribute("aria-pressed", String(isOn));
        at(button).onclick = () => mute(kind);
    }
    const { peers } = call;
    const isOn = peers.size || call.wasMet;
    at("#call h2").textContent = isOn ? `In a call ${call.isGroup ? "in" : "with"} ${call.title}` : `Calling ${call.title}\u2026`;
    const shown = [...peers.values()];
    const known = new Map();
    for (const { place } of shown) known.set(place.user, trustOf(await device.trust(place.user)));
    // It may be over by now.
    if (section.dataset.call !== call.id) return;
    const unsure = [...known].filter(([, trust]) => trust !== "Verified").map(([name]) => plain(name));
    at("#call .promise").textContent = `End-to-end encrypted. ${
        !known.size ? "Nobody else is in yet." : unsure.length ? `Not compared yet: ${unsure.join(", ")}.` : "Everybody in it is verified."
    }`;
    at("#call .promise").dataset.sure = String(known.size > 0 && !unsure.length);
    tiles(call, user, known);
}

// A tile for each device that is in, and one's own. Those that stay are not touched: a video that is moved begins again.
function tiles(call, user, known) {
    const list = at("#call .tiles");
    const wanted = new Map([["", null], ...call.peers]);
    for (const tile of [...list.children]) {
        const peer = wanted.get(tile.dataset.name);
        if (peer === undefined || (peer && tile.firstChild.srcObject !== peer.seen)) tile.remove();
    }
    for (const [name, peer] of wanted) {
        let tile = [...list.children].find((tile) => tile.dataset.name === name);
        if (!tile) {
            tile = document.createElement("figure");
            const [video, caption] = [document.createElement("video"), document.createElement("figcaption")];
            Object.assign(video, { autoplay: true, playsInline: true, muted: !peer, srcObject: peer ? peer.seen : call.mine });
            tile.dataset.name = name;
            tile.append(video, caption);
            list.append(tile);
        }
        tile.dataset.state = peer ? stateOf(call, peer) : "here";
        const trust = peer && known.get(peer.place.user);
        tile.dataset.trust = trust ?? "";
        const words = peer ? [plain(peer.place.user), TRUST[trust] ?? "unknown", STATES[tile.dataset.state]].filter(Boolean).join(" \u00b7 ") : `${user} (you)`;
        if (tile.lastChild.textContent !== words) tile.lastChild.textContent = words;
    }
}

function stateOf(call, peer) {
    if (!call.part.hasKey(peer.place)) return "keyless";
    if (peer.connection.connectionState !== "connected") return "waiting";
    return peer.isDeaf ? "deaf" : "here";
}

// How long it is, and what came, for whoever looks.
async function passing(call, settle) {
    const seconds = Math.round((Date.now() - call.begunAt) / 1000);
    at("#call time").textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    call.worker.postMessage({ counts: true });
    let isNews = false;
    for (const [name, peer] of call.peers) {
        const came = await peer.measure();
        const { came: before } = peer;
        // Frames come, and none can be shown.
        const isDeaf = Boolean(before) && came.packets > before.packets && came.decoded === before.decoded;
        isNews ||= isDeaf !== Boolean(peer.isDeaf);
        Object.assign(peer, { came, isDeaf });
        const tile = [...at("#call .tiles").children].find((tile) => tile.dataset.name === name);
        if (tile) tile.dataset.came = JSON.stringify(came);
    }
    if (isNews) settle();
}

export async function drawRinging(device, ringing, { answer, decline }) {
    const section = at("#ringing");
    section.hidden = !ringing;
    if (!ringing) return;
    const { from, isGroup, title, isQuiet } = ringing;
    section.classList.toggle("quiet", Boolean(isQuiet));
    const trust = TRUST[trustOf(await device.trust(from.user))] ?? "unknown";
    if (section.hidden) return;
    at("#ringing p").textContent = isGroup
        ? `${plain(from.user)} (${trust}) ${isQuiet ? "is in a call" : "calls you"} in ${title}.`
        : `${plain(from.user)} (${trust}) calls you.`;
    at("#answer").textContent = isQuiet ? "Join" : "Answer";
    at("#answer").onclick = answer;
    at("#reject").onclick = decline;
    at("#reject").hidden = Boolean(isQuiet);
}
