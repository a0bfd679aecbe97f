// People make sure that nobody is in between, in each of the three ways, and take it back.

import assert from "node:assert/strict";

export const trustOf = (tab) => tab.run(() => document.querySelector("#trust").dataset.trust);

// Opens the dialog about the other one.
export async function openVerify(tab) {
    for (let tries = 0; tries < 100; tries++) {
        const isOpen = await tab.run(() => {
            const dialog = document.querySelector("#verify");
            if (!dialog.open && !document.querySelector("#trust").hidden) document.querySelector("#trust").click();
            return dialog.open;
        });
        if (isOpen) return;
        await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error("the dialog does not open");
}

const isShown = (tab, selector) =>
    tab.run((selector) => document.querySelector("#verify").open && document.querySelector(selector).checkVisibility(), selector);
const close = (tab) => tab.click("#verify footer form button");
const lines = (tab) => tab.run(() => [...document.querySelectorAll("#lines li.notice")].map((line) => line.textContent));

// All tests of verification, for `test.mjs`.
export function verification({ open, reload, until, shoot }) {
    let [alice, bob] = [null, null];
    const trusts = (tab, trust) => until(async () => (await trustOf(tab)) === trust, `it says ${trust}`);
    // Both take back what is verified.
    const begin = async () => {
        for (const tab of [alice, bob]) {
            await openVerify(tab);
            if ((await trustOf(tab)) === "Verified") await tab.click("#unverify");
            await trusts(tab, "FirstUse");
        }
    };
    // From the start to what both see.
    const compare = async () => {
        await alice.click("#sas-start");
        await until(() => isShown(bob, "#sas-asked"), "the other one is asked");
        await bob.click("#sas-accept");
        const seen = [];
        for (const tab of [alice, bob]) {
            await until(() => isShown(tab, "#sas"), "there are emoji");
            seen.push(await tab.run(() => document.querySelector("#sas").innerText));
        }
        return seen;
    };
    return {
        "what was verified is taken back, and is so in another tab": async () => {
            [alice, bob] = [await open("alice"), await open("bob")];
            const second = await open("alice");
            assert.equal(await trustOf(second), "Verified");
            await openVerify(alice);
            await alice.click("#unverify");
            for (const tab of [alice, second]) await trusts(tab, "FirstUse");
            assert.equal(await trustOf(bob), "Verified", "what the other one compared is his");
            await second.close();
            await close(alice);
        },
        "people compare emoji, which are the same, and nothing else verifies": async () => {
            await begin();
            const [first, other] = await compare();
            assert.equal(first, other);
            assert.match(first, /numbers: \d{4} \d{4} \d{4}/);
            await shoot(alice, "emoji");
            await alice.click("#sas-same");
            await trusts(alice, "Verified");
            assert.equal(await trustOf(bob), "FirstUse", "nobody said so there");
            await bob.click("#sas-same");
            await trusts(bob, "Verified");
        },
        "emoji that differ are told, and nobody is verified": async () => {
            await begin();
            await compare();
            await alice.click("#sas-same");
            await trusts(alice, "Verified");
            await bob.click("#sas-differs");
            await trusts(alice, "FirstUse");
            await until(async () => (await lines(alice)).some((line) => /bob says that the emoji differ: somebody may be in between/.test(line)), "she is told");
            // Closing the page is to stop.
            await alice.click("#sas-start");
            await until(() => isShown(bob, "#sas-asked"), "the other one is asked");
            await close(alice);
            await until(async () => !(await isShown(bob, "#sas-asked")), "the question is taken away");
            await close(bob);
        },
        "a code is shown, scanned and confirmed by a look": async () => {
            await begin();
            await alice.click("#show-code");
            await until(() => isShown(alice, "#code svg"), "the code is there");
            await shoot(alice, "code");
            const code = await alice.run(() => document.querySelector("#code code").textContent);
            assert.match(code, /^SUBROSA1:[A-Z2-7]+$/);
            const { corners, margin, side } = await alice.run(readCorners);
            assert.deepEqual([corners, margin], [[true, true, true, false], 0], "a picture that a camera finds");
            assert.equal((side - 8 - 17) % 4, 0);
            const check = async (tab, text) => {
                await tab.run((text) => (document.querySelector("#scanned-text").value = text), text);
                await tab.click("#scan button");
            };
            // What is none, and what is his own.
            await check(bob, "hello");
            await until(() => isShown(bob, "#verify .wrong"), "that is no code");
            await bob.click("#show-code");
            await until(() => isShown(bob, "#code svg"), "his code");
            await check(bob, await bob.run(() => document.querySelector("#code code").textContent));
            await until(() => bob.run(() => document.querySelector("#scan-result").dataset.result === "OtherPerson"), "somebody else's");
            assert.equal(await trustOf(bob), "FirstUse");
            await check(bob, code);
            await until(() => bob.run(() => document.querySelector("#scan-result").textContent === "This is alice."), "it is she");
            await shoot(bob, "code-scanned");
            await trusts(bob, "Verified");
            await until(() => isShown(alice, "#scan-question"), "she is asked to look");
            assert.equal(await trustOf(alice), "FirstUse", "before she did");
            await alice.click("#scan-seen");
            await trusts(alice, "Verified");
            // A code is good for one scan.
            for (const tab of [alice, bob]) await close(tab);
            await openVerify(alice);
            await alice.click("#unverify");
            await close(alice);
            await reload(alice);
            await trusts(alice, "FirstUse");
            await openVerify(alice);
            await alice.click("#number-same");
            await trusts(alice, "Verified");
            for (const tab of [alice, bob]) await tab.close();
        },
    };
}

// The picture of the code as a camera finds it: on white, with its three corners. What is between them the crate `qrcode` draws.
async function readCorners() {
    const svg = document.querySelector("#code svg").cloneNode(true);
    const side = svg.viewBox.baseVal.width;
    svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    svg.setAttribute("width", side);
    svg.setAttribute("height", side);
    const image = new Image();
    image.src = `data:image/svg+xml,${encodeURIComponent(svg.outerHTML)}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = side;
    const pen = canvas.getContext("2d");
    pen.drawImage(image, 0, 0);
    const { data } = pen.getImageData(0, 0, side, side);
    const isDark = (x, y) => data[(y * side + x) * 4 + 3] > 127;
    const isCorner = (left, top) => {
        for (let y = -1; y <= 7; y++) {
            for (let x = -1; x <= 7; x++) {
                const ring = Math.max(Math.abs(x - 3), Math.abs(y - 3));
                if (isDark(left + x, top + y) !== (ring !== 2 && ring <= 3)) return false;
            }
        }
        return true;
    };
    const far = side - 4 - 7;
    let dark = 0;
    for (let at = 0; at < side * 4; at++) dark += isDark(at % side, Math.floor(at / side));
    return { corners: [isCorner(4, 4), isCorner(far, 4), isCorner(4, far), isCorner(far, far)], margin: dark, side };
}
