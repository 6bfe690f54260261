//! The file of one range's leases.
//!
//! Little endian. A header of 256 bytes, then one slot of 256 bytes for every slot of the range; slot *i* starts at
//! byte 256 × (*i* + 1). The header is written once, when the file is made (beside it, then renamed over it). A change
//! is one write of one slot, which lies within a page; its checksum tells a torn one. There is no cursor to write:
//! the round robin goes on behind the youngest grant.
//!
//! ```text
//! header   0  8 "CAMLEASE"                     slot   0  4 CRC-32 of bytes 4 to the end of the names
//!          8  4 version: 1                            4  1 state: 0 free, 1 leased, 2 resting
//!         12  4 CRC-32 of bytes 16..256               5  1 length of the container ID
//!         16 16 boot ID                               6  1 length of the interface name
//!         32  4 number of slots                       7  1 zero
//!         36  1 IPv4 prefix length, 255: none         8  8 granted, nanoseconds since boot
//!         37  1 IPv6 prefix length, 255: none        16  8 released, nanoseconds since boot
//!         38  2 zero                                 24    container ID, interface name; zeros behind
//!         40  4 IPv4 network
//!         44 16 IPv6 network; zeros behind    A slot of zeros alone is free and was never used.
//! ```

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnetwork::{Ipv4Network, Ipv6Network};

use super::{COOL_DOWN, Lease};
use crate::attachment::Holder;
use crate::range::Range;

mod crc;

use crc::crc32;

/// Where the kernel tells the boot ID.
pub const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// Extension of the name of a table that is being made.
const UNFINISHED: &str = "new";

const MAGIC: &[u8; 8] = b"CAMLEASE";
const VERSION: u32 = 1;
const RECORD_BYTES: usize = 256;
const NAMES_AT: usize = 24;
const NO_NETWORK: u8 = 255;

/// Which boot of the machine a table belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootId([u8; 16]);

impl BootId {
    /// That of the running kernel.
    ///
    /// # Errors
    /// `/proc` is not there, or says something strange.
    pub fn current() -> io::Result<BootId> {
        BootId::parse(&fs::read_to_string(BOOT_ID_FILE)?)
    }

    /// As the kernel writes it.
    ///
    /// # Errors
    /// It never wrote that.
    pub fn parse(text: &str) -> io::Result<BootId> {
        let digits = text.trim().replace('-', "");
        u128::from_str_radix(&digits, 16).map(|id| BootId(id.to_be_bytes())).map_err(io::Error::other)
    }

    /// That of some other boot.
    pub fn from_bytes(bytes: [u8; 16]) -> BootId {
        BootId(bytes)
    }

    /// A number drawn from it, the same for the whole boot.
    pub(super) fn draw(self) -> u32 {
        crc32(&self.0)
    }
}

impl fmt::Display for BootId {
    /// As the kernel writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e] = [0..4, 4..6, 6..8, 8..10, 10..16]
            .map(|part| self.0[part].iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        write!(f, "{a}-{b}-{c}-{d}-{e}")
    }
}

/// What is known about a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// Never granted since the table was made.
    Free,
    /// Granted.
    Leased {
        /// To whom.
        holder: Holder,
        /// When, as time since boot.
        granted_at: Duration,
    },
    /// Granted once and given back.
    Resting {
        /// When it was granted, as time since boot.
        granted_at: Duration,
        /// When it came back, as time since boot.
        released_at: Duration,
    },
}

impl Slot {
    /// When it was last granted.
    pub fn granted_at(&self) -> Option<Duration> {
        match self {
            Slot::Free => None,
            Slot::Leased { granted_at, .. } | Slot::Resting { granted_at, .. } => Some(*granted_at),
        }
    }

    /// Whether it came back so lately that it is not granted again yet. `now`: time since boot.
    pub(super) fn is_resting(&self, now: Duration) -> bool {
        matches!(self, Slot::Resting { released_at, .. } if now.saturating_sub(*released_at) < COOL_DOWN)
    }

    fn encode(&self) -> [u8; RECORD_BYTES] {
        let (state, names, granted, released) = match self {
            Slot::Free => return [0; RECORD_BYTES],
            Slot::Leased { holder, granted_at } => (1, Some(holder), *granted_at, Duration::ZERO),
            Slot::Resting { granted_at, released_at } => (2, None, *granted_at, *released_at),
        };
        let (id, ifname) = names.map_or(("", ""), |holder| (&holder.container_id, &holder.ifname));
        let mut record = [0; RECORD_BYTES];
        record[4..8].copy_from_slice(&[state, id.len() as u8, ifname.len() as u8, 0]);
        record[8..16].copy_from_slice(&(granted.as_nanos() as u64).to_le_bytes());
        record[16..24].copy_from_slice(&(released.as_nanos() as u64).to_le_bytes());
        let ifname_at = NAMES_AT + id.len();
        let end = ifname_at + ifname.len();
        record[NAMES_AT..ifname_at].copy_from_slice(id.as_bytes());
        record[ifname_at..end].copy_from_slice(ifname.as_bytes());
        let crc = crc32(&record[4..end]);
        record[..4].copy_from_slice(&crc.to_le_bytes());
        record
    }

    fn decode(record: &[u8; RECORD_BYTES]) -> Option<Slot> {
        if *record == [0; RECORD_BYTES] {
            return Some(Slot::Free);
        }
        let ifname_at = NAMES_AT + usize::from(record[5]);
        let end = ifname_at + usize::from(record[6]);
        if crc32(record.get(4..end)?) != u32_at(record, 0) {
            return None;
        }
        let text = |range: std::ops::Range<usize>| String::from_utf8(record[range].to_vec()).ok();
        let granted_at = Duration::from_nanos(u64_at(record, 8));
        match record[4] {
            1 => {
                let holder =
                    Holder { container_id: text(NAMES_AT..ifname_at)?, ifname: text(ifname_at..end)? };
                Some(Slot::Leased { holder, granted_at })
            }
            2 => Some(Slot::Resting { granted_at, released_at: Duration::from_nanos(u64_at(record, 16)) }),
            _ => None,
        }
    }
}

/// Why a table cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// There is no such file.
    #[error("no such table")]
    Missing,
    /// The file is not what it should be.
    #[error("damaged: {0}")]
    Damaged(&'static str),
    /// A later release made it, before somebody went back to this one.
    #[error("a lease table of version {0}, of a later release; this one reads version {VERSION}")]
    Later(u32),
    /// It could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A table in memory, and the file it is written through to. Whoever has it must hold the network's lock.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    file: File,
    boot_id: BootId,
    range: Range,
    slots: Vec<Slot>,
}

impl Table {
    /// Reads a table.
    ///
    /// # Errors
    /// See [`TableError`]; one damaged slot spoils the table, since what it held is unknown.
    pub fn open(path: &Path) -> Result<Table, TableError> {
        let opened = OpenOptions::new().read(true).write(true).open(path);
        let mut file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => TableError::Missing,
            _ => TableError::Io(error),
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (header, records) = bytes.split_first_chunk().ok_or(TableError::Damaged("no header"))?;
        let (boot_id, range) = decode_header(header)?;
        let (records, rest) = records.as_chunks();
        if records.len() != range.slots() as usize || !rest.is_empty() {
            return Err(TableError::Damaged("length"));
        }
        let slots = records.iter().map(Slot::decode).collect::<Option<_>>();
        let slots = slots.ok_or(TableError::Damaged("slot"))?;
        Ok(Table { path: path.to_owned(), file, boot_id, range, slots })
    }

    /// Makes a table with some slots filled, in place of the one there may be.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(
        path: &Path,
        range: &Range,
        boot_id: BootId,
        filled: impl IntoIterator<Item = (u32, Slot)>,
    ) -> io::Result<Table> {
        let mut slots = vec![Slot::Free; range.slots() as usize];
        for (index, slot) in filled {
            if let Some(place) = slots.get_mut(index as usize) {
                *place = slot;
            }
        }
        let mut bytes = encode_header(boot_id, range).to_vec();
        bytes.extend(slots.iter().flat_map(Slot::encode));
        let new = path.with_added_extension(UNFINISHED);
        fs::write(&new, &bytes)?;
        fs::rename(&new, path)?;
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Table { path: path.to_owned(), file, boot_id, range: range.clone(), slots })
    }

    /// Changes a slot, in the file first.
    ///
    /// # Errors
    /// The file cannot be written; then nothing changed in memory.
    pub fn set(&mut self, index: u32, slot: Slot) -> io::Result<()> {
        let offset = RECORD_BYTES as u64 * (u64::from(index) + 1);
        self.file.write_all_at(&slot.encode(), offset)?;
        self.slots[index as usize] = slot;
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which boot it belongs to.
    pub fn boot_id(&self) -> BootId {
        self.boot_id
    }

    /// What it serves.
    pub fn range(&self) -> &Range {
        &self.range
    }

    /// A slot below [`Range::slots`].
    ///
    /// # Panics
    /// For a slot the range does not have.
    pub fn slot(&self, index: u32) -> &Slot {
        &self.slots[index as usize]
    }

    /// All leases in the order of slots.
    pub fn leases(&self) -> impl Iterator<Item = Lease> + '_ {
        (0..).zip(&self.slots).filter_map(|(index, slot)| match slot {
            Slot::Leased { holder, granted_at } => Some(Lease {
                holder: holder.clone(),
                addresses: self.range.addresses(index),
                granted_at: *granted_at,
            }),
            Slot::Free | Slot::Resting { .. } => None,
        })
    }

    /// Whether an address is leased here.
    pub fn holds(&self, address: IpAddr) -> bool {
        let slot = self.range.slot_of(address).map(|index| self.slot(index));
        matches!(slot, Some(Slot::Leased { .. }))
    }

    /// The slots leased to a holder, and since when.
    pub(super) fn slots_held_by(&self, wanted: &Holder) -> Vec<(u32, Duration)> {
        let held = (0..).zip(&self.slots).filter_map(|(index, slot)| match slot {
            Slot::Leased { holder, granted_at } if holder == wanted => Some((index, *granted_at)),
            _ => None,
        });
        held.collect()
    }
}

/// The name of a range's table, which a person can read: `10.244.1.0-24+fd00:10:244:1::-64`.
pub fn file_name(range: &Range) -> String {
    let name = |network: &dyn fmt::Display| network.to_string().replace('/', "-");
    let ipv4 = range.ipv4().map(|network| name(&network));
    let ipv6 = range.ipv6().map(|network| name(&network));
    ipv4.into_iter().chain(ipv6).collect::<Vec<_>>().join("+")
}

/// Whether [`file_name`] gives such names. The range itself is in the file.
pub(super) fn is_file_name(name: &str) -> bool {
    let is_network = |part: &str| match part.rsplit_once('-') {
        Some((address, prefix)) => address.parse::<IpAddr>().is_ok() && prefix.parse::<u8>().is_ok(),
        None => false,
    };
    name.split('+').all(is_network)
}

fn encode_header(boot_id: BootId, range: &Range) -> [u8; RECORD_BYTES] {
    let mut header = [0; RECORD_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[16..32].copy_from_slice(&boot_id.0);
    header[32..36].copy_from_slice(&range.slots().to_le_bytes());
    header[36] = range.ipv4().map_or(NO_NETWORK, |network| network.prefix());
    header[37] = range.ipv6().map_or(NO_NETWORK, |network| network.prefix());
    if let Some(network) = range.ipv4() {
        header[40..44].copy_from_slice(&network.network().octets());
    }
    if let Some(network) = range.ipv6() {
        header[44..60].copy_from_slice(&network.network().octets());
    }
    let crc = crc32(&header[16..]);
    header[12..16].copy_from_slice(&crc.to_le_bytes());
    header
}

fn decode_header(header: &[u8; RECORD_BYTES]) -> Result<(BootId, Range), TableError> {
    if &header[..8] != MAGIC {
        return Err(TableError::Damaged("not a lease table"));
    }
    // Before anything behind it is looked at: nobody knows what is there.
    match u32_at(header, 8) {
        VERSION => {}
        later if later > VERSION => return Err(TableError::Later(later)),
        _ => return Err(TableError::Damaged("not a version")),
    }
    if crc32(&header[16..]) != u32_at(header, 12) {
        return Err(TableError::Damaged("header"));
    }
    let ipv4 = Ipv4Network::new(Ipv4Addr::from(array_at(header, 40)), header[36]).ok();
    let ipv6 = Ipv6Network::new(Ipv6Addr::from(array_at::<16>(header, 44)), header[37]).ok();
    let range = Range::new(ipv4, ipv6).map_err(|_| TableError::Damaged("range"))?;
    Ok((BootId(array_at(header, 16)), range))
}

/// Bytes of a record; the offsets are this file's own constants.
fn array_at<const N: usize>(record: &[u8; RECORD_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|nth| record[at + nth])
}

fn u32_at(record: &[u8; RECORD_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(array_at(record, at))
}

fn u64_at(record: &[u8; RECORD_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(array_at(record, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: BootId = BootId([7; 16]);

    fn range() -> Range {
        let ipv4 = "10.244.1.0/28".parse().ok();
        Range::new(ipv4, "fd00:10:244:1::/64".parse().ok()).expect("range")
    }

    fn leased() -> Slot {
        let holder = Holder { container_id: "c".repeat(128), ifname: "fifteen-letters".into() };
        Slot::Leased { holder, granted_at: Duration::from_nanos(5) }
    }

    #[test]
    fn slots_are_read_as_written() {
        let resting =
            Slot::Resting { granted_at: Duration::from_secs(1), released_at: Duration::from_nanos(u64::MAX) };
        for slot in [Slot::Free, leased(), resting] {
            assert_eq!(Slot::decode(&slot.encode()), Some(slot));
        }
    }

    #[test]
    fn any_bent_byte_of_a_slot_is_noticed() {
        let good = leased().encode();
        for at in 0..NAMES_AT + 128 + 15 {
            let mut bent = good;
            bent[at] ^= 0x10;
            assert_eq!(Slot::decode(&bent), None, "byte {at}");
        }
    }

    #[test]
    fn a_table_is_read_as_written() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join(file_name(&range()));
        assert!(path.ends_with("10.244.1.0-28+fd00:10:244:1::-64"));
        assert!(is_file_name("10.244.1.0-28+fd00:10:244:1::-64"));
        assert!(!is_file_name("10.244.1.0-28+fd00:10:244:1::-64.new"));
        let mut made = Table::create(&path, &range(), BOOT, [(3, leased())]).expect("made");
        made.set(4, leased()).expect("set");
        let read = Table::open(&path).expect("read");
        assert_eq!((read.boot_id, &read.range, &read.slots), (BOOT, &range(), &made.slots));
        assert_eq!(read.leases().count(), 2);
        assert!(read.holds("10.244.1.3".parse().expect("address")));
        assert!(!read.holds("10.244.1.5".parse().expect("address")));
        assert_eq!(fs::metadata(&path).expect("file").len(), 17 * 256);
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1, "nothing beside it");
    }

    #[test]
    fn missing_and_damaged_tables_are_told_apart() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("table");
        assert!(matches!(Table::open(&path), Err(TableError::Missing)));
        Table::create(&path, &range(), BOOT, [(3, leased())]).expect("made");
        let good = fs::read(&path).expect("read");
        for at in [0, 8, 13, 20, 36, 50, 256 * 4 + 30] {
            let mut bent = good.clone();
            bent[at] ^= 1;
            fs::write(&path, bent).expect("written");
            assert!(matches!(Table::open(&path), Err(TableError::Damaged(_))), "byte {at}");
        }
        let later = [&good[..8], &2_u32.to_le_bytes(), b"whatever there is"].concat();
        fs::write(&path, [later, vec![7; 512]].concat()).expect("written");
        assert!(matches!(Table::open(&path), Err(TableError::Later(2))));
        for length in [0, 100, 256, good.len() - 1] {
            fs::write(&path, &good[..length]).expect("written");
            assert!(matches!(Table::open(&path), Err(TableError::Damaged(_))), "length {length}");
        }
    }
}
