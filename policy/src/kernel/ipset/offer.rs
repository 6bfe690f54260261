//! Offers members to the kernel, which works on a message up to the first member it refuses and tells which that is.
//!
//! What stands behind a refused member has to be offered again. So after a refusal little is offered at once, and
//! four times as much each time that all was taken: the work grows with the number of members, however many of them
//! are refused.

use std::ops::Range;

use super::protocol::errno;
use crate::kernel::Error;

/// How many members are offered at once behind one that was refused.
const FEW: usize = 16;
/// So many refused in a row for one reason, and the others will be, too: the set is another one than was thought.
const MOST_IN_A_ROW: usize = 16;

/// What became of members that were offered.
pub(super) struct Answer {
    /// So many were sent, from the first on.
    pub(super) sent: usize,
    /// The first that was refused. Of those behind it some may have been taken.
    pub(super) refusal: Option<Refusal>,
}

/// A member that was refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal {
    /// Which, counted from 0.
    pub(super) nth: usize,
    /// The number of the error.
    pub(super) number: i32,
    /// It is this one; else this or one behind it. Of a single member it always is this one.
    pub(super) is_exact: bool,
}

/// Offers so many members: `send` sends some of a range of them, from its first on. Returns those that were refused.
///
/// After one that found the set full no more are offered. After many in a row that were refused for one reason and
/// none taken between, all that are left are told as refused for this one.
pub(super) fn offer(
    count: usize,
    mut send: impl FnMut(Range<usize>) -> Result<Answer, Error>,
) -> Result<Vec<(usize, i32)>, Error> {
    let mut refused: Vec<(usize, i32)> = Vec::new();
    let mut in_a_row = 0;
    let mut most = count;
    let mut next = 0;
    while next < count {
        let Answer { sent, refusal } = send(next..count.min(next.saturating_add(most)))?;
        let Some(Refusal { nth, number, is_exact }) = refusal else {
            next += sent;
            most = most.saturating_mul(4);
            in_a_row = 0;
            continue;
        };
        if !is_exact {
            next += nth;
            most = 1;
            if nth > 0 {
                in_a_row = 0;
            }
            continue;
        }
        let is_same = nth == 0 && refused.last().is_some_and(|(_, earlier)| *earlier == number);
        in_a_row = if is_same { in_a_row + 1 } else { 1 };
        refused.push((next + nth, number));
        next += nth + 1;
        most = FEW.min(most);
        if number == errno::HASH_FULL {
            break;
        }
        if in_a_row == MOST_IN_A_ROW {
            refused.extend((next..count).map(|nth| (nth, number)));
            break;
        }
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members in one send at most.
    const SEND: usize = 10_000;

    /// Offers members to a kernel that refuses some: which are told as refused, and how many were written for it.
    fn offered(count: usize, number: impl Fn(usize) -> Option<i32>) -> (Vec<(usize, i32)>, usize) {
        offered_to(Tells::Member, count, number)
    }

    /// What the kernel tells of a refusal.
    #[derive(Clone, Copy, PartialEq)]
    enum Tells {
        Member,
        OnlyThatThereIsOne,
    }

    fn offered_to(
        tells: Tells,
        count: usize,
        number: impl Fn(usize) -> Option<i32>,
    ) -> (Vec<(usize, i32)>, usize) {
        let mut written = 0;
        let refused = offer(count, |range| {
            let range = range.start..range.end.min(range.start + SEND);
            written += range.len();
            let is_exact = tells == Tells::Member || range.len() == 1;
            let refusal = range.clone().enumerate().find_map(|(nth, member)| {
                Some(Refusal { nth: if is_exact { nth } else { 0 }, number: number(member)?, is_exact })
            });
            Ok(Answer { sent: range.len(), refusal })
        });
        (refused.expect("sent"), written)
    }

    #[test]
    fn all_that_are_refused_are_told_and_the_work_grows_with_the_members_only() {
        for count in [8_000, 64_000] {
            for every in [2, 3, 7, 17, 100, 5_000] {
                for tells in [Tells::Member, Tells::OnlyThatThereIsOne] {
                    let number = |member: usize| member.is_multiple_of(every).then_some(22);
                    let (refused, written) = offered_to(tells, count, number);
                    let wanted = (0..count).filter_map(|member| Some((member, number(member)?)));
                    assert!(refused.into_iter().eq(wanted), "every {every}th");
                    assert!(written <= 20 * count, "every {every}th of {count}: {written}");
                }
            }
        }
    }

    #[test]
    fn many_in_a_row_refused_for_one_reason_end_it() {
        let (refused, written) = offered(100_000, |member| (member >= 5).then_some(4097));
        assert!(refused.into_iter().eq((5..100_000).map(|member| (member, 4097))));
        assert!(written <= SEND + MOST_IN_A_ROW * FEW, "{written}");
    }

    #[test]
    fn another_reason_or_one_that_is_taken_between_begins_a_new_row() {
        let (refused, _) = offered(1_000, |member| Some(1 + (member / 15) as i32));
        assert!(refused.into_iter().eq((0..1_000).map(|member| (member, 1 + (member / 15) as i32))));
        let number = |member: usize| (member % 16 != 15).then_some(22);
        let (refused, _) = offered(1_000, number);
        assert!(refused.into_iter().eq((0..1_000).filter_map(|member| Some((member, number(member)?)))));
    }

    #[test]
    fn no_more_are_offered_to_a_full_set() {
        let (refused, written) = offered(50_000, |member| (member >= 20).then_some(errno::HASH_FULL));
        assert_eq!((refused, written), (vec![(20, errno::HASH_FULL)], SEND));
    }
}
