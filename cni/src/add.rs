//! ADD: pair, lease, wire, gate, tell. What fails is undone, and the answer names every failure.
//!
//! Several ADDs and DELs of one attachment may run at once. No lock is held for a whole call; the host end decides:
//! the kernel lets one call make it, and whoever made it grants the lease. So a lease belongs to the link that is
//! there, and may be taken back, under the lock of the leases, only while there is none ([`del::release`]). The price:
//! when no address is free, a pair was made in vain.

use serde_json::Value;

use crate::del;
use crate::error::{CniError, Code};
use crate::gate::{Gate, Warning};
use crate::gateway;
use crate::kernel::{self, Link, PROTOCOL_POD, Route};
use crate::lease::{self, Lease, LeaseError, Leases, Survivor};
use crate::long_names;
use crate::netlink::{NetlinkError, Socket};
use crate::netns::{self, Netns};
use crate::request::Add;
use crate::result::Attached;
use crate::uids;
use crate::undo::Undo;
use crate::wire::{self, WireError, Wiring};

/// How many addresses are tried that turn out to be in use: a table that is that wrong needs a person.
const TRIES: u32 = 8;

/// An attached pod.
pub(crate) struct Added {
    /// The result object.
    pub(crate) result: Value,
    pub(crate) warning: Option<Warning>,
}

/// Attaches the pod.
pub(crate) fn add(request: &Add) -> Result<Added, CniError> {
    let Add { network, config, attachment, .. } = request;
    let gate = Gate::find(config.policy_gate, &network.run_dir, attachment)?;
    let netns = netns::open_of_pod(&request.netns, request.own_netns)?;
    let mut call = Call {
        request,
        gate,
        host: Socket::open().map_err(|error| host_wiring(error.into()))?,
        pod: netns.enter(Socket::open).flatten().map_err(|error| netns::invalid(&request.netns, error))?,
        netns,
    };
    call.refuse_second()?;
    for _ in 1..TRIES {
        match call.attach() {
            Err(Failure::AddressTaken(lease)) if call.give_to_owner(&lease)? => {}
            outcome => return outcome.map_err(|failure| call.explain(failure)),
        }
    }
    call.attach().map_err(|failure| call.explain(failure))
}

/// The parts of one ADD.
struct Call<'a> {
    request: &'a Add,
    gate: Gate<'a>,
    netns: Netns,
    host: Socket,
    pod: Socket,
}

/// Why an attempt failed. Everything is undone, or the error tells what is not.
enum Failure {
    /// There is a route to an address of this lease, which is given back.
    AddressTaken(Lease),
    Other(CniError),
}

impl Call<'_> {
    /// The same attachment twice is an error that leaves the first one alone.
    fn refuse_second(&mut self) -> Result<(), CniError> {
        let ifname = &self.request.attachment.holder.ifname;
        let exists = |msg: String| Err(CniError::new(Code::InterfaceExists, msg).with_details("EEXIST"));
        if kernel::link(&mut self.pod, ifname).map_err(pod_wiring)?.is_some() {
            return exists(format!("interface {ifname} exists already in {}", self.netns.path().display()));
        }
        let host_ifname = self.request.attachment.host_ifname();
        if kernel::link(&mut self.host, &host_ifname).map_err(host_wiring)?.is_some() {
            let holder = &self.request.attachment.holder;
            return exists(format!("{holder} is attached already, in another namespace, by {host_ifname}"));
        }
        Ok(())
    }

    /// One attempt: done in full or undone.
    fn attach(&mut self) -> Result<Added, Failure> {
        let Add { network, config, attachment, .. } = self.request;
        let host_end = wire::create_pair(attachment, &self.netns, config, &mut self.host)
            .map_err(|error| Failure::Other(wire_error(&error)))?;
        let mut undo = Undo::default();
        undo.note(|| del::release(network, attachment));
        // By its index: a link of that name may be another call's, if a DEL came between.
        undo.note(|| kernel::delete_link(&host_end).map_err(|error| error.to_string()));

        let outcome = self.lease_and_wire(&host_end).and_then(|lease| {
            let gate = self.gate;
            let passed = gate.pass(attachment, &host_end, lease.addresses, &mut self.host);
            Ok(Added { warning: passed.map_err(Failure::Other)?, result: self.result(&host_end, &lease) })
        });
        let Err(failure) = outcome else { return outcome };
        let left = undo.run();
        if left.is_empty() {
            return Err(failure);
        }
        let with_left = |error: CniError, left: &String| error.with_details(format!("undo failed: {left}"));
        Err(Failure::Other(left.iter().fold(self.explain(failure), with_left)))
    }

    fn lease_and_wire(&mut self, host_end: &Link) -> Result<Lease, Failure> {
        let Add { network, config, attachment, .. } = self.request;
        let lease = self.lease(host_end).map_err(Failure::Other)?;
        let kept = long_names::keep(&network.run_dir, attachment);
        kept.and_then(|()| uids::keep(&network.run_dir, attachment)).map_err(|error| {
            let failed = CniError::new(Code::HostWiring, "cannot write down whose link it is");
            Failure::Other(failed.with_details(error))
        })?;
        let wired = Wiring::new(attachment, &self.netns, config, host_end, lease.addresses)
            .and_then(|wiring| wiring.wire(&mut self.host, &mut self.pod));
        match wired {
            Ok(()) => Ok(lease),
            Err(WireError::AddressTaken) => Err(Failure::AddressTaken(lease)),
            Err(error) => Err(Failure::Other(wire_error(&error))),
        }
    }

    fn result(&self, host_end: &Link, lease: &Lease) -> Value {
        let Add { network, attachment, netns, .. } = self.request;
        let attached = Attached {
            host_ifname: host_end.name.clone(),
            host_mac: gateway::HOST_MAC,
            pod_ifname: attachment.holder.ifname.clone(),
            pod_mac: attachment.pod_mac(),
            sandbox: netns.to_string_lossy().into_owned(),
            mtu_bytes: host_end.mtu_bytes,
            addresses: lease.addresses,
        };
        attached.to_json(network.version, network.prev_result.as_ref())
    }

    /// A link that is gone meanwhile gets none: a younger call's link may have it.
    fn lease(&self, host_end: &Link) -> Result<Lease, CniError> {
        let mut leases = self.leases()?;
        if !kernel::is_there(host_end) {
            let gone = format!("{} was deleted while its ADD waited for the leases", host_end.name);
            return Err(CniError::new(Code::HostWiring, gone));
        }
        leases.grant(&self.request.attachment.holder, lease::now()).map_err(lease_error)
    }

    fn leases(&self) -> Result<Leases, CniError> {
        let Add { network, config, .. } = self.request;
        Leases::open(&network.run_dir, &network.name, &config.ranges, || self.survivors())
            .map_err(lease_error)
    }

    /// If the address is used by a pod of ours without a lease, gives that pod the lease; false if by anybody else.
    fn give_to_owner(&self, lease: &Lease) -> Result<bool, CniError> {
        let mut leases = self.leases()?;
        leases.adopt_user(lease.addresses, || self.survivors(), lease::now()).map_err(lease_error)
    }

    fn survivors(&self) -> Result<Vec<Survivor>, String> {
        kernel::survivors(&self.request.network.name).map_err(|error| error.to_string())
    }

    /// Names who has the address.
    fn explain(&mut self, failure: Failure) -> CniError {
        let lease = match failure {
            Failure::Other(error) => return error,
            Failure::AddressTaken(lease) => lease,
        };
        let error = CniError::new(
            Code::AddressTaken,
            format!("the node has a route already to the free address {}", lease.addresses),
        );
        let routes = match kernel::host_routes(&mut self.host) {
            Ok(routes) => routes,
            Err(unknown) => return error.with_details(unknown),
        };
        let wanted = |route: &Route| lease.addresses.iter().any(|own| own == route.destination);
        routes
            .iter()
            .filter(|route| wanted(route))
            .fold(error, |error, route| error.with_details(self.describe(route)))
    }

    fn describe(&mut self, route: &Route) -> String {
        let links = kernel::links(&mut self.host).unwrap_or_default();
        let Route { destination, protocol, link, .. } = route;
        let owner = if *protocol == PROTOCOL_POD { "a pod's" } else { "not ours" };
        let by =
            links.iter().find(|candidate| Some(candidate.index) == *link).map_or_else(String::new, |link| {
                let alias = link.alias.as_deref().map(|alias| format!(" ({alias})")).unwrap_or_default();
                format!(" by {}{alias}", link.name)
            });
        format!("{destination}{by}, protocol {protocol}: {owner}")
    }
}

fn host_wiring(error: NetlinkError) -> CniError {
    CniError::new(Code::HostWiring, "cannot wire the pod on the node").with_details(error)
}

fn pod_wiring(error: NetlinkError) -> CniError {
    CniError::new(Code::PodWiring, "cannot wire the pod in its namespace").with_details(error)
}

fn wire_error(error: &WireError) -> CniError {
    let (code, msg) = match error {
        WireError::Exists(_) => (Code::InterfaceExists, "the interface was made by somebody else meanwhile"),
        WireError::AddressTaken => (Code::AddressTaken, "cannot add the pod's route"),
        WireError::SourceMissing { .. } | WireError::Host(_) | WireError::HostSetting(_) => {
            (Code::HostWiring, "cannot wire the pod on the node")
        }
        WireError::Pod(_) | WireError::PodSetting(_) => {
            (Code::PodWiring, "cannot wire the pod in its namespace")
        }
    };
    CniError::new(code, msg).with_details(error)
}

fn lease_error(error: LeaseError) -> CniError {
    match error {
        LeaseError::Exhausted { .. } => CniError::new(Code::NoFreeAddress, error.to_string()),
        LeaseError::Io { .. } | LeaseError::Later { .. } | LeaseError::Survivors(_) => {
            CniError::new(Code::LeaseTable, "cannot lease an address").with_details(error)
        }
    }
}
