//! Who waits for what: each is answered once, or has gone away.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use crate::error::NotPlaced;
use crate::program::IfName;

type Placed = oneshot::Sender<Result<(), NotPlaced>>;

/// Those who asked to be told.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    placed: BTreeMap<IfName, Vec<Placed>>,
    written: Vec<oneshot::Sender<()>>,
}

impl Waiters {
    /// Waits for an endpoint to be placed.
    pub(super) fn wait_placed(&mut self, interface: IfName, reply: Placed) {
        self.placed.entry(interface).or_default().push(reply);
    }

    /// Waits until the kernel holds all that was told.
    pub(super) fn wait_written(&mut self, reply: oneshot::Sender<()>) {
        self.written.push(reply);
    }

    /// The endpoint is gone: nobody will be placed there.
    pub(super) fn gone(&mut self, interface: &str) {
        for reply in self.placed.remove(interface).into_iter().flatten() {
            reply.send(Err(NotPlaced::Gone)).ok();
        }
    }

    /// The kernel holds all that was told; `is_placed` says of which endpoints.
    pub(super) fn answer(&mut self, is_placed: impl Fn(&str) -> bool) {
        for (_, replies) in self.placed.extract_if(.., |interface, _| is_placed(interface)) {
            replies.into_iter().for_each(|reply| drop(reply.send(Ok(()))));
        }
        self.written.drain(..).for_each(|reply| reply.send(()).unwrap_or_default());
    }

    /// Forgets those who gave up.
    pub(super) fn prune(&mut self) {
        self.placed.retain(|_, replies| {
            replies.retain(|reply| !reply.is_closed());
            !replies.is_empty()
        });
        self.written.retain(|reply| !reply.is_closed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_waiter_is_answered_when_its_endpoint_is_placed_or_gone() {
        let mut waiters = Waiters::default();
        let mut ask = |interface: &str| {
            let (reply, answer) = oneshot::channel();
            waiters.wait_placed(interface.into(), reply);
            answer
        };
        let (mut first, mut second, mut third, fourth) = (ask("cam1"), ask("cam2"), ask("cam3"), ask("cam4"));
        drop(fourth);
        waiters.answer(|interface| interface == "cam1");
        assert_eq!(first.try_recv(), Ok(Ok(())));
        assert!(second.try_recv().is_err());
        waiters.gone("cam2");
        assert_eq!(second.try_recv(), Ok(Err(NotPlaced::Gone)));
        waiters.prune();
        assert_eq!(waiters.placed.len(), 1);
        assert!(third.try_recv().is_err());
    }
}
