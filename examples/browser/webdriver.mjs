// A browser and a server for files, by what node has.

import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = { ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".wasm": "application/wasm" };

// Serves a folder to this machine; resolves to its address and what stops it.
export async function serve(folder) {
    const server = createServer(async (request, response) => {
        const path = normalize(new URL(request.url, "http://localhost").pathname);
        try {
            const body = await readFile(join(folder, path === "/" ? "index.html" : path));
            response.writeHead(200, { "content-type": TYPES[extname(path)] ?? "text/html" }).end(body);
        } catch {
            response.writeHead(404).end();
        }
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    return { url: `http://127.0.0.1:${server.address().port}/`, stop: () => server.closeAllConnections() ?? server.close() };
}

// Starts a browser with nothing in it, in this folder.
export async function browser({ driver, binary, folder }) {
    const child = spawn(driver, ["--port=0"], { detached: true, stdio: ["ignore", "pipe", "inherit"] });
    // With all that it started.
    const kill = () => {
        try {
            process.kill(-child.pid, "SIGKILL");
        } catch {} // It has ended.
    };
    process.on("exit", kill);
    const port = await new Promise((resolve, reject) => {
        let said = "";
        child.stdout.on("data", (data) => {
            said += data;
            const found = /successfully on port (\d+)/.exec(said);
            if (found) resolve(found[1]);
        });
        child.on("error", reject);
        child.on("exit", () => reject(new Error(`${driver}: ${said}`)));
    });
    const call = async (method, path, body) => {
        const options = { method, body: body && JSON.stringify(body) };
        const response = await fetch(`http://127.0.0.1:${port}/session${path}`, options);
        const { value } = await response.json();
        if (!response.ok) throw new Error(`${method} ${path}: ${value.message}`);
        return value;
    };
    const quiet = ["gpu", "quic", "background-networking", "component-update", "sync", "dev-shm-usage"];
    // A camera and a microphone that are none, and calls over the loopback interface.
    const calls = ["use-fake-device-for-media-stream", "use-fake-ui-for-media-stream", "allow-loopback-in-peer-connection"];
    const args = ["--headless", "--no-sandbox", "--no-first-run", ...quiet.map((what) => `--disable-${what}`), ...calls.map((what) => `--${what}`)];
    const { sessionId } = await call("POST", "", {
        capabilities: {
            alwaysMatch: {
                browserName: "chrome",
                "goog:loggingPrefs": { browser: "ALL" },
                "goog:chromeOptions": { binary, args: [...args, `--user-data-dir=${folder}`] },
            },
        },
    });
    const command = (method, path, body) => call(method, `/${sessionId}${path}`, body);
    await command("POST", "/timeouts", { script: 60_000 });
    return {
        command,
        first: await command("GET", "/window"),
        // What the pages said on their consoles since this was asked last.
        console: () => command("POST", "/se/log", { type: "browser" }),
        stop: () => command("DELETE", "").finally(kill),
    };
}

// A tab, or a window: each is as much in front as the others.
export class Tab {
    static async open(browser, url) {
        const { handle } = await browser.command("POST", "/window/new", { type: "window" });
        const tab = new Tab(browser, handle);
        await tab.command("POST", "/url", { url });
        return tab;
    }

    constructor(browser, handle) {
        Object.assign(this, { browser, handle });
    }

    async command(method, path, body) {
        await this.browser.command("POST", "/window", { handle: this.handle });
        return this.browser.command(method, path, body);
    }

    // Runs a function in the page, and awaits what it returns.
    run(work, ...args) {
        return this.command("POST", "/execute/sync", { script: `return (${work})(...arguments);`, args });
    }

    // Begins something in the page, and does not wait for it.
    begin(work, ...args) {
        return this.command("POST", "/execute/sync", { script: `(${work})(...arguments);`, args });
    }

    async element(selector) {
        return Object.values(await this.command("POST", "/element", { using: "css selector", value: selector }))[0];
    }

    // The page may draw an element anew between the two: a person would click on the new one.
    async click(selector) {
        for (let tries = 1; ; tries += 1) {
            const element = await this.element(selector);
            try {
                await this.command("POST", `/element/${element}/click`, {});
                return;
            } catch (error) {
                if (tries === 10 || !error.message.includes("stale element")) throw error;
            }
        }
    }

    async type(selector, text) {
        await this.command("POST", `/element/${await this.element(selector)}/value`, { text });
    }

    reload() {
        return this.command("POST", "/refresh", {});
    }

    async close() {
        await this.command("DELETE", "/window");
        await this.browser.command("POST", "/window", { handle: this.browser.first });
    }

    async screenshot(width, height) {
        await this.command("POST", "/window/rect", { width, height });
        return Buffer.from(await this.command("GET", "/screenshot"), "base64");
    }
}
