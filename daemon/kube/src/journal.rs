//! What is known of one kind, in a file of its own on the disk: a daemon that is started while the API server is away
//! works from it.
//!
//! ```text
//! {"format":1,"node":"node-1","kind":"Node","server":"0fe1…"}          what it is, and whose
//! {"put":{"name":"node-1","uid":"…","version":"812","created":1767225600,"says":{"document":{…}}}}
//! {"gone":{"name":"node-2"}}
//! {"version":"815"}                                                     up to here all is known
//! ```
//!
//! Changes are appended as they come, and the file is written anew (aside, to the disk, and moved into place) when what
//! was appended has grown to what it began with, or when the version goes back, as of a server that was restored from a
//! backup and is believed: the higher one must not be held against it by the next run. A last line that was cut off is dropped: what is before it is a state
//! that was. Appending is not waited for to reach the disk: after a loss of power the file may say less than was known,
//! or have zeros where something was appended. What stands up to the last `version` before a line that cannot be read is
//! used, as it is what was written anew, to the disk, at least; the highest version of all that can be read says how old
//! a server's answer may be. The server is asked anyway.
//!
//! **Versions.** A file of an older format is read. One of a newer format was written by a later release before
//! somebody went back to this one: it is moved aside as `Pod.format-2.jsonl` and not used; the later release finds the
//! file of this one, which it reads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cambric_policy::atoms;
use cambric_policy::change::Key;
use cambric_policy::pod::Uid;
use serde::{Deserialize, Serialize};

use crate::cache::{Known, raise};
use crate::kinds::Kind;
use crate::shared::Shared;
use crate::version::Version;
use crate::wire::{Says, Written};

/// Of what is written here.
const FORMAT: u32 = 1;
/// A file is not written anew before so many octets were appended.
const FEW_OCTETS: u64 = 64 << 10;
/// No line is longer: the API server takes no object above 3 MiB.
const MOST_OCTETS: u64 = 16 << 20;

/// The file of one kind.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    node: String,
    kind: Kind,
    /// `None`: what is in the file is nothing to append to.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    about: About,
    /// What it says last.
    version: Version,
    /// Octets it began with, and that were appended since.
    begun: u64,
    appended: u64,
}

/// What the first line says beside format, node and kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    /// The uid of the namespace kube-system, which tells a cluster from another.
    pub(crate) server: Option<String>,
    /// In seconds since 1970: the server does not stream lists, and need not be asked again before then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) paged_until: Option<u64>,
}

/// What a file says.
#[derive(Debug, PartialEq)]
pub(crate) struct State {
    pub(crate) about: About,
    pub(crate) version: Version,
    /// The highest version it names.
    pub(crate) seen: Version,
    pub(crate) objects: Shared<Key, Known<Says>>,
    /// Why what comes after that version is not used, if something does, in words.
    pub(crate) torn: Option<String>,
}

/// What was found at a start.
#[derive(Debug, PartialEq)]
pub(crate) enum Found {
    Nothing,
    State(State),
    /// Why it is not used, in words.
    Unusable(String),
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    node: String,
    kind: String,
    #[serde(flatten)]
    about: About,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Put(Put),
    Gone(Name),
    Version(String),
}

/// The same, read.
enum Change {
    Object(Key, Option<Known<Says>>),
    Version(Version),
}

#[derive(Serialize, Deserialize)]
struct Name {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct Put {
    #[serde(flatten)]
    of: Name,
    uid: Option<String>,
    version: String,
    created: Option<i64>,
    says: Written,
}

/// What is to be kept.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) about: About,
    /// Up to here all of it is known.
    pub(crate) version: Version,
    /// Objects that changed since the last update.
    pub(crate) changed: Vec<Key>,
    pub(crate) objects: Shared<Key, Known<Says>>,
}

impl Journal {
    /// The file of a kind below `folder`, with what it says. Blocks on the disk.
    pub(crate) fn read(folder: &Path, node: &str, kind: Kind) -> (Journal, Found) {
        let path = folder.join(format!("{kind}.jsonl"));
        let journal = Journal { path, node: node.to_owned(), kind, open: None };
        let found = match File::open(&journal.path) {
            Ok(file) => journal.found(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
            Err(error) => journal.unusable(format!("cannot be read: {error}")),
        };
        (journal, found)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes changes over. After a failure all is written anew. Blocks on the disk.
    pub(crate) fn keep(&mut self, update: &Update) -> io::Result<()> {
        let is_appended = match &mut self.open {
            Some(open) if open.takes(update) => open.append(update).map(|()| true),
            _ => Ok(false),
        };
        if matches!(is_appended, Ok(true)) {
            return Ok(());
        }
        self.open = None;
        is_appended?;
        self.open = Some(self.write_anew(update)?);
        Ok(())
    }

    fn unusable(&self, what: String) -> Found {
        Found::Unusable(format!("{}: {what}; it is not used", self.path.display()))
    }

    fn found(&self, file: File) -> Found {
        let mut lines = Lines(BufReader::new(file));
        let header = match lines.next() {
            Ok(Some(line)) => line,
            Ok(None) => return self.unusable("has no first line".to_owned()),
            Err(error) => return self.unusable(format!("cannot be read: {error}")),
        };
        // What a newer format has beside that is not looked at.
        let header: Header = match serde_json::from_slice(&header) {
            Ok(header) => header,
            Err(error) => return self.unusable(format!("the first line is none: {error}")),
        };
        let Header { format, node, kind, about } = header;
        if format > FORMAT {
            return self.put_aside(format);
        }
        if node != self.node || kind != self.kind.name() {
            return self.unusable(format!(
                "is of {kind} as node {node} knew it, not of {} and node {}",
                self.kind, self.node
            ));
        }
        match self.state(about, lines) {
            Ok(Some(state)) => Found::State(state),
            // Cut off before there was a whole state: a crash in the first seconds.
            Ok(None) => Found::Nothing,
            Err(what) => self.unusable(what),
        }
    }

    fn put_aside(&self, format: u32) -> Found {
        let aside = self.path.with_file_name(format!("{}.format-{format}.jsonl", self.kind));
        let moved = match fs::rename(&self.path, &aside) {
            Ok(()) => format!("is kept as {}", aside.display()),
            Err(error) => format!("cannot be moved aside: {error}"),
        };
        self.unusable(format!("is of format {format}, of a later release, this one writes {FORMAT}; {moved}"))
    }

    fn state(&self, about: About, mut lines: Lines) -> Result<Option<State>, String> {
        let mut objects = Shared::default();
        let (mut version, mut seen, mut torn) = (None, None, None);
        let mut unsettled = Vec::new();
        for number in 2.. {
            match self.change(&mut lines) {
                Ok(Some(Change::Object(key, known))) => {
                    if let Some(known) = &known {
                        raise(&mut seen, &known.version);
                    }
                    unsettled.push((key, known));
                }
                Ok(Some(Change::Version(reached))) => {
                    raise(&mut seen, &reached);
                    version = Some(reached);
                    apply(&mut objects, &mut unsettled);
                }
                Ok(None) => {
                    apply(&mut objects, &mut unsettled);
                    break;
                }
                Err(what) if version.is_none() => return Err(format!("line {number}: {what}")),
                Err(what) => {
                    torn = Some(format!(
                        "{}: line {number}: {what}; what is before it is used",
                        self.path.display()
                    ));
                    break;
                }
            }
        }
        Ok(version.zip(seen).map(|(version, seen)| State { about, version, seen, objects, torn }))
    }

    /// What the next line says; `None`: there is no other.
    fn change(&self, lines: &mut Lines) -> Result<Option<Change>, String> {
        let Some(line) = lines.next().map_err(|error| error.to_string())? else { return Ok(None) };
        let change = match serde_json::from_slice(&line).map_err(|error| error.to_string())? {
            Line::Put(put) => {
                let key = put.of.key();
                let says = put.says.read(self.kind, &put.of.name);
                let says = says.ok_or_else(|| format!("{key} is no {}", self.kind))?;
                let (uid, version) = (put.uid.as_deref().and_then(Uid::new), Version::new(&put.version));
                Change::Object(key, Some(Known { uid, version, created: put.created, says }))
            }
            Line::Gone(name) => Change::Object(name.key(), None),
            Line::Version(reached) => Change::Version(Version::new(&reached)),
        };
        Ok(Some(change))
    }

    fn write_anew(&self, update: &Update) -> io::Result<Open> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let temporary = self.path.with_extension("jsonl.tmp");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let written = self.write_all(update, file);
        if written.is_err() {
            // What is half written takes the room that is missing.
            _ = fs::remove_file(&temporary);
        }
        let (file, begun) = written?;
        fs::rename(&temporary, &self.path)?;
        File::open(folder)?.sync_all()?;
        let (about, version) = (update.about.clone(), update.version.clone());
        Ok(Open { file, about, version, begun, appended: 0 })
    }

    fn write_all(&self, update: &Update, file: File) -> io::Result<(File, u64)> {
        let mut writer = Counted { inner: BufWriter::new(file), octets: 0 };
        let (node, kind) = (self.node.clone(), self.kind.name().to_owned());
        writer.line(&Header { format: FORMAT, node, kind, about: update.about.clone() })?;
        for (key, known) in update.objects.iter() {
            writer.line(&put(key, known))?;
        }
        writer.line(&Line::Version(update.version.to_string()))?;
        let file = writer.inner.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok((file, writer.octets))
    }
}

impl Open {
    /// Whether that is something to append.
    fn takes(&self, update: &Update) -> bool {
        self.about == update.about
            && !update.version.is_older_than(&self.version)
            && self.appended <= self.begun.max(FEW_OCTETS)
    }

    /// In one write: as good as whole or not at all, if the process ends meanwhile.
    fn append(&mut self, update: &Update) -> io::Result<()> {
        let mut writer = Counted { inner: Vec::new(), octets: 0 };
        for key in &update.changed {
            match update.objects.get(key) {
                Some(known) => writer.line(&put(key, known))?,
                None => writer.line(&Line::Gone(Name::of(key)))?,
            }
        }
        writer.line(&Line::Version(update.version.to_string()))?;
        self.appended += writer.octets;
        self.version = update.version.clone();
        self.file.write_all(&writer.inner)
    }
}

impl Name {
    fn of(key: &Key) -> Name {
        let namespace = Some(key.namespace.to_string()).filter(|namespace| !namespace.is_empty());
        Name { namespace, name: key.name.to_string() }
    }

    fn key(&self) -> Key {
        let namespace = atoms::text(self.namespace.as_deref().unwrap_or_default());
        Key { namespace, name: self.name.as_str().into() }
    }
}

fn apply(objects: &mut Shared<Key, Known<Says>>, changes: &mut Vec<(Key, Option<Known<Says>>)>) {
    for (key, known) in changes.drain(..) {
        match known {
            Some(known) => _ = objects.insert(key, known),
            None => _ = objects.remove(&key),
        }
    }
}

fn put(key: &Key, known: &Known<Says>) -> Line {
    Line::Put(Put {
        of: Name::of(key),
        uid: known.uid.as_ref().map(Uid::to_string),
        version: known.version.to_string(),
        created: known.created,
        says: known.says.written(),
    })
}

struct Counted<W> {
    inner: W,
    octets: u64,
}

impl<W: Write> Counted<W> {
    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.octets += text.len() as u64;
        self.inner.write_all(&text)
    }
}

/// Those that are whole: what has no end is dropped.
struct Lines(BufReader<File>);

impl Lines {
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        io::Read::take(&mut self.0, MOST_OCTETS).read_until(b'\n', &mut line)?;
        match line.pop() {
            Some(b'\n') => Ok(Some(line)),
            Some(_) if line.len() as u64 + 1 == MOST_OCTETS => Err(io::Error::other("too long")),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
