//! Cases of malformed and odd messages (`vectors/README.md`): how they stand in files, what a device did with one, and
//! whether that is what the case asks for. For every runner, over whatever the messages travel.
#![allow(dead_code, unreachable_pub, reason = "each runner uses another part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use cambric_bgp::attributes::AsPath;
use cambric_bgp::wire::{Nlri, Update};
use cambric_bgp::{Prefix, session::Session};
use serde::Deserialize;

/// The AS that paths told by the setup of a case end in, and no others.
const OLD: u32 = 64999;

/// Cases of one file.
pub struct Set {
    pub name: String,
    pub cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
pub struct Case {
    pub id: String,
    pub name: String,
    pub phase: Phase,
    pub peer: Side,
    pub caps: Vec<String>,
    pub requires: Vec<String>,
    pub delivery: String,
    pub message: Octets,
    #[serde(default)]
    pub setup: Vec<Octets>,
    pub sentinel: Option<Octets>,
    pub sentinel_prefix: Option<String>,
    pub prefix: Option<String>,
    #[serde(default)]
    pub also_prefixes: Vec<String>,
    pub expect: Expect,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    OpenSent,
    OpenConfirm,
    Established,
}

#[derive(Deserialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Ebgp,
    Ibgp,
}

#[derive(Deserialize)]
pub struct Expect {
    pub action: String,
    pub notification: Option<(u8, u8)>,
    pub alternatives: Vec<String>,
    pub checks: Checks,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Checks {
    pub attr_absent: Vec<u8>,
    pub attr_present: Vec<u8>,
    pub attr_partial: Vec<u8>,
    pub attr_value: BTreeMap<u8, String>,
    pub attr_not_value: BTreeMap<u8, String>,
    pub discard_attrs: Vec<u8>,
    pub prefix_unchanged: bool,
    pub also_present: bool,
    pub also_absent: bool,
    pub skip_prefix: bool,
}

/// Hexadecimal in the file.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub struct Octets(pub Vec<u8>);

impl TryFrom<String> for Octets {
    type Error = std::num::ParseIntError;
    fn try_from(text: String) -> Result<Octets, Self::Error> {
        let octet = |at: usize| u8::from_str_radix(text.get(at..at + 2).unwrap_or("odd"), 16);
        (0..text.len()).step_by(2).map(octet).collect::<Result<_, _>>().map(Octets)
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The two sets that are kept here, and those of the folder that `CAMBRIC_MALFORMED_CASES` names.
pub fn sets() -> Vec<Set> {
    let mut sets = vec![
        Set::of("malformed.json", include_str!("../vectors/malformed.json")),
        Set::of("rules.json", include_str!("../vectors/rules.json")),
    ];
    match std::env::var_os("CAMBRIC_MALFORMED_CASES") {
        Some(folder) => sets.extend(in_folder(Path::new(&folder))),
        None => println!("not run: further cases, which need CAMBRIC_MALFORMED_CASES=FOLDER"),
    }
    sets
}

fn in_folder(folder: &Path) -> Vec<Set> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths: BTreeSet<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    let is_json = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "json");
    let sets: Vec<Set> = paths
        .into_iter()
        .filter(is_json)
        .map(|path| {
            let text =
                std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            Set::of(&path.display().to_string(), &text)
        })
        .collect();
    assert!(!sets.is_empty(), "{}: no file of cases (*.json)", folder.display());
    sets
}

impl Set {
    fn of(name: &str, text: &str) -> Set {
        let read: Vectors = serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        Set { name: name.to_owned(), cases: read.cases }
    }
}

// --- what was told on ------------------------------------------------------------------------------------

/// What a third speaker was told by the device.
#[derive(Debug, Clone, Default)]
pub struct ToldOn(BTreeMap<Prefix, Told>);

/// A route as it was told.
#[derive(Debug, Clone)]
struct Told {
    as_path: AsPath,
    /// Flags and value by type code, as they stood in the message.
    attributes: BTreeMap<u8, (u8, Vec<u8>)>,
}

impl ToldOn {
    /// Takes the body of an UPDATE in. All that the device sends is flawless.
    pub fn update(&mut self, body: &[u8], session: &Session) {
        let update = Update::decode(body, session).expect("the device sends good UPDATEs");
        assert!(update.flaws.is_empty(), "the device sends flawless UPDATEs: {:?}", update.flaws);
        for Nlri { prefix, .. } in &update.withdrawn {
            assert!(self.0.remove(prefix).is_some(), "{prefix} is withdrawn but was never told");
        }
        for announcement in update.announced {
            let told =
                Told { as_path: announcement.attributes.as_path.clone(), attributes: raw_attributes(body) };
            self.0.extend(announcement.routes.iter().map(|route| (route.prefix, told.clone())));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, prefix: &Prefix) -> bool {
        self.0.contains_key(prefix)
    }
}

/// The attribute list of an UPDATE, by hand.
fn raw_attributes(body: &[u8]) -> BTreeMap<u8, (u8, Vec<u8>)> {
    let length_at = |at: usize| usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
    let start = 2 + length_at(0);
    let mut list = &body[start + 2..start + 2 + length_at(start)];
    let mut attributes = BTreeMap::new();
    while let [flags, code, rest @ ..] = list {
        let (length, value) = match flags & 0x10 {
            0 => (usize::from(rest[0]), &rest[1..]),
            _ => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
        };
        attributes.insert(*code, (*flags, value[..length].to_vec()));
        list = &value[length..];
    }
    attributes
}

/// The codes of the capabilities in the body of an OPEN that the device sent, by hand.
pub fn capability_codes(open: &[u8]) -> BTreeSet<u8> {
    let (mut codes, mut rest) = (BTreeSet::new(), &open[10..]);
    assert_ne!(rest.first(), Some(&255), "the device's OPEN is short");
    while let [2, length, behind @ ..] = rest {
        let (mut capabilities, next) = behind.split_at(usize::from(*length));
        while let [code, length, behind @ ..] = capabilities {
            codes.insert(*code);
            capabilities = &behind[usize::from(*length)..];
        }
        rest = next;
    }
    codes
}

impl Case {
    /// What it needs and the device does not offer, by the codes of its capabilities.
    pub fn not_offered(&self, offered: &BTreeSet<u8>) -> Option<&str> {
        let code = |name: &str| match name {
            "mp4" | "mp6" => 1,
            "rr" => 2,
            "extmsg" => 6,
            "as4" => 65,
            "addpath4" => 69,
            "err" => 70,
            other => panic!("capability {other} is not known to the test"),
        };
        self.requires.iter().map(String::as_str).find(|required| !offered.contains(&code(required)))
    }
}

// --- what the device did ---------------------------------------------------------------------------------

/// What the device did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Notification(u8, u8),
    Closed,
    /// The session went on; what became of the route.
    Up(Route),
    /// The message was answered with nothing, and nothing works any more.
    Stuck(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    New,
    /// Without the attributes that the case names.
    NewWithout,
    Unchanged,
    Gone,
    /// There is none to look at.
    None,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Notification(code, subcode) => write!(f, "notification {code}/{subcode}"),
            Outcome::Closed => f.write_str("close"),
            Outcome::Up(route) => write!(f, "up, route {route:?}"),
            Outcome::Stuck(why) => write!(f, "stuck: {why}"),
        }
    }
}

impl Outcome {
    /// Of a session that is still up: by what was told on, and what is installed.
    pub fn while_up(case: &Case, told_on: &ToldOn, is_installed: impl Fn(&Prefix) -> bool) -> Outcome {
        if let Some(sentinel) = &case.sentinel_prefix {
            let sentinel = prefix(sentinel);
            if !told_on.has(&sentinel) || !is_installed(&sentinel) {
                return Outcome::Stuck("the next UPDATE has no effect");
            }
        }
        let Some(looked_up) = case.prefix.as_deref().map(prefix) else { return Outcome::Up(Route::None) };
        let installed = is_installed(&looked_up);
        let named = &case.expect.checks.discard_attrs;
        match told_on.0.get(&looked_up) {
            None if installed => Outcome::Stuck("installed, and not told on"),
            Some(_) if !installed => Outcome::Stuck("told on, and not installed"),
            None => Outcome::Up(Route::Gone),
            Some(told) if told.as_path.asns().last().is_some_and(|asn| asn.value() == OLD) => {
                Outcome::Up(Route::Unchanged)
            }
            Some(told) if named.iter().any(|code| told.attributes.contains_key(code)) => {
                Outcome::Up(Route::New)
            }
            Some(_) if named.is_empty() => Outcome::Up(Route::New),
            Some(_) => Outcome::Up(Route::NewWithout),
        }
    }
}

/// The checks of the case that do not hold.
pub fn failed_checks(case: &Case, told_on: &ToldOn) -> Vec<String> {
    let checks = &case.expect.checks;
    let mut failed = Vec::new();
    let mut check = |holds: bool, what: String| {
        if !holds {
            failed.push(what);
        }
    };
    for also in &case.also_prefixes {
        let present = told_on.has(&prefix(also));
        check(present || !checks.also_present, format!("{also} is absent"));
        check(!present || !checks.also_absent, format!("{also} is present"));
    }
    let Some(told) = case.prefix.as_deref().and_then(|text| told_on.0.get(&prefix(text))) else {
        return failed;
    };
    let value = |code: &u8| told.attributes.get(code).map(|(_, value)| hex(value));
    let partial = |code: &u8| told.attributes.get(code).is_some_and(|(flags, _)| flags & 0x20 != 0);
    for code in &checks.attr_absent {
        check(value(code).is_none(), format!("attribute {code} is present"));
    }
    for code in &checks.attr_present {
        check(value(code).is_some(), format!("attribute {code} is absent"));
    }
    for code in &checks.attr_partial {
        check(partial(code), format!("attribute {code} has no Partial bit"));
    }
    for (code, wanted) in &checks.attr_value {
        check(value(code).as_ref() == Some(wanted), format!("attribute {code} is {:?}", value(code)));
    }
    for (code, refused) in &checks.attr_not_value {
        check(value(code).as_ref() != Some(refused), format!("attribute {code} is {refused}"));
    }
    failed
}

fn prefix(text: &str) -> Prefix {
    text.parse().expect("prefix of a case")
}

// --- the verdict -----------------------------------------------------------------------------------------

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Exact,
    Acceptable(String),
    Wrong(String),
    NotApplicable(String),
}

/// Whether `outcome` is what `action` asks for; `action` is as in the file, with the codes behind
/// "notification".
fn is_answer(action: &str, case: &Case, outcome: &Outcome, failed: &[String]) -> bool {
    let checks = &case.expect.checks;
    let sound = failed.is_empty();
    match (action, outcome) {
        ("accept", Outcome::Up(route)) => {
            let fits = match route {
                Route::New | Route::NewWithout | Route::Gone if checks.skip_prefix => true,
                Route::None => true,
                Route::New => !checks.prefix_unchanged,
                Route::Unchanged => checks.prefix_unchanged || checks.skip_prefix,
                Route::NewWithout | Route::Gone => false,
            };
            fits && sound
        }
        ("accept-installed", Outcome::Up(_)) => true,
        ("treat-as-withdraw", Outcome::Up(route)) => *route == Route::Gone || checks.skip_prefix,
        ("attribute-discard", Outcome::Up(route)) => {
            let named = !checks.discard_attrs.is_empty();
            sound && *route == if named { Route::NewWithout } else { Route::New }
        }
        ("ignore", Outcome::Up(route)) => matches!(route, Route::Unchanged | Route::None) && sound,
        ("close", Outcome::Closed | Outcome::Notification(..)) => true,
        (action, Outcome::Notification(code, subcode)) => action == format!("notification {code}/{subcode}"),
        _ => false,
    }
}

pub fn judge(case: &Case, outcome: &Outcome, failed: &[String]) -> Verdict {
    let action = match case.expect.notification {
        Some((code, subcode)) => format!("notification {code}/{subcode}"),
        None => case.expect.action.clone(),
    };
    if is_answer(&action, case, outcome, failed) {
        return Verdict::Exact;
    }
    let seen = format!("{outcome} {failed:?}, wanted {action}");
    match case.expect.alternatives.iter().any(|action| is_answer(action, case, outcome, failed)) {
        true => Verdict::Acceptable(seen),
        false => Verdict::Wrong(seen),
    }
}

/// The verdicts over a set.
pub struct Score {
    set: String,
    cases: usize,
    exact: usize,
    acceptable: usize,
    not_applicable: usize,
}

impl Score {
    pub fn of(set: &Set) -> Score {
        Score { set: set.name.clone(), cases: set.cases.len(), exact: 0, acceptable: 0, not_applicable: 0 }
    }

    /// Counts it, and prints what is not exact.
    pub fn count(&mut self, case: &Case, verdict: &Verdict) {
        let (counter, what, seen) = match verdict {
            Verdict::Exact => return self.exact += 1,
            Verdict::Acceptable(seen) => (Some(&mut self.acceptable), "acceptable", seen),
            Verdict::NotApplicable(seen) => (Some(&mut self.not_applicable), "not applicable, needs", seen),
            Verdict::Wrong(seen) => (None, "WRONG", seen),
        };
        if let Some(counter) = counter {
            *counter += 1;
        }
        println!("{} {}: {what}: {seen}", case.id, case.name);
    }

    /// Prints the sums.
    ///
    /// # Panics
    /// If a verdict was wrong, or fewer than 95 % of those that apply were exact.
    pub fn close(self) {
        let Score { set, cases, exact, acceptable, not_applicable } = self;
        let applicable = cases - not_applicable;
        let right = exact + acceptable + not_applicable;
        println!(
            "{set}: {right} of {cases} acceptable, {exact} exact, {not_applicable} need what the device does not offer"
        );
        assert_eq!(right, cases, "{set}: see the list above");
        assert!(exact * 100 >= applicable * 95, "{set}: {exact} of {applicable} are exact");
    }
}

// --- damage ----------------------------------------------------------------------------------------------

/// Each octet of a message set to 0, to 255, one up and one down, and the message cut before it. The far end of long
/// messages is sampled.
pub fn damaged(message: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let places = (0..message.len()).filter(|at| *at < 96 || at % 61 == 0);
    places.flat_map(|at| {
        let octet = message[at];
        let values = [0, 255, octet.wrapping_add(1), octet.wrapping_sub(1)];
        let set = values.map(|value| [&message[..at], &[value], &message[at + 1..]].concat());
        set.into_iter().chain([message[..at].to_vec()])
    })
}
