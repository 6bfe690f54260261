//! How objects are shown to one client: in the version of the path, and whole, as metadata only, or as a table
//! (Kubernetes API concepts, "Alternate representations of resources").

use std::borrow::Cow;
use std::sync::Arc;

use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::kind::{Kind, empty_fields};
use crate::store::{Object, encode};
use crate::{convert, table};

/// What the client asked for by path and by `Accept`.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    pub(crate) kind: Arc<Kind>,
    pub(crate) version: String,
    pub(crate) shape: Shape,
}

/// Which part of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Whole,
    /// `PartialObjectMetadata`.
    Metadata,
    /// `Table`.
    Table,
}

const META: &str = "meta.k8s.io/v1";

impl Form {
    /// Reads `Accept`: the first alternative that this server knows counts.
    pub(crate) fn new(kind: Arc<Kind>, version: &str, accept: &str) -> Form {
        let shape_of = |alternative: &str| {
            let mut parameters = alternative.split(';').map(str::trim);
            if !matches!(parameters.next()?, "application/json" | "*/*" | "application/*") {
                return None;
            }
            match parameters.find_map(|parameter| parameter.strip_prefix("as=")) {
                None => Some(Shape::Whole),
                Some("Table") => Some(Shape::Table),
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Some(Shape::Metadata),
                Some(_) => None,
            }
        };
        let shape = accept.split(',').find_map(shape_of).unwrap_or(Shape::Whole);
        Form { kind, version: version.to_owned(), shape }
    }

    /// Whether objects are shown as they are kept.
    pub(crate) fn is_as_stored(&self) -> bool {
        self.shape == Shape::Whole && self.kind.shows.is_none() && self.kind.stored_version() == self.version
    }

    /// One object, as a GET answers it and as a watch shows it.
    pub(crate) fn object(&self, object: &Object) -> Bytes {
        if self.is_as_stored() { object.bytes() } else { self.value(object.value()) }
    }

    /// The same, of a parsed one.
    pub(crate) fn value(&self, stored: Value) -> Bytes {
        let served = convert::served(&self.kind, &self.version, stored);
        match self.shape {
            Shape::Whole => encode(&served, self.kind.is_custom).0,
            Shape::Metadata => text(&partial(served)),
            Shape::Table => {
                let metadata = json!({"resourceVersion": served["metadata"]["resourceVersion"]});
                text(&self.table(&metadata, &[served]))
            }
        }
    }

    /// An item of a list.
    pub(crate) fn item<'a>(&self, object: &'a Object) -> Cow<'a, [u8]> {
        match (self.is_as_stored(), self.kind.is_custom) {
            (true, true) => Cow::Borrowed(object.octets()),
            // Go's lists of built-in types leave kind and apiVersion of items empty.
            (true, false) => Cow::Owned([b"{", object.fields()].concat()),
            (false, _) => {
                let mut served = convert::served(&self.kind, &self.version, object.value());
                if self.shape == Shape::Metadata {
                    return Cow::Owned(text(&partial(served)).to_vec());
                }
                if !self.kind.is_custom
                    && let Some(fields) = served.as_object_mut()
                {
                    fields.retain(|name, _| name != "kind" && name != "apiVersion");
                }
                Cow::Owned(text(&served).to_vec())
            }
        }
    }

    /// What comes before and after the items of a list with this metadata.
    pub(crate) fn list_frame(&self, metadata: &Value) -> (String, String) {
        let api_version = self.kind.api_version(&self.version);
        let (kind, api_version) = match self.shape {
            Shape::Metadata => ("PartialObjectMetadataList", META),
            _ => (self.kind.list_kind.as_str(), api_version.as_str()),
        };
        match self.kind.is_custom && self.shape == Shape::Whole {
            // As a Go map: by name, so that the version comes last.
            true => (
                format!("{{\"apiVersion\":{},\"items\":[", json!(api_version)),
                format!("],\"kind\":{},\"metadata\":{metadata}}}\n", json!(kind)),
            ),
            false => (
                format!(
                    "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{metadata},\"items\":[",
                    json!(kind),
                    json!(api_version)
                ),
                "]}\n".to_owned(),
            ),
        }
    }

    /// Objects as a table.
    pub(crate) fn table(&self, metadata: &Value, objects: &[Value]) -> Value {
        let (columns, rows) = table::render(&self.kind, &self.version, objects);
        json!({"kind": "Table", "apiVersion": META, "metadata": metadata,
            "columnDefinitions": columns, "rows": rows})
    }

    /// The object of a bookmark: empty but for its version.
    pub(crate) fn bookmark(&self, version: u64, annotation: Option<&str>) -> String {
        let api_version = self.kind.api_version(&self.version);
        let (kind, api_version, empty) = match self.shape {
            Shape::Whole => (self.kind.kind.as_str(), api_version.as_str(), empty_fields(&self.kind)),
            Shape::Metadata => ("PartialObjectMetadata", META, ""),
            Shape::Table => ("Table", META, ",\"columnDefinitions\":null,\"rows\":[]"),
        };
        let annotations = match annotation {
            Some(name) => format!(",\"annotations\":{{{}:\"true\"}}", json!(name)),
            None => String::new(),
        };
        let metadata =
            format!("{{\"resourceVersion\":\"{version}\",\"creationTimestamp\":null{annotations}}}");
        format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata}{empty}}}")
    }
}

fn partial(served: Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": META, "metadata": served["metadata"]})
}

fn text(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(accept: &str) -> Shape {
        let kind = Arc::new(Kind::built_in().swap_remove(0));
        Form::new(kind, "v1", accept).shape
    }

    #[test]
    fn the_first_alternative_that_is_known_counts() {
        assert_eq!(shape(""), Shape::Whole);
        assert_eq!(shape("application/json"), Shape::Whole);
        let kubectl =
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io";
        assert_eq!(shape(kubectl), Shape::Table);
        assert_eq!(
            shape("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
            Shape::Metadata
        );
        assert_eq!(shape("application/vnd.kubernetes.protobuf;as=Table, application/json"), Shape::Whole);
    }
}
