//! From the text of one manifest file to typed objects.
//!
//! A document that is no business of ours is passed over. One that cannot be read is a fault: nobody
//! knows what it would have said, so whoever reads the file holds on to what he knew before. One that can be
//! read, but is of a kind to come, is refused and hides nothing.

use std::io;

use k8s_openapi::api::core::v1::Node;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_yaml_ng::Value;

use crate::kinds::{
    API_VERSION, BGPClusterConfig, BGPClusterConfigSpec, BGPNodeOverride, BGPNodeOverrideSpec, BGPPeerConfig,
    BGPPeerConfigSpec, GROUP,
};
use crate::objects::{Named, Objects, Problem};

/// Kinds of ours that this version does not serve yet.
const TO_COME: [&str; 3] = ["BGPFilter", "BGPAdvertisement", "BGPSessionState"];

/// What one file says.
#[derive(Debug, Clone, Default)]
pub(super) struct Manifest {
    /// Documents that count, in their order.
    documents: Vec<Document>,
    /// Documents that can be read and do not count.
    refused: Vec<Problem>,
    /// What could not be read.
    pub(super) faults: Vec<Problem>,
}

#[derive(Debug, Clone)]
struct Document {
    /// Kind, name, file and number.
    place: String,
    name: String,
    object: Object,
}

#[derive(Debug, Clone)]
enum Object {
    Node(Box<Node>),
    ClusterConfig(BGPClusterConfigSpec),
    PeerConfig(BGPPeerConfigSpec),
    NodeOverride(BGPNodeOverrideSpec),
}

/// What every object says of itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: String,
    kind: String,
    metadata: Option<Metadata>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: Option<String>,
}

impl Manifest {
    /// Reads the text of `file`.
    pub(super) fn decode(file: &str, text: &str) -> Manifest {
        let mut manifest = Manifest::default();
        for (index, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
            let place = format!("{file}, document {}", index + 1);
            match Value::deserialize(document) {
                Ok(Value::Null) => {}
                Ok(value) => {
                    if let Err(fault) = manifest.decode_document(&place, value) {
                        manifest.faults.push(fault);
                    }
                }
                Err(error) => {
                    // After a syntax error the rest of the file cannot be told apart.
                    manifest.faults.push(Problem::new(place, error.to_string()));
                    break;
                }
            }
        }
        manifest
    }

    /// A file that could not even be opened.
    pub(super) fn unreadable(file: &str, error: &io::Error) -> Manifest {
        let fault = Problem::new(file, format!("cannot be read: {error}"));
        Manifest { faults: vec![fault], ..Manifest::default() }
    }

    fn decode_document(&mut self, place: &str, value: Value) -> Result<(), Problem> {
        let Head { api_version, kind, metadata } = typed(place, value.clone())?;
        let is_node = api_version == "v1" && kind == "Node";
        // What other parts of a cluster are made of is no business of ours.
        if !is_node && api_version.split('/').next() != Some(GROUP) {
            return Ok(());
        }
        let name = metadata.and_then(|metadata| metadata.name);
        let name = name.ok_or_else(|| Problem::new(place, format!("{kind}: metadata.name is missing")))?;
        let place = format!("{kind} {name} ({place})");
        if !is_node && api_version != API_VERSION {
            let what = format!("apiVersion: \"{api_version}\": this version serves {API_VERSION}");
            return Err(Problem::new(place, what));
        }
        let object = match kind.as_str() {
            "Node" if is_node => Object::Node(typed(&place, value)?),
            "BGPClusterConfig" => Object::ClusterConfig(typed::<BGPClusterConfig>(&place, value)?.spec),
            "BGPPeerConfig" => Object::PeerConfig(typed::<BGPPeerConfig>(&place, value)?.spec),
            "BGPNodeOverride" => Object::NodeOverride(typed::<BGPNodeOverride>(&place, value)?.spec),
            to_come if TO_COME.contains(&to_come) => {
                let what = format!("NotImplemented: this version does not serve kind \"{kind}\"");
                self.refused.push(Problem::new(place, what));
                return Ok(());
            }
            _ => return Err(Problem::new(place, format!("{API_VERSION} has no such kind"))),
        };
        self.documents.push(Document { place, name, object });
        Ok(())
    }

    /// Adds what counts to `objects`. Of two objects of one kind and name the older stays.
    pub(super) fn add_to(self, objects: &mut Objects) {
        objects.problems.extend(self.refused);
        for Document { place, name, object } in self.documents {
            let was_there = match &object {
                Object::Node(_) => objects.nodes.contains_key(&name),
                Object::ClusterConfig(_) => objects.cluster_configs.iter().any(|config| config.name == name),
                Object::PeerConfig(_) => objects.peer_configs.contains_key(&name),
                Object::NodeOverride(_) => objects.node_overrides.contains_key(&name),
            };
            if was_there {
                objects.problems.push(Problem::new(place, "an object of this name was there before"));
                continue;
            }
            match object {
                Object::Node(node) => drop(objects.nodes.insert(name, *node)),
                Object::ClusterConfig(spec) => objects.cluster_configs.push(Named { name, spec }),
                Object::PeerConfig(spec) => drop(objects.peer_configs.insert(name, spec)),
                Object::NodeOverride(spec) => drop(objects.node_overrides.insert(name, spec)),
            }
        }
    }
}

fn typed<T: DeserializeOwned>(place: &str, value: Value) -> Result<T, Problem> {
    serde_yaml_ng::from_value(value).map_err(|error| Problem::new(place, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> (Objects, Vec<String>) {
        let manifest = Manifest::decode("a.yaml", text);
        let faults = manifest.faults.iter().map(Problem::to_string).collect();
        let mut objects = Objects::default();
        manifest.add_to(&mut objects);
        (objects, faults)
    }

    #[test]
    fn documents_of_one_file_are_told_apart_and_foreign_kinds_passed_over() {
        let (objects, faults) = decode(
            "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nspec: {podCIDRs: [10.1.0.0/24]}\n---\n---\n\
             apiVersion: v1\nkind: List\nitems: []\n---\n\
             apiVersion: cambric.dev/v1alpha1\nkind: BGPPeerConfig\nmetadata: {name: tor}\nspec: {holdTimeSeconds: 9}\n",
        );
        assert_eq!((faults, &objects.problems), (Vec::new(), &Vec::new()));
        assert!(objects.nodes.contains_key("n1"));
        assert_eq!(objects.peer_configs["tor"].hold_time_seconds, Some(9));
    }

    #[test]
    fn faults_name_place_and_field_and_the_rest_counts() {
        let (objects, faults) = decode(
            "apiVersion: cambric.dev/v1alpha1\nkind: BGPPeerConfig\nmetadata: {name: tor}\nspec: {bfd: true}\n---\n\
             apiVersion: cambric.dev/v1alpha1\nkind: BGPClusterConfg\nmetadata: {name: x}\nspec: {}\n---\n\
             kind: Node\nmetadata: {name: n1}\n---\n\
             apiVersion: cambric.dev/v1alpha1\nkind: BGPNodeOverride\nmetadata: {name: n1}\nspec: {asn: 65001}\n",
        );
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].starts_with("BGPPeerConfig tor (a.yaml, document 1): "), "{}", faults[0]);
        assert!(faults[0].contains("unknown field `bfd`"), "{}", faults[0]);
        assert!(faults[1].starts_with("BGPClusterConfg x"), "{}", faults[1]);
        assert!(faults[1].ends_with("has no such kind"), "{}", faults[1]);
        assert!(faults[2].contains("apiVersion"), "{}", faults[2]);
        assert_eq!(objects.node_overrides["n1"].asn, Some(65001));
    }

    #[test]
    fn another_version_of_our_group_is_a_fault() {
        for version in ["cambric.dev", "cambric.dev/v1", "cambric.dev/"] {
            let (_, faults) = decode(&format!(
                "apiVersion: {version}\nkind: BGPPeerConfig\nmetadata: {{name: tor}}\nspec: {{}}\n"
            ));
            let says = format!("apiVersion: \"{version}\": this version serves cambric.dev/v1alpha1");
            assert!(faults.len() == 1 && faults[0].ends_with(&says), "{faults:?}");
        }
    }

    #[test]
    fn a_kind_to_come_is_refused_and_is_no_fault() {
        let (objects, faults) =
            decode("apiVersion: cambric.dev/v1alpha1\nkind: BGPFilter\nmetadata: {name: f}\nspec: {}\n");
        assert_eq!(faults, Vec::<String>::new());
        assert!(objects.problems[0].what.starts_with("NotImplemented"), "{}", objects.problems[0]);
    }

    #[test]
    fn the_second_object_of_a_name_is_refused() {
        let node = "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n";
        let (objects, _) = decode(&format!("{node}---\n{node}"));
        assert_eq!(objects.problems.len(), 1);
        assert!(objects.problems[0].what.contains("was there before"));
    }
}
