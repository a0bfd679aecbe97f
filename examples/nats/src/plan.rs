//! Who writes what to whom, in a load: a matter of numbers alone, so that each process knows what
//! all others do.

use subrosa::Address;

use crate::Result;

/// What is set on the command line, as `accounts=200`.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) accounts: usize,
    /// Members of a group. Each account is in one group.
    pub(crate) group: usize,
    /// Texts that each account writes.
    pub(crate) texts: usize,
    /// Milliseconds between two texts of an account.
    pub(crate) pause: u64,
    /// Processes that the accounts are divided among.
    pub(crate) processes: usize,
    /// Desks, each a process.
    pub(crate) desks: usize,
    /// Seconds after which a server is killed, again and again; 0: never.
    pub(crate) kill: u64,
    /// Seconds after which a device's connection is cut, again and again; 0: never.
    pub(crate) cut: u64,
    /// Servers, and the copies of everything: 1 or 3.
    pub(crate) servers: usize,
    /// Seconds without any progress after which it has failed.
    pub(crate) patience: u64,
}

/// A text.
#[derive(Clone, Copy)]
pub(crate) enum To {
    Account(usize),
    Group,
}

impl Plan {
    pub(crate) fn of(words: &[&str]) -> Result<Self> {
        let mut plan = Self {
            accounts: 12,
            group: 4,
            texts: 20,
            pause: 400,
            processes: 2,
            desks: 2,
            kill: 6,
            cut: 5,
            servers: 3,
            patience: 120,
        };
        for word in words {
            let (name, value) = word.split_once('=').ok_or("NAME=NUMBER")?;
            let number = value.parse::<u64>()?;
            let count = usize::try_from(number)?;
            match name {
                "accounts" => plan.accounts = count.clamp(2, 100_000),
                "group" => plan.group = count.max(2),
                "texts" => plan.texts = count,
                "pause" => plan.pause = number,
                "processes" => plan.processes = count.max(1),
                "desks" => plan.desks = count.max(1),
                "kill" => plan.kill = number,
                "cut" => plan.cut = number,
                "servers" => plan.servers = if count == 1 { 1 } else { 3 },
                "patience" => plan.patience = number,
                _ => return Err(format!("{name}: no such number").into()),
            }
        }
        Ok(plan)
    }

    pub(crate) fn words(&self) -> Vec<String> {
        let Self { accounts, group, texts, pause, processes, desks, kill, cut, .. } = self;
        let Self { servers, patience, .. } = self;
        vec![
            format!("accounts={accounts}"),
            format!("group={group}"),
            format!("texts={texts}"),
            format!("pause={pause}"),
            format!("processes={processes}"),
            format!("desks={desks}"),
            format!("kill={kill}"),
            format!("cut={cut}"),
            format!("servers={servers}"),
            format!("patience={patience}"),
        ]
    }

    pub(crate) fn devices(&self) -> Vec<Address> {
        (0..self.accounts)
            .flat_map(|account| [1, 2].map(|device| address(account, device)))
            .collect()
    }

    /// The accounts of a process.
    pub(crate) fn share(&self, process: usize) -> Vec<usize> {
        (0..self.accounts).filter(|account| rest(*account, self.processes) == process).collect()
    }

    /// Who founds the group of an account: its first member.
    pub(crate) fn founder(&self, account: usize) -> usize {
        account.saturating_sub(rest(account, self.group))
    }

    /// The members of a founder's group. One account alone has none.
    pub(crate) fn members(&self, founder: usize) -> Vec<usize> {
        (founder..self.accounts.min(founder.saturating_add(self.group))).collect()
    }

    pub(crate) fn has_group(&self, account: usize) -> bool {
        self.members(self.founder(account)).len() > 1
    }

    /// To whom an account writes its text of this number: every third goes to its group, the others
    /// to one of five accounts, wherever those are.
    pub(crate) fn to(&self, account: usize, number: usize) -> To {
        if number % 3 == 2 && self.has_group(account) {
            return To::Group;
        }
        let steps = [1, 2, 7, 19, 83];
        let step = rest(steps.get(number % 5).copied().unwrap_or(1), self.accounts);
        To::Account(rest(account.saturating_add(step.max(1)), self.accounts))
    }

    /// The device that writes it: both in turns, but those to the group are from the phone, which
    /// joined it.
    pub(crate) fn device(&self, account: usize, number: usize) -> u32 {
        match self.to(account, number) {
            To::Account(_) if number % 2 == 1 => 2,
            _ => 1,
        }
    }

    /// Whether it has a file: every 25th that is no group's.
    pub(crate) fn has_file(&self, account: usize, number: usize) -> bool {
        matches!(self.to(account, number), To::Account(_)) && number % 25 == 3
    }

    /// Every device that is to show it.
    pub(crate) fn readers(&self, account: usize, number: usize) -> Vec<Address> {
        let author = address(account, self.device(account, number));
        let accounts = match self.to(account, number) {
            To::Account(to) => vec![account, to],
            To::Group => self.members(self.founder(account)),
        };
        let devices =
            accounts.into_iter().flat_map(|account| [1, 2].map(|device| address(account, device)));
        devices.filter(|device| *device != author).collect()
    }
}

pub(crate) fn user(account: usize) -> String {
    format!("u{account}")
}

pub(crate) fn address(account: usize, device: u32) -> Address {
    Address::new(&user(account), device)
}

fn rest(of: usize, by: usize) -> usize {
    of.checked_rem(by).unwrap_or(0)
}
