//! ValidatingAdmissionPolicies as a real kube-apiserver applies them.

use cambric_apiserver_double::User;
use serde_json::{Value, json};

use crate::common::Rig;

const NODES: &str = "/api/v1/nodes";

/// A policy of these validations, for writes to nodes, and its binding.
fn policy(spec: &str) -> String {
    format!(
        "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: p}}
spec:
  matchConstraints:
    resourceRules:
    - {{apiGroups: [''], apiVersions: [v1], operations: [CREATE, UPDATE, DELETE], resources: [nodes, nodes/status]}}
{spec}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: b}}
spec: {{policyName: p, validationActions: [Deny]}}
"
    )
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
}

#[tokio::test]
async fn a_refusal_names_policy_and_binding() {
    let rig = Rig::in_process();
    rig.server.install(&policy(
        "  validations:
  - {expression: \"!has(object.metadata.labels)\", message: ' no labels ', reason: Forbidden}
  - {expression: \"request.operation != 'UPDATE'\", messageExpression: \"'not ' + object.metadata.name\"}
  - {expression: \"object.metadata.name != 'n3'\"}",
    ));
    let told = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request:";
    let mut labelled = node("n1");
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let refused = rig.post(NODES, &labelled).await;
    let message = format!("{told} no labels");
    assert_eq!(
        refused.body,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Forbidden",
            "code": 403, "message": format!("nodes \"n1\" is forbidden: {message}"),
            "details": {"name": "n1", "kind": "nodes", "causes": [{"message": message}]}})
    );
    rig.post(NODES, &node("n1")).await.ok();
    let refused = rig.merge(&format!("{NODES}/n1/status"), &json!({"status": {}})).await;
    assert_eq!((refused.code, refused.reason()), (422, "Invalid"), "unless a policy says another reason");
    assert_eq!(refused.message(), format!("nodes \"n1\" is forbidden: {told} not n1"));
    let refused = rig.post(NODES, &node("n3")).await;
    assert!(refused.message().ends_with("failed expression: object.metadata.name != 'n3'"), "{refused:?}");
}

#[tokio::test]
async fn conditions_choose_who_is_meant_and_variables_are_shared() {
    let rig = Rig::in_process();
    rig.server.install(&policy(
        "  matchConditions:
  - {name: who, expression: \"request.userInfo.username == 'system:serviceaccount:a:b'\"}
  variables:
  - {name: at, expression: \"has(request.userInfo.extra) ? request.userInfo.extra['authentication.kubernetes.io/node-name'][0] : ''\"}
  - {name: isAt, expression: \"variables.at == (request.operation == 'DELETE' ? oldObject : object).metadata.name\"}
  validations:
  - {expression: variables.isAt}",
    ));
    for name in ["n1", "n2"] {
        rig.post(NODES, &node(name)).await.ok();
    }
    let of_n1 = rig.of(User::service_account("a", "b").on_node("n1"));
    let change = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(of_n1.merge(&format!("{NODES}/n1"), &change).await.code, 200);
    assert_eq!(of_n1.merge(&format!("{NODES}/n2"), &change).await.code, 422);
    assert_eq!(of_n1.delete(&format!("{NODES}/n2"), &Value::Null).await.code, 422, "a deletion is a write");
    assert_eq!(rig.server.list("v1", "Node").len(), 2);
    let unbound = rig.of(User::service_account("a", "b"));
    assert_eq!(unbound.merge(&format!("{NODES}/n1"), &change).await.code, 422);
    assert_eq!(of_n1.delete(&format!("{NODES}/n1"), &Value::Null).await.code, 200);
}

#[tokio::test]
async fn what_cannot_be_evaluated_is_refused_unless_the_policy_says_otherwise() {
    let validations = "  validations:\n  - {expression: object.spec.absent == 1}";
    let rig = Rig::in_process();
    rig.server.install(&policy(validations));
    let refused = rig.post(NODES, &node("n1")).await;
    assert!(refused.code == 422 && refused.message().contains("resulted in error"), "{refused:?}");
    rig.server.install(&policy(&format!("  failurePolicy: Ignore\n{validations}")));
    rig.post(NODES, &node("n1")).await.ok();
}

#[tokio::test]
async fn a_policy_that_is_none_is_refused_when_it_comes() {
    let rig = Rig::in_process();
    for (spec, told) in [
        ("  validations:\n  - {expression: 'object.'}", "spec.validations[0].expression"),
        ("  validations: []", "spec.validations"),
        (
            "  paramKind: {apiVersion: v1, kind: ConfigMap}\n  validations:\n  - {expression: 'true'}",
            "spec.paramKind",
        ),
    ] {
        let error = rig.server.try_install(&policy(spec)).expect_err(spec);
        assert!(format!("{error:#}").contains(told), "{error:#}");
    }
}
