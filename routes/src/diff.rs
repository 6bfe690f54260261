//! Wanted against present: which messages make the kernel right, in which order.
//!
//! Plain functions. Order: objects, then groups that name them, then routes that name groups; what nobody
//! names any more goes last and late. A route that already does what is wanted is left alone, even if it
//! would be written differently today: a route on a group that shrank to its one remaining member forwards as
//! wanted, and rewriting a hundred thousand such routes is exactly the work that groups save. [`Merge::Now`]
//! does that rewriting at leisure.

use std::{collections::BTreeSet, net::IpAddr};

use crate::{
    METRIC,
    mirror::{Form, Mirror, Shape},
    next_hops::{Hop, NextHopId, NextHopTable},
    wanted::{Family, Prefix},
};

/// One message to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    CreateObject {
        id: NextHopId,
        hop: Hop,
        on_link: OnLink,
    },
    CreateGroup {
        id: NextHopId,
        members: Vec<NextHopId>,
        purpose: Vec<Hop>,
    },
    ReplaceGroup {
        id: NextHopId,
        members: Vec<NextHopId>,
        purpose: Vec<Hop>,
    },
    DeleteNextHop {
        id: NextHopId,
    },
    /// Fails if any route has the place.
    CreateRoute {
        prefix: Prefix,
        shape: Shape,
        on_link: OnLink,
    },
    /// Only over a route that the mirror knows to be ours; fails if it is gone.
    ReplaceRoute {
        prefix: Prefix,
        shape: Shape,
        on_link: OnLink,
    },
    /// Only a route of our protocol that forwards so.
    DeleteRoute {
        prefix: Prefix,
        metric: u32,
        form: Form,
    },
}

/// Whether the kernel finds the gateway in a subnet of its interface or has to believe us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnLink {
    BySubnet,
    Forced,
}

/// A wanted route as the links allow it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) aim: Aim,
    /// The preferred source, if the node has that address.
    pub(crate) source: Option<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Aim {
    Unreachable,
    /// Usable hops in order, at least one.
    Hops(Vec<Hop>),
    /// No hop is usable; these are wanted and wait for their link.
    Wait(Vec<Hop>),
}

/// How soon equal things become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merge {
    /// What forwards as wanted stays as it is.
    Later,
    /// One-member groups become plain routes, equal groups become one.
    Now,
}

/// What one prefix needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    Done,
    Write(Op),
    /// No next hop is usable.
    WaitForLink,
    /// The group is not there yet: it was refused.
    WaitForGroup,
    /// A route of this foreign protocol has the place, alone or beside ours.
    Conflict {
        protocol: u8,
    },
}

/// What the route for a prefix needs. Groups must have been made before ([`plan_group`]).
pub(crate) fn plan_route(
    prefix: Prefix,
    wanted: Option<&Resolved>,
    mirror: &Mirror,
    merge: Merge,
    on_link: impl Fn(&Hop) -> OnLink,
) -> Plan {
    let present = mirror.route(&prefix);
    let Some(wanted) = wanted else {
        return present.map_or(Plan::Done, |shape| Plan::Write(delete(prefix, shape)));
    };
    let satisfied = present.is_some_and(|shape| satisfies(shape, wanted, &mirror.next_hops, merge));
    match (mirror.foreign(&prefix), present) {
        // A replacement could hit the foreign route: ours, if it is wrong, only goes.
        (Some(_), Some(shape)) if !satisfied => return Plan::Write(delete(prefix, shape)),
        (Some(protocol), _) => return Plan::Conflict { protocol },
        (None, _) if satisfied => return Plan::Done,
        (None, _) => {}
    }
    if let Aim::Wait(hops) = &wanted.aim {
        return match present {
            None => Plan::WaitForLink,
            // Comes back with the carrier by itself, sooner than we could write it.
            Some(Shape { form: Form::Plain(hop), .. }) if hops.contains(hop) => Plan::WaitForLink,
            Some(shape) => Plan::Write(delete(prefix, shape)),
        };
    }
    if let Some(shape) = present
        && matches!((shape.form, prefix.family()), (Form::Odd(_), Family::Ipv4))
    {
        // In place of a route on the same group, IPv4 takes over its attributes (`fib_find_info_nh` in
        // net/ipv4/fib_semantics.c compares no metrics). So it goes first.
        return Plan::Write(delete(prefix, shape));
    }
    let Some(form) = form_for(&wanted.aim, &mirror.next_hops) else { return Plan::WaitForGroup };
    let on_link = if let Form::Plain(hop) = &form { on_link(hop) } else { OnLink::BySubnet };
    let shape = Shape { form, source: wanted.source };
    Plan::Write(match present {
        None => Op::CreateRoute { prefix, shape, on_link },
        Some(_) => Op::ReplaceRoute { prefix, shape, on_link },
    })
}

/// The message that takes a route of ours away.
pub(crate) fn delete(prefix: Prefix, present: &Shape) -> Op {
    Op::DeleteRoute { prefix, metric: METRIC, form: present.form }
}

/// Whether a present route forwards as wanted.
pub(crate) fn satisfies(present: &Shape, wanted: &Resolved, next_hops: &NextHopTable, merge: Merge) -> bool {
    present.source == wanted.source
        && match (&wanted.aim, present.form, merge) {
            (Aim::Unreachable, form, _) => form == Form::Unreachable,
            (Aim::Hops(hops), Form::Plain(hop), _) => hops[..] == [hop],
            (Aim::Hops(hops), Form::Group(group), Merge::Later) => next_hops.hops(group) == hops,
            (aim, form, Merge::Now) => form_for(aim, next_hops) == Some(form),
            _ => false,
        }
}

/// How a route is written today: one hop in the route itself, more by a group.
fn form_for(aim: &Aim, next_hops: &NextHopTable) -> Option<Form> {
    match aim {
        Aim::Unreachable => Some(Form::Unreachable),
        Aim::Hops(hops) if hops.len() == 1 => Some(Form::Plain(hops[0])),
        Aim::Hops(hops) => next_hops.group_of(hops).map(Form::Group),
        Aim::Wait(_) => None,
    }
}

/// The objects that a set of hops lacks.
pub(crate) fn plan_objects(
    hops: &[Hop],
    next_hops: &mut NextHopTable,
    on_link: impl Fn(&Hop) -> OnLink,
) -> Vec<Op> {
    let missing = hops.iter().filter(|hop| next_hops.object_of(hop).is_none()).copied().collect::<Vec<_>>();
    let create =
        |hop: Hop| Some(Op::CreateObject { id: next_hops.new_object_id()?, hop, on_link: on_link(&hop) });
    missing.into_iter().filter_map(create).collect()
}

/// The message that makes a group for these hops; none if there is one, or if an object is missing.
///
/// `regrown`: a group that was made for these hops and shrank, all of whose routes still want them. It grows
/// again, which moves them all at once.
pub(crate) fn plan_group(
    hops: &[Hop],
    next_hops: &mut NextHopTable,
    regrown: Option<NextHopId>,
) -> Option<Op> {
    if hops.len() < 2 || next_hops.group_of(hops).is_some() {
        return None;
    }
    let members = hops.iter().map(|hop| next_hops.object_of(hop)).collect::<Option<Vec<_>>>()?;
    let purpose = hops.to_vec();
    Some(match regrown {
        Some(id) => Op::ReplaceGroup { id, members, purpose },
        None => Op::CreateGroup { id: next_hops.new_group_id()?, members, purpose },
    })
}

/// What nobody of ours names any more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Leftovers {
    /// Deletes groups without routes, then objects without groups.
    pub(crate) ops: Vec<Op>,
    /// What stays, for other programs point to it: the kernel would delete their routes with it.
    pub(crate) borrowed: BTreeSet<NextHopId>,
}

pub(crate) fn plan_leftovers(mirror: &Mirror) -> Leftovers {
    let next_hops = &mirror.next_hops;
    let is_borrowed = |id: &NextHopId| mirror.borrowers(*id) > 0 || next_hops.is_foreign_member(*id);
    let unused = |id: &NextHopId| mirror.users(*id) == 0;
    let groups = next_hops.groups().map(|(id, _)| id).filter(unused);
    let (mut borrowed, groups): (BTreeSet<NextHopId>, BTreeSet<NextHopId>) = groups.partition(is_borrowed);
    let has_group = |object: &NextHopId| {
        next_hops.groups().any(|(id, group)| !groups.contains(&id) && group.members.contains(object))
    };
    let objects = next_hops.objects().map(|(id, _)| id).filter(|id| unused(id) && !has_group(id));
    let (borrowed_objects, objects): (BTreeSet<NextHopId>, BTreeSet<NextHopId>) =
        objects.partition(is_borrowed);
    borrowed.extend(borrowed_objects);
    let ops = groups.iter().chain(&objects).map(|id| Op::DeleteNextHop { id: *id }).collect();
    Leftovers { ops, borrowed }
}

/// Routes of our protocol that are none of ours.
pub(crate) fn plan_strays(mirror: &Mirror, family: Family) -> Vec<Op> {
    let strays = mirror.strays.iter().filter(|(prefix, ..)| prefix.family() == family);
    strays
        .flat_map(|(prefix, metric, form)| {
            let stray = Op::DeleteRoute { prefix: *prefix, metric: *metric, form: *form };
            match mirror.route(prefix) {
                Some(shape) if family == Family::Ipv6 && *metric == METRIC => {
                    beside_group(*prefix, shape, stray)
                }
                _ => vec![stray],
            }
        })
        .collect()
}

/// IPv6 deletes the route on a group first, whatever gateway is named (`ip6_route_del` in net/ipv6/route.c): so it
/// goes and comes back within the batch.
fn beside_group(prefix: Prefix, ours: &Shape, stray: Op) -> Vec<Op> {
    if !matches!(ours.form, Form::Group(_)) {
        return vec![stray];
    }
    vec![
        delete(prefix, ours),
        stray,
        Op::CreateRoute { prefix, shape: ours.clone(), on_link: OnLink::BySubnet },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::Table,
        mirror::Borrower,
        next_hops::{Spread, tests::hop},
    };

    const OBJECT_A: NextHopId = NextHopId(1);
    const OBJECT_B: NextHopId = NextHopId(2);
    const GROUP: NextHopId = NextHopId(10);

    fn a() -> Hop {
        hop("10.1.0.1", 1)
    }

    fn b() -> Hop {
        hop("10.2.0.1", 2)
    }

    fn prefix() -> Prefix {
        Prefix::new("10.9.0.0/24".parse().expect("network"))
    }

    fn shape(form: Form) -> Shape {
        Shape { form, source: None }
    }

    fn via(hops: &[Hop]) -> Resolved {
        Resolved { aim: Aim::Hops(hops.to_vec()), source: None }
    }

    /// Objects for both hops and a group of both, no routes.
    fn mirror() -> Mirror {
        let mut mirror = Mirror::default();
        mirror.next_hops.put_object(OBJECT_A, a());
        mirror.next_hops.put_object(OBJECT_B, b());
        mirror.next_hops.put_group(GROUP, vec![OBJECT_A, OBJECT_B], Spread::Even, None);
        mirror
    }

    fn plan(mirror: &Mirror, wanted: Option<&Resolved>, merge: Merge) -> Plan {
        plan_route(prefix(), wanted, mirror, merge, |_| OnLink::BySubnet)
    }

    fn delete(prefix: Prefix, present: &Shape) -> Plan {
        Plan::Write(super::delete(prefix, present))
    }

    fn create(form: Form) -> Plan {
        Plan::Write(Op::CreateRoute { prefix: prefix(), shape: shape(form), on_link: OnLink::BySubnet })
    }

    fn replace(form: Form) -> Plan {
        Plan::Write(Op::ReplaceRoute { prefix: prefix(), shape: shape(form), on_link: OnLink::BySubnet })
    }

    #[test]
    fn one_hop_is_written_plain_and_two_by_their_group() {
        let mirror = mirror();
        assert_eq!(plan(&mirror, Some(&via(&[a()])), Merge::Later), create(Form::Plain(a())));
        assert_eq!(plan(&mirror, Some(&via(&[a(), b()])), Merge::Later), create(Form::Group(GROUP)));
    }

    #[test]
    fn route_on_a_group_that_shrank_to_what_is_wanted_stays_until_merged() {
        let mut mirror = mirror();
        mirror.put_route(prefix(), &shape(Form::Group(GROUP)));
        assert_eq!(mirror.remove_next_hop(OBJECT_A), []);
        assert_eq!(plan(&mirror, Some(&via(&[b()])), Merge::Later), Plan::Done);
        assert_eq!(plan(&mirror, Some(&via(&[b()])), Merge::Now), replace(Form::Plain(b())));
        assert_eq!(plan(&mirror, Some(&via(&[a()])), Merge::Later), replace(Form::Plain(a())));
    }

    #[test]
    fn foreign_route_in_our_place_is_a_conflict_never_a_write() {
        let mut mirror = mirror();
        mirror.put_foreign(prefix(), 4);
        assert_eq!(plan(&mirror, Some(&via(&[a()])), Merge::Later), Plan::Conflict { protocol: 4 });
        assert_eq!(plan(&mirror, None, Merge::Later), Plan::Done);
    }

    #[test]
    fn foreign_route_beside_ours_is_a_conflict_and_ours_is_never_replaced() {
        let mut mirror = mirror();
        mirror.put_route(prefix(), &shape(Form::Plain(a())));
        mirror.put_foreign(prefix(), 4);
        assert_eq!(plan(&mirror, Some(&via(&[a()])), Merge::Later), Plan::Conflict { protocol: 4 });
        let ours_goes = delete(prefix(), &shape(Form::Plain(a())));
        assert_eq!(plan(&mirror, Some(&via(&[b()])), Merge::Later), ours_goes);
        assert_eq!(plan(&mirror, None, Merge::Later), ours_goes);
    }

    #[test]
    fn plain_route_over_a_dead_link_waits_but_one_to_an_unwanted_hop_goes() {
        let mut mirror = mirror();
        let waiting = Resolved { aim: Aim::Wait(vec![a()]), source: None };
        assert_eq!(plan(&mirror, Some(&waiting), Merge::Later), Plan::WaitForLink);
        mirror.put_route(prefix(), &shape(Form::Plain(a())));
        assert_eq!(plan(&mirror, Some(&waiting), Merge::Later), Plan::WaitForLink);
        mirror.put_route(prefix(), &shape(Form::Plain(b())));
        assert_eq!(plan(&mirror, Some(&waiting), Merge::Later), delete(prefix(), &shape(Form::Plain(b()))));
    }

    #[test]
    fn another_source_is_a_replacement() {
        let mut mirror = mirror();
        mirror.put_route(prefix(), &shape(Form::Plain(a())));
        let wanted = Resolved { source: Some("10.1.0.2".parse().expect("address")), ..via(&[a()]) };
        assert!(matches!(plan(&mirror, Some(&wanted), Merge::Later), Plan::Write(Op::ReplaceRoute { .. })));
    }

    #[test]
    fn odd_route_of_ours_is_replaced_but_deleted_first_if_ipv4_or_unwanted() {
        let mut mirror = mirror();
        let (v4, v6) = (prefix(), Prefix::new("2001:db8:9::/64".parse().expect("network")));
        let odd = shape(Form::Odd(None));
        let unreachable = Resolved { aim: Aim::Unreachable, source: None };
        for prefix in [v4, v6] {
            mirror.put_route(prefix, &odd);
            let plan = |wanted| plan_route(prefix, wanted, &mirror, Merge::Later, |_| OnLink::BySubnet);
            assert_eq!(plan(None), delete(prefix, &odd));
            let replaces = matches!(plan(Some(&unreachable)), Plan::Write(Op::ReplaceRoute { .. }));
            assert_eq!(replaces, prefix == v6);
        }
    }

    #[test]
    fn group_grows_again_only_if_all_its_routes_want_that() {
        let mut mirror = mirror();
        mirror.remove_next_hop(OBJECT_A);
        let table = &mut mirror.next_hops;
        let objects = plan_objects(&[a(), b()], table, |_| OnLink::BySubnet);
        let [Op::CreateObject { id, .. }] = objects[..] else { panic!("one object is missing: {objects:?}") };
        assert_eq!(plan_group(&[a(), b()], table, Some(GROUP)), None, "the object is not there yet");
        table.put_object(id, a());
        let (members, purpose) = (vec![id, OBJECT_B], vec![a(), b()]);
        let regrow = Op::ReplaceGroup { id: GROUP, members: members.clone(), purpose: purpose.clone() };
        assert_eq!(plan_group(&[a(), b()], table, Some(GROUP)), Some(regrow));
        match plan_group(&[a(), b()], table, None) {
            Some(Op::CreateGroup { id, members: m, purpose: p }) => {
                assert_eq!((id != GROUP, m, p), (true, members, purpose))
            }
            other => panic!("a group of its own, not {other:?}"),
        }
    }

    #[test]
    fn leftovers_are_groups_without_routes_and_objects_without_groups() {
        let mut mirror = mirror();
        mirror.put_route(prefix(), &shape(Form::Group(GROUP)));
        assert_eq!(plan_leftovers(&mirror), Leftovers::default());
        mirror.put_route(prefix(), &shape(Form::Plain(a())));
        let ids = [GROUP, OBJECT_A, OBJECT_B].map(|id| Op::DeleteNextHop { id });
        assert_eq!(plan_leftovers(&mirror).ops, ids);
    }

    #[test]
    fn leftover_stays_while_another_program_points_to_it() {
        let (table, metric, protocol) = (Table::Other { table: 7, tos: 0 }, 0, 4);
        let on = |id| Borrower { table, prefix: prefix(), metric, protocol, id };
        // A route on the group keeps its members, too.
        let mut on_group = mirror();
        assert!(on_group.put_borrower(on(GROUP)));
        let kept = Leftovers { ops: Vec::new(), borrowed: [GROUP].into() };
        assert_eq!(plan_leftovers(&on_group), kept);
        assert!(on_group.remove_borrower(&on(GROUP)));
        assert_eq!(plan_leftovers(&on_group).ops.len(), 3);
        // A route on an object, a group with an object.
        let mut on_objects = mirror();
        on_objects.put_borrower(on(OBJECT_A));
        on_objects.next_hops.put_foreign(NextHopId(99), vec![OBJECT_B]);
        let kept =
            Leftovers { ops: vec![Op::DeleteNextHop { id: GROUP }], borrowed: [OBJECT_A, OBJECT_B].into() };
        assert_eq!(plan_leftovers(&on_objects), kept);
    }
}
