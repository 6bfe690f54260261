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
        let sizes = samples().into_iter().map(|(_, name, set)| (name.into(), set.members.len())).collect();
        assert_eq!(kernel.set_sizes().expect("sizes"), sizes);
        if has("ipset") {
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
fn what_no_set_can_hold_is_refused_by_name_and_all_else_goes_in() {
    in_namespace(|| {
        let mut kernel = Kernel::open().expect("a kernel");
        let name: SetName = "cam4n".into();
        kernel.create_set(Family::Ipv4, &name, SetKind::Networks, 10, 1000).expect("made");
        let network = |text: &str, length| Member::Network(text.parse().expect("an address"), length);
        let members = [
            network("10.0.0.0", 8),
            network("0.0.0.0", 0),
            network("10.1.0.0", 33),
            network("fd00::", 64),
            network("10.2.0.0", 16),
        ];
        let Err(Error::Members { refused, .. }) = kernel.add_members(Family::Ipv4, &name, &members) else {
            panic!("not refused")
        };
        let reasons = [Reason::PrefixLength, Reason::PrefixLength, Reason::Family];
        assert_eq!(refused, members[1..4].iter().cloned().zip(reasons).collect::<Vec<_>>());
        let held = kernel.set(&name).expect("read").expect("a set").1.members;
        assert_eq!(held, BTreeSet::from([members[0].clone(), members[4].clone()]));

        // Of another kind than the set.
        let wrong = kernel.add_members(
            Family::Ipv4,
            &name,
            &[Member::Address("fd00::1".parse().expect("an address"))],
        );
        assert!(matches!(wrong, Err(Error::Members { .. })), "{wrong:?}");
        let veth = Member::Owner("10.0.0.1".parse().expect("an address"), "cam4567890123456".into());
        let wrong = kernel.add_members(Family::Ipv4, &"cam4none".into(), std::slice::from_ref(&veth));
        assert!(
            matches!(&wrong, Err(Error::Members { refused, .. }) if refused[0].1 == Reason::InterfaceName),
            "{wrong:?}"
        );
        let missing = kernel.add_members(Family::Ipv4, &"cam4none".into(), &members[..1]);
        assert!(matches!(missing, Err(Error::Set { .. })), "{missing:?}");
    });
}

#[test]
fn names_have_up_to_31_bytes_and_another_kind_of_the_same_name_is_refused() {
    in_namespace(|| {
        let mut kernel = Kernel::open().expect("a kernel");
        let name: SetName = format!("cam4{}", "n".repeat(27)).into();
        assert_eq!(name.len(), cambric_policy::program::MOST_SET_NAME_BYTES);
        kernel.create_set(Family::Ipv4, &name, SetKind::Addresses, 0, 10).expect("made");
        assert_eq!(kernel.set_names().expect("names"), BTreeSet::from([name.clone()]));
        assert!(kernel.create_set(Family::Ipv4, &name, SetKind::Networks, 0, 10).is_err());
        let longer: SetName = format!("{name}n").into();
        assert!(kernel.create_set(Family::Ipv4, &longer, SetKind::Addresses, 0, 10).is_err());
    });
}

#[test]
fn many_thousand_members_go_in_and_come_back() {
    in_namespace(|| {
        let mut kernel = Kernel::open().expect("a kernel");
        let name: SetName = "cam6pmany".into();
        kernel.create_set(Family::Ipv6, &name, SetKind::Addresses, 100, 1_000_000).expect("made");
        let members: Vec<Member> =
            (0..50_000u128).map(|n| Member::Address(std::net::Ipv6Addr::from(n + 1).into())).collect();
        kernel.add_members(Family::Ipv6, &name, &members).expect("added");
        let held = kernel.set(&name).expect("read").expect("a set").1.members;
        assert!(held.iter().eq(&members));
        kernel.del_members(Family::Ipv6, &name, &members[1..]).expect("removed");
        assert_eq!(kernel.set(&name).expect("read").expect("a set").1.members.len(), 1);
    });
}

#[test]
fn a_member_that_another_changed_is_none_and_is_put_right() {
    in_namespace(|| {
        if !has("ipset") {
            return;
        }
        let mut kernel = Kernel::open().expect("a kernel");
        let name: SetName = "cam4n".into();
        kernel.create_set(Family::Ipv4, &name, SetKind::Networks, 10, 1000).expect("made");
        run("ipset add cam4n 10.0.0.0/8 nomatch");
        assert_eq!(kernel.set(&name).expect("read").expect("a set").1.members, BTreeSet::new());
        let member = Member::Network("10.0.0.0".parse().expect("an address"), 8);
        kernel.add_members(Family::Ipv4, &name, std::slice::from_ref(&member)).expect("added");
        assert_eq!(kernel.set(&name).expect("read").expect("a set").1.members, BTreeSet::from([member]));
        assert!(!run("ipset save cam4n").contains("nomatch"));
    });
}

#[test]
fn a_set_that_a_rule_names_is_not_destroyed() {
    in_namespace(|| {
        if !has("iptables-nft") {
            return;
        }
        let mut kernel = Kernel::open().expect("a kernel");
        let name: SetName = "cam4p".into();
        kernel.create_set(Family::Ipv4, &name, SetKind::Addresses, 10, 1000).expect("made");
        run("iptables-nft -A FORWARD -m set --match-set cam4p src -j DROP");
        let refused = kernel.destroy_set(&name);
        assert!(matches!(&refused, Err(Error::Set { set, .. }) if *set == name), "{refused:?}");
        assert_eq!(refused.unwrap_err().to_string(), "set cam4p: the set is in use");
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

/// What `ipset` shows of all members, in order.
fn shown() -> Vec<String> {
    let mut members: Vec<String> =
        run("ipset save").lines().filter(|line| line.starts_with("add")).map(str::to_owned).collect();
    members.sort();
    members
}

#[test]
fn members_that_cannot_be_ours_are_told_and_can_be_removed() {
    in_namespace(|| {
        if !has("ipset") {
            return;
        }
        let mut kernel = Kernel::open().expect("a kernel");
        for (family, name, set) in samples() {
            kernel.create_set(family, &name.into(), set.kind, 10, 1000).expect("made");
            kernel.add_members(family, &name.into(), &list(&set)).expect("added");
        }
        let before = shown();
        for (set, foreign) in [
            ("cam4na", &["10.0.0.5 nomatch", "172.16.0.0/13 nomatch"][..]),
            ("cam6na", &["2001:db8::/48 nomatch"]),
            ("cam4ea", &["10.0.0.1,icmp:8/0", "10.0.0.1,udplite:53"]),
            ("cam6ea", &["fd00::1,icmpv6:128/0"]),
            (
                "cam4self",
                &[
                    "0.0.0.0/0,camX",
                    "0.0.0.0/1,camA",
                    "128.0.0.0/1,cam wildcard",
                    // These three and ours, 10.0.0.1,cam1, stand for one another.
                    "10.0.0.1,cam wildcard",
                    "10.0.0.1,ca wildcard",
                    "10.0.0.1,c wildcard",
                    "10.0.0.1,physdev:cam1",
                    "10.0.0.7,cam1 nomatch",
                ],
            ),
            ("cam6self", &["::/0,cam wildcard", "fd00::/64,cam1", "fd00::9,physdev:cam1"]),
        ] {
            let name: SetName = set.into();
            for foreign in foreign {
                run(&format!("ipset add {set} {foreign}"));
            }
            let held = kernel.held_set(&name).expect("read").expect("a set");
            assert_eq!(held.foreign.len(), foreign.len(), "{held:?}");
            let (_, _, ours) = samples().into_iter().find(|(_, name, _)| *name == set).expect("a sample");
            assert_eq!(held.set, ours, "{set}");
            let size = kernel.set_sizes().expect("sizes")[&name];
            assert_eq!(size, ours.members.len() + foreign.len(), "{set}");
            for _ in 0..2 {
                kernel.del_foreign(&name, &held.foreign).expect("removed");
                let held = kernel.held_set(&name).expect("read").expect("a set");
                assert_eq!((held.set, held.foreign.len()), (ours.clone(), 0), "{set}");
            }
        }
        assert_eq!(shown(), before);
    });
}

#[test]
fn an_interface_whose_name_is_no_text_is_foreign() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    in_namespace(|| {
        if !has("ipset") {
            return;
        }
        let mut kernel = Kernel::open().expect("a kernel");
        let name: SetName = "cam4self".into();
        kernel.create_set(Family::Ipv4, &name, SetKind::Owners, 10, 1000).expect("made");
        let member = OsStr::from_bytes(b"10.0.0.1,\xffcam");
        let added = std::process::Command::new("ipset").args(["add", "cam4self"]).arg(member).status();
        assert!(added.expect("ipset runs").success());
        let held = kernel.held_set(&name).expect("read").expect("a set");
        assert_eq!((held.set.members.len(), held.foreign.len()), (0, 1));
        kernel.del_foreign(&name, &held.foreign).expect("removed");
        assert_eq!(shown(), Vec::<String>::new());
    });
}

#[test]
fn thousands_that_are_refused_are_all_told_and_all_else_goes_in() {
    in_namespace(|| {
        let mut kernel = Kernel::open().expect("a kernel");
        let name: SetName = "cam4self".into();
        kernel.create_set(Family::Ipv4, &name, SetKind::Owners, 10, 100_000).expect("made");
        let address = |n: u32| std::net::Ipv4Addr::from(n + 1).into();
        let wrong = |n| Member::AddressPort(address(n), Protocol::Tcp, 80);
        let all_wrong: Vec<Member> = (0..8000).map(wrong).collect();
        let Err(Error::Members { refused, .. }) = kernel.add_members(Family::Ipv4, &name, &all_wrong) else {
            panic!("not refused")
        };
        assert!(refused.iter().map(|(member, _)| member).eq(&all_wrong));
        assert_eq!(kernel.set_sizes().expect("sizes")[&name], 0);

        let right = |n| Member::Owner(address(n), "cam1".into());
        let mixed: Vec<Member> = (0..8000).map(|n| if n % 3 == 0 { wrong(n) } else { right(n) }).collect();
        let Err(Error::Members { refused, .. }) = kernel.add_members(Family::Ipv4, &name, &mixed) else {
            panic!("not refused")
        };
        let told: Vec<_> = refused.iter().map(|(member, _)| member).collect();
        assert_eq!(told, mixed.iter().step_by(3).collect::<Vec<_>>());
        let held = kernel.set(&name).expect("read").expect("a set").1.members;
        assert!(held.into_iter().eq((0..8000).filter(|n| n % 3 != 0).map(right)));
    });
}
