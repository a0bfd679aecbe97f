//! Sealed mail: what the relay is asked for without a name, whom it is not to learn of, and what a
//! person decides about that.

use subrosa::{Delivery, IdentityKey, Policy, ServerKey, SystemRng, UnixTime};

use crate::arguments::Arguments;
use crate::connection::Offline;
use crate::wire::{Request, Response};
use crate::{Chat, Result, rows};

/// What the chat asks of the client.
pub(crate) fn policy(arguments: &Arguments) -> Policy {
    let mut policy = Policy::default();
    if !arguments.open {
        policy.delivery = Delivery::Sealed;
        policy.requires_pass = arguments.pass;
    }
    policy
}

impl Chat {
    /// Whether the relay is not to learn who writes.
    pub(crate) fn is_sealed(&self) -> bool {
        self.policy.delivery == Delivery::Sealed
    }

    /// Asks for something about a user: without a name where mail is sealed, unless it is about
    /// this account, which would be as good as a name.
    pub(crate) fn ask_about(&mut self, user: &str, request: &Request) -> Result<Response, Offline> {
        match request {
            // It never says who sends it.
            Request::SendSealed { .. } => self.unnamed.ask(user, request),
            _ if self.is_sealed() && user != self.me.user => self.unnamed.ask(user, request),
            _ => self.connection.ask(request),
        }
    }

    /// The key that the relay signs certificates with, as it was when this chat ran last.
    pub(crate) fn recall_issuer(&mut self) -> Result<()> {
        let issuer = self.client.transact(|client| rows::issuer(&mut client.rows()))?;
        if let Some(issuer) = issuer {
            self.trust_issuer(&issuer);
        }
        Ok(())
    }

    /// Asks for the key. A certificate says no more than the relay's device lists do, so the
    /// relay's word for it will do here; an app that belongs to one server has its key built in.
    /// Who writes openly needs it too, to know who writes sealed.
    pub(crate) fn ask_issuer(&mut self) -> Result<()> {
        if let Response::Found(Some(issuer)) = self.connection.ask(&Request::IssuerKey)?
            && self.trust_issuer(&issuer)
        {
            self.client.transact(|client| rows::put_issuer(&mut client.rows(), &issuer))?;
        }
        Ok(())
    }

    /// Whether it is another one than before.
    fn trust_issuer(&mut self, issuer: &[u8]) -> bool {
        let Some((id, key)) = issuer.split_first() else { return false };
        let Ok(key) = IdentityKey::decode(key) else { return false };
        let trusted = vec![ServerKey { id: *id, key }];
        if self.policy.trusted_servers == trusted {
            return false;
        }
        self.policy.trusted_servers = trusted;
        self.client.set_policy(self.policy.clone());
        true
    }

    /// How mail to a user goes from now on.
    pub(crate) fn deliver(&mut self, user: &str, delivery: Delivery) -> Result<()> {
        if !self.is_sealed() {
            self.screen.say("* all mail is open: the chat was started with --open");
            return Ok(());
        }
        self.client.deliver(user, delivery, UnixTime::now()?, &mut SystemRng)?;
        // What was handed out of it was made anew.
        self.todo.clear();
        self.client.connected()?;
        let how = match delivery {
            Delivery::Open => "open: the relay learns that it is from you",
            _ => "sealed: the relay does not learn who writes",
        };
        self.screen.say(&format!("* mail to {user} is {how}"));
        Ok(())
    }

    pub(crate) fn block(&mut self, user: &str, is_blocked: bool) -> Result<()> {
        let what = if is_blocked {
            self.client.block(user, UnixTime::now()?, &mut SystemRng)?;
            "blocked: what comes from there is refused"
        } else {
            self.client.unblock(user)?;
            "not blocked"
        };
        self.screen.say(&format!("* {user} is {what}"));
        Ok(())
    }
}
