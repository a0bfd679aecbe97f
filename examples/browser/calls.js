// Calls: the telephone of an account, which one tab at a time has. Who may be in, and the keys, are in src/calls.rs; frames are in media.js.

import { Part, Post } from "./pkg/subrosa_browser.js";
import { drawCall, drawRinging } from "./callview.js";
import { Peer } from "./peer.js";
import { trustOf, words } from "./shared.js";

// Milliseconds between two offers to those who have not come yet, after which it does not ring any more, and after which nobody answers.
const [RING, FADES, GIVE_UP] = [20_000, 50_000, 60_000];
const CLOSES = "Nobody else was in the call any more";

export const canCall = Boolean(window.RTCRtpScriptTransform && navigator.mediaDevices?.getUserMedia);

// `settle` sends what was posted, `tell` says something to the person.
export function telephone(device, user, here, { settle, tell, turnTo, roomOf }) {
    let holds = false;
    let call = null;
    let ringing = null;
    let isBeginning = false;
    // Calls that this person does not want to hear of.
    const declined = new Set();
    const drawn = () => {
        drawCall(device, call, { user, settle, leave, mute });
        drawRinging(device, ringing, { answer, decline });
    };

    // One tab of an account has the telephone: the one where somebody calls, or goes on after a reload, takes it.
    function take(steal) {
        navigator.locks
            .request(`subrosa telephone ${here}`, { steal }, () => {
                holds = true;
                settle();
                return new Promise(() => {});
            })
            .catch(() => {
                holds = false;
                ringing = null;
                over("the call goes on in another tab", { quietly: true });
                take(false);
            });
    }

    // Everything that came and is due; `settle` sends what this posts.
    async function turn() {
        if (!holds) return;
        for (const heard of await device.takeSignals()) await hear(heard).catch(() => {}); // A signal that makes no sense.
        if (ringing && Date.now() - ringing.at > FADES) stopRinging(ringing.isQuiet ? null : `you missed a call of ${ringing.from.user}`);
        if (call) await goOn();
        drawn();
    }

    async function goOn() {
        const { part, id } = call;
        const users = await device.usersOf(call.room);
        const people = await device.callMembers(users);
        // What was said, or decided, meanwhile.
        if (call?.part !== part) return;
        part.setPeople(people, performance.now());
        match();
        const posts = part.tick(performance.now());
        posts.push(...call.outbox.splice(0).map(([to, kind, body]) => Post.to(id, kind, JSON.stringify(body), to)));
        for (const peer of call.peers.values()) {
            const candidates = peer.takeCandidates();
            if (candidates.length) posts.push(Post.to(id, "Candidates", JSON.stringify({ ...between(peer), candidates }), peer.place));
        }
        posts.push(...rings(people));
        if (posts.length) await device.post(posts);
        if (call?.part !== part) return;
        if (posts.length) settle();
        giveKeys();
        const alone = call.peers.size === 0;
        if (!call.isGroup && alone && call.wasMet) return over(CLOSES);
        if (!call.isGroup && alone && Date.now() - call.begunAt > GIVE_UP) return leave("nobody answers");
        clearTimeout(call.timer);
        const waits = [part.nextIn(performance.now()) ?? RING, call.ringAt - Date.now(), RING];
        call.timer = setTimeout(settle, Math.max(50, Math.min(...waits)));
    }

    // An offer rings with those who are not in: the device that comes first among those in the call sends it.
    function rings(people) {
        const { part, id, room, isGroup } = call;
        if (Date.now() < call.ringAt) return [];
        call.ringAt = Date.now() + RING;
        const first = [nameOf(device.place), ...call.peers.keys()].sort()[0];
        if (first !== nameOf(device.place)) return [];
        if (!isGroup && (call.wasMet || call.isRejoined)) return [];
        return [Post.toAll(id, "Offer", JSON.stringify({ room: isGroup ? room : null }), people, part)];
    }

    async function hear(heard) {
        const { call: id, kind, from } = heard;
        if (call?.id === id) return hearMine(heard, from, kind);
        if (kind === "Offer") return ring(id, from, JSON.parse(heard.text));
        if (ringing?.id !== id) return;
        if (from.user === user && kind === "Join") stopRinging(null);
        if (from.user === ringing.from.user && kind === "Hangup") stopRinging(`you missed a call of ${from.user}`);
    }

    function hearMine(heard, from, kind) {
        if (call.part.take(heard, performance.now()) !== "ForApp") return;
        if (kind === "Answer" || kind === "Candidates") {
            match();
            const body = JSON.parse(heard.text);
            const name = nameOf(from);
            const peer = call.peers.get(name);
            // It is for another beginning of this side.
            if (body.to !== call.part.instance) return;
            if (peer && body.from === peer.instance) return peer.hear(body);
            // It may come before what says that its sender is in. It waits for that, as one of few.
            call.early = [...call.early.slice(-63), { name, body }];
            return;
        }
        if (call.isGroup || from.user !== call.room || call.peers.size) return;
        if (kind === "Hangup") over(`${from.user} does not take the call`);
        if (kind === "Busy") over(`${from.user} is in another call`);
    }

    async function ring(id, from, { room }) {
        const where = room ?? from.user;
        // A group of which this person is a member, and the caller too.
        const users = await device.usersOf(where);
        if (from.user === user || !users.includes(from.user)) return;
        if (call) {
            // Both called each other: the call with the lower name it is.
            const isCrossed = call.room === where && !call.peers.size;
            if (isCrossed && id < call.id) return over(null, { quietly: true }), begin(where, { id });
            if (!isCrossed && !declined.has(id)) await device.post([Post.to(id, "Busy", "{}", from)]);
            return settle();
        }
        if (declined.has(id) && !room) return;
        if (ringing && ringing.id !== id) return;
        const isQuiet = declined.has(id);
        setTimeout(settle, FADES + 100);
        ringing = { id, from, room: where, isGroup: Boolean(room), title: await roomOf(where), at: Date.now(), isQuiet };
    }

    function stopRinging(why) {
        ringing = null;
        if (why) tell(why);
        drawn();
    }

    // Begins a call in a room, or joins one.
    async function begin(room, { id, isRejoined, isAnswer } = {}) {
        if (call || isBeginning) return;
        isBeginning = true;
        try {
            await beginNow(room, { id, isRejoined, isAnswer });
        } finally {
            isBeginning = false;
        }
    }

    async function beginNow(room, { id, isRejoined, isAnswer }) {
        if (!holds) take(true);
        ringing = null;
        const users = await device.usersOf(room);
        for (const one of users) await device.meet(one);
        // Nobody who has not been accepted is rung.
        const trusts = await Promise.all(users.map(async (one) => trustOf(await device.trust(one))));
        if (!trusts.some((trust) => trust && trust !== "Unaccepted")) throw new Error("accept the new key first: nobody else can be called");
        const mine = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 640, height: 480 } });
        const part = new Part(device, id, performance.now());
        const worker = new Worker("media.js", { type: "module" });
        call = { id: part.id, part, room, worker, mine, peers: new Map(), outbox: [], early: [] };
        Object.assign(call, { isGroup: room.startsWith("&"), isRejoined: Boolean(isRejoined), title: await roomOf(room), begunAt: Date.now(), ringAt: isAnswer ? Date.now() + RING : 0, wasMet: false });
        worker.onmessage = ({ data }) => {
            if (call?.worker !== worker) return;
            if (data.counts) document.querySelector("#call").dataset.counts = JSON.stringify(data.counts);
            const peer = call.peers.get(data.missed);
            if (!peer) return;
            part.missed(peer.place, performance.now());
            settle();
        };
        // A reload comes back to it.
        sessionStorage.setItem("call", JSON.stringify({ id: part.id, room }));
        drawn();
        settle();
    }

    // A connection for each device that is in, and none for another.
    function match() {
        const { part, worker, mine, peers } = call;
        const here = new Map(part.present().map((place) => [nameOf(place), place]));
        for (const [name, peer] of peers) {
            if (here.has(name) && part.instanceOf(peer.place) === peer.instance) continue;
            peer.close();
            peers.delete(name);
            if (!here.has(name)) worker.postMessage({ open: part.openingKeys(peer.place), from: name });
        }
        const own = nameOf(device.place);
        for (const [name, place] of here) {
            if (peers.has(name)) continue;
            const say = (kind, body) => {
                call?.outbox.push([place, kind, { ...between(peer), ...body }]);
                settle();
            };
            const peer = new Peer({ name, place, instance: part.instanceOf(place), isFirst: own < name, worker, mine, say, changed: settle });
            peers.set(name, peer);
            call.wasMet = true;
            for (const { name: whose, body } of call.early) if (whose === name && body.from === peer.instance) peer.hear(body);
            call.early = call.early.filter((early) => early.name !== name);
        }
    }

    // Which beginning says something to which.
    const between = (peer) => ({ from: call.part.instance, to: peer.instance });

    function giveKeys() {
        const { part, worker, peers } = call;
        const give = (keys, message) => worker.postMessage(message, [keys.buffer]);
        const seal = part.sealingKeys(performance.now());
        if (seal.length) give(seal, { seal });
        for (const [from, { place }] of peers) {
            const open = part.openingKeys(place);
            give(open, { open, from });
        }
        worker.postMessage({ counts: true });
    }

    async function answer() {
        if (!ringing) return;
        const { id, room } = ringing;
        try {
            await begin(room, { id, isAnswer: true });
            await turnTo(room);
        } catch (error) {
            tell(words(error));
        }
    }

    async function decline() {
        if (!ringing) return;
        const { id, from, isGroup } = ringing;
        declined.add(id);
        ringing = null;
        drawn();
        // In a group the others go on.
        if (!isGroup) await device.post([Post.to(id, "Hangup", "{}", from)]);
        settle();
    }

    // Hangs up: the others are told, and those with whom it still rings.
    async function leave(why) {
        if (!call) return;
        const { id, part, peers, isGroup, room } = call;
        const posts = [];
        // Others may ring on: that this person knows.
        declined.add(id);
        if (!isGroup && !peers.size) {
            const people = await device.callMembers(await device.usersOf(room));
            posts.push(Post.toAll(id, "Hangup", "{}", people, part));
        }
        if (call?.part !== part) return;
        over(typeof why === "string" ? why : null, { quietly: true });
        posts.push(...part.leave());
        await device.post(posts);
        settle();
    }

    // Nothing of it is left here.
    function over(why, { quietly } = {}) {
        if (!call) return;
        const { part, worker, mine, peers, timer } = call;
        call = null;
        clearTimeout(timer);
        sessionStorage.removeItem("call");
        peers.forEach((peer) => peer.close());
        worker.terminate();
        mine.getTracks().forEach((track) => track.stop());
        if (!quietly) device.post(part.leave()).then(settle, () => {});
        if (why) tell(why);
        drawn();
    }

    function mute(kind) {
        for (const track of call?.mine.getTracks() ?? []) if (track.kind === kind) track.enabled = !track.enabled;
        drawn();
    }

    const again = JSON.parse(sessionStorage.getItem("call") ?? "null");
    take(Boolean(again));
    return {
        turn,
        begin: (room) => begin(room).catch((error) => tell(words(error))),
        // After a reload.
        again: () => again && begin(again.room, { id: again.id, isRejoined: true }).catch((error) => tell(words(error))),
        isIn: () => Boolean(call),
    };
}

export const nameOf = ({ user, device }) => `${user}/${device}`;
