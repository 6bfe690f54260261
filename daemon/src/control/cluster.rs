//! `show status`: what is known of the API server's objects, and how.

use std::time::SystemTime;

use cambric_api::{ClusterStatus, KindStatus};
use cambric_kube::picture::{Health, KindHealth, KindState};

use super::words::escaped;

pub(super) fn status(health: &Health, now: SystemTime) -> ClusterStatus {
    let trouble = health.trouble.as_ref();
    ClusterStatus {
        server: health.server.as_deref().map(escaped),
        trouble: trouble.map(|trouble| escaped(&trouble.what)),
        trouble_s: trouble.map(|trouble| seconds(trouble.since, now)),
        complete: health.kinds.values().all(|kind| kind.is_shown),
        kinds: health.kinds.iter().map(|(name, kind)| kind_status(name, kind, now)).collect(),
        snapshot_problems: health.journal.iter().map(|problem| escaped(problem)).collect(),
    }
}

fn kind_status(name: &str, kind: &KindHealth, now: SystemTime) -> KindStatus {
    KindStatus {
        kind: name.to_owned(),
        objects: kind.objects,
        state: word(&kind.state).to_owned(),
        since_s: seconds(kind.since, now),
        why: why(&kind.state).map(escaped),
        unreadable: kind.unreadable.len(),
    }
}

/// Its name for programs: in the JSON of the control socket, and as a label of metrics.
pub(crate) fn word(state: &KindState) -> &'static str {
    match state {
        KindState::Unknown => "unknown",
        KindState::FromSnapshot => "from-snapshot",
        KindState::Watching => "watching",
        KindState::Away(_) => "away",
        KindState::Refused(_) => "refused",
        KindState::Older(_) => "older",
        KindState::NotInstalled(_) => "not-installed",
    }
}

fn why(state: &KindState) -> Option<&str> {
    match state {
        KindState::Unknown | KindState::FromSnapshot | KindState::Watching => None,
        KindState::Away(why)
        | KindState::Refused(why)
        | KindState::Older(why)
        | KindState::NotInstalled(why) => Some(why),
    }
}

/// None where the clock was set back since.
fn seconds(since: SystemTime, now: SystemTime) -> u64 {
    now.duration_since(since).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cambric_kube::Trouble;

    use super::*;

    #[test]
    fn what_the_server_says_cannot_steer_a_terminal_and_the_clock_may_jump() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let kind = |state, since_s| KindHealth {
            objects: 3,
            version: None,
            is_shown: true,
            state,
            since: SystemTime::UNIX_EPOCH + Duration::from_secs(since_s),
            unreadable: vec![("a/b".to_owned(), "spec: bad".to_owned())],
        };
        let health = Health {
            server: Some("https://192.0.2.1:6443".to_owned()),
            trouble: Some(Trouble { what: "refused\u{1b}".to_owned(), since: now }),
            kinds: [
                ("Node".to_owned(), kind(KindState::Watching, 90)),
                ("Pod".to_owned(), kind(KindState::Refused("pods is \u{7}forbidden".to_owned()), 200)),
            ]
            .into(),
            ..Health::default()
        };
        let status = status(&health, now);
        assert_eq!((status.trouble.as_deref(), status.trouble_s), (Some("refused\\u{1b}"), Some(0)));
        let [node, pod] = status.kinds.as_slice() else { panic!("{status:?}") };
        assert_eq!((node.state.as_str(), node.since_s, &node.why), ("watching", 10, &None));
        assert_eq!((pod.state.as_str(), pod.since_s, pod.unreadable), ("refused", 0, 1));
        assert_eq!(pod.why.as_deref(), Some("pods is \\u{7}forbidden"));
    }
}
