//! All that a source shows at one moment, in three parts: one that BGP is made from, which seldom changes; one that
//! policies are made from, which changes all the time in a large cluster; and services, which do so as well.

use std::sync::Arc;

use cambric_kube::{DocumentId, EndpointSlice, Json, Service, Shared};
use cambric_policy::change::{Key, PolicyObject};
use cambric_policy::pod::Pod;
use k8s_openapi::api::core::v1::Namespace;

use crate::objects::{Objects, Problem};

/// A complete view. Every source gives this and nothing else. A clone is cheap.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// The same as in the view before as long as nothing in it changes: nobody needs to look into it to know that.
    pub fabric: Arc<Objects>,
    /// For policies.
    pub workloads: Workloads,
    /// For announcements.
    pub services: Services,
    /// What an API server shows, and `fabric` was made from; empty where a folder is the source. For the conditions of
    /// these objects: what is said of one must be about what was read.
    pub documents: Shared<DocumentId, Json>,
}

/// What policies are made from. Two of them share what they have in common.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Workloads {
    /// Pods of all nodes.
    pub pods: Shared<Key, Arc<Pod>>,
    /// By name.
    pub namespaces: Shared<Arc<str>, Arc<Namespace>>,
    /// Those with faults among them: they fail closed.
    pub policies: Shared<Key, Arc<PolicyObject>>,
    /// As [`Objects::unknown`] of Pods, Namespaces and NetworkPolicies alone: a pod that cannot be read is no reason to
    /// be without BGP.
    pub unknown: Vec<Problem>,
}

/// Which services there are, and where they answer; of an API server nothing as long as nobody announces them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Services {
    /// Of all namespaces.
    pub services: Shared<Key, Arc<Service>>,
    /// Likewise.
    pub slices: Shared<Key, Arc<EndpointSlice>>,
}

impl View {
    /// Whether nothing is another: found out without a look into what `fabric` says of thousands of nodes.
    pub(crate) fn shares_all_with(&self, other: &View) -> bool {
        let View { fabric, workloads, services, documents } = self;
        Arc::ptr_eq(fabric, &other.fabric)
            && *workloads == other.workloads
            && *services == other.services
            && *documents == other.documents
    }

    /// The same, sharing with `before` what they have in common.
    pub(crate) fn after(self, before: &View) -> View {
        let View { fabric, workloads, services, documents } = self;
        let Workloads { pods, namespaces, policies, unknown } = workloads;
        let fabric = if fabric == before.fabric { Arc::clone(&before.fabric) } else { fabric };
        let Workloads { pods: pods_before, namespaces: namespaces_before, policies: policies_before, .. } =
            &before.workloads;
        let workloads = Workloads {
            pods: pods.after(pods_before),
            namespaces: namespaces.after(namespaces_before),
            policies: policies.after(policies_before),
            unknown,
        };
        let services = Services {
            services: services.services.after(&before.services.services),
            slices: services.slices.after(&before.services.slices),
        };
        View { fabric, workloads, services, documents: documents.after(&before.documents) }
    }
}
