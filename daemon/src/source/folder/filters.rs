//! What works keeps working: filters that are removed, broken or not there.

use std::fs;

use super::tests::{Edited, ours};
use crate::view::View;

const OPENS: &str = "{rules: [{match: {prefixes: [{cidr: 0.0.0.0/0}]}, action: Accept}], otherwise: Accept}";

fn peer_config(filters: &str) -> String {
    ours("BGPPeerConfig", "tor", &format!("{{filters: [{filters}]}}"))
}

fn problems(view: &View) -> Vec<String> {
    view.fabric.problems.iter().map(ToString::to_string).collect()
}

/// A filter, and a BGPPeerConfig that has it.
fn filtered() -> Edited {
    let filter = ours("BGPFilter", "tor-in", OPENS);
    let config = peer_config("{family: ipv4, import: [tor-in]}");
    Edited::new(&[("filter.yaml", &filter), ("tor.yaml", &config)])
}

#[test]
fn a_filter_that_is_removed_while_it_is_named_counts_as_before() {
    let mut folder = filtered();
    let before = folder.view();
    assert_eq!(problems(&before), [""; 0]);
    fs::remove_file(folder.temporary.path().join("filter.yaml")).expect("own folder");
    let says = "filter.yaml: is gone, and is missing: tor.yaml, document 1: BGPPeerConfig tor: \
                spec.filters[0].import[0]: \"tor-in\": no BGPFilter of this name counts; it counts as it was before";
    let view = folder.view();
    assert_eq!(problems(&view), [says]);
    assert_eq!(
        (&view.fabric.filters, &view.fabric.peer_configs),
        (&before.fabric.filters, &before.fabric.peer_configs)
    );
    folder.written("tor.yaml", &peer_config(""));
    let without = folder.view();
    assert_eq!((problems(&without).len(), without.fabric.filters.len()), (0, 0), "nothing names it any more");
}

#[test]
fn a_filter_with_a_fault_and_a_name_that_nobody_has_change_nothing() {
    let mut folder = filtered();
    let before = folder.view();
    for (file, text, says) in [
        (
            "filter.yaml",
            ours("BGPFilter", "tor-in", "{rules: [{match: {asPath: '('}, action: Accept}]}"),
            "spec.rules[0].match.asPath: \"(\": unclosed group",
        ),
        (
            "tor.yaml",
            peer_config("{family: ipv4, import: [tor-in, absent]}"),
            "spec.filters[0].import[1]: \"absent\": no BGPFilter of this name counts",
        ),
    ] {
        let good = fs::read_to_string(folder.temporary.path().join(file)).expect("own folder");
        folder.written(file, &text);
        let view = folder.view();
        assert!(problems(&view)[0].contains(says), "{:?}", problems(&view));
        assert!(problems(&view)[0].ends_with("it counts as it was before"), "{:?}", problems(&view));
        assert_eq!(view.fabric.filters, before.fabric.filters, "{file}");
        assert_eq!(view.fabric.peer_configs, before.fabric.peer_configs, "{file}");
        folder.written(file, &good);
        assert_eq!(problems(&folder.view()), [""; 0], "{file}");
    }
}

#[test]
fn what_names_a_filter_that_was_never_good_does_not_count() {
    let mut folder = filtered();
    folder.written(
        "filter.yaml",
        &ours("BGPFilter", "tor-in", "{rules: [{action: Accept, set: {prepend: 0}}]}"),
    );
    let view = folder.view();
    assert!(view.fabric.filters.is_empty() && view.fabric.peer_configs.is_empty(), "{:?}", problems(&view));
    assert!(
        problems(&view).iter().any(|problem| problem.contains("set.prepend: 0: 1 to 16")),
        "{:?}",
        problems(&view)
    );
    let config = problems(&view).into_iter().find(|problem| problem.contains("BGPPeerConfig tor"));
    assert!(
        config.is_some_and(|problem| problem.contains("\"tor-in\": no BGPFilter")),
        "{:?}",
        problems(&view)
    );
    folder.written("filter.yaml", &ours("BGPFilter", "tor-in", OPENS));
    let mended = folder.view();
    assert_eq!((problems(&mended).len(), mended.fabric.peer_configs.len()), (0, 1));
}
