//! How lists in objects are told apart and merged.
//!
//! For built-in kinds as the types of `k8s.io/api` say it (`patchStrategy`, `patchMergeKey`, `listType`, `listMapKey`),
//! for those of CustomResourceDefinitions as their schema does (`x-kubernetes-list-type`, `x-kubernetes-list-map-keys`).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kind::{Kind, Version};

/// How server-side apply tells the entries of a list apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListType {
    /// Not at all: the list has one owner.
    Atomic,
    /// Scalars, each once.
    Set,
    /// Objects, by these fields.
    Map(Vec<String>),
}

/// What a strategic merge patch does with a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PatchMerge {
    /// Replaces it.
    Replace,
    /// Adds scalars to it.
    Union,
    /// Merges objects by this field.
    By(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    list: ListType,
    patch: PatchMerge,
}

/// The lists of a kind that are not simply replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lists {
    /// By the path of fields, without indices: `["status", "conditions"]`.
    rules: BTreeMap<Vec<String>, Rule>,
}

impl Lists {
    /// Of this version of a kind.
    pub(crate) fn of(kind: &Kind, version: &Version) -> Lists {
        let mut lists = Lists::default();
        lists.add("", OF_ALL);
        match &version.schema {
            Some(schema) => lists.walk(schema.document(), &mut Vec::new()),
            None => lists.add_built_in(&kind.kind),
        }
        lists
    }

    /// How server-side apply treats the list at this path of fields.
    pub(crate) fn list_type(&self, path: &[String]) -> &ListType {
        self.rules.get(path).map_or(&ListType::Atomic, |rule| &rule.list)
    }

    /// How strategic merge patches treat the list at this path of fields.
    pub(crate) fn patch_merge(&self, path: &[String]) -> &PatchMerge {
        self.rules.get(path).map_or(&PatchMerge::Replace, |rule| &rule.patch)
    }

    fn add(&mut self, below: &str, rows: &[Row]) {
        for (path, patch, list) in rows {
            let path = below.split('.').filter(|part| !part.is_empty()).chain(path.split('.'));
            self.rules.insert(path.map(str::to_owned).collect(), rule(patch, list));
        }
    }

    fn add_built_in(&mut self, kind: &str) {
        const CONDITIONS: &[Row] = &[("status.conditions", "by type", "map type")];
        match kind {
            "Node" => self.add("", OF_NODES),
            "Pod" => {
                self.add("", OF_PODS);
                self.add("spec", OF_POD_SPECS);
            }
            "Namespace" | "CustomResourceDefinition" => self.add("", CONDITIONS),
            "ServiceAccount" => self.add("", &[("secrets", "by name", "map name")]),
            _ => {}
        }
    }

    fn walk(&mut self, schema: &Value, path: &mut Vec<String>) {
        let list = match schema["x-kubernetes-list-type"].as_str() {
            Some("map") => {
                let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
                Some(ListType::Map(keys.filter_map(Value::as_str).map(str::to_owned).collect()))
            }
            Some("set") => Some(ListType::Set),
            _ => None,
        };
        if let Some(list) = list {
            self.rules.insert(path.clone(), Rule { list, patch: PatchMerge::Replace });
        }
        if let Some(items) = schema.get("items") {
            self.walk(items, path);
        }
        for (name, below) in schema["properties"].as_object().into_iter().flatten() {
            path.push(name.clone());
            self.walk(below, path);
            path.pop();
        }
    }
}

/// Path; `by FIELD`, `union` or `replace`; `map FIELDS`, `set` or `atomic`.
type Row = (&'static str, &'static str, &'static str);

const OF_ALL: &[Row] =
    &[("metadata.ownerReferences", "by uid", "map uid"), ("metadata.finalizers", "union", "set")];

const OF_NODES: &[Row] = &[
    ("spec.podCIDRs", "union", "set"),
    // No patchStrategy, and listType=atomic: who patches taints sends all of them.
    ("spec.taints", "replace", "atomic"),
    ("status.addresses", "by type", "map type"),
    ("status.conditions", "by type", "map type"),
];

const OF_PODS: &[Row] = &[
    ("status.conditions", "by type", "map type"),
    ("status.podIPs", "by ip", "map ip"),
    ("status.hostIPs", "by ip", "atomic"),
];

const OF_POD_SPECS: &[Row] = &[
    ("containers", "by name", "map name"),
    ("containers.env", "by name", "map name"),
    ("containers.ports", "by containerPort", "map containerPort protocol"),
    ("containers.volumeDevices", "by devicePath", "map devicePath"),
    ("containers.volumeMounts", "by mountPath", "map mountPath"),
    ("ephemeralContainers", "by name", "map name"),
    ("hostAliases", "by ip", "map ip"),
    ("imagePullSecrets", "by name", "map name"),
    ("initContainers", "by name", "map name"),
    ("initContainers.env", "by name", "map name"),
    ("initContainers.ports", "by containerPort", "map containerPort protocol"),
    ("initContainers.volumeMounts", "by mountPath", "map mountPath"),
    ("resourceClaims", "by name", "map name"),
    ("schedulingGates", "by name", "map name"),
    ("topologySpreadConstraints", "by topologyKey", "map topologyKey whenUnsatisfiable"),
    ("volumes", "by name", "map name"),
];

fn rule(patch: &str, list: &str) -> Rule {
    let patch = match patch.split_once(' ') {
        Some((_, field)) => PatchMerge::By(field.to_owned()),
        None if patch == "union" => PatchMerge::Union,
        None => PatchMerge::Replace,
    };
    let list = match list.split_once(' ') {
        Some((_, fields)) => ListType::Map(fields.split(' ').map(str::to_owned).collect()),
        None if list == "set" => ListType::Set,
        None => ListType::Atomic,
    };
    Rule { list, patch }
}
