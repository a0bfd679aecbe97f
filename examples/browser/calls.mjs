// People call each other: real WebRTC between tabs, the browser's fake camera and microphone, and every frame through the crate.

import assert from "node:assert/strict";
import { webcrypto as crypto } from "node:crypto";

// What a page shows of its call.
const seen = (tab) =>
    tab.run(() => {
        const brightness = (video) => {
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [64, 48];
            const pen = canvas.getContext("2d");
            pen.drawImage(video, 0, 0, 64, 48);
            const { data } = pen.getImageData(0, 0, 64, 48);
            const lights = Array.from({ length: 64 * 48 }, (_, at) => (data[at * 4] + data[at * 4 + 1] + data[at * 4 + 2]) / 3);
            const mean = lights.reduce((sum, light) => sum + light, 0) / lights.length;
            const spread = Math.sqrt(lights.reduce((sum, light) => sum + (light - mean) ** 2, 0) / lights.length);
            return { mean, spread, colours: [0, 1, 2].map((at) => data[(24 * 64 + 4) * 4 + at]) };
        };
        const tiles = [...document.querySelectorAll("#call figure")].map((tile) => {
            const video = tile.querySelector("video");
            const { name, state, trust, came } = tile.dataset;
            const seen = { width: video.videoWidth, ...brightness(video) };
            return { name, state, trust, words: tile.lastChild.textContent, came: JSON.parse(came ?? "{}"), ...seen };
        });
        const section = document.querySelector("#call");
        return {
            isOpen: !section.hidden,
            title: section.querySelector("h2").textContent,
            promise: section.querySelector(".promise").textContent,
            counts: JSON.parse(section.dataset.counts ?? "{}"),
            tiles: Object.fromEntries(tiles.map((tile) => [tile.name, tile])),
        };
    });

// A picture that is one, and sound: more of both than before.
async function comes(until, tab, from, what) {
    const before = (await seen(tab)).tiles[from]?.came ?? {};
    const isThere = async () => {
        const { tiles } = await seen(tab);
        const [tile, own] = [tiles[from], tiles[""]];
        // The fake cameras show the same: noise looks different.
        const looksAlike = () => Math.abs(tile.mean - own.mean) < 12 && tile.colours.every((light, at) => Math.abs(light - own.colours[at]) < 40);
        return (
            tile?.state === "here" &&
            tile.came.decoded > (before.decoded ?? 0) + 20 &&
            tile.came.sounds > (before.sounds ?? 0) + 20 &&
            tile.came.energy > (before.energy ?? 0) &&
            tile.width > 0 && tile.mean > 20 && tile.spread > 10 && looksAlike()
        );
    };
    await until(isThere, `${what}: ${from} is seen and heard`, 60_000).catch(async (error) => {
        throw new Error(`${error.message}: ${JSON.stringify(await seen(tab))}`);
    });
}

const rings = (tab) => tab.run(() => !document.querySelector("#ringing").hidden && document.querySelector("#ringing p").textContent);
const isOver = (tab) => tab.run(() => document.querySelector("#call").hidden);

// All tests of calls, for `test.mjs`. `open`, `reload`, `until`, `shoot` and `turnTo` are its own.
export function calls({ open, reload, until, shoot, turnTo, wait }) {
    const tabs = {};
    const both = async () => {
        for (const user of ["alice", "bob"]) tabs[user] ??= await open(user);
        return tabs;
    };
    const come = (tab, from, what) => comes(until, tab, from, what);
    return {
        "two tabs call each other: pictures and sound come, each frame through the crate": async () => {
            const { alice, bob } = await both();
            await alice.click("#phone");
            await until(() => rings(bob), "it rings");
            assert.match(await rings(bob), /^alice \(verified\) calls you\.$/);
            await shoot(bob, "call-rings");
            await bob.click("#answer");
            await come(alice, "bob/1", "alice");
            await come(bob, "alice/1", "bob");
            // What the workers counted, when they were asked last.
            const begun = Date.now();
            const before = await seen(alice);
            await wait(5000);
            const [after, seconds] = [await seen(alice), (Date.now() - begun) / 1000];
            assert.match(after.promise, /^End-to-end encrypted\. Everybody in it is verified\.$/);
            await shoot(alice, "call");
            return figures(before.counts, after.counts, seconds);
        },
        "a call is declined, and one that nobody wants any more stops ringing": async () => {
            const { alice, bob } = await both();
            await bob.click("#hang-up");
            await until(() => isOver(alice), "it is over on the other side");
            await until(() => isOver(bob), "and here");
            await alice.click("#phone");
            await until(() => rings(bob), "it rings");
            await bob.click("#reject");
            await until(() => isOver(alice), "the caller is told");
            assert.match(await alice.run(() => document.querySelector("#said").textContent), /bob does not take the call/);
            await bob.click("#phone");
            await until(() => rings(alice), "it rings");
            await bob.click("#hang-up");
            await until(async () => !(await rings(alice)), "it does not ring any more");
        },
        "a page in a call is loaded again, and goes on": async () => {
            const { alice, bob } = await both();
            await alice.click("#phone");
            await until(() => rings(bob), "it rings");
            await bob.click("#answer");
            await come(alice, "bob/1", "before");
            const times = [];
            for (const [reloaded, other, name] of [[bob, alice, "bob/1"], [alice, bob, "alice/1"]]) {
                const begun = Date.now();
                await reload(reloaded);
                await come(reloaded, name === "bob/1" ? "alice/1" : "bob/1", "the page that was loaded again");
                await come(other, name, "the other page");
                times.push(((Date.now() - begun) / 1000).toFixed(1));
            }
            await alice.click("#hang-up");
            await until(() => isOver(bob), "it is over");
            return `pictures again after ${times.join(" and ")} s`;
        },
        "a third tab joins a call and leaves it": async () => {
            const { alice, bob } = await both();
            const carol = (tabs.carol = await open("carol"));
            await alice.click("#make");
            await alice.type("#title", "Calls");
            await alice.click("#new .first");
            await turnTo(alice, "Calls");
            for (const tab of [bob, carol]) {
                await turnTo(tab, "Calls");
                await tab.click("#join");
            }
            const areIn = (tab) => tab.run(() => document.querySelector("#invitation").hidden);
            for (const tab of [bob, carol]) await until(() => areIn(tab), "they have joined");
            await alice.click("#phone");
            for (const tab of [bob, carol]) await until(() => rings(tab), "it rings with both");
            await bob.click("#answer");
            await come(alice, "bob/1", "two");
            const generation = (await seen(alice)).counts;
            await carol.click("#answer");
            for (const [user, tab] of Object.entries({ alice, bob, carol })) {
                for (const other of ["alice", "bob", "carol"]) if (other !== user) await come(tab, `${other}/1`, `three, ${user}`);
            }
            assert(generation["sealed 1"].frames > 0);
            assert.match((await seen(alice)).promise, /Not compared yet: carol\./);
            await shoot(alice, "call-three");
            await carol.click("#hang-up");
            await until(async () => !(await seen(alice)).tiles["carol/1"], "she is not in any more");
            await come(alice, "bob/1", "two again");
            await come(bob, "alice/1", "two again");
            // Who hung up is not rung again, and can come back.
            await until(() => rings(carol), "she sees that it goes on", 40_000);
            assert.match(await rings(carol), /is in a call in Calls/);
        },
        "a tab without the keys of a call sees nothing, and what comes is sealed as RFC 9605 says": async () => {
            const { alice, bob } = await both();
            const { carol } = tabs;
            await bob.run(keepKeys);
            await carol.run(withoutKeys);
            await carol.click("#answer");
            const isDeaf = async () => {
                const { tiles, counts } = await seen(carol);
                const came = ["alice/1", "bob/1"].map((name) => tiles[name]?.came ?? {});
                return came.every(({ packets, sounds }) => packets > 60 && sounds > 60) && counts["opened 1"]?.dropped > 30 && { tiles, counts };
            };
            await until(isDeaf, "frames come, and none opens", 60_000);
            await wait(2000);
            const { tiles, counts } = await seen(carol);
            for (const name of ["alice/1", "bob/1"]) {
                assert.deepEqual([tiles[name].came.decoded, tiles[name].came.energy, tiles[name].width], [0, 0, 0], `${name}: nothing`);
            }
            assert.equal(counts["opened 0"].frames + counts["opened 1"].frames, 0);
            await until(async () => /what comes cannot be opened/.test((await seen(carol)).tiles["bob/1"].words), "she is told so");
            await shoot(carol, "call-no-keys");
            // The others hear each other, and the key was asked for and sent again.
            await come(alice, "bob/1", "the others");
            const frames = await carol.run(() => window.caught);
            const keys = await bob.run(() => Object.values(window.keys["alice/1"]));
            const opened = await Promise.all(frames.filter(({ from }) => from === "alice/1").map((frame) => openAsRfc9605(frame, keys)));
            assert(opened.length > 10 && opened.every((text) => text.length > 0), "another implementation opens them with the key");
            await carol.run(() => (window.giveKeys = true));
            await come(carol, "alice/1", "with keys");
            await come(carol, "bob/1", "with keys");
            for (const tab of [carol, bob, alice]) await tab.click("#hang-up");
            for (const tab of Object.values(tabs)) {
                await until(() => isOver(tab), "it is over");
                await tab.close();
            }
            return `${opened.length} frames opened elsewhere`;
        },
    };
}

// Frames a second and processor time a frame, between two looks at a tab.
function figures(before, after, seconds) {
    const words = [];
    for (const [what, name] of [["sealed 1", "pictures sealed"], ["opened 1", "opened"], ["sealed 0", "sounds sealed"], ["opened 0", "opened"]]) {
        const frames = after[what].frames - before[what].frames;
        assert(frames > 20, `${what}: ${frames} frames`);
        const [ms, bytes] = [(after[what].ms - before[what].ms) / frames, (after[what].bytes - before[what].bytes) / frames];
        words.push(`${name} ${(frames / seconds).toFixed(0)} a second of ${bytes.toFixed(0)} B in ${ms.toFixed(2)} ms`);
    }
    return words.join(", ");
}

// The keys that this page gives its worker are kept for the test.
function keepKeys() {
    window.keys = {};
    const post = Worker.prototype.postMessage;
    Worker.prototype.postMessage = function (message, ...rest) {
        if (message.open?.length) (window.keys[message.from] ??= {})[message.open.join()] = [...message.open];
        return post.call(this, message, ...rest);
    };
}

// The worker of this page gets no keys that open, and the first frames that come are kept.
function withoutKeys() {
    [window.caught, window.giveKeys] = [[], false];
    const post = Worker.prototype.postMessage;
    Worker.prototype.postMessage = function (message, ...rest) {
        if (!message.open || window.giveKeys) return post.call(this, message, ...rest);
    };
    const around = `
        const [messages, transforms] = [[], []];
        self.onmessage = (event) => messages.push(event);
        self.onrtctransform = (event) => transforms.push(event);
        await import("${new URL("media.js", location)}");
        const work = self.onrtctransform;
        self.onrtctransform = ({ transformer }) => {
            const { writable, options } = transformer;
            let count = 0;
            const kept = new TransformStream({
                transform(frame, out) {
                    if (options.from && count++ < 20) postMessage({ caught: { ...options, bytes: [...new Uint8Array(frame.data)] } });
                    out.enqueue(frame);
                },
            });
            const sendKeyFrameRequest = () => transformer.sendKeyFrameRequest();
            work({ transformer: { readable: transformer.readable.pipeThrough(kept), writable, options, sendKeyFrameRequest } });
        };
        messages.forEach((event) => self.onmessage(event));
        transforms.forEach((event) => self.onrtctransform(event));`;
    const address = URL.createObjectURL(new Blob([around], { type: "text/javascript" }));
    const Begun = window.Worker;
    window.Worker = class extends Begun {
        constructor(_, options) {
            super(address, options);
            this.addEventListener("message", ({ data }) => data.caught && window.caught.push(data.caught));
        }
    };
}

// RFC 9605 with AES_256_GCM_SHA512_128, by what node has: the frame key and salt from the base key, the nonce from the counter.
async function openAsRfc9605({ stream, bytes }, exported) {
    const frame = Uint8Array.from(bytes);
    const clear = stream === 0 ? 0 : frame[0] & 1 ? 3 : 10;
    const config = frame[clear];
    let at = clear + 1;
    const number = (isLong, low) => {
        if (!isLong) return BigInt(low);
        let value = 0n;
        for (let left = low + 1; left > 0; left--) value = (value << 8n) | BigInt(frame[at++]);
        return value;
    };
    const kid = number(config >> 7, (config >> 4) & 7);
    const counter = number((config >> 3) & 1, config & 7);
    const [header, text] = [frame.slice(clear, at), frame.slice(at)];
    const keys = exported.flatMap((keys) => Array.from({ length: keys.length / 50 }, (_, index) => Buffer.from(keys.slice(index * 50, index * 50 + 50))));
    const key = keys.find((key) => key.readBigUInt64BE(8) === kid);
    assert(key, `there is a key of id ${kid}`);
    assert.equal(key.readUInt16BE(16), 5);
    const expand = async (label, length) => {
        const base = await crypto.subtle.importKey("raw", key.subarray(18), "HKDF", false, ["deriveBits"]);
        const tail = Buffer.alloc(10);
        tail.writeBigUInt64BE(kid);
        tail.writeUInt16BE(5, 8);
        const info = Buffer.concat([Buffer.from(label), tail]);
        return Buffer.from(await crypto.subtle.deriveBits({ name: "HKDF", hash: "SHA-512", salt: new Uint8Array(), info }, base, length * 8));
    };
    const aes = await crypto.subtle.importKey("raw", await expand("SFrame 1.0 Secret key ", 32), "AES-GCM", false, ["decrypt"]);
    const nonce = await expand("SFrame 1.0 Secret salt ", 12);
    nonce.writeBigUInt64BE(nonce.readBigUInt64BE(4) ^ counter, 4);
    const additionalData = Buffer.concat([header, frame.slice(0, clear)]);
    return Buffer.from(await crypto.subtle.decrypt({ name: "AES-GCM", iv: nonce, additionalData }, aes, text));
}
