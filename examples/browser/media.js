// The worker that seals and opens what a call sends: each frame, between the codec and the network. It has the keys of the call and nothing
// else; a frame for which there is no key goes nowhere.

import init, { Media } from "./pkg/subrosa_media.js";

const started = init({ module_or_path: new URL("./pkg/subrosa_media_bg.wasm", import.meta.url) }).then(() => new Media());

// Of each kind of work: frames, bytes, milliseconds, and what was dropped.
const counts = {};
// When the page was told last that a device's key is missing.
const told = new Map();

onmessage = async ({ data }) => {
    const media = await started;
    if (data.counts) return postMessage({ counts });
    const { seal, open, from } = data;
    if (seal) media.setSealers(seal);
    if (open) media.setOpeners(from, open);
    // What is in the memory of JavaScript nobody else wipes.
    (seal ?? open).fill(0);
};

onrtctransform = async ({ transformer }) => {
    const { readable, writable, options } = transformer;
    const media = await started;
    const work = options.from === undefined ? sealing(media, options) : opening(media, options, transformer);
    readable
        .pipeThrough(new TransformStream({ transform: work }))
        .pipeTo(writable)
        .catch(() => {}); // The connection was closed.
};

const sealing = (media, { stream }) => {
    const count = counter(`sealed ${stream}`);
    return (frame, out) => {
        const begun = performance.now();
        const sealed = media.seal(stream, new Uint8Array(frame.data));
        if (!sealed) return count.dropped++;
        frame.data = sealed.buffer;
        took(count, begun, sealed);
        out.enqueue(frame);
    };
};

const opening = (media, { from, stream }, transformer) => {
    const count = counter(`opened ${stream}`);
    let isBroken = stream === 1;
    return (frame, out) => {
        const begun = performance.now();
        let opened;
        try {
            opened = media.open(from, stream, new Uint8Array(frame.data));
        } catch (why) {
            isBroken = stream === 1;
            count.dropped++;
            if (why === "WaitingForKey") missed(from);
            return;
        }
        frame.data = opened.buffer;
        took(count, begun, opened);
        // A picture that says what is different from the one before is nothing without that.
        if (isBroken && frame.type !== "key") transformer.sendKeyFrameRequest?.().catch(() => {});
        isBroken &&= frame.type !== "key";
        out.enqueue(frame);
    };
};

function counter(of) {
    return (counts[of] ??= { frames: 0, bytes: 0, ms: 0, dropped: 0 });
}

function took(count, begun, frame) {
    count.ms += performance.now() - begun;
    count.frames++;
    count.bytes += frame.length;
}

function missed(from) {
    if (performance.now() - (told.get(from) ?? -1000) < 500) return;
    told.set(from, performance.now());
    postMessage({ missed: from });
}
