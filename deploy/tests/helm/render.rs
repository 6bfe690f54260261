//! As much of Helm's templates (Go's `text/template`) as the chart uses, and nothing that it would pass over: texts of
//! values, `quote`, `toYaml`, `nindent`, `if` and `if ne`. Anything else is an error, so that the chart stays in what
//! is checked here.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// What a template becomes with these `Values`, `Release` and `Chart`.
///
/// # Errors
/// An action that is not known here, or a value that is not there.
pub(crate) fn render(template: &str, values: &Value) -> Result<String> {
    let mut out = String::new();
    // Whether what is within each open `if` is shown.
    let mut shown: Vec<bool> = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, after) = after.split_once("}}").context("an action without an end")?;
        let (trims_before, action) = trimmed(action.strip_prefix('-'), action);
        let (trims_after, action) = trimmed(action.strip_suffix('-'), action);
        let is_shown = shown.iter().all(|shown| *shown);
        if is_shown {
            out.push_str(if trims_before { before.trim_end() } else { before });
        }
        rest = if trims_after { after.trim_start() } else { after };
        let action = action.trim();
        if action.starts_with("/*") && action.ends_with("*/") {
        } else if let Some(condition) = action.strip_prefix("if ") {
            shown.push(is_true(condition, values)?);
        } else if action == "end" {
            shown.pop().context("`end` without `if`")?;
        } else if is_shown {
            out.push_str(&evaluate(action, values).with_context(|| format!("in {{{{ {action} }}}}"))?);
        }
    }
    ensure!(shown.is_empty(), "an `if` without `end`");
    out.push_str(rest);
    Ok(out)
}

fn trimmed<'a>(without: Option<&'a str>, with: &'a str) -> (bool, &'a str) {
    without.map_or((false, with), |without| (true, without))
}

fn is_true(condition: &str, values: &Value) -> Result<bool> {
    let words: Vec<&str> = condition.split_whitespace().collect();
    match words.as_slice() {
        [path] => Ok(match value(path, values)? {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::Bool(true) => true,
        }),
        ["ne", path, literal] => {
            let literal: String = serde_json::from_str(literal).context("a text in quotes")?;
            // Of another type, Go's template would fail: so does this.
            let is = value(path, values)?.as_str().with_context(|| format!("{path} is no text"))?;
            Ok(is != literal)
        }
        _ => bail!("no condition that is known here: {condition}"),
    }
}

fn evaluate(action: &str, values: &Value) -> Result<String> {
    let mut steps = action.split('|').map(|step| step.split_whitespace().collect::<Vec<&str>>());
    let first = steps.next().unwrap_or_default();
    let mut text = match first.as_slice() {
        [path] => match value(path, values)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            other => bail!("{other} is no text"),
        },
        ["toYaml", path] => serde_yaml_ng::to_string(value(path, values)?)?.trim_end().to_owned(),
        _ => bail!("no value that is known here"),
    };
    for step in steps {
        text = match step.as_slice() {
            ["quote"] => Value::from(text).to_string(),
            ["nindent", width] => {
                let indent = " ".repeat(width.parse().context("a width")?);
                let lines: Vec<String> = text.lines().map(|line| format!("\n{indent}{line}")).collect();
                lines.concat()
            }
            other => bail!("no function that is known here: {other:?}"),
        };
    }
    Ok(text)
}

fn value<'a>(path: &str, values: &'a Value) -> Result<&'a Value> {
    let names = path.strip_prefix('.').with_context(|| format!("{path} is no path"))?;
    let found = names.split('.').try_fold(values, |value, name| value.get(name));
    found.with_context(|| format!("nobody says {path}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn white_space_goes_where_a_dash_says_so() {
        let values = json!({"Values": {"a": "x", "none": "", "list": ["p", {"q": 1}]}});
        let cases = [
            ("a: {{ .Values.a }}\n", "a: x\n"),
            ("a\n  {{- if .Values.a }}\n  b\n  {{- end }}\nc\n", "a\n  b\nc\n"),
            ("a\n  {{- if .Values.none }}\n  b: {{ .Values.unknown }}\n  {{- end }}\nc\n", "a\nc\n"),
            ("{{- /* why */ -}}\na: {{ .Values.a | quote }}", "a: \"x\""),
            ("l:\n  {{- toYaml .Values.list | nindent 2 }}\n", "l:\n  - p\n  - q: 1\n"),
            ("{{ if ne .Values.a \"x\" }}b{{ end }}c", "c"),
        ];
        for (template, expected) in cases {
            assert_eq!(render(template, &values).expect(template), expected);
        }
    }

    #[test]
    fn what_is_not_known_here_is_an_error() {
        let values = json!({"Values": {"a": "x", "truth": true}});
        for template in [
            "{{ .Values.b }}",
            "{{ include \"x\" . }}",
            "{{ .Values.a | upper }}",
            "{{ if .Values.a }}",
            "{{ end }}",
            "{{ if ne .Values.truth \"x\" }}{{ end }}",
            "{{ if or .Values.a .Values.b }}{{ end }}",
            "{{ .Values.a",
        ] {
            assert!(render(template, &values).is_err(), "{template}");
        }
    }
}
