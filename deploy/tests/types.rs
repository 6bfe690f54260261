//! Every object that is shipped, through the types of the API: a field that a type does not have, or that is
//! misspelled, would be lost on the way.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use cambric_apiserver_double::{ApiServer, User};
use cambric_deploy::{base, documents, folder};
use http_body_util::BodyExt;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn through<T: DeserializeOwned + Serialize>(object: &Value) -> Result<Value> {
    Ok(serde_json::to_value(T::deserialize(object)?)?)
}

/// The object as its type has it; nothing for our own kinds.
fn typed(object: &Value) -> Result<Option<Value>> {
    let (version, kind) = (object["apiVersion"].as_str(), object["kind"].as_str());
    let through = match (version.context("apiVersion")?, kind.context("kind")?) {
        ("v1", "Namespace") => through::<Namespace>,
        ("v1", "Secret") => through::<Secret>,
        ("v1", "ServiceAccount") => through::<ServiceAccount>,
        ("apps/v1", "DaemonSet") => through::<DaemonSet>,
        ("networking.k8s.io/v1", "NetworkPolicy") => through::<NetworkPolicy>,
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => through::<ClusterRole>,
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => through::<ClusterRoleBinding>,
        ("rbac.authorization.k8s.io/v1", "Role") => through::<Role>,
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => through::<RoleBinding>,
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition") => through::<CustomResourceDefinition>,
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy") => {
            through::<ValidatingAdmissionPolicy>
        }
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding") => {
            through::<ValidatingAdmissionPolicyBinding>
        }
        (version, _) if version.starts_with("cambric.dev/") => return Ok(None),
        other => bail!("{other:?} is not looked at here"),
    };
    through(object).map(Some)
}

/// Numbers as floating-point ones: bounds of schemas are.
fn plain(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::from(number.as_f64()),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, plain(value))).collect(),
        other => other,
    }
}

/// The objects of each sample: some are alternatives, and have names in common.
fn samples() -> Result<Vec<Vec<Value>>> {
    let of_file =
        |path: PathBuf| documents(&fs::read_to_string(&path)?).with_context(|| path.display().to_string());
    fs::read_dir(folder().join("samples"))?.map(|entry| of_file(entry?.path())).collect()
}

/// The chart's objects are the base's: `helm.rs` compares them.
#[test]
fn no_field_is_unknown_to_the_api() -> Result<()> {
    let all: Vec<Value> = base().into_iter().chain(samples()?.into_iter().flatten()).collect();
    let mut looked_at = 0;
    for object in all {
        let what = format!("{} {}", object["kind"], object["metadata"]["name"]);
        if let Some(typed) = typed(&object).with_context(|| what.clone())? {
            assert_eq!(plain(typed), plain(object), "{what}");
            looked_at += 1;
        }
    }
    println!("{looked_at} objects of the API's own types");
    Ok(())
}

#[test]
fn a_field_that_no_type_has_would_be_found() -> Result<()> {
    let mut set = cambric_deploy::daemon_set();
    set["spec"]["template"]["spec"]["hostnetwork"] = Value::from(true);
    assert_ne!(typed(&set)?.map(plain), Some(plain(set)));
    Ok(())
}

/// As `kubectl create --validate=strict` would; schemas, their rules and the expressions of policies are compiled.
#[tokio::test]
async fn a_server_takes_them_strictly() -> Result<()> {
    let mut created = 0;
    for sample in samples()? {
        created += create(base().into_iter().chain(sample)).await?;
    }
    println!("{created} objects");
    Ok(())
}

/// How many there are, all of them new to a server of their own.
async fn create(objects: impl Iterator<Item = Value>) -> Result<usize> {
    let server = ApiServer::new();
    let client = server.client_of(User::admin());
    let mut created = 0;
    for object in objects {
        let what = format!("{} {}", object["kind"], object["metadata"]["name"]);
        let request = http::Request::post(format!("{}?fieldValidation=Strict", path(&object)?))
            .header("content-type", "application/json")
            .body(kube::client::Body::from(object.to_string().into_bytes()))?;
        let answer = client.send(request).await?;
        let status = answer.status();
        let text = String::from_utf8_lossy(&answer.into_body().collect().await?.to_bytes()).into_owned();
        assert_eq!(status.as_u16(), 201, "{what}: {text}");
        created += 1;
    }
    Ok(created)
}

/// Where objects of the kind are created.
fn path(object: &Value) -> Result<String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let kind = text("/kind").to_lowercase();
    let plural = kind.strip_suffix('y').map_or(format!("{kind}s"), |start| format!("{start}ies"));
    let root = match text("/apiVersion") {
        "v1" => "/api/v1".to_owned(),
        version => format!("/apis/{version}"),
    };
    Ok(match text("/metadata/namespace") {
        "" => format!("{root}/{plural}"),
        namespace => format!("{root}/namespaces/{namespace}/{plural}"),
    })
}
