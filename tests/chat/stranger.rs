//! Somebody who runs another program than the chat, and may have any name and say anything.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::time::Duration;

use subrosa::directory::Directory;
use subrosa::store::Memory;
use subrosa::{
    Action, Address, Answer, Client, Delivery, NewDevice, Policy, SystemRng, Task, UnixTime,
};

use crate::frames::{read_frame, write_frame};
use crate::wire::{self, Mail, Request, Response};
use crate::{PATIENCE, Process, World};

pub(crate) struct Stranger {
    pub(crate) client: Client<Memory>,
    /// Carries the name, where there is one that the relay takes.
    named: Option<TcpStream>,
    unnamed: TcpStream,
    mail: VecDeque<Mail>,
}

impl Stranger {
    /// Seals everything, and tells the relay no name.
    pub(crate) fn sealed(world: &World, name: &str) -> Self {
        let mut policy = Policy::default();
        policy.delivery = Delivery::Sealed;
        let client = client(name).with_policy(policy);
        let (unnamed, mail) = (connect(world), VecDeque::new());
        Self { client, named: None, unnamed, mail }
    }

    /// Says a name that the relay takes, and seals nothing.
    pub(crate) fn open(world: &World, name: &str) -> Self {
        let (client, named, unnamed) = (client(name), connect(world), connect(world));
        let mut stranger = Self { client, named: Some(named), unnamed, mail: VecDeque::new() };
        stranger.ask(&Request::Hello(Address::new(name, 1)));
        stranger.do_tasks();
        stranger
    }

    /// A device of the account of a chat, which links it.
    pub(crate) fn linked(world: &World, by: &mut Process, name: &str) -> Self {
        let device = NewDevice::generate(&mut SystemRng);
        let code = device.code();
        by.type_line(&format!("/link {}", code.as_str()));
        by.wait("* linked");
        let letters = code.chars().filter(char::is_ascii_alphanumeric).take(40);
        let id: String = letters.collect::<String>().to_ascii_uppercase();
        let mut unnamed = connect(world);
        let grant = loop {
            write_frame(&mut unnamed, &wire::encode(&Request::Grant(id.clone())).unwrap()).unwrap();
            match wire::decode(&read_frame(&mut unnamed).unwrap().1).unwrap() {
                Response::Found(Some(grant)) => break grant,
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        let now = UnixTime::now().unwrap();
        let client = Client::join(Memory::new(), &device, &grant, now, &mut SystemRng).unwrap();
        let address = client.address().clone();
        assert_eq!(address.user, name);
        let named = Some(connect(world));
        let mut stranger = Self { client, named, unnamed, mail: VecDeque::new() };
        stranger.ask(&Request::Hello(address));
        stranger.do_tasks();
        stranger
    }

    /// Makes up a user of any name.
    pub(crate) fn pretend_to_know(&mut self, name: &str) {
        let list = client(name).devices(name).unwrap().unwrap().encode();
        let now = self.now();
        self.client.update_devices(name, &list, now, &mut SystemRng).unwrap();
    }

    pub(crate) fn now(&self) -> UnixTime {
        UnixTime::now().unwrap()
    }

    /// Does every task there is, as far as the relay answers.
    pub(crate) fn do_tasks(&mut self) {
        loop {
            let tasks = self.client.tasks(100, self.now(), &mut SystemRng).unwrap();
            if tasks.is_empty() {
                return;
            }
            for task in tasks {
                self.do_task(&task);
            }
        }
    }

    fn do_task(&mut self, task: &Task) {
        let request = match &task.action {
            Action::FetchSummary => Request::Summary,
            Action::Upload(upload) => Request::Upload(upload.clone()),
            Action::FetchDevices(user) => Request::Devices(user.clone()),
            Action::FetchBundle(of) => Request::Bundle(of.clone()),
            Action::Send { to, envelope, .. } => {
                Request::Send { to: to.clone(), envelope: envelope.clone() }
            }
            Action::SendSealed { to, envelope, .. } => {
                Request::SendSealed { to: to.clone(), envelope: envelope.clone(), pass: None }
            }
            _ => Request::Ping,
        };
        let response = self.ask(&request);
        let empty = Directory::new().summary(1).encode();
        let answer = match (&task.action, &response) {
            (Action::FetchSummary, Response::Found(Some(bytes))) => Answer::Summary(bytes),
            (Action::FetchDevices(_), Response::Found(Some(bytes))) => Answer::Devices(bytes),
            (Action::FetchBundle(_), Response::Found(Some(bytes))) => Answer::Bundle(bytes),
            (Action::FetchCertificate, _) => Answer::Failed,
            // The client itself has to believe that the relay takes such a name.
            (Action::FetchSummary, Response::Refused(_)) => Answer::Summary(&empty),
            (Action::Upload(_), _) | (_, Response::Done) => Answer::Done,
            (_, Response::Found(None)) => Answer::Missing,
            _ => Answer::Failed,
        };
        let now = self.now();
        self.client.complete(&task.id, answer, now, &mut SystemRng).unwrap();
    }

    fn ask(&mut self, request: &Request) -> Response {
        let is_sealed = matches!(request, Request::SendSealed { .. });
        let socket = match &mut self.named {
            Some(named) if !is_sealed => named,
            _ => &mut self.unnamed,
        };
        write_frame(socket, &wire::encode(request).unwrap()).unwrap();
        loop {
            match wire::decode(&read_frame(socket).unwrap().1).unwrap() {
                Response::Mail(mail) => self.mail.push_back(mail),
                Response::NewDevices(_) => {}
                response => return response,
            }
        }
    }
}

fn client(name: &str) -> Client<Memory> {
    Client::create(Memory::new(), name, UnixTime::now().unwrap(), &mut SystemRng).unwrap()
}

fn connect(world: &World) -> TcpStream {
    let socket = TcpStream::connect(&world.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}
