//! Sets and members.

use std::collections::BTreeSet;

use cambric_policy::kernel::{Error, Kernel, Reason};
use cambric_policy::program::{Family, Member, Protocol, Set, SetKind, SetName};

use crate::common::{has, in_namespace, run};

/// Members of each kind and family.
fn samples() -> Vec<(Family, &'static str, Set)> {
    let address = |text: &str| text.parse().expect("an address");
    let set = |kind, members: Vec<Member>| Set { kind, members: members.into_iter().collect() };
    let mut samples = Vec::new();
    for (family, names, [one, two], net, lengths) in [
        (
            Family::Ipv4,
            ["cam4pa", "cam4na", "cam4ea", "cam4self"],
            ["10.0.0.1", "10.0.0.2"],
            "172.16.0.0",
            [12, 32],
        ),
        (
            Family::Ipv6,
            ["cam6pa", "cam6na", "cam6ea", "cam6self"],
            ["fd00::1", "fd00::2"],
            "2001:db8::",
            [32, 128],
        ),
    ] {
        let [one, two, net] = [one, two, net].map(address);
        let [addresses, networks, ports, owners] = names;
        samples.push((
            family,
            addresses,
            set(SetKind::Addresses, vec![Member::Address(one), Member::Address(two)]),
        ));
        let members = lengths.map(|length| Member::Network(net, length)).to_vec();
        samples.push((family, networks, set(SetKind::Networks, members)));
        let members = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
            .map(|protocol| Member::AddressPort(one, protocol, 53));
        samples.push((family, ports, set(SetKind::AddressPorts, members.to_vec())));
        let members = vec![Member::Owner(one, "cam1".into()), Member::Owner(two, "cam23456789abcd".into())];
        samples.push((family, owners, set(SetKind::Owners, members)));
    }
    samples
}

fn list(set: &Set) -> Vec<Member> {
    set.members.iter().cloned().collect()
}

#[test]
fn what_is_written_is_read_back_equal_and_shown_by_ipset() {
    in_namespace(|| {
        let mut kernel = Kernel::open().expect("a kernel");
        for (family, name, set) in samples() {
            let name: SetName = name.into();
            kernel.create_set(family, &name, set.kind, 10, 1000).expect("made");
            kernel.add_members(family, &name, &list(&set)).expect("added");
            assert_eq!(kernel.set(&name).expect("read"), Some((family, set)), "{name}");
        }
        let names: BTreeSet<SetName> = samples().into_iter().map(|(_, name, _)| name.into()).collect();
        assert_eq!(kernel.set_names().expect("names"), names);
        assert_eq!(kernel.sets().expect("sets").len(), 8);
        if has("ipset") {
            println!("{}", run("ipset save"));
            for shown in [
                "create cam4pa hash:ip family inet hashsize 64 maxelem 1000",
                "add cam6na 2001:db8::/32",
                "add cam4ea 10.0.0.1,sctp:53",
                "add cam6self fd00::2,cam23456789abcd",
            ] {
                assert!(run("ipset save").lines().any(|line| line.starts_with(shown)), "{shown}");
            }
        }
    });
}

#[test]
fn members_come_and_go_and_asking_twice_changes_nothing() {
    in_namespace(|| {
        let mut kernel = Kernel::open().expect("a kernel");
        for (family, name, set) in samples() {
            let name: SetName = name.into();
            for _ in 0..2 {
                kernel.create_set(family, &name, set.kind, 10, 1000).expect("made");
                kernel.add_members(family, &name, &list(&set)).expect("added");
            }
            let (gone, stays) = (&list(&set)[..1], &list(&set)[1..]);
            for _ in 0..2 {
                kernel.del_members(family, &name, gone).expect("removed");
            }
            let left = Set { kind: set.kind, members: stays.iter().cloned().collect() };
            assert_eq!(kernel.set(&name).expect("read"), Some((family, left)), "{name}");
            for _ in 0..2 {
                kernel.destroy_set(&name).expect("destroyed");
            }
            assert_eq!(kernel.set(&name).expect("read"), None);
        }
    });
}

#[test]
fn a_full_set_names_the_member_that_found_no_room() {
    in_namespace(|| {
        let mut kernel = Kernel::open().expect("a kernel");
        let name: SetName = "cam4pfull".into();
        kernel.create_set(Family::Ipv4, &name, SetKind::Addresses, 10, 5000).expect("made");
        let members: Vec<Member> =
            (0..6000u32).map(|n| Member::Address(std::net::Ipv4Addr::from(n + 1).into())).collect();
        let Err(Error::Members { set, refused }) = kernel.add_members(Family::Ipv4, &name, &members) else {
            panic!("not refused")
        };
        assert_eq!(set, name);
        // The kernel counts by parts of its table and may take a few more than it was told.
        let held = kernel.set(&name).expect("read").expect("a set").1.members.len();
        assert!((5000..5100).contains(&held), "{held}");
        assert_eq!(refused, [(members[held].clone(), Reason::Full)]);
    });
}
