// Conversations to choose from, and groups: who is in, who comes and goes.

import { at, plain, words } from "./shared.js";

const PEOPLE = ["alice", "bob", "carol"];

// The time of the last line that was seen, of each conversation that was looked at since the page was loaded.
const seen = new Map();

// A button for each conversation. One where something is new has a dot.
export async function showRooms(device, rooms, user, current) {
    const people = [...new Set([...PEOPLE, ...(current.startsWith("&") ? [] : [current])])].filter((name) => name !== user);
    const all = [
        ...people.map((name) => ({ id: name, title: name })),
        ...rooms.map((room) => ({ id: room.id, standing: room.standing, title: titleOf(room, rooms), isGroup: true })),
    ];
    const buttons = [];
    for (const { id, title, isGroup, standing } of all) {
        const last = await lastOf(device, id);
        // What was there before the page was loaded is no news, but for an invitation.
        if (!seen.has(id)) seen.set(id, standing === "Invited" ? -1 : last);
        if (id === current) seen.set(id, last);
        const button = document.createElement("button");
        [button.type, button.value, button.textContent] = ["button", id, title];
        button.classList.toggle("group", Boolean(isGroup));
        button.classList.toggle("new", last > seen.get(id));
        button.classList.toggle("out", standing === "Out");
        if (id === current) button.setAttribute("aria-current", "true");
        buttons.push(button);
    }
    const list = at("#rooms > div");
    const isSame = list.children.length === buttons.length && buttons.every((button, index) => button.isEqualNode(list.children[index]));
    // What somebody is about to click stays where it is.
    if (!isSame) list.replaceChildren(...buttons);
}

// Two groups may have one title: then each shows the first digits of its name.
export function titleOf(room, rooms) {
    const title = plain(room.title).trim() || "(no title)";
    const isTwin = rooms.some((other) => other.id !== room.id && (plain(other.title).trim() || "(no title)") === title);
    return isTwin ? `${title} \u00b7 ${room.id.slice(1, 5)}` : title;
}

async function lastOf(device, id) {
    const lines = await device.history(id, 1);
    return lines.length ? lines[0].number : 0;
}

// The head of the page, for a conversation or a group.
export function enter(room, title) {
    at("#chat h1").textContent = title;
    const who = at("#who");
    who.hidden = !room;
    const invited = room?.standing === "Invited";
    const out = room?.standing === "Out";
    if (room) who.textContent = out ? "you are out" : `${room.members.length} ${room.members.length === 1 ? "member" : "members"}`;
    who.disabled = out;
    at("#invitation").hidden = !invited;
    at("#invitation p").textContent = "You are invited. Nothing of yours goes there before you join.";
    at("#chat > form").inert = invited || out;
    at("#field").placeholder = out ? "You are out" : invited ? "Join to write" : "Message";
}

// Asks for a title and people. The room of the new group, or nothing.
export async function openNew(device, user) {
    const dialog = at("#new");
    const wrong = dialog.querySelector(".wrong");
    at("#title").value = "";
    at("#people-in").value = PEOPLE.filter((name) => name !== user).join(", ");
    wrong.hidden = true;
    at("#not-now").onclick = () => dialog.close("");
    for (;;) {
        dialog.returnValue = "";
        dialog.showModal();
        await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
        if (dialog.returnValue !== "made") return null;
        const people = at("#people-in").value.split(/[\s,]+/).filter(Boolean);
        try {
            if (people.includes(user)) throw new Error("you are in it in any case: name the others");
            return await device.createGroup(at("#title").value.trim(), [...new Set(people)]);
        } catch (error) {
            [wrong.hidden, wrong.textContent] = [false, words(error)];
        }
    }
}

// Who is in, and what an admin can do about it.
export async function openMembers(device, user, id, settle) {
    const dialog = at("#members");
    const wrong = dialog.querySelector(".wrong");
    wrong.hidden = true;
    const act = async (what) => {
        wrong.hidden = true;
        try {
            await what();
        } catch (error) {
            [wrong.hidden, wrong.textContent] = [false, words(error)];
        }
        await draw();
        settle();
    };
    async function draw() {
        const rooms = await device.rooms();
        const room = rooms.find((room) => room.id === id);
        if (!room || room.standing === "Out") return dialog.close();
        dialog.querySelector("h2").textContent = titleOf(room, rooms);
        dialog.querySelector(".voided").replaceChildren(...(room.admin ? room.voided : []).map((by) => voided(by, room, device, act)));
        dialog.querySelector("ul").replaceChildren(...room.members.map((member) => row(member, room, user, device, act)));
        at("#invite").hidden = at("#rename").hidden = !room.admin;
        at("#leave").hidden = room.standing !== "Joined";
    }
    const taken = (form, field, what) => {
        at(form).onsubmit = (event) => {
            event.preventDefault();
            const value = at(field).value.trim();
            at(field).value = "";
            if (value) act(() => what(value));
        };
    };
    taken("#invite", "#invited", (name) => device.invite(id, name));
    taken("#rename", "#renamed", (title) => device.rename(id, title));
    // Where somebody cannot be removed, the others go on elsewhere. They are asked, each of them.
    taken("#go-on", "#without", async (names) => {
        const room = await device.continueGroup(id, names.split(/[\s,]+/).filter(Boolean));
        dialog.dataset.next = room;
        dialog.close();
    });
    // Once to be asked, and once to leave.
    const leave = at("#leave");
    leave.textContent = "Leave";
    leave.onclick = () => {
        if (leave.textContent === "Leave") leave.textContent = "Leave for good?";
        else act(() => device.leave(id));
    };
    delete dialog.dataset.next;
    await draw();
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    // The room to turn to, if there is a new one.
    return dialog.dataset.next;
}

const TRUST = { FirstUse: "not compared", Verified: "verified", Unaccepted: "the key changed", Unvouched: "nobody vouches for the name" };

function row(member, room, user, device, act) {
    const row = document.createElement("li");
    const [name, what] = [document.createElement("strong"), document.createElement("span")];
    name.textContent = plain(member.user);
    const known = member.user === user ? "you" : (TRUST[member.trust] ?? "another key than here: gets nothing from you");
    what.textContent = [member.admin ? "admin" : "", member.suspended ? "suspended" : "", known].filter(Boolean).join(", ");
    row.append(name, what);
    if (!room.admin || member.user === user) return row;
    const button = (title, doing) => {
        const button = document.createElement("button");
        [button.type, button.textContent] = ["button", title];
        button.onclick = () => act(doing);
        row.append(button);
    };
    if (member.admin) button("Take rights", () => device.demote(room.id, member.user));
    else button("Make admin", () => device.promote(room.id, member.user));
    button("Remove", () => device.removeMember(room.id, member.user));
    return row;
}

// What somebody changed who was removed or demoted, and did not know it.
function voided(by, room, device, act) {
    const row = document.createElement("li");
    const [what, button] = [document.createElement("span"), document.createElement("button")];
    what.textContent = `What ${plain(by)} changed meanwhile does not count.`;
    [button.type, button.textContent] = ["button", "Do it after all"];
    button.onclick = () => act(() => device.restore(room.id, by));
    row.append(what, button);
    return row;
}
