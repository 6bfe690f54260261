//! An object of which nearly all is kept, as the text that it is.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// The JSON of an object, without spaces. As a tree of values a Node takes some 6 KB, as text a tenth, and there are
/// thousands of which hardly one is ever looked at: who does parses it. A clone is cheap. Two are the same if they say
/// the same with their fields in the same order.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Arc<str>);

impl Json {
    /// Of a tree.
    pub fn new(value: &Value) -> Json {
        Json(value.to_string().into())
    }

    /// The tree, parsed with each call.
    pub fn value(&self) -> Value {
        // It was written from one.
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value()["kind"].as_str() {
            Some("Secret") => f.write_str("what a Secret says"),
            _ => f.write_str(&self.0),
        }
    }
}
