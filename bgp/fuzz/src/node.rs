//! What a node reads from others than peers: manifests, what a container runtime asks, lease tables, the control socket.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use cambric_api::{Body, Reply, Request};
use cambric_bgp::config::{Link, LinkAddress, LinkState};
use cambric_cni::attachment::{Attachment, Holder};
use cambric_cni::lease::{LeaseError, Leases, Survivor, table};
use cambric_cni::range::Range;
use cambric_cni::request;
use cambricd::control::understood;
use cambricd::intent::intent;
use cambricd::source::documents::{Document, Documents, Look};
use tempfile::TempDir;

use crate::input::Input;

const FILE: &str = "a.yaml";

/// The text of a manifest file, and what it becomes (behind a line `# then`): from YAML to what the node should do. What
/// is wrong is told with the place it is at, and no line of it can steer a terminal.
pub(crate) fn manifests(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let address = LinkAddress::new([10, 2, 0, 1].into(), 16).expect("a length");
    let link = Link { name: "eth1".to_owned(), state: LinkState::Up, addresses: vec![address] };
    let mut documents = Documents::of_files("n1");
    for text in text.split("\n# then\n") {
        let document = Document::file(FILE, text.to_owned());
        let look = Look::All([(Arc::from(FILE), Arc::new(document))].into());
        let view = documents.view(&look);
        let same = documents.view(&look);
        assert_eq!(view.fabric, same.fabric, "the same file says the same");
        for problem in view.fabric.problems.iter().chain(&view.fabric.notices) {
            assert!(!problem.place.is_empty() && !problem.what.is_empty());
        }
        if let Ok(intent) = intent(&view.fabric, "n1", std::slice::from_ref(&link)) {
            assert!(intent.problems.iter().all(|problem| !problem.what.is_empty()));
        }
    }
}

/// A line of the control socket: a request, or an answer that is one line and cannot steer a terminal.
pub(crate) fn control(octets: &[u8]) {
    match understood(octets) {
        Ok(request) => {
            let line = serde_json::to_vec(&request).expect("a request");
            assert_eq!(serde_json::from_slice::<Request>(&line).expect("what we write"), request);
        }
        Err(reply) => {
            let line = serde_json::to_string(&reply).expect("a reply");
            assert!(!line.contains('\n'));
            let reply: Reply = serde_json::from_str(&line).expect("what we write");
            let Body::Error(why) = reply.body else { panic!("{line}") };
            assert!(reply.code >= 9000 && !why.chars().any(char::is_control), "{why:?}");
        }
    }
}

/// The environment and the configuration of a call of the plugin. What is refused is refused in the words of the
/// specification, and what is taken can be worked with.
pub(crate) fn cni(octets: &[u8]) {
    let mut input = Input::new(octets);
    let command = ["ADD", "DEL", "CHECK", "VERSION", "GC", "STATUS", ""][input.below(7)];
    let words: [String; 4] = std::array::from_fn(|_| String::from_utf8_lossy(input.chunk()).into_owned());
    let variable = |name: &str| {
        let names = ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_ARGS"];
        match name {
            "CNI_COMMAND" => Some(command.to_owned()),
            _ => names.iter().position(|known| *known == name).map(|at| words[at].clone()),
        }
    };
    match request::read(&variable, input.rest()) {
        Ok(request::Request::Add(add)) => is_usable(&add),
        Ok(request::Request::Check(check)) => is_usable(&check.add),
        Ok(_) => {}
        Err(error) => {
            let told = error.to_json();
            assert!(told["code"].as_u64().is_some_and(|code| code > 0), "{told}");
            assert!(told["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "{told}");
        }
    }
}

fn is_usable(add: &request::Add) {
    assert!(Attachment::is_host_ifname(&add.attachment.host_ifname()));
    assert!(!add.config.ranges.is_empty());
    for range in &add.config.ranges {
        for slot in range.grantable() {
            assert!(range.addresses(slot).iter().all(|address| range.slot_of(address) == Some(slot)));
        }
    }
    // It is part of a path.
    assert!(!add.network.name.contains('/') && add.network.name != "..");
}

thread_local! {
    /// One folder for all inputs of a process.
    static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

/// Leases are granted and released between damage to their table: an octet of it changes, or it is cut, filled, replaced.
/// Whatever was in it, no pod that is alive loses its address to another; only a checksum that was made to fit can lie.
pub(crate) fn leases(octets: &[u8]) {
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| tempfile::tempdir().expect("a temporary folder"));
        let network = folder.path().join("ipam/fabric");
        fs::create_dir_all(&network).expect("a folder");
        for entry in fs::read_dir(&network).expect("a folder").flatten() {
            fs::remove_file(entry.path()).expect("a file of ours");
        }
        let ipv4 = "10.244.1.0/29".parse().expect("a network");
        let range = Range::new(Some(ipv4), None).expect("a range");
        let table = network.join(table::file_name(&range));
        let mut alive: BTreeMap<Holder, Vec<IpAddr>> = BTreeMap::new();
        let (mut now, mut is_honest) = (Duration::from_secs(1), true);
        let mut input = Input::new(octets);
        while !input.is_empty() {
            let survivors = || {
                let of = |(holder, addresses): (&Holder, &Vec<IpAddr>)| Survivor {
                    holder: holder.clone(),
                    addresses: addresses.clone(),
                };
                Ok(alive.iter().map(of).collect())
            };
            let step = input.octet();
            let holder = Holder { container_id: format!("c{}", step >> 4), ifname: "eth0".to_owned() };
            match step & 15 {
                0..=5 => {
                    let opened =
                        Leases::open(folder.path(), "fabric", std::slice::from_ref(&range), survivors);
                    let Ok(mut leases) = opened else { continue };
                    match leases.grant(&holder, now) {
                        Ok(lease) => {
                            let addresses: Vec<IpAddr> = lease.addresses.iter().collect();
                            let others = alive.iter().filter(|(other, _)| **other != holder);
                            let mut others = others.flat_map(|(_, addresses)| addresses);
                            assert!(!is_honest || !others.any(|taken| addresses.contains(taken)), "{step}");
                            assert_eq!(leases.of(&holder).map(|of| of.addresses), Some(lease.addresses));
                            alive.insert(holder, addresses);
                        }
                        Err(LeaseError::Exhausted { .. }) => assert!(!is_honest || alive.len() >= 6),
                        Err(error) => panic!("{error}"),
                    }
                }
                6..=8 => {
                    if let Ok(Some(mut leases)) = Leases::open_existing(folder.path(), "fabric") {
                        leases.release(&holder, now).expect("a file of ours");
                        assert!(leases.of(&holder).is_none());
                    }
                    alive.remove(&holder);
                }
                9 => now += Duration::from_secs(u64::from(input.octet())),
                10 | 11 => {
                    let (at, with) = (u64::from(input.u16()), input.octet() | 1);
                    change(&table, at, with);
                    // The plugin always looks before anything else happens, and heals.
                    drop(Leases::open(folder.path(), "fabric", std::slice::from_ref(&range), survivors));
                }
                12 => {
                    if let Ok(file) = OpenOptions::new().write(true).open(&table) {
                        file.set_len(u64::from(input.u16())).expect("a file of ours");
                    }
                }
                13 => fs::write(&table, input.chunk()).expect("a file of ours"),
                14 => {
                    is_honest = false;
                    forge(&table, &mut input);
                }
                _ => drop(Leases::usage(folder.path(), "fabric")),
            }
        }
    });
}

/// One octet becomes another one.
fn change(table: &std::path::Path, at: u64, with: u8) {
    let Ok(file) = OpenOptions::new().read(true).write(true).open(table) else { return };
    let mut octet = [0];
    if file.read_exact_at(&mut octet, at).is_ok() {
        file.write_all_at(&[octet[0] ^ with], at).expect("a file of ours");
    }
}

/// Octets of a record become others, and its checksum fits: what a later release or a person with a tool may write.
fn forge(table: &std::path::Path, input: &mut Input<'_>) {
    const RECORD: u64 = 256;
    let Ok(file) = OpenOptions::new().read(true).write(true).open(table) else { return };
    let (nth, at) = (input.below(9), usize::from(input.octet()));
    let mut record = [0; RECORD as usize];
    let place = RECORD * nth as u64;
    if file.read_exact_at(&mut record, place).is_err() {
        return;
    }
    for (to, from) in record[at..].iter_mut().zip(input.chunk()) {
        *to = *from;
    }
    let (sum_at, summed) = match nth {
        0 => (12, 16..record.len()),
        _ => (0, 4..(24 + usize::from(record[5]) + usize::from(record[6])).min(record.len())),
    };
    let sum = crc32(&record[summed]);
    record[sum_at..sum_at + 4].copy_from_slice(&sum.to_le_bytes());
    file.write_all_at(&record, place).expect("a file of ours");
}

/// CRC-32 as in IEEE 802.3.
fn crc32(octets: &[u8]) -> u32 {
    !octets.iter().fold(!0, |sum, octet| {
        (0..8).fold(
            sum ^ u32::from(*octet),
            |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xEDB8_8320 } else { sum >> 1 },
        )
    })
}
