//! A member of a group that lies: it holds real keys, and gives, signs and repeats what it likes.

use ed25519_dalek::{Signer, SigningKey};
use subrosa::group::{
    Change, Distribution, GroupId, GroupRole, LabelKey, MemberId, Op, Roster, Sender, SenderKey,
};
use subrosa::protocol::IdentityKeyPair;
use subrosa::store::Table;
use subrosa::{
    Action, Address, Client, Error, Event, GroupIntention, GroupStanding, Item, MessageId,
    Progress, Received, Role, Trust,
};

use crate::liar::{Liar, Saying, changes, seed};
use crate::world::{App, Disk, World, events, inbox, incoming};

const DAY: u64 = 24 * 60 * 60;

/// Ada's group, and Mallory, who is in it and lies.
struct Den {
    world: World,
    ada: App,
    disk: Disk,
    mallory: Liar,
    talk: usize,
    group: GroupId,
    /// As Mallory knows it.
    roster: Roster,
    key: SenderKey,
}

/// `version:u8 || group || height || count || parents || author || state || count || ops ||
/// signature`, with anything in it.
fn forged(
    account: &IdentityKeyPair,
    group: GroupId,
    (height, parents): (u32, &[Change]),
    author: MemberId,
    op: &[u8],
) -> Vec<u8> {
    let mut bytes = [&[1][..], group.as_bytes(), &height.to_be_bytes()].concat();
    bytes.push(parents.len() as u8);
    parents.iter().for_each(|parent| bytes.extend_from_slice(parent.id().as_bytes()));
    bytes.extend_from_slice(author.as_bytes());
    bytes.extend_from_slice(&[0; 32]);
    bytes.push(1);
    bytes.extend_from_slice(op);
    let signed = [b"Subrosa v1 group change", &bytes[..]].concat();
    let signature = SigningKey::from_bytes(&seed(account)).sign(&signed);
    [&bytes[..], &signature.to_bytes()].concat()
}

impl Den {
    fn new(name: &str, role: GroupRole) -> Self {
        let mut world = World::new(name);
        let (mut ada, disk) = world.app("ada");
        let mut mallory = Liar::new(&mut world, "mallory");
        let talk = mallory.befriend(&mut world, &mut ada);
        let group = ada.create_group(&["mallory"], b"roses", world.now, &mut world.rng).unwrap();
        if role == GroupRole::Admin {
            let promote = [GroupIntention::Promote("mallory")];
            ada.change_group(group, &promote, world.now, &mut world.rng).unwrap();
        }
        world.settle(&mut ada);
        let roster = Roster::from_changes(changes(&mallory.hear_all(&mut world))).unwrap();
        let label = LabelKey::random(&mut world.rng);
        let key = SenderKey::new(group.as_bytes(), label, world.now, &mut world.rng);
        inbox(&mut ada);
        Self { world, ada, disk, mallory, talk, group, roster, key }
    }

    fn tell(&mut self, saying: &Saying) -> Received {
        let Self { world, ada, mallory, talk, .. } = self;
        mallory.tell(world, ada, *talk, saying)
    }

    fn member(&self, user: &str) -> MemberId {
        let member = self.roster.members().iter().find(|member| &*member.user == user);
        member.unwrap().id
    }

    fn give(&mut self) -> Received {
        let heads: Vec<[u8; 32]> = self.roster.heads().iter().map(|id| *id.as_bytes()).collect();
        let given = self.key.distribution(self.group.as_bytes(), &[0; 8], &heads).unwrap();
        self.tell(&Saying::raw(14, &given))
    }

    fn renew(&mut self) {
        let label = LabelKey::random(&mut self.world.rng);
        let (now, rng) = (self.world.now, &mut self.world.rng);
        self.key = self.key.renewed(self.group.as_bytes(), label, now, rng);
    }

    /// An envelope for the group, as this member of this device.
    fn seal(&mut self, member: MemberId, content: &[u8]) -> Vec<u8> {
        let sender = Sender {
            group: self.group.as_bytes(),
            member: member.as_bytes(),
            identity: &self.mallory.identity.public_key(),
            address: &self.mallory.address,
        };
        self.key.seal(&sender, content, &mut self.world.rng).unwrap().envelope
    }

    fn hand_over(&mut self, envelope: &[u8]) -> Received {
        let from = self.mallory.address.clone();
        self.world.give(&mut self.ada, &from, envelope)
    }

    /// A content as in an envelope for the group: the list, no other, no field, a body.
    fn content(&self, kind: u8, body: &[u8]) -> Vec<u8> {
        let list = crate::liar::stamp(&self.mallory.list);
        [&[kind][..], &list, &[0; 16], &[0], body].concat()
    }

    fn text(&self, id: u128, text: &str) -> Vec<u8> {
        self.content(1, &[&id.to_be_bytes()[..], text.as_bytes()].concat())
    }

    fn write(&mut self, text: &str) -> MessageId {
        let (now, rng) = (self.world.now, &mut self.world.rng);
        self.ada.write_to_group(self.group, text, now, rng).unwrap()
    }

    /// A change of the settings on the roster as it is here, which is not part of it.
    fn settings(&self, bytes: &[u8]) -> Change {
        let ops = [Op::Settings(bytes.to_vec())];
        self.roster.sign(self.member("mallory"), &ops, &self.mallory.account).unwrap()
    }

    fn rows(&self) -> usize {
        self.disk.count(Table::Group)
    }

    /// How many chains there are: rows of the own one have a 2 in front, those of others a 3.
    fn chains(&self) -> usize {
        let is_chain = |key: &[u8]| matches!(key[0], 2 | 3);
        let rows = self.disk.rows();
        rows.iter().filter(|(table, (key, _))| *table == Table::Group && is_chain(key)).count()
    }
}

#[test]
fn a_member_writes_under_its_own_name_and_no_other() {
    let mut den = Den::new("writes", GroupRole::Member);
    let _told = den.give();
    let (own, adas) = (den.member("mallory"), den.member("ada"));
    let honest = den.seal(own, &den.text(11, "as mallory"));
    let Item::Group(text) = incoming(den.hand_over(&honest)) else { panic!("a text") };
    assert_eq!((text.member, text.is_late), (own, false));
    // The hint names her: nobody of that name gave this label key.
    let forged = den.seal(adas, &den.text(12, "as ada"));
    assert_eq!(den.hand_over(&forged), Received::Refused(Error::Decrypt));
    // Under another address.
    let sealed = den.seal(own, &den.text(13, "as ada"));
    for from in [Address::new("mallory", 2), den.ada.address().clone(), Address::new("eve", 1)] {
        let received = den.world.give(&mut den.ada, &from, &sealed);
        assert!(!matches!(received, Received::Incoming(_)), "{received:?}");
    }
    assert_eq!(den.hand_over(&honest), Received::Duplicate);
    let items = inbox(&mut den.ada);
    assert_eq!(items.iter().filter(|item| matches!(item, Item::Group(_))).count(), 1);
}

#[test]
fn what_is_no_text_does_nothing_in_an_envelope_for_the_group() {
    let mut den = Den::new("kinds", GroupRole::Member);
    let _told = den.give();
    den.world.settle(&mut den.ada);
    let own = den.member("mallory");
    let before = den.disk.count(Table::Account);
    let reference = [7; 16];
    let change = say_body(&den.settings_of_nobody());
    let bodies: [(u8, Vec<u8>); 9] = [
        (2, [&[7; 16][..], &[3], b"bea", b"copied"].concat()),
        (3, [&[0; 8][..], &reference].concat()),
        (4, Vec::new()),
        (5, [&[1][..], &[9; 32]].concat()),
        (6, reference.to_vec()),
        (7, [&[1][..], &den.mallory.account.public_key().encode(), b"mallory"].concat()),
        (12, [den.group.as_bytes(), &[8; 16][..], b"inside"].concat()),
        (13, change),
        (15, den.group.as_bytes().to_vec()),
    ];
    for (kind, body) in bodies {
        let content = den.content(kind, &body);
        let envelope = den.seal(own, &content);
        assert_eq!(den.hand_over(&envelope), Received::Handled, "kind {kind}");
    }
    assert!(inbox(&mut den.ada).is_empty());
    assert_eq!(den.disk.count(Table::Account), before);
    let done = den.world.settle(&mut den.ada);
    assert!(done.is_empty(), "nothing is answered: {done:?}");
    // What a later version says is told, and a malformed content is refused.
    let later = den.content(100, b"");
    let later = den.seal(own, &later);
    assert!(matches!(den.hand_over(&later), Received::Incoming(_)));
    let broken = den.seal(own, b"\x01");
    assert_eq!(den.hand_over(&broken), Received::Refused(Error::Malformed));
}

fn say_body(change: &[u8]) -> Vec<u8> {
    [&[0; 32][..], &(change.len() as u32).to_be_bytes(), change].concat()
}

impl Den {
    fn settings_of_nobody(&self) -> Vec<u8> {
        let parents: Vec<Change> = self.roster.changes().cloned().collect();
        let op = [&[4][..], &3_u16.to_be_bytes(), b"mal"].concat();
        let (account, author) = (&self.mallory.account, self.member("mallory"));
        forged(account, self.group, (2, &parents[..1]), author, &op)
    }
}

#[test]
fn a_member_changes_nothing_that_it_may_not() {
    let mut den = Den::new("changes", GroupRole::Member);
    let before = den.ada.group(den.group).unwrap();
    let rows = den.rows();
    let (own, adas) = (den.member("mallory"), den.member("ada"));
    let parents: Vec<Change> = den.roster.changes().cloned().collect();
    let other = IdentityKeyPair::generate(&mut den.world.rng);
    let add = [&[0, 3][..], b"eve", &other.public_key().encode(), &[1]].concat();
    let account = den.mallory.account.clone();
    let forge = |author, op: &[u8]| forged(&account, den.group, (2, &parents[..1]), author, op);
    let all = [
        // An outsider is added, ada removed or demoted, the own right made.
        forge(own, &add),
        forge(own, &[&[1][..], adas.as_bytes()].concat()),
        forge(own, &[&[3][..], adas.as_bytes()].concat()),
        forge(own, &[&[2][..], own.as_bytes()].concat()),
        // As ada, whose key it is not signed with; as nobody.
        forge(adas, &add),
        forge(MemberId::from([9; 16]), &add),
    ];
    for (at, change) in all.iter().enumerate() {
        let body = [den.group.as_bytes(), &(change.len() as u32).to_be_bytes()[..], change];
        assert_eq!(den.tell(&Saying::raw(13, &body.concat())), Received::Handled, "change {at}");
    }
    // Cut short, of another group, nothing at all.
    let whole = den.settings_of_nobody();
    for body in [&whole[..whole.len() - 1], &[], &[0; 40]] {
        let body = [den.group.as_bytes(), &(whole.len() as u32).to_be_bytes()[..], body].concat();
        assert_eq!(den.tell(&Saying::raw(13, &body)), Received::Handled);
    }
    assert_eq!(den.ada.group(den.group).unwrap(), before);
    assert_eq!(den.rows(), rows);
    assert!(events(&mut den.ada).is_empty());
}

#[test]
fn changes_of_one_author_are_bounded_in_heads_and_in_a_day() {
    let mut den = Den::new("flood", GroupRole::Admin);
    let rows = den.rows();
    // Forty that know nothing of each other.
    let all: Vec<Change> = (0..40_u8).map(|at| den.settings(&[at])).collect();
    for change in &all {
        let _told = den.tell(&Saying::changes(den.group, [change]));
    }
    let _told = den.tell(&Saying::changes(den.group, &all));
    let taken = den.rows() - rows;
    assert!((16..=24).contains(&taken), "{taken}");
    // Ada goes on: her change brings them together.
    let now = den.world.now;
    let set = [GroupIntention::Set(b"roses")];
    den.ada.change_group(den.group, &set, now, &mut den.world.rng).unwrap();
    den.write("to all");
    den.world.settle(&mut den.ada);
    assert_eq!(den.ada.group(den.group).unwrap().settings, b"roses");
    // A thousand, each on the one before.
    let heard = den.mallory.hear_all(&mut den.world);
    den.roster.merge(changes(&heard));
    den.roster.merge(all.iter().take(16).cloned());
    let before = den.rows();
    for _ in 0..10 {
        let mut some = Vec::new();
        for at in 0..40_u8 {
            let change = den.settings(&[at]);
            den.roster.merge([change.clone()]);
            some.push(change);
        }
        let _told = den.tell(&Saying::changes(den.group, &some));
    }
    let taken = den.rows() - before;
    assert!(taken <= 256, "{taken}");
    let _events = inbox(&mut den.ada);
    // The others come on a later day, if she is told of them again.
    den.world.pass(2 * DAY);
    let all: Vec<Change> = den.roster.changes().cloned().collect();
    let _told = den.tell(&Saying::changes(den.group, &all));
    assert!(den.rows() - before > taken);
}

#[test]
fn a_member_that_tells_many_changes_at_once_and_lacks_one_is_told_it() {
    let mut den = Den::new("lacks one", GroupRole::Admin);
    let (group, now, rng) = (den.group, den.world.now, &mut den.world.rng);
    den.ada.change_group(group, &[GroupIntention::Set(b"lilies")], now, rng).unwrap();
    den.world.settle(&mut den.ada);
    den.mallory.hear_all(&mut den.world);
    let mut all = Vec::new();
    for at in 0..40 {
        let change = den.settings(&[at]);
        den.roster.merge([change.clone()]);
        all.push(change);
    }
    assert_eq!(den.tell(&Saying::changes(group, &all)), Received::Handled);
    den.world.settle(&mut den.ada);
    let told = changes(&den.mallory.hear_all(&mut den.world));
    den.roster.merge(told);
    assert_eq!(den.roster.changes().count(), 3 + 40);
}

#[test]
fn a_change_that_somebody_gone_dates_back_is_set_aside_and_told() {
    let mut den = Den::new("back", GroupRole::Admin);
    let (now, rng) = (den.world.now, &mut den.world.rng);
    den.ada.change_group(den.group, &[GroupIntention::Remove("mallory")], now, rng).unwrap();
    den.world.settle(&mut den.ada);
    let members = |den: &mut Den| den.ada.group(den.group).unwrap();
    let before = members(&mut den);
    den.world.pass(8 * DAY);
    let (rows, change) = (den.rows(), den.settings(b"thorns"));
    for _ in 0..3 {
        assert_eq!(den.tell(&Saying::changes(den.group, [&change])), Received::Handled);
    }
    assert_eq!(members(&mut den), before);
    assert_eq!(den.rows(), rows);
    let split = Event::GroupSplit { group: den.group };
    let told = events(&mut den.ada);
    assert_eq!(told.iter().filter(|event| **event == split).count(), 1, "{told:?}");
}

impl Den {
    /// Whether ada was told that devices do not agree.
    fn is_split(&mut self) -> bool {
        events(&mut self.ada).contains(&Event::GroupSplit { group: self.group })
    }

    /// What ada changes is known to Mallory.
    fn change(&mut self, intentions: &[GroupIntention<'_>]) {
        let (group, now, rng) = (self.group, self.world.now, &mut self.world.rng);
        self.ada.change_group(group, intentions, now, rng).unwrap();
        self.world.settle(&mut self.ada);
        let told = changes(&self.mallory.hear_all(&mut self.world));
        self.roster.merge(told);
    }

    /// A change of the settings by somebody else, on the roster as it is here.
    fn settings_by(&mut self, liar: &Liar, bytes: &[u8]) -> Change {
        let ops = [Op::Settings(bytes.to_vec())];
        let author = self.member(&liar.address.user);
        let change = self.roster.sign(author, &ops, &liar.account).unwrap();
        self.roster.merge([change.clone()]);
        change
    }

    /// Bea has joined, and both have written.
    fn add_bea(&mut self) -> App {
        let (mut bea, _) = self.world.app("bea");
        self.world.acquaint(&mut self.ada, &mut bea);
        let (now, rng) = (self.world.now, &mut self.world.rng);
        self.ada.change_group(self.group, &[GroupIntention::Add("bea")], now, rng).unwrap();
        self.world.rest(&mut [&mut self.ada, &mut bea]);
        bea.join_group(self.group, self.world.now, &mut self.world.rng).unwrap();
        self.write("to bea");
        bea.write_to_group(self.group, "to ada", self.world.now, &mut self.world.rng).unwrap();
        self.world.rest(&mut [&mut self.ada, &mut bea]);
        let heard = changes(&self.mallory.hear_all(&mut self.world));
        self.roster.merge(heard);
        bea
    }
}

#[test]
fn what_somebody_gone_dates_back_counts_where_somebody_who_is_not_gone_builds_on_it() {
    for is_gone in [true, false] {
        let mut den = Den::new("taken up", GroupRole::Admin);
        let mut eve = Liar::new(&mut den.world, "eve");
        eve.befriend(&mut den.world, &mut den.ada);
        den.change(&[GroupIntention::Add("eve")]);
        den.change(&[GroupIntention::Promote("eve")]);
        let before = den.roster.clone();
        den.change(&[GroupIntention::Remove("mallory")]);
        if is_gone {
            // Only ada's devices know it: the last that both were told is in the roster of before.
            let (group, now, rng) = (den.group, den.world.now, &mut den.world.rng);
            den.ada.change_group(group, &[GroupIntention::Remove("eve")], now, rng).unwrap();
            den.world.settle(&mut den.ada);
        }
        den.world.pass(8 * DAY);
        let known = den.ada.group(den.group).unwrap();
        den.roster = before;
        let change = den.settings(b"thorns");
        den.roster.merge([change.clone()]);
        let above = den.settings_by(&eve, b"more thorns");
        let saying = Saying::changes(den.group, [&change, &above]);
        assert_eq!(den.tell(&saying), Received::Handled);
        assert_eq!(den.is_split(), is_gone);
        assert_eq!(den.ada.group(den.group).unwrap() == known, is_gone);
    }
}

#[test]
fn in_a_group_that_is_older_than_a_week_nobody_is_taken_for_gone_who_is_in() {
    let mut den = Den::new("old group", GroupRole::Admin);
    den.world.pass(8 * DAY);
    let eve = Liar::new(&mut den.world, "eve");
    let account = eve.account.public_key();
    let add = Op::Add { user: "eve".into(), account, role: GroupRole::Admin };
    let added = den.roster.sign(den.member("mallory"), &[add], &den.mallory.account).unwrap();
    den.roster.merge([added.clone()]);
    let set = den.settings_by(&eve, b"lilies");
    assert_eq!(den.tell(&Saying::changes(den.group, [&added, &set])), Received::Handled);
    assert!(!den.is_split());
    assert_eq!(den.ada.group(den.group).unwrap().settings, b"lilies");
}

#[test]
fn many_changes_that_somebody_gone_dates_back_cost_little() {
    let mut den = Den::new("dates back many", GroupRole::Member);
    let (group, now, rng) = (den.group, den.world.now, &mut den.world.rng);
    den.ada.change_group(group, &[GroupIntention::Remove("mallory")], now, rng).unwrap();
    den.world.settle(&mut den.ada);
    den.world.pass(8 * DAY);
    let member = den.member("mallory");
    let mut all = Vec::new();
    for _ in 0..2_000 {
        let change = den.roster.sign(member, &[], &den.mallory.account).unwrap();
        den.roster.merge([change.clone()]);
        all.push(change);
    }
    den.disk.read();
    assert_eq!(den.tell(&Saying::changes(group, &all)), Received::Handled);
    // Her device list, her session, the roster: and once since when she is gone.
    let reads = den.disk.read();
    assert!(reads < 100, "{reads}");
}

#[test]
fn what_time_ends_is_noted_once_however_often_a_member_renews_its_chain() {
    let mut den = Den::new("noted once", GroupRole::Member);
    let _told = den.give();
    den.world.pass(1);
    let rows = den.disk.count(Table::Task);
    for _ in 0..40 {
        den.renew();
        let _told = den.give();
        den.world.pass(1);
    }
    // Those of a session, and of an answer that is drawn.
    assert!(den.disk.count(Table::Task) <= rows + 4, "{}", den.disk.count(Table::Task) - rows);
    // What was superseded goes all the same.
    let size = den.disk.size().1;
    for _ in 0..9 {
        den.world.pass(DAY);
        den.world.settle(&mut den.ada);
    }
    assert!(den.disk.size().1 + 1_000 < size, "{} of {size}", den.disk.size().1);
}

fn is_suspended(app: &mut App, group: GroupId, user: &str) -> bool {
    let members = app.group(group).unwrap().members;
    members.iter().find(|member| member.user == user).unwrap().suspended
}

#[test]
fn a_suspension_that_is_told_to_one_device_alone_becomes_known() {
    for knows in ["ada", "bea"] {
        let mut den = Den::new("suspends", GroupRole::Admin);
        let mut bea = den.add_bea();
        // She removes Bea while Ada removes her: it does not count.
        let remove = [Op::Remove(den.member("bea"))];
        let change = den.roster.sign(den.member("mallory"), &remove, &den.mallory.account).unwrap();
        let (group, now, rng) = (den.group, den.world.now, &mut den.world.rng);
        den.ada.change_group(group, &[GroupIntention::Remove("mallory")], now, rng).unwrap();
        den.world.rest(&mut [&mut den.ada, &mut bea]);
        let saying = Saying::changes(group, [&change]);
        if knows == "ada" {
            assert_eq!(den.tell(&saying), Received::Handled);
            assert!(is_suspended(&mut den.ada, group, "bea"));
            // Bea gets nothing now, and sees why once she writes.
            bea.refresh_group(group).unwrap();
            bea.write_to_group(group, "why?", den.world.now, &mut den.world.rng).unwrap();
        } else {
            let talk = den.mallory.begin(&mut den.world, &bea.address().clone());
            let received = den.mallory.tell(&mut den.world, &mut bea, talk, &saying);
            assert_eq!(received, Received::Handled);
            assert!(is_suspended(&mut bea, group, "bea"));
            let (now, rng) = (den.world.now, &mut den.world.rng);
            assert_eq!(bea.write_to_group(group, "why?", now, rng), Err(Error::NotPermitted));
        }
        den.world.rest(&mut [&mut den.ada, &mut bea]);
        for app in [&mut den.ada, &mut bea] {
            assert!(is_suspended(app, group, "bea"), "{}, {knows} was told", app.address());
        }
        // Ada, who is more senior, takes notice.
        let (now, rng) = (den.world.now, &mut den.world.rng);
        den.ada.change_group(group, &[GroupIntention::Set(b"lilies")], now, rng).unwrap();
        den.world.rest(&mut [&mut den.ada, &mut bea]);
        assert!(!is_suspended(&mut bea, group, "bea"), "{knows} was told");
    }
}

#[test]
fn chains_and_labels_of_one_device_are_bounded_and_displace_nobodys() {
    let mut den = Den::new("chains", GroupRole::Member);
    let mut bea = den.add_bea();
    inbox(&mut den.ada);
    let _told = den.give();
    let rows = den.rows();
    for _ in 0..60 {
        den.renew();
        let _told = den.give();
    }
    assert!(den.rows() <= rows + 4, "{} and {rows}", den.rows());
    // Bea's next text opens.
    bea.write_to_group(den.group, "two", den.world.now, &mut den.world.rng).unwrap();
    den.world.rest(&mut [&mut bea]);
    let received = den.world.fetch(&mut den.ada);
    assert!(matches!(received[..], [Received::Incoming(_)]), "{received:?}");
}

#[test]
fn an_old_chain_ends_where_the_next_one_says() {
    let mut den = Den::new("ends", GroupRole::Member);
    let _told = den.give();
    let own = den.member("mallory");
    let stolen = SenderKey::decode(&den.key.encode()).unwrap();
    den.renew();
    let _told = den.give();
    // A thief of the old chain writes on.
    let new = core::mem::replace(&mut den.key, stolen);
    let late = den.seal(own, &den.text(11, "by the thief"));
    assert!(matches!(den.hand_over(&late), Received::AskedAgain(_)));
    assert!(inbox(&mut den.ada).is_empty(), "nobody shows it but by the word of the device itself");
    den.key = new;
    let next = den.seal(own, &den.text(12, "genuine"));
    assert!(matches!(den.hand_over(&next), Received::Incoming(_)));
    // A chain whose successor's successor is here opens nothing: its end is not known.
    den.renew();
    let waiting = den.seal(own, &den.text(13, "of the one between"));
    den.renew();
    let _told = den.give();
    assert!(matches!(den.hand_over(&waiting), Received::AskedAgain(_)));
}

#[test]
fn a_text_that_comes_before_its_group_is_shown_once_the_group_is_known() {
    let mut den = Den::new("early", GroupRole::Member);
    let ada = {
        let account = den.ada.trust("ada").unwrap().unwrap().account;
        Op::Add { user: "ada".into(), account, role: GroupRole::Member }
    };
    let roster =
        Roster::found("mallory", &[ada], &den.mallory.account, &mut subrosa::SystemRng).unwrap();
    let group = roster.group();
    assert_eq!(den.tell(&Saying::group_text(group, 11, "early")), Received::SetAside);
    assert!(inbox(&mut den.ada).is_empty());
    let _told = den.tell(&Saying::changes(group, roster.changes()));
    den.world.settle(&mut den.ada);
    let items = inbox(&mut den.ada);
    let texts = items.iter().filter(|item| matches!(item, Item::Group(_))).count();
    assert_eq!(texts, 1, "{items:?}");
    assert_eq!(den.ada.group(group).unwrap().standing, GroupStanding::Invited);
    // Those of groups that never come are bounded.
    let mut held = 0;
    for at in 0..100_u128 {
        let other = GroupId::from([at as u8; 32]);
        held +=
            usize::from(den.tell(&Saying::group_text(other, 100 + at, "x")) == Received::SetAside);
    }
    assert!(held <= 32, "{held}");
}

#[test]
fn invitations_of_one_user_are_bounded() {
    let mut den = Den::new("invitations", GroupRole::Member);
    let account = den.ada.trust("ada").unwrap().unwrap().account;
    let ada = Op::Add { user: "ada".into(), account, role: GroupRole::Member };
    // A group that somebody else is said to have founded, and one without ada, are none.
    let eve = IdentityKeyPair::generate(&mut den.world.rng);
    let others = [
        Roster::found("eve", std::slice::from_ref(&ada), &eve, &mut subrosa::SystemRng).unwrap(),
        Roster::found("mallory", &[], &den.mallory.account, &mut subrosa::SystemRng).unwrap(),
    ];
    for roster in &others {
        let _told = den.tell(&Saying::changes(roster.group(), roster.changes()));
        assert_eq!(den.ada.group(roster.group()), Err(Error::UnknownGroup));
    }
    for at in 0..100_u8 {
        let ops = [ada.clone(), Op::Settings(vec![at])];
        let roster =
            Roster::found("mallory", &ops, &den.mallory.account, &mut subrosa::SystemRng).unwrap();
        let _told = den.tell(&Saying::changes(roster.group(), roster.changes()));
    }
    let told = events(&mut den.ada);
    let invited = told.iter().filter(|event| matches!(event, Event::GroupInvited { .. })).count();
    // The two were looked at, and are charged as invitations are.
    assert_eq!(invited, 32 - 2);
    assert_eq!(den.ada.groups().unwrap().len(), 1 + 32 - 2);
}

#[test]
fn who_is_no_member_is_told_and_given_nothing() {
    let mut den = Den::new("outsider", GroupRole::Member);
    let mut eve = Liar::new(&mut den.world, "eve");
    let talk = eve.befriend(&mut den.world, &mut den.ada);
    den.write("to all");
    den.world.settle(&mut den.ada);
    inbox(&mut den.ada);
    eve.hear_all(&mut den.world);
    let (group, rows) = (den.group, den.rows());
    let heads: Vec<[u8; 32]> = den.roster.heads().iter().map(|id| *id.as_bytes()).collect();
    let given = den.key.distribution(group.as_bytes(), &[0; 8], &heads).unwrap();
    assert!(Distribution::decode(&given).is_ok());
    let all: Vec<Change> = den.roster.changes().cloned().collect();
    for saying in [
        Saying::group_text(group, 11, "from eve"),
        Saying::changes(group, &all),
        Saying::raw(14, &given),
        Saying::raw(15, group.as_bytes()),
        Saying::raw(15, &[group.as_bytes(), heads.as_flattened()].concat()),
    ] {
        let received = eve.tell(&mut den.world, &mut den.ada, talk, &saying);
        assert!(!matches!(received, Received::Incoming(_)), "{received:?}");
    }
    den.world.settle(&mut den.ada);
    let heard = eve.hear_all(&mut den.world);
    assert!(heard.iter().all(|one| !(12..=14).contains(&one.kind)), "{heard:?}");
    assert_eq!(den.rows(), rows);
    assert!(inbox(&mut den.ada).is_empty());
    // Nor is a removed one, whatever it asks for.
    let (now, rng) = (den.world.now, &mut den.world.rng);
    den.ada.change_group(group, &[GroupIntention::Remove("mallory")], now, rng).unwrap();
    den.world.settle(&mut den.ada);
    den.mallory.hear_all(&mut den.world);
    let reference = den.world.post.past.iter().rev().find(|mail| mail.envelope[1] == 2);
    let reference: Option<[u8; 16]> =
        reference.map(|mail| mail.envelope[2..18].try_into().unwrap());
    let _told = den.tell(&Saying::raw(15, group.as_bytes()));
    if let Some(reference) = reference {
        let _told = den.tell(&Saying::request([0; 8], &[reference]));
    }
    den.write("without mallory");
    den.world.settle(&mut den.ada);
    let heard = den.mallory.hear_all(&mut den.world);
    assert!(heard.iter().all(|one| !matches!(one.kind, 12 | 14)), "{heard:?}");
}

#[test]
fn a_roster_that_is_asked_for_without_end_is_told_so_often_and_no_more() {
    let mut den = Den::new("asks", GroupRole::Member);
    den.world.settle(&mut den.ada);
    den.mallory.hear_all(&mut den.world);
    let mut bytes = 0;
    for _ in 0..200 {
        let _told = den.tell(&Saying::raw(15, &[den.group.as_bytes(), &[0; 32 * 17][..]].concat()));
        let _told = den.tell(&Saying::raw(15, den.group.as_bytes()));
        den.world.settle(&mut den.ada);
        bytes +=
            den.world.mail(&den.mallory.address).iter().map(|m| m.envelope.len()).sum::<usize>();
        den.mallory.hear_all(&mut den.world);
    }
    assert!(bytes <= 2 * Client::<Disk>::MAX_TEXT, "{bytes}");
}

#[test]
fn a_device_that_says_without_end_that_it_knows_nothing_is_told_so_often_and_no_more() {
    let mut den = Den::new("ignorant", GroupRole::Admin);
    den.world.settle(&mut den.ada);
    den.mallory.hear_all(&mut den.world);
    // She was promoted, and her chains name what was before.
    den.roster = Roster::from_changes(den.roster.changes().take(1).cloned()).unwrap();
    let mut bytes = 0;
    for _ in 0..200 {
        den.renew();
        let _told = den.give();
        den.world.settle(&mut den.ada);
        let mail = den.world.mail(&den.mallory.address);
        bytes += mail.iter().map(|mail| mail.envelope.len()).sum::<usize>();
        let heard = den.mallory.hear_all(&mut den.world);
        assert!(changes(&heard).len() <= 1, "{heard:?}");
    }
    assert!(bytes > 0 && bytes <= 2 * Client::<Disk>::MAX_TEXT, "{bytes}");
}

#[test]
fn a_removed_member_that_writes_without_end_is_told_so_often_and_no_more() {
    let mut den = Den::new("removed", GroupRole::Member);
    let (now, rng) = (den.world.now, &mut den.world.rng);
    den.ada.change_group(den.group, &[GroupIntention::Remove("mallory")], now, rng).unwrap();
    den.world.settle(&mut den.ada);
    den.mallory.hear_all(&mut den.world);
    let (mut told, mut shown) = (0, 0);
    for at in 0..200 {
        let text = Saying::group_text(den.group, 100 + at, "and on");
        shown += usize::from(matches!(den.tell(&text), Received::Incoming(_)));
        den.world.settle(&mut den.ada);
        let heard = den.mallory.hear_all(&mut den.world);
        told += heard.iter().filter(|one| one.kind == 13).count();
        assert!(heard.iter().all(|one| !matches!(one.kind, 12 | 14)), "{heard:?}");
    }
    assert_eq!(shown, 32, "late texts");
    assert!((1..=33).contains(&told), "{told}");
}

#[test]
fn a_member_whom_the_server_does_not_know_holds_up_nobody() {
    let mut den = Den::new("nobody", GroupRole::Admin);
    den.write("before");
    den.world.settle(&mut den.ada);
    let account = IdentityKeyPair::generate(&mut den.world.rng).public_key();
    let add = Op::Add { user: "nobody".into(), account, role: GroupRole::Member };
    let change = den.roster.sign(den.member("mallory"), &[add], &den.mallory.account).unwrap();
    assert_eq!(den.tell(&Saying::changes(den.group, [&change])), Received::Handled);
    den.ada.refresh_group(den.group).unwrap();
    let text = den.write("a new chain begins");
    let asked = |action: &Action| *action == Action::FetchDevices("nobody".into());
    let done = den.world.settle(&mut den.ada);
    assert_eq!(den.ada.progress(text), Ok(Progress::Sent));
    assert_eq!(done.iter().filter(|action| asked(action)).count(), 1, "{done:?}");
    // Nor does a text bring about that the server is asked each time.
    for _ in 0..20 {
        den.world.pass(60);
        den.ada.refresh_group(den.group).unwrap();
        let text = den.write("and on");
        let done = den.world.settle(&mut den.ada);
        assert_eq!(den.ada.progress(text), Ok(Progress::Sent));
        assert!(done.iter().filter(|action| asked(action)).count() <= 1, "{done:?}");
    }
    let mut later = 0;
    for _ in 0..48 {
        den.world.pass(60 * 60);
        later += den.world.settle(&mut den.ada).iter().filter(|action| asked(action)).count();
    }
    assert!((1..=16).contains(&later), "{later}");
}

#[test]
fn who_names_changes_that_there_are_not_from_ever_new_devices_holds_up_a_text_once() {
    let mut den = Den::new("ever new", GroupRole::Member);
    den.write("before");
    den.world.settle(&mut den.ada);
    let mut text = None;
    for round in 0..8 {
        let Den { world, mallory, ada, .. } = &mut den;
        let identity = IdentityKeyPair::generate(&mut world.rng);
        let with = mallory.list.with(&mallory.account, identity.public_key(), Role::Device);
        let (list, device) = with.unwrap();
        mallory.list = list.clone();
        mallory.upload(world);
        let account = IdentityKeyPair::clone(&mallory.account);
        let mut other = Liar::posing(world, "mallory", device, account, identity, list);
        let talk = other.begin(world, &ada.address().clone());
        let _told = other.tell(world, ada, talk, &Saying::devices());
        world.settle(ada);
        let none = [round; 32];
        let heads = Saying::raw(17, &[den.group.as_bytes(), &none[..]].concat());
        let _told = other.tell(&mut den.world, &mut den.ada, talk, &heads);
        let id = *text.get_or_insert_with(|| den.write("and on"));
        den.world.settle(&mut den.ada);
        let progress = den.ada.progress(id).unwrap();
        assert_eq!(progress == Progress::Waiting, round < 2, "{round}: {progress:?}");
        den.world.pass(25);
    }
}

#[test]
fn the_envelopes_of_a_member_who_is_blocked_are_refused() {
    let mut den = Den::new("blocked member", GroupRole::Member);
    assert_eq!(den.give(), Received::Handled);
    let member = den.member("mallory");
    let text = den.text(20, "listen");
    let envelope = den.seal(member, &text);
    den.ada.block("mallory", den.world.now, &mut den.world.rng).unwrap();
    assert_eq!(den.hand_over(&envelope), Received::Refused(Error::Blocked));
    assert_eq!(inbox(&mut den.ada), []);
    den.ada.unblock("mallory").unwrap();
    let received = den.hand_over(&envelope);
    assert!(matches!(received, Received::Incoming(_)), "{received:?}");
}

/// Sealed handshakes that show no ticket and open nothing: how many are looked at before the
/// allowance of those that nobody knows is used up.
fn looked_at(den: &mut Den) -> usize {
    let mut stranger = Liar::new(&mut den.world, "stranger");
    let talk = stranger.begin(&mut den.world, &den.ada.address().clone());
    let noise = stranger.say_sealed(&mut den.world, talk, &Saying::text(1, "noise"), [7; 16]);
    let is_looked_at = |number: &u32| {
        let mut forged = noise.clone();
        forged[36..40].copy_from_slice(&number.to_be_bytes());
        let received = den.ada.receive(None, &forged, den.world.now, &mut den.world.rng).unwrap();
        assert!(matches!(received, Received::Refused(_)), "{received:?}");
        received != Received::Refused(Error::RateLimited)
    };
    (0..100).filter(is_looked_at).count()
}

/// Begins sessions in sealed envelopes without a ticket.
fn begin_sealed(den: &mut Den, liar: &mut Liar, count: u32) {
    for number in 0..count {
        let talk = liar.begin(&mut den.world, &den.ada.address().clone());
        let hello = Saying::text(1_000 + u128::from(number), "hello");
        let envelope = liar.say_sealed(&mut den.world, talk, &hello, [7; 16]);
        let received = den.ada.receive(None, &envelope, den.world.now, &mut den.world.rng).unwrap();
        assert!(matches!(received, Received::Incoming(_)), "{number}: {received:?}");
    }
}

#[test]
fn sealed_handshakes_of_a_member_are_charged_to_the_member_as_far_as_its_own_allowance_goes() {
    let mut den = Den::new("handshakes of a member", GroupRole::Member);
    let stand_in = Liar::new(&mut den.world, "stand-in");
    let mut mallory = std::mem::replace(&mut den.mallory, stand_in);
    // 32 are hers; what is more is charged to those that nobody knows.
    begin_sealed(&mut den, &mut mallory, 40);
    let looked_at = looked_at(&mut den);
    assert_eq!(looked_at, 64 - 8);
}

#[test]
fn sealed_handshakes_of_a_contact_in_no_group_are_charged_to_those_that_nobody_knows() {
    let mut den = Den::new("handshakes of a contact", GroupRole::Member);
    let mut bob = Liar::new(&mut den.world, "bob");
    bob.befriend(&mut den.world, &mut den.ada);
    begin_sealed(&mut den, &mut bob, 30);
    assert_eq!(looked_at(&mut den), 64 - 30);
}

/// Forty texts of Mallory's that are still on their way when she is removed.
fn on_their_way(den: &mut Den) -> Vec<Vec<u8>> {
    assert_eq!(den.give(), Received::Handled);
    let own = den.member("mallory");
    let texts: Vec<Vec<u8>> = (0..40).map(|at| den.text(20 + at, "on its way")).collect();
    let envelopes = texts.iter().map(|text| den.seal(own, text)).collect();
    let (now, rng) = (den.world.now, &mut den.world.rng);
    den.ada.change_group(den.group, &[GroupIntention::Remove("mallory")], now, rng).unwrap();
    den.world.settle(&mut den.ada);
    envelopes
}

#[test]
fn texts_of_a_member_who_was_removed_are_late_and_32_of_them_are_shown() {
    let mut den = Den::new("late texts", GroupRole::Member);
    let mut shown = 0;
    for envelope in on_their_way(&mut den) {
        match den.hand_over(&envelope) {
            Received::Incoming(incoming) => {
                assert!(matches!(incoming.item, Item::Group(ref text) if text.is_late));
                shown += 1;
            }
            Received::Refused(Error::UnknownDevice(_)) => {}
            // What is refused so is set aside, and refused again.
            Received::SetAside => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(shown, 32);
}

#[test]
fn texts_of_a_member_who_was_removed_are_shown_for_a_day() {
    let mut den = Den::new("too late", GroupRole::Member);
    let envelopes = on_their_way(&mut den);
    let is_shown = |den: &mut Den, envelope: &Vec<u8>| {
        matches!(den.hand_over(envelope), Received::Incoming(_))
    };
    // What goes on for a day changes nothing of that: not a second look at who is in, either.
    den.world.pass(DAY / 2);
    den.world.settle(&mut den.ada);
    let roster: Vec<Change> = den.roster.changes().cloned().collect();
    let group = den.group;
    let _told = den.tell(&Saying::changes(group, &roster));
    den.world.pass(DAY / 2);
    assert!(is_shown(&mut den, &envelopes[0]));
    assert_eq!(den.chains(), 1);
    den.world.pass(1);
    assert!(!is_shown(&mut den, &envelopes[1]));
    // And nothing of it can be opened any more.
    den.world.settle(&mut den.ada);
    assert_eq!(den.chains(), 0);
}

#[test]
fn a_text_to_a_group_that_was_sent_apart_comes_again_sixteen_times_and_no_more() {
    let mut den = Den::new("resends to a group", GroupRole::Member);
    den.write("a secret");
    den.world.settle(&mut den.ada);
    let mail = den.world.post.take(&den.mallory.address);
    let envelope = mail.iter().find(|mail| mail.is_of_group()).expect("the text");
    let mut asked: Vec<[u8; 16]> = vec![envelope.envelope[2..18].try_into().unwrap()];
    mail.iter().for_each(|mail| drop(den.mallory.hear(mail)));
    let mut apart = 0;
    for round in 0..12 {
        den.talk = den.mallory.talks.len() - 1;
        let _asked = den.tell(&Saying::request([0; 8], &asked));
        for _ in 0..4 {
            den.world.settle(&mut den.ada);
        }
        // From then on by the references of what came apart, which ada made.
        let heard = den.mallory.hear_all(&mut den.world);
        let again = heard.iter().filter(|one| one.kind == 12).map(|one| one.reference);
        apart += again.clone().count();
        match round {
            0 => asked = again.collect(),
            _ => asked.extend(again),
        }
    }
    assert_eq!(apart, 1 + 16);
}

#[test]
fn changes_count_from_devices_of_members_alone() {
    let mut den = Den::new("changes by an outsider", GroupRole::Admin);
    let mut eve = Liar::new(&mut den.world, "eve");
    let talk = eve.befriend(&mut den.world, &mut den.ada);
    let before = den.ada.group(den.group).unwrap();
    let change = den.settings(b"tulips");
    let saying = Saying::changes(den.group, [&change]);
    assert_eq!(eve.tell(&mut den.world, &mut den.ada, talk, &saying), Received::Handled);
    assert_eq!(den.ada.group(den.group).unwrap(), before);
    assert_eq!(den.tell(&saying), Received::Handled);
    assert_ne!(den.ada.group(den.group).unwrap(), before);
}

#[test]
fn who_asks_for_changes_by_more_heads_than_a_change_has_parents_is_told_nothing() {
    let mut den = Den::new("heads without end", GroupRole::Member);
    let ask = |den: &mut Den, heads: &[[u8; 32]]| {
        let body = [den.group.as_bytes(), heads.as_flattened()].concat();
        assert_eq!(den.tell(&Saying::raw(15, &body)), Received::Handled);
        den.world.settle(&mut den.ada);
        let heard = den.mallory.hear_all(&mut den.world);
        heard.iter().filter(|one| one.kind == 13).count()
    };
    assert_eq!(ask(&mut den, &[[7; 32]; 17]), 0);
    assert_eq!(ask(&mut den, &[[7; 32]; 16]), 1);
}

#[test]
fn what_is_built_on_changes_that_never_come_is_asked_for_within_an_allowance() {
    let mut den = Den::new("unknown heads", GroupRole::Member);
    let mut asked = 0;
    for at in 0..60_u8 {
        let heads = [den.group.as_bytes(), &[at; 32][..]].concat();
        assert_eq!(den.tell(&Saying::raw(17, &heads)), Received::Handled);
        den.world.settle(&mut den.ada);
        let heard = den.mallory.hear_all(&mut den.world);
        asked += heard.iter().filter(|one| one.kind == 15).count();
    }
    assert!((2..=32).contains(&asked), "{asked}");
}

#[test]
fn that_this_account_left_is_told_to_members_alone() {
    let mut den = Den::new("out of the group", GroupRole::Admin);
    assert_eq!(den.give(), Received::Handled);
    den.write("hello");
    den.world.settle(&mut den.ada);
    assert_eq!(den.chains(), 2);
    let (now, rng) = (den.world.now, &mut den.world.rng);
    den.ada.change_group(den.group, &[GroupIntention::Leave], now, rng).unwrap();
    den.world.settle(&mut den.ada);
    assert_eq!(den.ada.group(den.group).unwrap().standing, GroupStanding::Out);
    assert_eq!(den.chains(), 0);
    let mut eve = Liar::new(&mut den.world, "eve");
    let talk = eve.befriend(&mut den.world, &mut den.ada);
    den.mallory.hear_all(&mut den.world);
    let first = den.roster.heads()[0];
    let heads = Saying::raw(17, &[den.group.as_bytes(), &first.as_bytes()[..]].concat());
    let _told = eve.tell(&mut den.world, &mut den.ada, talk, &heads);
    let _told = den.tell(&heads);
    den.world.settle(&mut den.ada);
    assert!(eve.hear_all(&mut den.world).iter().all(|one| one.kind != 13));
    assert!(den.mallory.hear_all(&mut den.world).iter().any(|one| one.kind == 13));
}

#[test]
fn a_repeated_envelope_is_a_duplicate_though_its_chain_is_gone() {
    let mut den = Den::new("repeated late", GroupRole::Member);
    assert_eq!(den.give(), Received::Handled);
    let own = den.member("mallory");
    let text = den.text(20, "once");
    let envelope = den.seal(own, &text);
    assert!(matches!(den.hand_over(&envelope), Received::Incoming(_)));
    let (now, rng) = (den.world.now, &mut den.world.rng);
    den.ada.change_group(den.group, &[GroupIntention::Remove("mallory")], now, rng).unwrap();
    for _ in 0..3 {
        den.world.settle(&mut den.ada);
        den.world.pass(DAY);
    }
    assert_eq!(den.hand_over(&envelope), Received::Duplicate);
}

#[test]
fn a_member_proposes_nothing_to_another_account() {
    let mut den = Den::new("proposals of a member", GroupRole::Admin);
    let before = den.ada.group(den.group).unwrap();
    let made = den.world.now.as_secs().to_be_bytes();
    let head = [den.group.as_bytes(), &[7; 16][..], &made].concat();
    // To leave: as the member that she is.
    let leave = [&head[..], den.member("mallory").as_bytes(), &[0]].concat();
    assert_eq!(den.tell(&Saying::raw(16, &leave)), Received::Handled);
    den.world.settle(&mut den.ada);
    assert_eq!(den.ada.group(den.group).unwrap(), before);
    assert_eq!(inbox(&mut den.ada), []);
}

#[test]
fn devices_under_another_account_key_than_the_members_get_no_chain_and_no_text() {
    let mut den = Den::new("another account", GroupRole::Member);
    let rng = &mut den.world.rng;
    let (account, identity) = (IdentityKeyPair::generate(rng), IdentityKeyPair::generate(rng));
    let list = subrosa::DeviceList::first(&account, identity.public_key());
    den.world.post.users.remove("mallory");
    let mut new = Liar::posing(&mut den.world, "mallory", 1, account, identity, list);
    new.upload(&mut den.world);
    let (list, key) = (new.list.encode(), new.account.public_key());
    den.ada.update_devices("mallory", &list, den.world.now, &mut den.world.rng).unwrap();
    den.ada.accept_new_key("mallory", &key, den.world.now, &mut den.world.rng).unwrap();
    den.world.post.take(&new.address);
    let talk = new.begin(&mut den.world, &den.ada.address().clone());
    let hello = new.tell(&mut den.world, &mut den.ada, talk, &Saying::text(7, "my new phone"));
    assert!(matches!(hello, Received::Incoming(_)), "{hello:?}");
    den.write("for those who are in");
    for _ in 0..3 {
        den.world.settle(&mut den.ada);
        den.world.pass(60);
    }
    let mail = den.world.post.take(&new.address);
    assert!(!mail.iter().any(crate::post::Mail::is_of_group));
    let heard: Vec<u8> =
        mail.iter().filter_map(|mail| new.hear(mail)).map(|heard| heard.kind).collect();
    assert!(!heard.is_empty() && !heard.iter().any(|kind| matches!(kind, 12 | 14)), "{heard:?}");
}

#[test]
fn texts_of_a_group_that_are_sent_apart_are_bounded_in_bytes() {
    let mut den = Den::new("apart in bytes", GroupRole::Member);
    let long = "x".repeat(200_000);
    for _ in 0..10 {
        den.write(&long);
    }
    den.world.settle(&mut den.ada);
    let mail = den.world.post.take(&den.mallory.address);
    let of_group = mail.iter().filter(|mail| mail.is_of_group());
    let references: Vec<[u8; 16]> =
        of_group.map(|mail| mail.envelope[2..18].try_into().unwrap()).collect();
    assert_eq!(references.len(), 10);
    mail.iter().for_each(|mail| drop(den.mallory.hear(mail)));
    let mut bytes = 0;
    for _ in 0..16 {
        den.talk = den.mallory.talks.len() - 1;
        let _asked = den.tell(&Saying::request([0; 8], &references));
        for _ in 0..4 {
            den.world.settle(&mut den.ada);
        }
        let mail = den.world.mail(&den.mallory.address);
        bytes += mail.iter().map(|mail| mail.envelope.len()).sum::<usize>();
        den.mallory.hear_all(&mut den.world);
    }
    assert!((8 << 20..18 << 20).contains(&bytes), "{bytes}");
}

#[test]
fn a_change_that_names_a_parent_and_what_that_is_built_on_is_refused() {
    let mut den = Den::new("known twice", GroupRole::Admin);
    let (author, head) = (den.member("mallory"), den.roster.heads()[0]);
    let head = den.roster.changes().find(|change| change.id() == head).unwrap().clone();
    let change = den.settings(b"tulips");
    assert_eq!(den.tell(&Saying::changes(den.group, [&change])), Received::Handled);
    let before = den.ada.group(den.group).unwrap();
    assert_eq!(before.settings, b"tulips");
    let op = [&[4][..], &3_u16.to_be_bytes(), b"mal"].concat();
    let mut parents = [head, change.clone()];
    parents.sort_by_key(Change::id);
    for (parents, is_taken) in [(&parents[..], false), (&[change][..], true)] {
        let height = parents.iter().map(Change::height).max().unwrap() + 1;
        let account = &den.mallory.account;
        let bytes = forged(account, den.group, (height, parents), author, &op);
        let _told = den.tell(&Saying::raw(13, &{
            let length = (bytes.len() as u32).to_be_bytes();
            [den.group.as_bytes(), &length[..], &bytes].concat()
        }));
        assert_eq!(den.ada.group(den.group).unwrap().settings == b"mal", is_taken);
    }
}

#[test]
fn who_was_removed_is_told_of_nothing_that_comes_later() {
    let mut den = Den::new("later", GroupRole::Member);
    let (group, now, rng) = (den.group, den.world.now, &mut den.world.rng);
    den.ada.change_group(group, &[GroupIntention::Remove("mallory")], now, rng).unwrap();
    den.world.settle(&mut den.ada);
    assert_eq!(changes(&den.mallory.hear_all(&mut den.world)).len(), 1);
    let (now, rng) = (den.world.now, &mut den.world.rng);
    den.ada.change_group(group, &[GroupIntention::Set(b"thorns")], now, rng).unwrap();
    den.world.settle(&mut den.ada);
    assert_eq!(changes(&den.mallory.hear_all(&mut den.world)), []);
}

#[test]
fn who_was_removed_gets_no_text_to_the_group_again() {
    let mut den = Den::new("asks again once removed", GroupRole::Member);
    den.write("a secret");
    den.world.settle(&mut den.ada);
    let mail = den.world.post.take(&den.mallory.address);
    let envelope = mail.iter().find(|mail| mail.is_of_group()).expect("the text");
    let reference: [u8; 16] = envelope.envelope[2..18].try_into().unwrap();
    mail.iter().for_each(|mail| drop(den.mallory.hear(mail)));
    let ask = |den: &mut Den, reference| {
        den.talk = den.mallory.talks.len() - 1;
        let _asked = den.tell(&Saying::request([0; 8], &[reference]));
        for _ in 0..4 {
            den.world.settle(&mut den.ada);
        }
        let heard = den.mallory.hear_all(&mut den.world);
        heard.iter().find(|one| one.kind == 12).map(|one| one.reference)
    };
    // It came apart, and is asked for by that reference from now on.
    let apart = ask(&mut den, reference).expect("it comes again");
    assert!(ask(&mut den, apart).is_some());
    let (now, rng) = (den.world.now, &mut den.world.rng);
    den.ada.change_group(den.group, &[GroupIntention::Remove("mallory")], now, rng).unwrap();
    den.world.settle(&mut den.ada);
    assert_eq!(ask(&mut den, apart), None);
}

#[test]
fn a_device_that_its_member_removed_is_shown_apart_in_the_group_and_not_for_long() {
    let mut den = Den::new("removed device of a member", GroupRole::Member);
    let identity = IdentityKeyPair::generate(&mut den.world.rng);
    let account = den.mallory.account.clone();
    let role = Role::Device;
    let (list, device) = den.mallory.list.with(&account, identity.public_key(), role).unwrap();
    let world = &mut den.world;
    let mut second =
        Liar::posing(world, "mallory", device, account.clone(), identity, list.clone());
    let talk = second.begin(world, &den.ada.address().clone());
    let mut tell = |den: &mut Den, id| {
        let text = Saying::group_text(den.group, id, "by the second device");
        drop(second.tell(&mut den.world, &mut den.ada, talk, &text));
        let texts = inbox(&mut den.ada).into_iter().filter_map(|item| match item {
            Item::Group(text) => Some((text.is_late, text.text.trust)),
            _ => None,
        });
        texts.collect::<Vec<_>>()
    };
    assert_eq!(tell(&mut den, 20), [(false, Trust::FirstUse)]);
    let list = list.without(&account, device).unwrap().encode();
    den.ada.update_devices("mallory", &list, den.world.now, &mut den.world.rng).unwrap();
    assert_eq!(tell(&mut den, 21), [(true, Trust::Unaccepted)]);
    let shown = (22..100).map(|id| tell(&mut den, id).len()).sum::<usize>();
    assert_eq!(shown, 31);
    den.world.now = den.world.now.after(2 * 24 * 60 * 60);
    den.world.settle(&mut den.ada);
    assert_eq!(tell(&mut den, 100), []);
}
