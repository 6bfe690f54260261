//! Create, replace, patch and delete.
//!
//! All writes of an object come together in [`store`]: what the server sets itself is set, fields that nobody knows are
//! dropped, the rest is checked, its owners are noted, and it is kept, unless nothing has changed.

mod check;
mod delete;
mod prepare;
mod typed;

use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::admission::{self, Review};
use crate::apply::{self, Manager, OnConflict, Operation};
use crate::convert;
use crate::kind::{Key, Kind, Resource, Version};
use crate::lists::Lists;
use crate::patch;
use crate::path::Query;
use crate::server::{Call, Verb};
use crate::status::{Cause, Status};
use crate::store::{self, State};

/// An answer with an object.
pub(crate) struct Reply {
    /// 200, or 201 for what was created.
    pub(crate) code: u16,
    /// The object, or a Status.
    pub(crate) body: Bytes,
    /// Texts of `Warning` headers.
    pub(crate) warnings: Vec<String>,
}

/// Answers a request that writes.
pub(crate) fn handle(state: &mut State, call: &Call, body: &[u8]) -> Result<Reply, Status> {
    let options = Options::read(call)?;
    let Some(version) = call.kind.served(&call.target.version) else {
        return Err(Status::unknown_resource());
    };
    let mut write = Write { state, call, version, options, warnings: Vec::new() };
    let (code, value) = match call.verb {
        Verb::Create => write.create(read_body(body)?)?,
        Verb::Update => write.replace(read_body(body)?)?,
        Verb::Patch => write.patch(body)?,
        Verb::Delete => write.delete(body)?,
        Verb::DeleteCollection => write.delete_collection(body)?,
        Verb::Get | Verb::List | Verb::Watch => return Err(Status::method_not_allowed()),
    };
    let body = Bytes::from(value.to_string());
    Ok(Reply { code, body, warnings: write.warnings })
}

/// Creates or replaces an object with its status, as an admin would who forces it. Nothing is refused that has a kind
/// and a name; what owns it or lives in it is looked after.
pub(crate) fn put(state: &mut State, mut value: Value) -> Result<Value, Status> {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind_name) = (text("/apiVersion"), text("/kind"));
    let (mut namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let Some(kind) = state.kind_of(&api_version, &kind_name) else { return Err(Status::unknown_resource()) };
    let version = api_version.rsplit('/').next().and_then(|version| kind.served(version));
    let Some(version) = version else { return Err(Status::unknown_resource()) };
    if kind.is_namespaced && namespace.is_empty() {
        "default".clone_into(&mut namespace);
    }
    let causes = match kind.kind.as_str() {
        _ if kind.is_custom => Vec::new(),
        "CustomResourceDefinition" => check::definition(&value),
        "ValidatingAdmissionPolicy" => admission::faults(&value),
        "ValidatingAdmissionPolicyBinding" => admission::faults_of_binding(&value),
        _ => Vec::new(),
    };
    if !causes.is_empty() {
        return Err(invalid(&kind, &name, &causes));
    }
    if let Some(schema) = &version.schema {
        schema.prune(&mut value);
        schema.fill_defaults(&mut value);
    }
    let key = Key::new(&namespace, &name);
    let mut value = convert::stored(&kind, value);
    let old = state.object(kind.stored_at(), &key).map(|object| object.value());
    prepare::forced(&kind, version, &mut value, old.as_ref());
    Ok(convert::served(&kind, &version.name, state.put(kind.stored_at(), &key, value).value()))
}

/// Removes an object, as an admin would who forces it; what it owned goes with it.
pub(crate) fn remove(state: &mut State, resource: &Resource, key: &Key) -> Option<Value> {
    let last = state.remove(resource, key)?.value();
    delete::after(state, resource, &last);
    Some(last)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Options {
    is_dry_run: bool,
    /// As the request says; applies must say it.
    field_manager: Option<String>,
    field_validation: FieldValidation,
    on_conflict: OnConflict,
}

impl Options {
    fn read(call: &Call) -> Result<Options, Status> {
        let query: &Query = &call.query;
        let wrong = |field: &str, value: &str, supported: &[&str]| {
            let supported: Vec<String> = supported.iter().map(|&text| json!(text).to_string()).collect();
            let name = match call.verb {
                Verb::Create => "CreateOptions",
                Verb::Update => "UpdateOptions",
                Verb::Patch => "PatchOptions",
                _ => "DeleteOptions",
            };
            let cause = Cause::not_supported(field, &json!(value), &supported);
            Status::invalid("meta.k8s.io", name, "", &[cause])
        };
        Ok(Options {
            is_dry_run: match query.value("dryRun") {
                None => false,
                Some("All") => true,
                Some(other) => return Err(wrong("dryRun", other, &["All"])),
            },
            field_manager: query.value("fieldManager").map(str::to_owned),
            field_validation: match query.value("fieldValidation") {
                None | Some("Warn") => FieldValidation::Warn,
                Some("Ignore") => FieldValidation::Ignore,
                Some("Strict") => FieldValidation::Strict,
                Some(other) => return Err(wrong("fieldValidation", other, &["Ignore", "Strict", "Warn"])),
            },
            on_conflict: if query.flag("force") == Some(true) {
                OnConflict::Take
            } else {
                OnConflict::Refuse
            },
        })
    }
}

/// JSON, or YAML where the client wrote that.
fn read_body(body: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(body)
        .or_else(|_| serde_yaml_ng::from_slice(body))
        .map_err(|error| Status::bad_request(format!("the object provided is unrecognized: {error}")))
}

fn invalid(kind: &Kind, name: &str, causes: &[Cause]) -> Status {
    Status::invalid(&kind.resource.group, &kind.kind, name, causes)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// One request.
struct Write<'a> {
    state: &'a mut State,
    call: &'a Call,
    version: &'a Version,
    options: Options,
    warnings: Vec<String>,
}

/// What was asked for, and in which words unknown fields are refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Sent,
    Patched,
}

impl Write<'_> {
    fn kind(&self) -> &Kind {
        &self.call.kind
    }

    fn subresource(&self) -> &str {
        self.call.target.subresource.as_deref().unwrap_or_default()
    }

    fn key(&self) -> Result<Key, Status> {
        let subresource = self.subresource();
        if !(subresource.is_empty() || subresource == "status" && self.version.has_status) {
            return Err(Status::unknown_resource());
        }
        self.call.target.key().ok_or_else(Status::method_not_allowed)
    }

    fn manager(&self, operation: Operation) -> Manager {
        // Without a name the client's, up to the slash, is taken (`fieldmanager.ManagerOrUserAgent`).
        let agent = self.call.user_agent.split('/').next().unwrap_or_default();
        let name =
            self.options.field_manager.as_deref().unwrap_or(if agent.is_empty() { "unknown" } else { agent });
        Manager { name: name.to_owned(), operation, subresource: self.subresource().to_owned() }
    }

    /// The object as it is kept, in the version that was asked for.
    fn current(&self, key: &Key) -> Option<Value> {
        let kind = self.kind();
        let object = self.state.object(kind.stored_at(), key)?;
        Some(convert::served(kind, &self.version.name, object.value()))
    }

    fn current_or_not_found(&self, key: &Key) -> Result<Value, Status> {
        self.current(key).ok_or_else(|| Status::not_found(&self.kind().resource, &key.name))
    }

    fn create(&mut self, mut object: Value) -> Result<(u16, Value), Status> {
        if self.call.target.name.is_some()
            || (self.kind().is_namespaced && self.call.target.namespace.is_none())
        {
            return Err(Status::method_not_allowed());
        }
        self.check_type(&mut object)?;
        let namespace = self.call.target.namespace.clone().unwrap_or_default();
        self.check_namespace(&object, &namespace)?;
        if !text(&object, "/metadata/resourceVersion").is_empty() {
            return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
        }
        prepare::name(&mut object);
        self.create_named(
            object,
            &namespace,
            &Manager { subresource: String::new(), ..self.manager(Operation::Update) },
            How::Sent,
        )
    }

    fn create_named(
        &mut self,
        mut object: Value,
        namespace: &str,
        manager: &Manager,
        how: How,
    ) -> Result<(u16, Value), Status> {
        let name = text(&object, "/metadata/name").to_owned();
        let key = Key::new(namespace, &name);
        self.check_namespace_exists(namespace)?;
        self.prune(&mut object, how)?;
        prepare::created(self.kind(), self.version, namespace, &mut object);
        self.check(&object, None)?;
        self.admit(&key, Some(&object), None)?;
        if self.state.object(self.kind().stored_at(), &key).is_some() {
            return Err(Status::already_exists(&self.kind().resource, &name));
        }
        if manager.operation == Operation::Update {
            self.record(&Value::Null, &mut object, manager);
        }
        let created = self.store(&key, object);
        if !self.options.is_dry_run {
            delete::if_orphaned(self.state, &self.call.kind, &key, &created);
        }
        Ok((201, created))
    }

    fn replace(&mut self, mut object: Value) -> Result<(u16, Value), Status> {
        let key = self.key()?;
        self.check_type(&mut object)?;
        self.check_namespace(&object, &key.namespace)?;
        let name = text(&object, "/metadata/name");
        if name != &*key.name {
            let message =
                format!("the name of the object ({name}) does not match the name on the URL ({})", key.name);
            return Err(Status::bad_request(message));
        }
        let old = self.current_or_not_found(&key)?;
        // Kinds of definitions and those where it would be dangerous must say what they replace.
        let is_unconditional = text(&object, "/metadata/resourceVersion").is_empty();
        if is_unconditional && (self.kind().is_custom || self.kind().kind == "CustomResourceDefinition") {
            let cause =
                Cause::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update");
            return Err(invalid(self.kind(), &key.name, &[cause]));
        }
        self.prune(&mut object, How::Sent)?;
        self.update(&key, &old, object, &self.manager(Operation::Update)).map(|value| (200, value))
    }

    fn patch(&mut self, body: &[u8]) -> Result<(u16, Value), Status> {
        const ACCEPTED: [&str; 4] = [
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/apply-patch+yaml",
            "application/strategic-merge-patch+json",
        ];
        let accepted = if self.kind().is_custom { &ACCEPTED[..3] } else { &ACCEPTED[..] };
        let content_type = self.call.content_type.split(';').next().unwrap_or_default().trim().to_owned();
        if !accepted.contains(&content_type.as_str()) {
            return Err(Status::unsupported_patch(accepted));
        }
        let key = self.key()?;
        if content_type == "application/apply-patch+yaml" {
            return self.apply(&key, read_body(body)?);
        }
        let unreadable =
            |error: &dyn std::fmt::Display| Status::bad_request(format!("error decoding patch: {error}"));
        let patch: Value = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
        let old = self.current_or_not_found(&key)?;
        let mut new = old.clone();
        let patched = match content_type.as_str() {
            "application/json-patch+json" => patch::json_patch(&mut new, &patch),
            _ if !patch.is_object() => Err(patch::Error::Unreadable("it is no object".to_owned())),
            "application/merge-patch+json" => {
                patch::merge(&mut new, &patch);
                Ok(())
            }
            _ => patch::strategic(&mut new, &patch, &Lists::of(self.kind(), self.version)),
        };
        match patched {
            Ok(()) => {}
            Err(patch::Error::Unfit(_)) => return Err(Status::rejected_patch()),
            Err(error) => return Err(unreadable(&error)),
        }
        self.check_type(&mut new)?;
        if text(&new, "/metadata/name") != &*key.name {
            let cause = Cause::invalid("metadata.name", &new["metadata"]["name"], "field is immutable");
            return Err(invalid(self.kind(), &key.name, &[cause]));
        }
        self.prune(&mut new, How::Patched)?;
        self.update(&key, &old, new, &self.manager(Operation::Update)).map(|value| (200, value))
    }

    fn apply(&mut self, key: &Key, mut config: Value) -> Result<(u16, Value), Status> {
        if self.options.field_manager.is_none() {
            let cause = Cause::required("fieldManager", "is required for apply patch");
            return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[cause]));
        }
        for field in ["apiVersion", "kind"] {
            if text(&config, &format!("/{field}")).is_empty() {
                return Err(Status::bad_request(format!(
                    "invalid object type: {field} is missing in the applied configuration"
                )));
            }
        }
        self.check_type(&mut config)?;
        self.check_namespace(&config, &key.namespace)?;
        if text(&config, "/metadata/name") != &*key.name && !text(&config, "/metadata/name").is_empty() {
            let what = format!(
                "metadata.name {:?} does not match the name on the URL ({})",
                text(&config, "/metadata/name"),
                key.name
            );
            return Err(Status::bad_request(what));
        }
        if config
            .pointer("/metadata/managedFields")
            .is_some_and(|fields| fields.as_array().is_none_or(|fields| !fields.is_empty()))
        {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        if !config["metadata"].is_object() {
            config["metadata"] = json!({});
        }
        config["metadata"]["name"] = json!(&*key.name);
        self.prune(&mut config, How::Sent)?;
        let old = self.current(key);
        if let (Some(old), sent @ 1..) = (&old, text(&config, "/metadata/resourceVersion").len()) {
            debug_assert!(sent > 0);
            if old["metadata"]["resourceVersion"] != config["metadata"]["resourceVersion"] {
                return Err(Status::modified(&self.kind().resource, &key.name));
            }
        }
        let manager = self.manager(Operation::Apply);
        let lists = Lists::of(self.kind(), self.version);
        let (api_version, now) = (self.kind().api_version(&self.version.name), store::now());
        let context = apply::Context {
            lists: &lists,
            api_version: &api_version,
            has_status: self.version.has_status,
            now: &now,
        };
        let live = old.as_ref().unwrap_or(&Value::Null);
        let new = apply::apply(live, &config, &manager, self.options.on_conflict, context)?;
        match old {
            Some(old) => self.update(key, &old, new, &manager).map(|value| (200, value)),
            None if !self.subresource().is_empty() => {
                Err(Status::not_found(&self.kind().resource, &key.name))
            }
            None => self.create_named(new, &key.namespace, &manager, How::Sent),
        }
    }

    /// Makes `new` of `old`, which the request replaces.
    fn update(&mut self, key: &Key, old: &Value, mut new: Value, manager: &Manager) -> Result<Value, Status> {
        let sent = text(&new, "/metadata/resourceVersion");
        if !sent.is_empty() && sent != text(old, "/metadata/resourceVersion") {
            return Err(Status::modified(&self.kind().resource, &key.name));
        }
        let (sent, is) = (text(&new, "/metadata/uid"), text(old, "/metadata/uid"));
        if !sent.is_empty() && sent != is {
            let what = format!("Precondition failed: UID in precondition: {sent}, UID in object meta: {is}");
            return Err(Status::conflict(&self.kind().resource, &key.name, &what));
        }
        prepare::updated(self.kind(), self.version, self.subresource(), old, &mut new);
        self.check(&new, Some(old))?;
        self.admit(key, Some(&new), Some(old))?;
        if manager.operation == Operation::Update {
            self.record(old, &mut new, manager);
        }
        if prepare::is_same(old, &new) {
            return Ok(old.clone());
        }
        let new = self.store(key, new);
        let is_leaving = !text(&new, "/metadata/deletionTimestamp").is_empty();
        let is_held = new
            .pointer("/metadata/finalizers")
            .and_then(Value::as_array)
            .is_some_and(|held| !held.is_empty());
        let is_graceful =
            new.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0) > 0;
        if is_leaving && !is_held && !is_graceful && !self.options.is_dry_run {
            remove(self.state, self.call.kind.stored_at(), key);
        }
        Ok(new)
    }

    /// Keeps it, and gives it back as it is kept.
    fn store(&mut self, key: &Key, object: Value) -> Value {
        let kind = &self.call.kind;
        if self.options.is_dry_run {
            return object;
        }
        let kept = self.state.put(kind.stored_at(), key, convert::stored(kind, object));
        convert::served(kind, &self.version.name, kept.value())
    }

    fn record(&self, old: &Value, new: &mut Value, manager: &Manager) {
        let lists = Lists::of(self.kind(), self.version);
        let (api_version, now) = (self.kind().api_version(&self.version.name), store::now());
        let context = apply::Context {
            lists: &lists,
            api_version: &api_version,
            has_status: self.version.has_status,
            now: &now,
        };
        apply::record_update(old, new, manager, context);
    }

    /// The object's kind and version are those of the path; built-in kinds may leave them out.
    fn check_type(&self, object: &mut Value) -> Result<(), Status> {
        let Some(fields) = object.as_object_mut() else {
            return Err(Status::bad_request("the object provided is unrecognized (must be of type Object)"));
        };
        let api_version = self.kind().api_version(&self.version.name);
        for (field, expected, what) in
            [("apiVersion", &api_version, "API version"), ("kind", &self.kind().kind, "kind")]
        {
            match fields.get(field).and_then(Value::as_str).unwrap_or_default() {
                "" if self.kind().is_custom => {
                    let field = if field == "kind" { "Kind" } else { field };
                    return Err(Status::bad_request(format!(
                        "Object '{field}' is missing in '{}'",
                        Value::Object(fields.clone())
                    )));
                }
                "" => drop(fields.insert(field.to_owned(), json!(expected))),
                sent if sent == expected => {}
                sent => {
                    let message = format!(
                        "the {what} in the data ({sent}) does not match the expected {what} ({expected})"
                    );
                    return Err(Status::bad_request(message));
                }
            }
        }
        if !fields.get("metadata").is_some_and(Value::is_object) {
            fields.insert("metadata".to_owned(), json!({}));
        }
        Ok(())
    }

    fn check_namespace(&self, object: &Value, namespace: &str) -> Result<(), Status> {
        let sent = text(object, "/metadata/namespace");
        if sent.is_empty() || sent == namespace {
            return Ok(());
        }
        let what = "the namespace of the provided object does not match the namespace sent on the request";
        Err(Status::bad_request(what))
    }

    fn check_namespace_exists(&self, namespace: &str) -> Result<(), Status> {
        if namespace.is_empty() {
            return Ok(());
        }
        let namespaces = Resource::new("", "namespaces");
        let Some(found) = self.state.object(&namespaces, &Key::new("", namespace)) else {
            return Err(Status::not_found(&namespaces, namespace));
        };
        if text(&found.value(), "/metadata/deletionTimestamp").is_empty() {
            return Ok(());
        }
        let name = self.call.target.name.as_deref().unwrap_or_default();
        let what =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        Err(Status::forbidden(&self.kind().resource, name, &what))
    }

    /// Drops fields that the kind does not have: silently, with a warning, or not at all but with a refusal.
    fn prune(&mut self, object: &mut Value, how: How) -> Result<(), Status> {
        let mut unknown = typed::prune_metadata(object);
        match &self.version.schema {
            Some(schema) => unknown.extend(schema.prune(object)),
            None => {
                let kind = self.kind();
                let of_type = typed::prune(kind, object).map_err(|error| {
                    let message = format!(
                        "{0} in version {1:?} cannot be handled as a {0}: {error}",
                        kind.kind, self.version.name
                    );
                    Status::bad_request(message)
                })?;
                unknown.extend(of_type);
            }
        }
        let told: Vec<String> = unknown.iter().map(|field| format!("unknown field {field:?}")).collect();
        match self.options.field_validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => self.warnings.extend(told),
            FieldValidation::Strict if told.is_empty() => {}
            FieldValidation::Strict => {
                let what = format!("strict decoding error: {}", told.join(", "));
                return Err(match how {
                    How::Sent => {
                        let (kind, version) = (&self.kind().kind, &self.version.name);
                        Status::bad_request(format!(
                            "{kind} in version {version:?} cannot be handled as a {kind}: {what}"
                        ))
                    }
                    How::Patched => Status::invalid("", "", "", &[Cause::invalid("patch", &json!(""), what)]),
                });
            }
        }
        Ok(())
    }

    /// What policies of admission say: last, of what would be kept.
    fn admit(&self, key: &Key, object: Option<&Value>, old: Option<&Value>) -> Result<(), Status> {
        let operation = match (object, old) {
            (_, None) => "CREATE",
            (Some(_), Some(_)) => "UPDATE",
            (None, Some(_)) => "DELETE",
        };
        let review = Review {
            user: &self.call.user,
            operation,
            kind: self.kind(),
            version: &self.version.name,
            subresource: self.subresource(),
            namespace: &key.namespace,
            name: &key.name,
            object,
            old,
            is_dry_run: self.options.is_dry_run,
        };
        admission::admit(self.state, &review)
    }

    fn check(&self, object: &Value, old: Option<&Value>) -> Result<(), Status> {
        let causes = check::object(self.kind(), self.version, self.subresource(), object, old);
        if causes.is_empty() {
            Ok(())
        } else {
            Err(invalid(self.kind(), text(object, "/metadata/name"), &causes))
        }
    }
}
