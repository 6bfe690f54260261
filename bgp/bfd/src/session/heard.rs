//! What the other side said last.

use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use crate::packet::{Diagnostic, Discriminator, Packet, State};
use crate::status::Remote;

#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    pub(super) at: Instant,
    pub(super) state: State,
    pub(super) diagnostic: Diagnostic,
    pub(super) discriminator: Discriminator,
    pub(super) control_plane_independent: bool,
    pub(super) demand: bool,
    pub(super) multiplier: NonZeroU8,
    pub(super) desired_min_tx: Duration,
    pub(super) required_min_rx: Duration,
}

impl Heard {
    pub(super) fn new(at: Instant, packet: &Packet) -> Heard {
        Heard {
            at,
            state: packet.state,
            diagnostic: packet.diagnostic,
            discriminator: packet.my_discriminator,
            control_plane_independent: packet.control_plane_independent,
            demand: packet.demand,
            multiplier: packet.multiplier,
            desired_min_tx: packet.desired_min_tx,
            required_min_rx: packet.required_min_rx,
        }
    }

    pub(super) fn told(&self) -> Remote {
        Remote {
            state: self.state,
            diagnostic: self.diagnostic,
            discriminator: self.discriminator,
            control_plane_independent: self.control_plane_independent,
            multiplier: self.multiplier,
            desired_min_tx: self.desired_min_tx,
            required_min_rx: self.required_min_rx,
        }
    }
}
