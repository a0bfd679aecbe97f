//! Groups: people come and go, and nobody else reads or adds anybody.

use std::fs;

use subrosa::{GroupIntention, SystemRng};

use crate::stranger::Stranger;
use crate::{Process, World, history, untimed};

/// Three people, whose mail is sealed or open.
fn three(world: &World, more: &[&str]) -> [Process; 3] {
    ["alice", "bob", "carol"].map(|name| begin(world, name, more))
}

fn begin(world: &World, name: &str, more: &[&str]) -> Process {
    let mut chat = world.start_chat(name, name, more);
    chat.wait("* connected");
    chat.type_line("/devices");
    chat.wait_for("itself", |line| line.ends_with("(this one)"));
    chat
}

/// A group of all three, whose founder is the first.
fn found(people: &mut [Process; 3]) {
    let [alice, bob, carol] = people;
    alice.type_line("/group Roses: bob carol");
    alice.wait(
        "* the group \"Roses\" is &roses here. bob, carol are invited: /to &roses writes to it",
    );
    for chat in [bob, carol] {
        chat.wait(
            "* alice invites you to the group \"Roses\", which is &roses here: /join &roses, or \
             /decline &roses",
        );
        chat.type_line("/join &roses");
        chat.wait("* you have joined &roses");
    }
}

/// Types something that is answered in this way.
fn says(chat: &mut Process, line: &str, answer: &str) {
    chat.type_line(line);
    chat.wait(answer);
}

/// Says something to the group, which the others read.
fn say(by: &mut Process, name: &str, text: &str, others: &mut [&mut Process]) {
    by.type_line(&format!("&roses: {text}"));
    for other in others.iter_mut() {
        other.wait(&format!("{name} in &roses: {text}"));
    }
    by.wait_sent("&roses", text);
}

fn come_and_go(more: &[&str]) {
    let mut world = World::new();
    let mut people = three(&world, more);
    found(&mut people);
    let [mut alice, mut bob, mut carol] = people;
    say(&mut alice, "alice", "meet me under the rose", &mut [&mut bob, &mut carol]);
    say(&mut bob, "bob", "at nine?", &mut [&mut alice, &mut carol]);
    say(&mut carol, "carol", "at ten", &mut [&mut alice, &mut bob]);

    // All processes begin again, and it goes on.
    alice.kill();
    bob.kill();
    world.stop_relay();
    world.start_relay(&[]);
    let mut alice = begin(&world, "alice", more);
    carol.wait("* connected");
    say(&mut carol, "carol", "is anybody there?", &mut [&mut alice]);
    let mut bob = world.start_chat("bob", "bob", more);
    bob.wait("carol in &roses: is anybody there?");
    say(&mut bob, "bob", "I am", &mut [&mut alice, &mut carol]);

    // Carol is removed: she is told so, gets nothing more, and cannot write.
    alice.type_line("/remove &roses carol");
    alice.wait("* you have removed carol from &roses");
    bob.wait("* alice has removed carol from &roses");
    carol.wait("* alice has removed you from &roses");
    carol.wait("* you are not in &roses any more: nothing comes from there");
    say(&mut alice, "alice", "without carol", &mut [&mut bob]);
    say(&mut bob, "bob", "without her", &mut [&mut alice]);
    carol.type_line("&roses: let me in");
    carol.wait("* you are not in &roses any more: one of its admins can invite you again");
    alice.type_line("carol: nothing came?");
    carol.wait("alice: nothing came?");
    assert_eq!(carol.printed.iter().filter(|line| line.contains("without")).count(), 0);

    // Bob leaves, and Alice talks to herself.
    bob.type_line("/leave &roses");
    bob.wait("* Leave? (yes/no)");
    bob.type_line("no");
    bob.wait("* nothing changed");
    bob.type_line("/leave &roses");
    bob.wait("* Leave? (yes/no)");
    bob.type_line("yes");
    bob.wait("* you have left &roses");
    alice.wait("* bob has left &roses");
    alice.type_line("&roses: alone");
    alice.wait_sent("&roses", "alone");
    bob.type_line("/groups");
    bob.wait("* you are in no group: /group Red roses: bob carol makes one");

    // Invited again, he is a member anew, and reads what is written from then on.
    alice.type_line("/invite &roses bob");
    alice.wait("* you have invited bob to &roses");
    bob.wait_for("an invitation", |line| line.starts_with("* alice invites you to the group"));
    bob.type_line("/join &roses");
    bob.wait("* you have joined &roses");
    say(&mut alice, "alice", "welcome back", &mut [&mut bob]);
    say(&mut bob, "bob", "thank you", &mut [&mut alice]);
    assert_eq!(bob.count("alice in &roses: alone"), 0);
    for line in &alice.end() {
        assert!(!line.contains("refuse"), "{line}");
    }
}

#[test]
fn people_come_and_go_and_whoever_is_out_reads_nothing_more() {
    come_and_go(&[]);
}

#[test]
fn the_same_where_the_relay_learns_who_writes() {
    come_and_go(&["--open"]);
}

#[test]
fn what_is_typed_wrong_goes_to_nobody_and_is_answered_with_what_to_type() {
    let world = World::new();
    let mut people = three(&world, &[]);
    let [alice, _, _] = &mut people;
    let usage = "* a group takes a title and people: /group Red roses: bob carol";
    for line in ["/group", "/group Roses", "/group Roses bob carol", "/group Roses:", "/group : ,"]
    {
        says(alice, line, usage);
    }
    says(alice, "/group : bob", "* a title has 1 to 200 bytes");
    says(alice, "/group Roses: alice", "* you are in it in any case: name the others");
    says(alice, "/group Roses: b*b", "* that is no name, and nothing was done: b*b");
    says(
        alice,
        "/group Roses: bob dave",
        "* nobody is registered as dave, so nothing was done: dave has to start the chat once \
         before you add them",
    );
    says(alice, "/groups", "* you are in no group: /group Red roses: bob carol makes one");
    says(alice, "/members", "* of which group? /members &roses; /groups lists yours");
    says(alice, "/invite bob", "* of which group? /invite &roses bob; /groups lists yours");
    says(alice, "&thorns: hello", "* there is no such group here, see /groups: &thorns");
    says(alice, "/to &thorns", "* there is no such group here, see /groups: &thorns");
    says(alice, "/history &thorns", "* there is no such group here, see /groups: &thorns");

    alice.type_line("/group Roses: bob");
    alice.wait("* the group \"Roses\" is &roses here. bob is invited: /to &roses writes to it");
    // What is meant for the group goes to nobody else.
    let known = "* nothing was sent: \"&roses: hello\" says hello to the group";
    says(alice, "&roses", known);
    says(
        alice,
        "roses: hi",
        "* nothing was sent: nobody is known as roses, and a group is: &roses: hi",
    );
    says(alice, "/to roses", "* nobody is known as roses, and a group is: /to &roses");
    alice.type_line("/to bob");
    says(alice, "&roses hello", known);
    says(alice, "&roses:", known);
    alice.type_line("&Roses:hello");
    alice.wait_sent("&roses", "hello");
    alice.type_line("/to");
    let [_, bob, _] = &mut people;
    bob.wait("alice in &roses: hello");
}

#[test]
fn who_may_not_do_something_is_told_who_may() {
    let world = World::new();
    let mut people = three(&world, &[]);
    let [alice, bob, carol] = &mut people;
    alice.type_line("/group Roses: bob");
    bob.wait_for("an invitation", |line| line.starts_with("* alice invites you to the group"));
    // Invited, and not in yet.
    for line in ["&roses: hello", "/to &roses", "/leave &roses", "/invite &roses carol"] {
        says(bob, line, "* you are invited to &roses, and not in yet: /join &roses");
    }
    says(bob, "/groups", "* &roses: \"Roses\", 2 members, you are invited: /join &roses");
    says(bob, "/join roses", "* you have joined &roses");
    says(bob, "/join &roses", "* you are in &roses already: /to &roses");
    says(bob, "/decline &roses", "* you are in &roses: /leave &roses ends that");
    // No admin.
    for line in ["/invite &roses carol", "/remove &roses alice", "/promote &roses bob"] {
        says(bob, line, "* you are no admin of &roses: ask alice to do that");
    }
    says(bob, "/title &roses Thorns", "* you are no admin of &roses: ask alice to do that");
    // About the wrong people.
    says(alice, "/remove &roses alice", "* that is you: /leave &roses");
    says(alice, "/remove &roses carol", "* carol is not in &roses: /members &roses shows who is");
    says(alice, "/remove &roses", "* one name, please: /remove &roses bob");
    says(alice, "/remove &roses bob carol", "* one name, please: /remove &roses bob");
    says(
        alice,
        "/remove bob",
        "* which device? /devices shows their numbers. Out of a group: /remove &roses bob",
    );
    says(alice, "/invite &roses bob", "* bob is in &roses already, or invited");
    says(alice, "/invite &roses", "* whom? /invite &roses bob");
    says(alice, "/demote &roses bob", "* bob is no admin of &roses");
    says(alice, "/promote &roses alice", "* alice is an admin of &roses already");
    says(alice, "/title &roses", "* a title has 1 to 200 bytes");
    // Of two admins, the senior one stays.
    says(alice, "/promote &roses bob", "* you have made bob an admin of &roses");
    bob.wait("* you are an admin of &roses now (alice did that)");
    for line in ["/remove &roses alice", "/demote &roses alice"] {
        says(
            bob,
            line,
            "* alice has been an admin of &roses for longer than you: only somebody more senior \
             can do that, or alice",
        );
    }
    says(alice, "/demote &roses bob", "* you have made bob a plain member of &roses");
    bob.wait("* you are no admin of &roses any more (alice did that)");
    says(
        alice,
        "/promote &roses bob",
        "* bob was an admin of &roses before: /remove &roses bob, /invite &roses bob, and then \
         /promote &roses bob",
    );
    // Nobody is left without knowing that.
    alice.type_line("/leave &roses");
    alice.wait_for("a warning", |line| line.starts_with("* You are its only admin: after that"));
    alice.type_line("no");
    says(alice, "/remove &roses bob", "* you have removed bob from &roses");
    bob.wait("* you are not in &roses any more: nothing comes from there");
    for line in ["&roses: hello", "/to &roses", "/join &roses", "/decline &roses"] {
        says(bob, line, "* you are not in &roses any more: one of its admins can invite you again");
    }
    assert_eq!(carol.printed.iter().filter(|line| line.contains("&roses")).count(), 0);
}

#[test]
fn lines_files_and_history_are_for_one_group_and_a_text_can_be_taken_back() {
    let mut world = World::new();
    let mut people = three(&world, &[]);
    found(&mut people);
    let [mut alice, mut bob, mut carol] = people;
    // A second group with the same title is another one.
    bob.type_line("/group Roses: alice");
    bob.wait("* the group \"Roses\" is &roses-2 here. alice is invited: /to &roses-2 writes to it");
    alice.wait(
        "* bob invites you to the group \"Roses\", which is &roses-2 here: /join &roses-2, or \
         /decline &roses-2",
    );
    alice.type_line("/join &roses-2");
    alice.wait("* you have joined &roses-2");
    alice.type_line("/to &roses");
    for text in ["who comes?", "note: bring thorns", "see http://x.org: nice"] {
        alice.type_line(text);
        bob.wait(&format!("alice in &roses: {text}"));
        carol.wait(&format!("alice in &roses: {text}"));
    }
    bob.type_line("&roses-2: between us");
    alice.wait("* bob has written in &roses-2, 1 unread: /to &roses-2");
    bob.type_line("alice: and a word to you");
    alice.wait("* bob has written, 1 unread: /to bob");
    carol.type_line("&roses: I do");
    alice.wait("carol in &roses: I do");
    alice.type_line("&roses-2: a word between");
    bob.wait("alice in &roses-2: a word between");
    alice.type_line("/to &roses-2");
    alice.wait("bob in &roses-2: between us");
    assert_eq!(carol.printed.iter().filter(|line| line.contains("between")).count(), 0);

    // A file, at the group.
    let content = b"a photograph of a rose ".repeat(500);
    let path = world.path("rose.jpg");
    fs::write(&path, &content).unwrap();
    alice.type_line("/to &roses");
    alice.type_line(&format!("/file {path}"));
    for chat in [&mut bob, &mut carol] {
        let line = chat.wait_for("a file", |line| line.contains("alice in &roses, file #"));
        let number = line.split('#').nth(1).unwrap().split(',').next().unwrap().to_owned();
        let saved = world.path("saved");
        fs::remove_file(&saved).ok();
        chat.type_line(&format!("/save {number} {saved}"));
        chat.wait_for("that it is", |line| line.starts_with(&format!("* file #{number} is saved")));
        assert!(fs::read(&saved).unwrap() == content);
    }

    // Without a relay, a text waits, and can be taken back.
    world.stop_relay();
    alice.wait_for("that it is away", |line| line.starts_with("* the relay is away"));
    alice.type_line("one");
    alice.type_line("two");
    alice.type_line("three");
    let two = alice.wait_written("&roses", "two");
    alice.type_line(&format!("/withdraw {two}"));
    alice.wait(&format!("{two} (withdrawn) -> &roses: two"));
    alice.kill();
    world.start_relay(&[]);
    let mut alice = world.start_chat("alice", "alice", &[]);
    for chat in [&mut bob, &mut carol] {
        chat.wait("alice in &roses: one");
        chat.wait("alice in &roses: three");
    }
    alice.wait_sent("&roses", "three");
    assert_eq!(bob.count("alice in &roses: two"), 0);
    let said = history(alice, "&roses-2");
    assert_eq!(said, ["between us", "a word between"]);
}

#[test]
fn whatever_is_killed_each_line_to_a_group_arrives_once_and_in_the_order_of_its_author() {
    for more in [&[][..], &["--open"]] {
        let mut world = World::new();
        let mut people = three(&world, more);
        found(&mut people);
        let mut said: [Vec<String>; 3] = Default::default();
        for round in 0..6 {
            let writer = round % 3;
            for line in 0..4 {
                said[writer].push(format!("{round}-{line}"));
                people[writer].type_line(&format!("&roses: {round}-{line}"));
            }
            if round % 2 == 0 {
                world.stop_relay();
                world.start_relay(&[]);
            }
            people[writer].catch_up();
            let killed = (round + 1 + round % 2) % 3;
            let name = ["alice", "bob", "carol"][killed];
            let begun = world.path(name);
            assert!(fs::metadata(begun).is_ok());
            people[killed].child.kill().unwrap();
            people[killed].child.wait().unwrap();
            people[killed] = world.start_chat(name, name, more);
        }
        for (writer, text) in
            ["the end, alice", "the end, bob", "the end, carol"].iter().enumerate()
        {
            said[writer].push((*text).into());
            people[writer].type_line(&format!("&roses: {text}"));
        }
        for (reader, chat) in people.into_iter().enumerate() {
            let all = shown(chat, "&roses", &said, reader);
            for (writer, texts) in said.iter().enumerate() {
                assert_eq!(all[writer], *texts, "what {writer} wrote, at {reader}");
            }
        }
    }
}

/// What the history of a group shows by each of three people, once it has all of it.
fn shown(
    mut chat: Process,
    group: &str,
    said: &[Vec<String>; 3],
    reader: usize,
) -> [Vec<String>; 3] {
    let names = ["alice", "bob", "carol"];
    for (writer, name) in names.iter().enumerate().filter(|(writer, _)| *writer != reader) {
        let last = said[writer].last().unwrap();
        if chat.count(&format!("{name} in {group}: {last}")) == 0 {
            chat.wait(&format!("{name} in {group}: {last}"));
        }
    }
    let mut pages = Vec::new();
    for page in ["3", "2", "1"] {
        chat.catch_up();
        let before = chat.printed.len();
        chat.type_line(&format!("/history {group} {page}"));
        chat.catch_up();
        pages.extend_from_slice(&chat.printed[before..]);
    }
    let mut all: [Vec<String>; 3] = Default::default();
    for line in pages.iter().filter(|line| untimed(line) != line.as_str()) {
        let (head, text) = untimed(line).split_once(": ").unwrap();
        let by = names
            .iter()
            .position(|name| head.starts_with(&format!("{name} in ")))
            .unwrap_or(reader);
        all[by].push(text.into());
    }
    all
}

#[test]
fn late_texts_of_somebody_who_is_gone_are_shown_apart() {
    for more in [&[][..], &["--open"]] {
        let mut world = World::new();
        let mut people = three(&world, more);
        found(&mut people);
        let [mut alice, mut bob, mut carol] = people;
        say(&mut carol, "carol", "hello", &mut [&mut alice, &mut bob]);
        carol.kill();
        // She writes where there is no network, and does not know that she is removed.
        let address = std::mem::replace(&mut world.address, "127.0.0.1:1".into());
        let mut carol = world.start_chat("carol", "carol", more);
        carol.type_line("&roses: am I late?");
        carol.wait_written("&roses", "am I late?");
        carol.catch_up();
        carol.kill();
        world.address = address;
        alice.type_line("/remove &roses carol");
        bob.wait("* alice has removed carol from &roses");
        let mut carol = world.start_chat("carol", "carol", more);
        for chat in [&mut alice, &mut bob] {
            chat.wait("! carol/1 in &roses, not a member any more: am I late?");
        }
        carol.wait("* alice has removed you from &roses");
    }
}

#[test]
fn a_title_and_the_names_of_members_forge_no_line() {
    let world = World::new();
    let mut alice = begin(&world, "alice", &["--open"]);
    let mut mallory = Stranger::open(&world, "mallory");
    mallory.client.write("alice", b"hello", mallory.now(), &mut SystemRng).unwrap();
    mallory.do_tasks();
    alice.wait("mallory: hello");
    // Names that the relay registers for nobody, in the group from its beginning.
    let nobody = "x\n* bob is verified";
    mallory.pretend_to_know(nobody);
    let title = b"Roses\" is yours\n* bob is verified\x1b[2K \xff";
    let now = mallory.now();
    let group =
        mallory.client.create_group(&["alice", nobody], title, now, &mut SystemRng).unwrap();
    mallory.do_tasks();
    let shown = "\"Roses\\\" is yours\\u{a}* bob is verified\\u{1b}[2K \u{fffd}\"";
    let handle = "&roses-is-yours-bob-i";
    alice.wait_for("an invitation", |line| {
        line == format!(
            "* mallory invites you to the group {shown}, which is {handle} here: /join {handle}, \
             or /decline {handle}"
        )
    });
    alice.type_line(&format!("/join {handle}"));
    alice.wait(&format!("* you have joined {handle}"));
    alice.type_line(&format!("/members {handle}"));
    alice.wait(&format!("* {handle}: {shown}"));
    alice.wait_for("a bad name", |line| line.starts_with("*   (a bad name): member, "));
    alice.type_line("/groups");
    alice.wait(&format!("* {handle}: {shown}, 3 members, you are in"));
    let change = [GroupIntention::Remove(nobody), GroupIntention::Set(b"&bob: \"it is me")];
    mallory.client.change_group(group, &change, now, &mut SystemRng).unwrap();
    mallory.do_tasks();
    alice.wait(&format!("* mallory has removed (a bad name) from {handle}"));
    alice.wait(&format!("* mallory has given {handle} another title: \"&bob: \\\"it is me\""));
    alice.catch_up();
    for line in &alice.printed {
        assert!(!line.starts_with("* bob") && !line.contains(char::is_control), "{line:?}");
    }
}

#[test]
fn the_other_devices_of_an_account_are_in_its_groups() {
    for more in [&[][..], &["--open"]] {
        let world = World::new();
        let mut people = three(&world, more);
        found(&mut people);
        let [mut alice, mut bob, mut carol] = people;
        let mut laptop = world.start_chat("bob", "laptop", &[&["--link"], more].concat());
        let link = laptop.wait_for("a code", |line| line.starts_with("/link "));
        bob.type_line(&link);
        bob.wait("* linked");
        laptop.wait("* connected");
        // It hears of the group by itself, or with what is written next.
        say(&mut bob, "bob", "I have a laptop", &mut [&mut alice, &mut carol]);
        laptop.wait("* another device of yours is in the group \"Roses\", which is &roses here");
        laptop.wait("(bob/1) -> &roses: I have a laptop");
        laptop.type_line("&roses: from the laptop");
        alice.wait("bob in &roses: from the laptop");
        carol.wait("bob in &roses: from the laptop");
        bob.wait("(bob/2) -> &roses: from the laptop");
        alice.type_line("&roses: to all of you");
        for chat in [&mut bob, &mut laptop, &mut carol] {
            chat.wait("alice in &roses: to all of you");
        }
        // The laptop does not hold the account key: the phone signs that by itself.
        laptop.type_line("/leave &roses");
        laptop.wait("* Leave? (yes/no)");
        laptop.type_line("yes");
        laptop.wait("* bob/1 is asked to sign this: you have left &roses");
        bob.wait("* your device 2 has left &roses: signed here");
        laptop.wait("* you are not in &roses any more: nothing comes from there");
        carol.wait("* bob has left &roses");
    }
}
