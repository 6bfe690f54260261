//! What a request's path and query ask for.
//!
//! Kubernetes API concepts, "Resource URIs": `/api/v1/...` is the core group, `/apis/GROUP/VERSION/...` every other;
//! `namespaces/NAMESPACE` before the resource says where it is.

use crate::kind::{Key, Resource};

/// What a path of a resource names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Group and plural.
    pub resource: Resource,
    /// `v1`.
    pub version: String,
    /// `None`: all namespaces, or a resource that is in none.
    pub namespace: Option<String>,
    /// `None`: the collection.
    pub name: Option<String>,
    /// `status`.
    pub subresource: Option<String>,
}

impl Target {
    /// Reads a path. `None`: it is not of a resource (discovery, health), or of nothing.
    pub fn read(path: &str) -> Option<Target> {
        let decoded: Vec<String> =
            path.trim_matches('/').split('/').map(|part| decode(part, Plus::Stays)).collect();
        let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            // The path of a namespace itself, and of its subresources.
            ["namespaces"] | ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => (None, rest),
            ["namespaces", namespace, rest @ ..] => (Some((*namespace).to_owned()), rest),
            rest => (None, rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, None, None),
            [plural, name] => (*plural, Some(*name), None),
            [plural, name, subresource] => (*plural, Some(*name), Some(*subresource)),
            _ => return None,
        };
        if plural.is_empty() {
            return None;
        }
        Some(Target {
            resource: Resource::new(group, plural),
            version: version.to_owned(),
            namespace,
            name: name.map(str::to_owned),
            subresource: subresource.map(str::to_owned),
        })
    }

    /// The key of the object that is named; a collection has none.
    pub fn key(&self) -> Option<Key> {
        Some(Key::new(self.namespace.as_deref().unwrap_or_default(), self.name.as_deref()?))
    }
}

/// The part of a URI after the question mark.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=b&c=d`.
    pub fn read(text: &str) -> Query {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name, Plus::IsSpace), decode(value, Plus::IsSpace))
        });
        Query(pairs.collect())
    }

    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
    }

    /// The first value of that name unless it is empty: for most parameters empty means absent.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// A parameter without a value, or with any but `false` and `0`, is set: so Go's query conversion reads it.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| !(value == "0" || value.eq_ignore_ascii_case("false")))
    }

    /// All of them.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    IsSpace,
    Stays,
}

/// Percent-decoding (RFC 3986 section 2.1). What is not valid stays as it is.
fn decode(text: &str, plus: Plus) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                out.push(hex(*high).unwrap_or_default() << 4 | hex(*low).unwrap_or_default());
                rest = after;
            }
            (b'+', _) if plus == Plus::IsSpace => {
                out.push(b' ');
                rest = tail;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str) -> String {
        let Some(target) = Target::read(path) else { return "none".to_owned() };
        let part = |part: Option<String>| part.unwrap_or_else(|| "-".to_owned());
        let (namespace, name) = (part(target.namespace), part(target.name));
        format!("{} {} {namespace} {name} {}", target.resource, target.version, part(target.subresource))
    }

    #[test]
    fn paths_name_group_version_namespace_name_and_subresource() {
        let cases = [
            ("/api/v1/nodes", "nodes v1 - - -"),
            ("/api/v1/nodes/n1/status", "nodes v1 - n1 status"),
            ("/api/v1/namespaces", "namespaces v1 - - -"),
            ("/api/v1/namespaces/a", "namespaces v1 - a -"),
            ("/api/v1/namespaces/a/status", "namespaces v1 - a status"),
            ("/api/v1/namespaces/a/pods", "pods v1 a - -"),
            ("/api/v1/namespaces/a/pods/web/status", "pods v1 a web status"),
            ("/apis/cambric.dev/v1alpha1/bgppeerconfigs/x", "bgppeerconfigs.cambric.dev v1alpha1 - x -"),
            ("/apis/a.b/v1/namespaces/n/things/x%2Fy", "things.a.b v1 n x/y -"),
            ("/api", "none"),
            ("/api/v1", "none"),
            ("/apis/apps/v1", "none"),
            ("/version", "none"),
        ];
        for (path, expected) in cases {
            assert_eq!(told(path), expected, "{path}");
        }
    }

    #[test]
    fn queries_are_decoded_and_flags_read_as_go_reads_them() {
        let query =
            Query::read("labelSelector=app%3Dweb%2Ctier+in+%28a%29&watch&allowWatchBookmarks=1&x=False&y=0");
        assert_eq!(query.get("labelSelector"), Some("app=web,tier in (a)"));
        let flags = ["watch", "allowWatchBookmarks", "x", "y", "z"].map(|name| query.flag(name));
        assert_eq!(flags, [Some(true), Some(true), Some(false), Some(false), None]);
    }

    #[test]
    fn what_is_no_escape_stays() {
        assert_eq!(decode("100%+%zz%4", Plus::Stays), "100%+%zz%4");
    }
}
