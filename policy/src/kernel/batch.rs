//! One batch of nf_tables: all of its operations, or none.
//!
//! The kernel works on a batch within the call that sends it and puts its answers into the socket meanwhile, so after
//! the call all of them are there. An acknowledgement is asked for the last message only: a refused one is told
//! without being asked for, and tens of thousands of the others would not fit the socket.
//! net/netfilter/nfnetlink.c, `nfnetlink_rcv_batch`.
//!
//! For packets a batch is one step, with one exception. The generation of the rules is picked once, when a packet
//! enters a base chain (`genbit` in `nft_do_chain`); the elements of a map are looked up in the generation of that
//! moment (`nft_genmask_cur`). So a packet that is on its way through the rules while a batch is committed can be
//! led by a new element to a new chain and see it as it was before the batch: empty, and the end of an empty chain
//! lets it pass. Whoever leads veths to new chains makes them in a batch *before*: then they are the same in both
//! generations. (Linux 6.18, a flood of packets that the old and the new chain drop: 1,581 of 900,000 passed in
//! 125,000 such batches, none of 820,000 in 86,000 pairs of batches.)
//!
//! A batch with a match of ipset waits for the end of an RCU grace period, 7 to 16 ms, if what an earlier batch
//! removed (chains, rules, elements) was not freed yet (`nft_compat_wait_for_destructors`). Batches without one do
//! not wait: a veth that is led to a chain that is there is switched in 50 us.

use std::collections::HashMap;
use std::io;

use nix::errno::Errno;

use super::Error;
use super::ipset::{self, Ipset};
use super::message::{ERROR, Header, NO_FAMILY, REQUEST, Writer};
use super::operation::Operation;
use super::socket::{Socket, sequence_distance};
use crate::program::{SetName, Statement, TABLE};

/// NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
/// The subsystem that the batch is for.
const NF_TABLES: u16 = 10;
/// NFNL_BATCH_GENID
const GENERATION: u16 = 1;
/// The kernel's own: the generation is another one by now.
const ERESTART: i32 = 85;

/// Why a batch changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody changed nf_tables since the generation was read.
    #[error("nf_tables was changed by somebody else meanwhile")]
    Conflict,
    /// The kernel refused an operation.
    #[error("operation {operation} was refused: {words}")]
    Refused {
        /// The first that was, counted from 0.
        operation: usize,
        /// The kernel's number.
        errno: i32,
        /// What it means.
        words: String,
    },
    /// The kernel refused the batch as a whole.
    #[error("the batch was refused: {}", io::Error::from_raw_os_error(*.0))]
    Batch(i32),
    /// Whether it was taken is not known: the answers were lost. What is there has to be read.
    #[error("the kernel's answers were lost")]
    Lost,
    /// Nothing was sent, or nothing could be read.
    #[error(transparent)]
    Other(#[from] Error),
}

impl From<io::Error> for CommitError {
    fn from(error: io::Error) -> CommitError {
        CommitError::Other(error.into())
    }
}

/// Whether a batch is meant, or only tried: without its end the kernel checks it and forgets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Commit,
    Trial,
}

/// Sends the batch.
pub(super) fn send(
    socket: &mut Socket,
    ipset: &mut Ipset,
    operations: &[Operation],
    generation: Option<u32>,
) -> Result<(), CommitError> {
    if operations.is_empty() {
        return Ok(());
    }
    let indexes = set_indexes(ipset, operations)?;
    let mut batch = Batch::begin(socket, generation);
    for (nth, operation) in operations.iter().enumerate() {
        let write = |sequence: u32, writer: &mut Writer| {
            operation.write(TABLE, sequence, |name| indexes.get(name).copied(), writer)
        };
        batch.put(write).map_err(|words| CommitError::Refused {
            operation: nth,
            errno: Errno::EINVAL as i32,
            words,
        })?;
    }
    batch.send(Purpose::Commit)
}

/// The numbers of all sets that rules of the batch name.
fn set_indexes(ipset: &mut Ipset, operations: &[Operation]) -> Result<HashMap<SetName, u16>, CommitError> {
    let mut indexes = HashMap::new();
    for (nth, operation) in operations.iter().enumerate() {
        let Operation::AddRule { rule, .. } = operation else { continue };
        for statement in &rule.statements {
            let Statement::InSet { set, .. } = statement else { continue };
            if indexes.contains_key(set) {
                continue;
            }
            let index = ipset.index(set).map_err(|error| match error {
                Error::Refused(errno) => CommitError::Refused {
                    operation: nth,
                    errno,
                    words: format!("the set {set}: {}", ipset::words(errno)),
                },
                error => CommitError::Other(error),
            })?;
            indexes.insert(set.clone(), index);
        }
    }
    Ok(indexes)
}

/// A batch in the making.
pub(super) struct Batch<'a> {
    socket: &'a mut Socket,
    writer: Writer,
    first: u32,
    last: u32,
    /// Where the last message begins.
    last_start: usize,
}

impl<'a> Batch<'a> {
    pub(super) fn begin(socket: &'a mut Socket, generation: Option<u32>) -> Batch<'a> {
        let first = socket.next_sequence();
        let mut writer = Writer::new();
        let header =
            Header { kind: BEGIN, flags: REQUEST, sequence: first, family: NO_FAMILY, resource: NF_TABLES };
        writer.message(header, |message| {
            if let Some(generation) = generation {
                message.u32(GENERATION, generation);
            }
        });
        Batch { socket, writer, first, last: first, last_start: 0 }
    }

    /// Adds what `write` writes with the sequence number it is given, as the next operation; or the reason why it
    /// cannot be written.
    pub(super) fn put(
        &mut self,
        write: impl FnOnce(u32, &mut Writer) -> Result<(), super::Foreign>,
    ) -> Result<(), String> {
        self.last = self.socket.next_sequence();
        self.last_start = self.writer.len();
        write(self.last, &mut self.writer).map_err(|foreign| foreign.0)?;
        if self.writer.take_too_long() { Err("it is too long for a message".to_owned()) } else { Ok(()) }
    }

    /// Sends it and reads what the kernel says.
    pub(super) fn send(mut self, purpose: Purpose) -> Result<(), CommitError> {
        self.writer.acknowledge_last(self.last_start);
        if purpose == Purpose::Commit {
            let sequence = self.socket.next_sequence();
            let header =
                Header { kind: END, flags: REQUEST, sequence, family: NO_FAMILY, resource: NF_TABLES };
            self.writer.message(header, |_| {});
        }
        self.socket.send(self.writer.as_bytes())?;
        self.read_answers()
    }

    fn read_answers(&mut self) -> Result<(), CommitError> {
        let nth = |sequence| sequence_distance(self.first, sequence);
        let last = nth(self.last).unwrap_or_default();
        // Which message of the batch: its beginning is number 0.
        let mut refused: Option<(u32, i32)> = None;
        let mut acknowledged = false;
        loop {
            let messages = match self.socket.receive_now() {
                Ok(Some(messages)) => messages,
                Ok(None) => break,
                // More refusals than fit the socket: the first ones are there.
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => continue,
                Err(error) => return Err(error.into()),
            };
            for message in messages {
                let message = message.map_err(Error::from)?;
                let Some(nth) = nth(message.sequence).filter(|nth| message.kind == ERROR && *nth <= last)
                else {
                    continue;
                };
                match message.error().map_err(Error::from)?.0 {
                    0 => acknowledged |= nth == last,
                    errno => {
                        if refused.is_none_or(|(earlier, _)| nth < earlier) {
                            refused = Some((nth, errno));
                        }
                    }
                }
            }
        }
        match refused {
            Some((_, ERESTART)) => Err(CommitError::Conflict),
            Some((0, errno)) => Err(CommitError::Batch(errno)),
            Some((nth, errno)) => Err(CommitError::Refused {
                operation: (nth - 1) as usize,
                errno,
                words: io::Error::from_raw_os_error(errno).to_string(),
            }),
            None if acknowledged => Ok(()),
            None => Err(CommitError::Lost),
        }
    }
}
