//! JSONPath as far as printer columns use it (`k8s.io/client-go/util/jsonpath`): fields, `['field']`, indices, `[*]` and
//! filters that compare one field with a text, as `.status.conditions[?(@.type=="Ready")].status`.

use serde_json::Value;

/// A path that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JsonPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    /// Negative: from the end.
    Index(i64),
    All,
    Filter {
        path: JsonPath,
        is_equal: bool,
        text: String,
    },
}

impl JsonPath {
    /// Reads a path that begins with a dot, as columns have it.
    ///
    /// # Errors
    /// Says what is wrong, in a few words.
    pub(crate) fn parse(text: &str) -> Result<JsonPath, String> {
        if !text.starts_with('.') && !text.starts_with('[') {
            return Err("must be a simple json path starting with .".to_owned());
        }
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(inside) = rest.strip_prefix('[') {
                let end = closing(inside).ok_or("unterminated array")?;
                steps.push(bracket(&inside[..end])?);
                rest = &inside[end + 1..];
            } else if let Some(name) = rest.strip_prefix('.') {
                let (field, after) = field(name);
                rest = after;
                // `.[0]` and a single dot are permitted.
                if !field.is_empty() {
                    steps.push(if field == "*" { Step::All } else { Step::Field(field) });
                }
            } else {
                return Err(format!("unexpected {rest:?}"));
            }
        }
        Ok(JsonPath(steps))
    }

    /// All values the path leads to.
    pub(crate) fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.follow(value)).collect();
        }
        found
    }
}

impl Step {
    fn follow<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let items = || value.as_array().into_iter().flatten();
        match self {
            Step::Field(name) => value.get(name.as_str()).into_iter().collect(),
            Step::Index(index) => {
                let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                let at =
                    if *index < 0 { i64::try_from(items.len()).unwrap_or(i64::MAX) + index } else { *index };
                usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
            }
            Step::All => match value {
                Value::Object(fields) => fields.values().collect(),
                _ => items().collect(),
            },
            Step::Filter { path, is_equal, text } => items()
                .filter(|item| {
                    path.find(item).first().is_some_and(|found| (shown(found) == *text) == *is_equal)
                })
                .collect(),
        }
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Where the bracket ends that was opened before `text`, not counting those in quotes and in nested brackets.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(letter),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

/// A field's name, in which a backslash takes away the meaning of what follows, and the rest.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '.' | '[' => return (name, &text[at..]),
            '\\' => name.extend(letters.next().map(|(_, escaped)| escaped)),
            _ => name.push(letter),
        }
    }
    (name, "")
}

fn unquoted(text: &str) -> Option<&str> {
    ['\'', '"'].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
}

fn bracket(inside: &str) -> Result<Step, String> {
    let inside = inside.trim();
    if inside == "*" {
        return Ok(Step::All);
    }
    if let Some(name) = unquoted(inside) {
        return Ok(Step::Field(name.to_owned()));
    }
    if let Some(filter) = inside.strip_prefix("?(").and_then(|filter| filter.strip_suffix(')')) {
        let (path, is_equal, text) = match (filter.split_once("=="), filter.split_once("!=")) {
            (Some((path, text)), _) => (path, true, text),
            (None, Some((path, text))) => (path, false, text),
            (None, None) => return Err(format!("unrecognized filter {filter:?}")),
        };
        let path = path.trim().strip_prefix('@').ok_or_else(|| format!("unrecognized filter {filter:?}"))?;
        let text = text.trim();
        let text = unquoted(text).unwrap_or(text).to_owned();
        return Ok(Step::Filter { path: JsonPath::parse(path)?, is_equal, text });
    }
    inside.parse().map(Step::Index).map_err(|_| format!("invalid array index {inside}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_of_columns_lead_to_their_values() {
        let object = json!({"metadata": {"labels": {"a.b/c": "x"}}, "spec": {"cidrs": ["1", "2"], "peers": [{"asn": 5}, {"asn": 6}]},
            "status": {"conditions": [{"type": "Accepted", "status": "True"}, {"type": "Ready", "status": "False"}]}});
        let cases = [
            (r#".status.conditions[?(@.type=="Ready")].status"#, json!(["False"])),
            (r#".status.conditions[?(@.type!='Ready')].status"#, json!(["True"])),
            (".spec.peers[*].asn", json!([5, 6])),
            (".spec.peers[1].asn", json!([6])),
            (".spec.peers[-1].asn", json!([6])),
            (".spec.cidrs", json!([["1", "2"]])),
            (r".metadata.labels.a\.b/c", json!(["x"])),
            (".metadata.labels['a.b/c']", json!(["x"])),
            (".spec.nothing.there", json!([])),
        ];
        for (path, expected) in cases {
            let path = JsonPath::parse(path).expect(path);
            assert_eq!(json!(path.find(&object)), expected, "{path:?}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in ["spec", ".spec[", ".spec[x]", ".a[?(@.b)]", ".a[?(b==1)]"] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
    }
}
