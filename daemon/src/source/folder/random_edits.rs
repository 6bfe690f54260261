//! What must hold after any edit, tried with many that nobody would think of: every file is one of a few, so that
//! nearly all of them contradict each other.

use std::collections::BTreeMap;
use std::fs;

use super::tests::{Edited, Recorded, at_address, node, ours, overrides, problems, without_problems};
use super::*;
use crate::objects::Shown;
use crate::source::manifest::Manifest;

/// A linear congruential generator (Knuth, MMIX).
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }

    fn of<const N: usize>(&mut self, these: [&'static str; N]) -> &'static str {
        these[self.below(N)]
    }

    fn document(&mut self) -> String {
        match self.below(12) {
            10 => {
                let (name, label) = (self.of(["a", "b"]), self.of(["x", "y", "1"]));
                format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {label}}}}}\n")
            }
            11 => {
                let (name, key) = (self.of(["p", "q"]), self.of(["podSelector", "podSelectr", "x"]));
                format!(
                    "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{podSelector: {{}}, ingress: [{{from: [{{{key}: {{}}}}]}}]}}\n"
                )
            }
            0..=3 => {
                let range =
                    self.of(["10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24", "10.0.0.0/8", "10.1.0.0/25"]);
                let metadata = format!("metadata: {{labels: {{rack: '{}'}}, name", self.below(2));
                let node =
                    node(self.of(["n0", "n1", "n2", "n3"]), range).replace("metadata: {name", &metadata);
                let address = self.of(["", "192.0.2.11", "192.0.2.12", "192.0.2.1"]);
                if address.is_empty() { node } else { at_address(&node, address) }
            }
            4..=6 => {
                let peers: Vec<String> = (0..=self.below(2)).map(|number| self.peer(number)).collect();
                overrides(self.of(["n0", "n1", "n2", "n3"]), &peers.join(", "))
            }
            7 => {
                let seconds = self.of(["2", "9", "30", "90"]);
                ours("BGPPeerConfig", self.of(["t0", "t1"]), &format!("{{holdTimeSeconds: {seconds}}}"))
            }
            _ => {
                let selector = self.of(["", "rack: '0'", "rack: '1'"]);
                let peer = self.peer(9);
                let spec = format!("{{nodeSelector: {{matchLabels: {{{selector}}}}}, peers: [{peer}]}}");
                ours("BGPClusterConfig", self.of(["c0", "c1"]), &spec)
            }
        }
    }

    fn peer(&mut self, number: usize) -> String {
        let options = self.of(["", ", peerConfig: t0", ", peerConfig: t1"]);
        let last = self.of(["1", "11", "100", "101"]);
        let asn = 1 + self.below(2);
        format!("{{name: p{number}, address: 192.0.2.{last}, asn: {asn}{options}}}")
    }

    fn text(&mut self) -> String {
        match self.below(12) {
            0 => "kind: [".to_owned(),
            1 => String::new(),
            2 => format!("{}---\nkind: [", self.document()),
            _ => (0..=self.below(3)).map(|_| self.document()).collect::<Vec<_>>().join("---\n"),
        }
    }
}

/// The folder, and what is in it.
struct Desk {
    recorded: Recorded,
    files: BTreeMap<String, String>,
}

impl Desk {
    fn edit(&mut self, random: &mut Random) {
        let file = format!("f{}.yaml", random.below(6));
        match random.below(6) {
            0 => self.write(&file, None),
            5 => self.move_into_a_fault(random, &file),
            1 => {
                let text = self.files.get(&file).cloned();
                self.write(&file, None);
                self.write(&format!("f{}.yaml", random.below(8)), text);
            }
            _ => self.write(&file, Some(random.text())),
        }
    }

    /// As an editor does who has both files open.
    fn move_into_a_fault(&mut self, random: &mut Random, file: &str) {
        let Some(text) = self.files.get(file).cloned() else { return };
        self.write(file, None);
        let into = format!("f{}.yaml", random.below(8));
        let there = self.files.get(&into).map(|there| format!("{there}---\n")).unwrap_or_default();
        let broken = match random.below(2) {
            0 => text.replacen("asn: 1", "asn: 0", 1),
            _ => format!("{text}---\nkind: ["),
        };
        self.write(&into, Some(there + &broken));
    }

    fn write(&mut self, file: &str, text: Option<String>) {
        let path = self.recorded.edited.temporary.path().join(file);
        match text {
            Some(text) => {
                fs::write(path, &text).expect("own folder");
                self.files.insert(file.to_owned(), text);
            }
            None if self.files.remove(file).is_some() => fs::remove_file(path).expect("own folder"),
            None => {}
        }
    }

    fn folder(&self) -> &Folder {
        &self.recorded.edited.folder
    }

    /// Whatever does not count as it is written has a problem that begins with its name.
    fn assert_all_is_named(&self, view: &View, told: &str) {
        let is_named =
            |file: &str| view.fabric.problems.iter().any(|problem| problem.place.starts_with(file));
        for (file, text) in &self.files {
            let counts = self.folder().documents.taken.get(&**file).map(|taken| &taken.manifest);
            let is_written = counts == Some(&Manifest::decode(file, text));
            assert!(is_written || is_named(file) || self.files.is_empty(), "{file}: {told}");
        }
        for file in self.folder().documents.taken.keys().filter(|file| !self.files.contains_key(&***file)) {
            assert!(is_named(file) || self.files.is_empty(), "{file} is gone: {told}");
        }
    }
}

#[test]
fn whatever_is_edited_is_named_or_counts_and_stays_so() {
    for seed in 0..60 {
        let mut random = Random(seed * 7919 + 1);
        let mut desk = Desk { recorded: Recorded::of("n9", Edited::new(&[])), files: BTreeMap::new() };
        for number in 0..5 {
            let document = random.document();
            desk.write(&format!("f{number}.yaml"), Some(document));
        }
        let mut before = desk.recorded.edited.view();
        for step in 0..8 {
            let (files_before, taken_before) = (desk.files.clone(), desk.folder().documents.taken.clone());
            let held = desk.folder().documents.claims.clone();
            (0..=random.below(2)).for_each(|_| desk.edit(&mut random));
            let view = desk.recorded.edited.view();
            let told = format!("seed {seed}, step {step}: {:#?}\n{:#?}", problems(&view), desk.files);
            assert_eq!(desk.recorded.edited.view(), view, "the second look finds the same; {told}");
            if !view.fabric.unknown.is_empty() {
                continue;
            }
            desk.assert_all_is_named(&view, &told);
            let is_untouched = |file: &str| {
                let counted = taken_before.get(file).and_then(|taken| taken.text());
                let written = [files_before.get(file), desk.files.get(file)];
                counted.is_some() && written == [counted.as_ref(); 2]
            };
            for (file, counted) in taken_before.iter().filter(|(file, _)| is_untouched(file)) {
                assert_eq!(
                    desk.folder().documents.taken.get(file),
                    Some(counted),
                    "{file} was not touched; {told}"
                );
            }
            for (name, Shown { place, says }) in &before.fabric.nodes {
                if place.split(',').next().is_some_and(is_untouched) {
                    let now = &view.fabric.nodes[name].says;
                    let keeps_all = says.pod_ranges.iter().all(|range| now.pod_ranges.contains(range))
                        && says.addresses.values().all(|own| now.addresses.values().any(|now| now == own));
                    assert!(keeps_all, "{place} was not touched; {told}");
                }
            }
            let now: BTreeMap<_, _> = desk.folder().documents.claims.objects().collect();
            for (claimant, file) in held.objects() {
                let is_faulty = |file: &str| {
                    desk.folder()
                        .documents
                        .taken
                        .get(file)
                        .is_some_and(|counts| !counts.manifest.faults.is_empty())
                };
                let hides = |(file, text): (&String, &String)| Manifest::decode(file, text).hides(claimant.0);
                match now.get(claimant) {
                    Some(shows) => assert!(*shows == file || !is_faulty(shows), "{claimant:?} moved; {told}"),
                    None => assert!(!desk.files.iter().any(hides), "{claimant:?} was lost; {told}"),
                }
            }
            let anew = desk.recorded.view_of_a_new_daemon();
            assert_eq!(
                without_problems(&anew),
                without_problems(&view),
                "a new daemon does the same; {told}"
            );
            assert_eq!(anew, view, "a new daemon says the same; {told}");
            before = view;
        }
        for file in desk.files.clone().into_keys().filter(|file| file != "f0.yaml") {
            desk.write(&file, None);
        }
        desk.write("f0.yaml", Some(node("n0", "10.1.0.0/24")));
        let mended = desk.recorded.edited.view();
        let fresh = Folder::new(desk.recorded.edited.temporary.path().to_owned(), "n9").view();
        assert_eq!(mended, fresh, "seed {seed}: mended");
    }
}
