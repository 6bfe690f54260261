//! Roles of external sessions, and routes that leak (RFC 9234).

mod support;

use cambric_bgp::config::{LocalRole, Role, Silence};
use cambric_bgp::peer::PeerState;
use cambric_bgp::policy::{Refusal, Withheld};
use cambric_bgp::rib::Verdict;
use cambric_bgp::wire::notification::{code, open};
use cambric_bgp::{Originated, Prefix, Source, Wanted};
use support::net::{Host, Net};
use support::{adj_rib_in, asn, neighbor, prefix, router, secs};

const NODE: u32 = 65001;
const BELOW: u32 = 65002;
const BESIDE: u32 = 65003;

fn address(number: u8) -> String {
    format!("10.2.0.{number}")
}

/// A router that announces a prefix of its own.
fn member(local_asn: u32, number: u8) -> Wanted {
    let mut wanted = router(local_asn, &address(number));
    wanted.originated = [(own(number), Originated::plain(Source::Pods))].into();
    wanted
}

fn own(number: u8) -> Prefix {
    prefix(&format!("10.244.{number}.0/24"))
}

fn as_a(role: Role) -> Option<LocalRole> {
    Some(LocalRole { role, silence: Silence::Accepted })
}

/// The first is what the second is told to be and the second what it says, both open to every route.
fn connect(
    net: &mut Net,
    (one, its_as): (Host, u32),
    (other, other_as): (Host, u32),
    roles: [Option<LocalRole>; 2],
) {
    for (host, peer, asn, role) in [(one, other, other_as, roles[0]), (other, one, its_as, roles[1])] {
        let at = net.address(peer);
        net.change(host, |wanted| {
            let (at, mut config) = neighbor(asn, &at.to_string());
            config.local_role = role;
            wanted.peers.insert(at, config);
        });
    }
}

/// 1 of AS 65001, 2 of AS 65002 and 3 of AS 65003 in a row, with what each is to its neighbour.
fn row(first: [Option<LocalRole>; 2], second: [Option<LocalRole>; 2]) -> (Net, [Host; 3]) {
    let mut net = Net::new();
    let hosts = [(NODE, 1), (BELOW, 2), (BESIDE, 3)].map(|(asn, number)| net.add(member(asn, number)));
    let [one, two, three] = hosts;
    connect(&mut net, (one, NODE), (two, BELOW), first);
    connect(&mut net, (two, BELOW), (three, BESIDE), second);
    net.run_until_up(one, two);
    net.run_until_up(two, three);
    net.run(secs(5));
    (net, hosts)
}

/// What `host` has of `teller` for the prefix of `number`: ONLY_TO_CUSTOMER, as told and as used, and what became of it.
fn told(net: &Net, host: Host, teller: Host, number: u8) -> Option<(Option<u32>, Option<u32>, Verdict)> {
    let routes = adj_rib_in(net.router(host), net.peer(host, teller).id);
    let route = routes.into_iter().find(|route| route.prefix == own(number))?;
    let path = &route.paths[0];
    let used = path.changed.as_ref().unwrap_or(&path.attributes);
    Some((path.attributes.only_to_customer(), used.only_to_customer(), path.verdict))
}

fn withheld(net: &Net, host: Host, to: Host, number: u8) -> Option<Withheld> {
    let exports = net.router(host).exports(net.peer(host, to).id, &[own(number)]);
    exports[0].1.withheld
}

#[test]
fn what_a_provider_tells_goes_down_alone() {
    let provider = [as_a(Role::Provider), as_a(Role::Customer)];
    let (net, [one, two, three]) = row(provider, provider);
    let marked = Some(NODE);
    assert_eq!(told(&net, two, one, 1), Some((marked, marked, Verdict::Best)));
    assert_eq!(told(&net, three, two, 1), Some((marked, marked, Verdict::Best)), "as it was marked first");
    // Upwards go the own routes and those of customers, and they have no mark.
    assert_eq!(told(&net, two, three, 3), Some((None, None, Verdict::Best)));
    assert_eq!(told(&net, one, two, 3), Some((None, None, Verdict::Best)));
}

#[test]
fn a_customer_of_two_providers_passes_nothing_between_them() {
    let up = [as_a(Role::Provider), as_a(Role::Customer)];
    let down = [as_a(Role::Customer), as_a(Role::Provider)];
    let (net, [one, two, three]) = row(up, down);
    assert_eq!(withheld(&net, two, three, 1), Some(Withheld::OnlyToCustomer));
    assert_eq!((told(&net, three, two, 1), told(&net, one, two, 3)), (None, None));
    assert_eq!(told(&net, three, two, 2), Some((None, None, Verdict::Best)));
}

#[test]
fn one_side_that_has_a_role_is_enough() {
    // The provider says nothing: the customer marks what it tells.
    let (net, [one, two, three]) = row([None, as_a(Role::Customer)], [as_a(Role::Customer), None]);
    assert_eq!(told(&net, two, one, 1), Some((None, Some(NODE), Verdict::Best)));
    assert_eq!(told(&net, three, two, 1), None);
    // The customer in the middle has no roles: who is above it refuses what leaks.
    let (net, [_, two, three]) = row([as_a(Role::Provider), None], [None, as_a(Role::Provider)]);
    let leak = Verdict::Refused(Refusal::RouteLeak);
    assert_eq!(told(&net, three, two, 1), Some((Some(NODE), Some(NODE), leak)));
}

#[test]
fn between_peers_own_routes_pass_with_a_mark_and_those_of_others_do_not() {
    let beside = [as_a(Role::Peer), as_a(Role::Peer)];
    let (net, [one, two, three]) = row(beside, beside);
    assert_eq!(told(&net, two, one, 1), Some((Some(NODE), Some(NODE), Verdict::Best)));
    assert_eq!(told(&net, three, two, 1), None);
    // One that passes it on all the same is found out: the mark is not of its AS.
    let (net, [_, two, three]) = row([as_a(Role::Peer), None], [None, as_a(Role::Peer)]);
    let leak = Verdict::Refused(Refusal::RouteLeak);
    assert_eq!(told(&net, three, two, 1).map(|(.., verdict)| verdict), Some(leak));
}

#[test]
fn a_route_server_marks_for_its_clients_and_takes_nothing_that_is_marked() {
    let served = [as_a(Role::RouteServerClient), as_a(Role::RouteServer)];
    let serves = [as_a(Role::RouteServer), as_a(Role::RouteServerClient)];
    let (net, [_, two, three]) = row(served, serves);
    assert_eq!(told(&net, three, two, 1), Some((Some(BELOW), Some(BELOW), Verdict::Best)));
}

/// What the two say of a session between them, and the subcode that went out.
fn refused(ours: LocalRole, theirs: Option<LocalRole>) -> (String, (u8, u8)) {
    let mut net = Net::new();
    let [one, two] = [(NODE, 1), (BELOW, 2)].map(|(asn, number)| net.add(member(asn, number)));
    connect(&mut net, (one, NODE), (two, BELOW), [Some(ours), theirs]);
    net.run(secs(3));
    let status = net.peer(one, two);
    assert_ne!(status.state, PeerState::Established);
    let sent = net.notifications(one, two).into_iter().chain(net.notifications(two, one)).next();
    let sent = sent.expect("a NOTIFICATION");
    (status.last_error.expect("a reason").what, (sent.code, sent.subcode))
}

#[test]
fn roles_that_do_not_fit_make_no_session_and_the_reason_names_both() {
    let (customer, strict) =
        (LocalRole { role: Role::Customer, silence: Silence::Accepted }, Silence::Refused);
    let (why, answer) = refused(customer, Some(customer));
    assert_eq!(answer, (code::OPEN, open::ROLE_MISMATCH));
    assert!(why.contains("we are its customer, so it must be our provider"), "{why}");
    let (why, answer) = refused(LocalRole { silence: strict, ..customer }, None);
    assert_eq!(answer, (code::OPEN, open::ROLE_MISMATCH));
    assert!(why.contains("peer says no role, and must be our provider"), "{why}");
}

#[test]
fn inside_an_as_nobody_has_a_role() {
    let mut net = Net::new();
    let [one, two] = [1, 2].map(|number| net.add(member(NODE, number)));
    let customers = [as_a(Role::Customer), as_a(Role::Customer)];
    connect(&mut net, (one, NODE), (two, NODE), customers);
    net.run_until_up(one, two);
    net.run(secs(2));
    assert_eq!(told(&net, two, one, 1), Some((None, None, Verdict::Best)));
    assert_eq!(net.peer(one, two).asn, Some(asn(NODE)));
}
