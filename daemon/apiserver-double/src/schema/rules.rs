//! Validation rules in CEL (`x-kubernetes-validations`): whether they compile, and what they say of an object.

use kube_cel::cel::common::ast::{EntryExpr, Expr, IdedExpr};
use kube_cel::{CompilationError, CompiledSchema, ErrorKind, Validator};
use serde_json::{Value, json};

use crate::status::Cause;

const RULES: &str = "x-kubernetes-validations";

/// Whether a schema has any rule.
pub(super) fn are_any(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => fields.contains_key(RULES) || fields.values().any(are_any),
        Value::Array(items) => items.iter().any(are_any),
        _ => false,
    }
}

/// What the rules say of an object that the schema lets through.
pub(super) fn evaluate(
    schema: &Value,
    rules: &CompiledSchema,
    object: &Value,
    old: Option<&Value>,
    causes: &mut Vec<Cause>,
) {
    thread_local! {
        static VALIDATOR: Validator = Validator::new();
    }
    let Err(errors) = VALIDATOR.with(|validator| validator.validate_compiled(rules, object, old)) else {
        return;
    };
    for error in errors.into_vec() {
        let field = if error.field_path.is_empty() { "<nil>".to_owned() } else { error.field_path.clone() };
        let rule_at = error.field_path.trim_start_matches('.').to_owned();
        let of_type =
            schema_at(schema, &rule_at).and_then(|schema| schema["type"].as_str()).unwrap_or("object");
        let of_type = json!(of_type);
        let text = match error.kind {
            ErrorKind::ValidationFailure => error.message.clone(),
            _ => format!("{} evaluating rule: {}", error.message, error.rule),
        };
        causes.push(match error.reason.as_deref() {
            Some("FieldValueForbidden") => Cause::forbidden(field, &text),
            Some("FieldValueRequired") => Cause::required(field, &text),
            Some("FieldValueDuplicate") => {
                Cause::new("FieldValueDuplicate", field, format!("Duplicate value: {of_type}"))
            }
            _ => Cause::invalid(field, &of_type, text),
        });
    }
    // kube-cel walks properties in no order.
    causes.sort_by(|one, other| one.field.cmp(&other.field));
}

/// The schema of the value at a path like `spec.peers[0].asn`.
fn schema_at<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    let parts = path.split(['.', '[']).filter(|part| !part.is_empty());
    parts.into_iter().try_fold(schema, |schema, part| match part.strip_suffix(']') {
        Some(_) => schema.get("items"),
        None => schema["properties"].get(part).or_else(|| schema.get("additionalProperties")),
    })
}

/// Rules that do not compile, or name what is not there. The schema and its compiled form are walked side by side.
pub(super) fn check(schema: &Value, compiled: &CompiledSchema, at: &str, causes: &mut Vec<Cause>) {
    check_at(schema, compiled, at, true, causes);
}

fn check_at(schema: &Value, compiled: &CompiledSchema, at: &str, is_root: bool, causes: &mut Vec<Cause>) {
    for (place, result) in compiled.validations.iter().enumerate() {
        let at = format!("{at}.{RULES}[{place}]");
        let written = &schema[RULES][place];
        match result {
            Ok(rule) => {
                let mut scope = Scope::new(schema, is_root);
                let expression = &rule.program.expression().expr;
                scope.type_of(expression);
                for what in scope.wrong {
                    causes.push(wrong(
                        format!("{at}.rule"),
                        &written["rule"],
                        &format!("compilation failed: ERROR: <input>:1:1: {what}"),
                    ));
                }
            }
            Err(CompilationError::MessageExpressionParse { source, .. }) => {
                let what = format!("messageExpression compilation failed: {source}");
                causes.push(wrong(format!("{at}.messageExpression"), &written["messageExpression"], &what));
            }
            Err(CompilationError::Parse { source, .. }) => {
                causes.push(wrong(
                    format!("{at}.rule"),
                    &written["rule"],
                    &format!("compilation failed: {source}"),
                ));
            }
            Err(other) => causes.push(wrong(format!("{at}.rule"), &written["rule"], &other.to_string())),
        }
        message(written, &at, causes);
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(compiled) = compiled.properties.get(name) {
            check_at(schema, compiled, &format!("{at}.properties[{name}]"), false, causes);
        }
    }
    if let Some(compiled) = &compiled.items {
        check_at(&schema["items"], compiled, &format!("{at}.items"), false, causes);
    }
    if let Some(compiled) = &compiled.additional_properties {
        check_at(
            &schema["additionalProperties"],
            compiled,
            &format!("{at}.additionalProperties"),
            false,
            causes,
        );
    }
}

fn wrong(field: String, rule: &Value, what: &str) -> Cause {
    Cause::invalid(field, rule, what)
}

fn message(written: &Value, at: &str, causes: &mut Vec<Cause>) {
    let Some(message) = written["message"].as_str() else { return };
    let field = format!("{at}.message");
    if message.trim().is_empty() {
        causes.push(Cause::invalid(field, &json!(message), "message must be non-empty if specified"));
    } else if message.contains('\n') {
        causes.push(Cause::invalid(field, &json!(message), "message must not contain line breaks"));
    } else if message.len() > 2048 {
        causes.push(Cause::new("FieldValueTooLong", field, "Too long: may not be more than 2048 bytes"));
    }
}

/// What is known of names and types within a rule: enough to find fields that no schema has. Everything else is of
/// unknown type.
struct Scope<'a> {
    names: Vec<(String, Option<&'a Value>)>,
    root: Option<&'a Value>,
    wrong: Vec<String>,
}

impl<'a> Scope<'a> {
    fn new(schema: &'a Value, is_root: bool) -> Scope<'a> {
        let names = ["self", "oldSelf"].map(|name| (name.to_owned(), Some(schema)));
        Scope { names: names.into(), root: is_root.then_some(schema), wrong: Vec::new() }
    }

    /// The schema of what an expression gives, if it is known.
    fn type_of(&mut self, expression: &Expr) -> Option<&'a Value> {
        match expression {
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => {
                let operand = self.type_of(&select.operand.expr)?;
                self.field(operand, &select.field)
            }
            Expr::Call(call) => {
                let target = call.target.as_ref().map(|target| self.type_of(&target.expr));
                let arguments: Vec<_> =
                    call.args.iter().map(|argument| self.type_of(&argument.expr)).collect();
                match (call.func_name.as_str(), target, arguments.as_slice()) {
                    // An entry of a list or of a map.
                    ("_[_]", None, [Some(list), _]) => element(list),
                    _ => None,
                }
            }
            Expr::Comprehension(comprehension) => {
                let range = self.type_of(&comprehension.iter_range.expr);
                // Over a list its entries, over a map its keys.
                let entry = range.filter(|range| range["type"] == "array").and_then(element);
                let known = self.names.len();
                self.names.push((comprehension.iter_var.clone(), entry));
                self.names.push((comprehension.accu_var.clone(), None));
                if let Some(second) = &comprehension.iter_var2 {
                    self.names.push((second.clone(), None));
                }
                for part in [
                    &comprehension.accu_init,
                    &comprehension.loop_cond,
                    &comprehension.loop_step,
                    &comprehension.result,
                ] {
                    self.type_of(&part.expr);
                }
                self.names.truncate(known);
                None
            }
            Expr::List(list) => self.all(&list.elements),
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.type_of(&entry.key.expr);
                        self.type_of(&entry.value.expr);
                    }
                }
                None
            }
            Expr::Unspecified | Expr::Literal(_) | Expr::Struct(_) => None,
        }
    }

    fn all(&mut self, expressions: &[IdedExpr]) -> Option<&'a Value> {
        for expression in expressions {
            self.type_of(&expression.expr);
        }
        None
    }

    fn name(&mut self, name: &str) -> Option<&'a Value> {
        // Names of libraries and types: `ip.isCanonical`, `math.greatest`, `int`.
        const OF_CEL: [&str; 20] = [
            "base64",
            "bool",
            "bytes",
            "cel",
            "double",
            "dyn",
            "format",
            "google",
            "int",
            "ip",
            "jsonpatch",
            "list",
            "lists",
            "map",
            "math",
            "null_type",
            "optional",
            "sets",
            "string",
            "strings",
        ];
        if let Some((_, schema)) = self.names.iter().rev().find(|(known, _)| known == name) {
            return *schema;
        }
        if !OF_CEL.contains(&name)
            && !["uint", "type", "timestamp", "duration"].contains(&name)
            && !name.starts_with('@')
        {
            self.wrong.push(format!("undeclared reference to '{name}' (in container '')"));
        }
        None
    }

    fn field(&mut self, schema: &'a Value, name: &str) -> Option<&'a Value> {
        let name = unescaped(name);
        if let Some(field) = schema["properties"].get(&name) {
            return Some(field);
        }
        if let Some(others) = schema.get("additionalProperties") {
            return Some(others).filter(|others| others.is_object());
        }
        let is_root = self.root.is_some_and(|root| std::ptr::eq(root, schema));
        let is_of_object = ["apiVersion", "kind", "metadata"].contains(&name.as_str());
        // Fields that are preserved without being named cannot be asked for either.
        if !(is_of_object && (is_root || schema["x-kubernetes-embedded-resource"] == true)) {
            self.wrong.push(format!("undefined field '{name}'"));
        }
        None
    }
}

fn element(schema: &Value) -> Option<&Value> {
    schema.get("items").or_else(|| schema.get("additionalProperties")).filter(|schema| schema.is_object())
}

/// A field's name as the schema has it (Kubernetes documentation, "Validation rules": escaping).
fn unescaped(name: &str) -> String {
    let name = name
        .strip_prefix("__")
        .and_then(|name| name.strip_suffix("__"))
        .filter(|name| !name.contains("__"))
        .unwrap_or(name);
    name.replace("__dot__", ".")
        .replace("__dash__", "-")
        .replace("__slash__", "/")
        .replace("__underscores__", "__")
}
