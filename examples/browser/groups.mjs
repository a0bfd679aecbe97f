// What an admin can take from another one, what is done after all, and how a group goes on without somebody.

import assert from "node:assert/strict";

const isOpen = (tab) => tab.run(() => document.querySelector("#members").open);
const rows = (tab) =>
    tab.run(() => {
        const words = (row) => ["strong", "span"].map((what) => row.querySelector(what).textContent);
        return Object.fromEntries([...document.querySelectorAll("#members ul:not(.voided) li")].map(words));
    });
const press = (tab, user, title) =>
    tab.run(
        (user, title) => {
            const row = [...document.querySelectorAll("#members ul:not(.voided) li")].find((row) => row.querySelector("strong").textContent === user);
            const button = [...row.querySelectorAll("button")].find((button) => button.textContent === title);
            button?.click();
            return Boolean(button);
        },
        user,
        title,
    );
const title = (tab) => tab.run(() => document.querySelector("#chat h1").textContent);
const notices = (tab) => tab.run(() => [...document.querySelectorAll("#lines li.notice")].map((line) => line.textContent).join("\n"));

// All tests of groups that are about more than texts, for `test.mjs`.
export function groups({ open, until, shoot, turnTo }) {
    const tabs = {};
    const members = async (tab) => {
        await tab.click("#who");
        await until(() => isOpen(tab), "who is in");
    };
    const done = (tab) => tab.click("#members footer .first");
    return {
        "an admin of a group is demoted, and what he did meanwhile is done after all": async () => {
            for (const user of ["alice", "bob", "carol"]) tabs[user] = await open(user);
            const { alice, bob, carol } = tabs;
            await alice.click("#make");
            await alice.type("#title", "Thorns");
            await alice.click("#new .first");
            for (const tab of Object.values(tabs)) await turnTo(tab, "Thorns");
            for (const tab of [bob, carol]) await tab.click("#join");
            await members(alice);
            await until(() => press(alice, "bob", "Make admin"), "he can be one");
            await until(async () => /^admin/.test((await rows(alice)).bob), "he is one");
            await until(async () => /alice has made bob an admin/.test(await notices(bob)), "and knows it");
            await members(bob);
            await until(() => bob.run(() => document.querySelector("#rename").checkVisibility()), "he can rename it");
            // What he writes does not leave yet; meanwhile his rights are taken.
            await bob.run(() => void navigator.locks.request("subrosa bob", () => new Promise((resolve) => (window.letGo = resolve))));
            await bob.type("#renamed", "Briars");
            await bob.run(() => document.querySelector("#rename").requestSubmit());
            await until(() => bob.run(() => document.querySelector("#members h2").textContent === "Briars"), "a title of his");
            await until(() => press(alice, "bob", "Take rights"), "she takes them");
            await until(async () => !/^admin/.test((await rows(alice)).bob), "he is none");
            await done(alice);
            await until(async () => /bob is no admin any more/.test(await notices(carol)), "the others hear of it");
            await bob.run(() => window.letGo());
            await until(async () => /what bob changed meanwhile does not count/.test(await notices(alice)), "she is told what does not count");
            await until(async () => (await title(bob)) === "Thorns", "it does not");
            await members(alice);
            await until(() => alice.run(() => Boolean(document.querySelector("#members .voided button"))), "she can do it after all");
            await shoot(alice, "group-voided");
            await alice.click("#members .voided button");
            for (const tab of [alice, carol]) await until(async () => (await title(tab)) === "Briars", "the title is his");
            await done(alice);
        },
        "a group goes on in another one without somebody": async () => {
            const { alice, bob, carol } = tabs;
            if (!(await isOpen(bob))) await members(bob);
            await bob.type("#without", "alice\uE007");
            const isInTwo = () => !document.querySelector("#members").open && document.querySelector("#who").textContent === "2 members";
            await until(() => bob.run(isInTwo), "he is in the new one");
            const room = await bob.run(() => new URLSearchParams(location.search).get("with"));
            const isThere = (tab) => tab.run((room) => [...document.querySelectorAll("#rooms button")].some((button) => button.value === room), room);
            await until(() => isThere(carol), "she is invited");
            await carol.click(`#rooms button[value="${room}"]`);
            const told = /bob says that this group takes the place of another one, and is a member of it: ask the others/;
            await until(async () => told.test(await notices(carol)), "she is told by whom");
            await shoot(carol, "group-continued");
            await carol.click("#join");
            await until(() => carol.run(() => document.querySelector("#invitation").hidden), "she is in");
            assert.equal(await isThere(alice), false, "and who was left out is not");
            for (const tab of Object.values(tabs)) await tab.close();
        },
    };
}
