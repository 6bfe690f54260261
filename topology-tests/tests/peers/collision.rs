//! Both sides connect at the same moment, again and again (RFC 4271 section 6.8).
//!
//! Between them is a bridge over which every frame takes a while (`delay.py`), and which says when one of them begins. We
//! are disabled until the other begins, then enabled while its SYN is under way: so ours and its cross.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cambric_lab::{Node, Spawned, poll};

use crate::cambric::{self, Us};
use crate::common::operator::sessions;
use crate::other::{Kind, Other};
use crate::rig::{LIMIT, Rig, Way};
use crate::table::{ALL, Row, Runs};

pub(crate) const ROWS: &[Row] = &[Row {
    feature: "both connect at the same moment, many times",
    rfc: "RFC 4271 section 6.8, 6286",
    runs: Runs::With(ALL, collides),
    without: &[],
}];

const DELAY_MS: u64 = 400;

/// How often, `CAMBRIC_INTEROP_ROUNDS` unless so.
const ROUNDS: usize = 4;

fn collides(kind: Kind) -> Result<()> {
    let rounds = std::env::var("CAMBRIC_INTEROP_ROUNDS").ok().and_then(|text| text.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS);
    Rig::up(&Us::new(), &[Other::new(kind)], Way::Slow)?.run(|rig| {
        let slow = Slow::start(&rig.lab.node("r1")?)?;
        let (us, (other, node)) = (rig.us()?, rig.other()?);
        rig.be_established()?;
        let mut collisions = 0;
        // On a busy machine ours may come too late to cross theirs.
        for round in 1..=10 * rounds {
            if round > rounds && collisions > 0 {
                break;
            }
            us.run_ok(&["cambric", "disable", "o1"])?;
            poll::until("the session to end", LIMIT, || !other.is_established(&node))?;
            slow.forget();
            let theirs = slow.wait_for("eth2")?;
            us.run_ok(&["cambric", "enable", "o1"])?;
            let ours = slow.wait_for("eth1")?;
            collisions += usize::from(ours.duration_since(theirs) < Duration::from_millis(DELAY_MS));
            rig.be_established().with_context(|| format!("round {round}"))?;
            // Whatever was begun beside it is gone.
            poll::until("one connection to be left", LIMIT, || {
                sessions(&us).is_ok_and(|all| all.len() == 1)
                    && sessions(&node).is_ok_and(|all| all.len() == 1)
            })?;
            let (before, seconds) = (sessions(&us)?, since(&us)?);
            poll::until("the session to be two seconds older", LIMIT, || {
                since(&us).is_ok_and(|now| now >= seconds + 2)
            })?;
            ensure!(sessions(&us)? == before, "round {round}: another session: {before:?}");
        }
        println!("{kind}: connections crossed {collisions} times");
        ensure!(collisions > 0, "connections never crossed");
        rig.be_told()
    })
}

fn since(us: &Node) -> Result<u64> {
    cambric::protocol(us, "o1")?["since_s"].as_u64().context("since_s")
}

/// The bridge.
struct Slow {
    syns: Receiver<(String, Instant)>,
    _process: Spawned,
}

impl Slow {
    fn start(node: &Node) -> Result<Slow> {
        let script = include_str!("delay.py");
        let words = ["python3", "-c", script, &DELAY_MS.to_string()];
        let mut process = node.spawn(&words, Stdio::piped())?;
        let says = process.stdout.take().context("it has an output")?;
        let (tell, syns) = channel();
        // Ends with the process, which ends with the bridge.
        std::thread::Builder::new().name("bridge".into()).spawn(move || {
            for line in BufReader::new(says).lines().map_while(Result::ok) {
                if tell.send((line, Instant::now())).is_err() {
                    return;
                }
            }
        })?;
        Ok(Slow { syns, _process: process })
    }

    fn forget(&self) {
        while self.syns.try_recv().is_ok() {}
    }

    /// Waits for a SYN that comes in at an end, and says when it did.
    fn wait_for(&self, end: &str) -> Result<Instant> {
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            match self.syns.recv_timeout(LIMIT) {
                Ok((from, at)) if from == end => return Ok(at),
                Ok(_) => {}
                Err(error) => return Err(error).context("a SYN"),
            }
        }
        anyhow::bail!("no SYN from {end}")
    }
}
