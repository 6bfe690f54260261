//! What pods say while they are looked at: numbered datagrams there and back, and streams, in both families. All of
//! it carries a mark that nothing else on the machine has.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Pod;
use crate::place::{Place, in_netns};

/// Flows of each protocol in each family: enough that both switches of a node carry some, both ways.
const FLOWS: u32 = 8;
/// Datagrams there, and as many back, on each flow.
const DATAGRAMS: u32 = 25;
/// Marks in a stream, each way.
const MARKS: usize = 256;
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);

const MARK_OCTETS: usize = 16;

/// The mark of one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Talk {
    mark: [u8; MARK_OCTETS],
}

/// A datagram of the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Datagram {
    number: u32,
    is_answer: bool,
}

/// All that was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exchanged {
    /// Questions and answers.
    pub datagrams: Vec<Datagram>,
    /// Both ends of each stream, the asker's first.
    pub streams: Vec<(SocketAddr, SocketAddr)>,
}

impl Datagram {
    /// A datagram of the pod that asks.
    pub fn question(number: u32) -> Self {
        Self { number, is_answer: false }
    }

    /// The other pod's answer to it.
    pub fn answer(number: u32) -> Self {
        Self { number, is_answer: true }
    }
}

impl Talk {
    /// One with a mark of its own.
    ///
    /// # Errors
    /// When the kernel has no random octets.
    pub fn new() -> Result<Self> {
        let mut mark = [0; MARK_OCTETS];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut mark)?;
        Ok(Self { mark })
    }

    /// What all of it carries.
    pub fn mark(&self) -> [u8; MARK_OCTETS] {
        self.mark
    }

    /// The datagram that these octets are; none if they are something else.
    pub fn datagram(&self, octets: &[u8]) -> Option<Datagram> {
        let rest = octets.strip_prefix(&self.mark)?;
        let (number, rest) = rest.split_first_chunk()?;
        let is_answer = match rest {
            b"?" => false,
            b"!" => true,
            _ => return None,
        };
        Some(Datagram { number: u32::from_be_bytes(*number), is_answer })
    }

    fn octets(&self, datagram: Datagram) -> Vec<u8> {
        let kind = if datagram.is_answer { b"!" } else { b"?" };
        [&self.mark[..], &datagram.number.to_be_bytes(), kind].concat()
    }

    /// Has the pods exchange it all; gives what was sent.
    ///
    /// # Errors
    /// When an answer does not come.
    pub fn exchange(&self, asker: &Pod, other: &Pod) -> Result<Exchanged> {
        let mut exchanged = Exchanged::default();
        for target in other.addresses()? {
            let own = asker.address(|own| own.is_ipv4() == target.is_ipv4())?;
            for _ in 0..FLOWS {
                self.exchange_datagrams(asker, own, other, target, &mut exchanged.datagrams)
                    .with_context(|| format!("UDP from {own} to {target}"))?;
                let stream = self
                    .exchange_stream(asker, other, target)
                    .with_context(|| format!("TCP from {own} to {target}"))?;
                exchanged.streams.push(stream);
            }
        }
        Ok(exchanged)
    }

    fn exchange_datagrams(
        &self,
        asker: &Pod,
        own: IpAddr,
        other: &Pod,
        target: IpAddr,
        sent: &mut Vec<Datagram>,
    ) -> Result<()> {
        let (asks, answers) = (udp(asker, own)?, udp(other, target)?);
        let target = answers.local_addr()?;
        let mut buffer = [0; 64];
        for _ in 0..DATAGRAMS {
            let number = u32::try_from(sent.len() / 2)?;
            let question = self.octets(Datagram::question(number));
            asks.send_to(&question, target)?;
            let (length, from) = answers.recv_from(&mut buffer)?;
            ensure!(buffer[..length] == question[..], "another datagram arrived");
            answers.send_to(&self.octets(Datagram::answer(number)), from)?;
            asks.recv_from(&mut buffer)?;
            sent.extend([Datagram::question(number), Datagram::answer(number)]);
        }
        Ok(())
    }

    /// One thread does it all: a stream this short fits into the buffers of both ends. Gives them.
    fn exchange_stream(&self, asker: &Pod, other: &Pod, target: IpAddr) -> Result<(SocketAddr, SocketAddr)> {
        let listener = in_netns(other, || TcpListener::bind((target, 0)))??;
        let target: SocketAddr = listener.local_addr()?;
        let mut asks = in_netns(asker, || TcpStream::connect_timeout(&target, LIMIT))??;
        let (mut answers, _) = listener.accept()?;
        let text = self.mark.repeat(MARKS);
        let mut heard = vec![0; text.len()];
        asks.set_read_timeout(Some(LIMIT))?;
        answers.set_read_timeout(Some(LIMIT))?;
        asks.write_all(&text)?;
        answers.read_exact(&mut heard)?;
        answers.write_all(&heard)?;
        asks.read_exact(&mut heard)?;
        ensure!(heard == text, "something else came back");
        Ok((asks.local_addr()?, target))
    }
}

fn udp(place: &dyn Place, address: IpAddr) -> Result<UdpSocket> {
    let socket = in_netns(place, || UdpSocket::bind((address, 0)))??;
    socket.set_read_timeout(Some(LIMIT))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_known_again_and_another_talks_is_not() {
        let (talk, other) = (Talk { mark: [7; 16] }, Talk { mark: [8; 16] });
        for datagram in [Datagram::question(3), Datagram::answer(0x0102_0304)] {
            let octets = talk.octets(datagram);
            assert_eq!(talk.datagram(&octets), Some(datagram));
            assert_eq!(other.datagram(&octets), None);
            assert_eq!(talk.datagram(&octets[..octets.len() - 1]), None);
        }
    }
}
