//! ValidatingAdmissionPolicies: what their CEL says of a write that RBAC allows and whose object is valid
//! (`k8s.io/apiserver/pkg/admission/plugin/policy/validating`; Kubernetes documentation, "Validating Admission Policy").
//!
//! Policies and bindings are objects like others. A write is compared with the rules of each policy that is bound, then
//! with its conditions, then with its validations; the first that fails is told. Of actions there is `Deny`.
//!
//! Deliberately not there: parameters, selectors, exceptions of rules, annotations for the audit, rules for other versions
//! of a resource, limits of cost, the variables `authorizer`, `params` and `namespaceObject`. A policy that asks for one
//! of the first four is refused when it comes, and an expression that asks for one of the variables fails.

mod expression;

use serde_json::{Value, json};

use crate::kind::{Kind, Resource};
use crate::server::User;
use crate::status::{Cause, Status};
use crate::store::State;

use expression::Scope;

/// Group of policies and bindings.
pub(crate) const GROUP: &str = "admissionregistration.k8s.io";
pub(crate) const POLICIES: &str = "validatingadmissionpolicies";
pub(crate) const BINDINGS: &str = "validatingadmissionpolicybindings";

/// A write that is to be admitted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Review<'a> {
    pub(crate) user: &'a User,
    /// `CREATE`, `UPDATE` or `DELETE`.
    pub(crate) operation: &'a str,
    pub(crate) kind: &'a Kind,
    pub(crate) version: &'a str,
    /// Empty: the object as a whole.
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// As it would be kept; none is deleted.
    pub(crate) object: Option<&'a Value>,
    /// As it is kept; none is created.
    pub(crate) old: Option<&'a Value>,
    pub(crate) is_dry_run: bool,
}

/// Whether all policies let it pass.
///
/// # Errors
/// The refusal of the first that does not, worded as the server words it.
pub(crate) fn admit(state: &State, review: &Review<'_>) -> Result<(), Status> {
    let bindings = Resource::new(GROUP, BINDINGS);
    for binding in state.objects(&bindings) {
        let binding = binding.value();
        let spec = &binding["spec"];
        let is_denying = items(&spec["validationActions"]).any(|action| action == "Deny");
        let policy = state
            .objects(&Resource::new(GROUP, POLICIES))
            .find(|policy| spec["policyName"] == *policy.key.name)
            .filter(|_| is_denying);
        let Some(policy) = policy.map(|policy| policy.value()) else { continue };
        if let Some(denial) = review.judged_by(&policy["spec"]) {
            return Err(review.status(&policy, &binding, &denial));
        }
    }
    Ok(())
}

/// Why a policy would not be kept, or not be evaluated here.
pub(crate) fn faults(policy: &Value) -> Vec<Cause> {
    let spec = &policy["spec"];
    let mut causes = Vec::new();
    let unknown = [
        "/paramKind",
        "/auditAnnotations",
        "/matchConstraints/namespaceSelector/matchLabels",
        "/matchConstraints/namespaceSelector/matchExpressions",
        "/matchConstraints/objectSelector/matchLabels",
        "/matchConstraints/objectSelector/matchExpressions",
        "/matchConstraints/excludeResourceRules",
    ];
    for pointer in unknown {
        if spec.pointer(pointer).is_some_and(|value| !value.is_null()) {
            let field = format!("spec{}", pointer.replace('/', "."));
            causes.push(Cause::forbidden(field, "this server for tests does not evaluate it"));
        }
    }
    let fields = [
        ("matchConditions", "expression"),
        ("variables", "expression"),
        ("validations", "expression"),
        ("validations", "messageExpression"),
    ];
    for (list, field) in fields {
        for (at, item) in items(&spec[list]).enumerate() {
            let Some(expression) = item[field].as_str() else { continue };
            if let Err(what) = expression::check(expression) {
                causes.push(Cause::invalid(format!("spec.{list}[{at}].{field}"), &item[field], what));
            }
        }
    }
    let is_any = ["validations", "auditAnnotations"].iter().any(|list| items(&spec[*list]).next().is_some());
    if !is_any {
        let what = "validations or auditAnnotations must contain at least one item";
        causes.push(Cause::required("spec.validations", what));
    }
    causes
}

/// The same of a binding.
pub(crate) fn faults_of_binding(binding: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for field in ["paramRef", "matchResources"] {
        if !binding["spec"][field].is_null() {
            let what = "this server for tests does not evaluate it";
            causes.push(Cause::forbidden(format!("spec.{field}"), what));
        }
    }
    if items(&binding["spec"]["validationActions"]).next().is_none() {
        causes.push(Cause::required("spec.validationActions", "at least one validation action is required"));
    }
    causes
}

/// What a policy has against it.
struct Denial {
    reason: &'static str,
    code: u16,
    message: String,
}

impl Denial {
    fn new(reason: &str, message: String) -> Denial {
        let (reason, code) = match reason {
            "Unauthorized" => ("Unauthorized", 401),
            "Forbidden" => ("Forbidden", 403),
            "RequestEntityTooLarge" => ("RequestEntityTooLarge", 413),
            _ => ("Invalid", 422),
        };
        Denial { reason, code, message }
    }
}

impl Review<'_> {
    fn judged_by(&self, policy: &Value) -> Option<Denial> {
        let is_closed = policy["failurePolicy"] != "Ignore";
        let error = |message: String| is_closed.then(|| Denial::new("", message));
        if !items(&policy["matchConstraints"]["resourceRules"]).any(|rule| self.is_meant_by(rule)) {
            return None;
        }
        let request = self.request();
        let (object, old) = (self.object.unwrap_or(&Value::Null), self.old.unwrap_or(&Value::Null));
        let mut scope = Scope::new(&[("request", &request), ("object", object), ("oldObject", old)]);
        let conditions: Vec<Result<bool, String>> = items(&policy["matchConditions"])
            .map(|condition| scope.is_true(text(condition, "expression")))
            .collect();
        if conditions.contains(&Ok(false)) {
            return None;
        }
        if let Some(Err(message)) = conditions.into_iter().find(Result::is_err) {
            return error(message);
        }
        for variable in items(&policy["variables"]) {
            scope.set(text(variable, "name"), text(variable, "expression"));
        }
        items(&policy["validations"]).find_map(|validation| {
            let expression = text(validation, "expression");
            match scope.is_true(expression) {
                Ok(true) => None,
                Ok(false) => {
                    let said =
                        validation["messageExpression"].as_str().and_then(|text| scope.text(text).ok());
                    let said =
                        said.or_else(|| validation["message"].as_str().map(|text| text.trim().to_owned()));
                    let said = said.unwrap_or_else(|| format!("failed expression: {}", expression.trim()));
                    Some(Denial::new(text(validation, "reason"), said))
                }
                Err(message) => error(message),
            }
        })
    }

    fn is_meant_by(&self, rule: &Value) -> bool {
        let resource = match self.subresource {
            "" => self.kind.resource.plural.to_string(),
            subresource => format!("{}/{subresource}", self.kind.resource.plural),
        };
        let has = |field: &str, wanted: &str| items(&rule[field]).any(|item| item == wanted || item == "*");
        let names = || items(&rule["resourceNames"]);
        let is_resource =
            items(&rule["resources"]).filter_map(Value::as_str).any(|named| match named.split_once('/') {
                None => named == resource || (named == "*" && self.subresource.is_empty()),
                Some(("*", "*")) => true,
                Some((of, "*")) => of == &*self.kind.resource.plural,
                Some(("*", subresource)) => subresource == self.subresource && !subresource.is_empty(),
                Some(_) => named == resource,
            });
        let is_scope = match text(rule, "scope") {
            "Cluster" => !self.kind.is_namespaced,
            "Namespaced" => self.kind.is_namespaced,
            _ => true,
        };
        has("operations", self.operation)
            && has("apiGroups", &self.kind.resource.group)
            && has("apiVersions", self.version)
            && is_resource
            && is_scope
            && (names().next().is_none() || names().any(|name| name == self.name))
    }

    /// `request`: an AdmissionRequest without its objects; what is empty is absent.
    fn request(&self) -> Value {
        let Kind { kind, resource, .. } = self.kind;
        let mut user = json!({ "username": self.user.name, "groups": self.user.groups });
        if !self.user.extra.is_empty() {
            user["extra"] = json!(self.user.extra);
        }
        let mut request = json!({
            "kind": { "group": &*resource.group, "version": self.version, "kind": kind },
            "resource": { "group": &*resource.group, "version": self.version, "resource": &*resource.plural },
            "operation": self.operation,
            "userInfo": user,
            "dryRun": self.is_dry_run,
        });
        for (field, value) in
            [("subResource", self.subresource), ("namespace", self.namespace), ("name", self.name)]
        {
            if !value.is_empty() {
                request[field] = json!(value);
            }
        }
        request
    }

    fn status(&self, policy: &Value, binding: &Value, denial: &Denial) -> Status {
        let message = format!(
            "ValidatingAdmissionPolicy '{}' with binding '{}' denied request: {}",
            text(&policy["metadata"], "name"),
            text(&binding["metadata"], "name"),
            denial.message
        );
        let mut status = Status::forbidden(&self.kind.resource, self.name, &message);
        (status.reason, status.code) = (denial.reason, denial.code);
        if let Some(details) = &mut status.details {
            details["causes"] = json!([{ "message": message }]);
        }
        status
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
