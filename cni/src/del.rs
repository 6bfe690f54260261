//! DEL: everything of an attachment goes; what is gone already is no error.
//!
//! The pod's namespace is not needed, so it may be missing, empty or unreadable: deleting the host end takes the pod
//! end and the host routes with it. Only links by our own name of this container are touched, never the pod's other
//! interfaces, whatever they are called.

use crate::attachment::Attachment;
use crate::config::Network;
use crate::error::{CniError, Code};
use crate::gate;
use crate::kernel;
use crate::lease::{self, Leases};
use crate::long_names;
use crate::request::Del;
use crate::uids;

/// Removes the link, then what policy knows of its addresses, then the lease.
pub(crate) fn del(request: &Del) -> Result<(), CniError> {
    let Del { network, attachment } = request;
    let failed = |left: String| {
        CniError::new(Code::CleanUp, format!("cannot remove {}", attachment.holder)).with_details(left)
    };

    // While the link stays its address is in use, so the lease must stay too: the runtime will call again.
    let host_ifname = attachment.host_ifname();
    kernel::delete_link_named(&host_ifname).map_err(|error| {
        failed(error.to_string()).with_details(format!("{host_ifname} and its lease are kept"))
    })?;
    release(network, attachment).map_err(failed)
}

/// Takes the lease of an attachment back, and all that is kept by the name of its link, unless it has a link: then all
/// that is that link's.
///
/// ADD makes the link before it asks for the lease, so under the lock one look is enough.
pub(crate) fn release(network: &Network, attachment: &Attachment) -> Result<(), String> {
    let leases = Leases::open_existing(&network.run_dir, &network.name).map_err(|error| error.to_string())?;
    let Some(mut leases) = leases else { return Ok(()) };
    if kernel::has_link(&attachment.host_ifname()).map_err(|error| error.to_string())? {
        return Ok(());
    }
    let host_ifname = attachment.host_ifname();
    long_names::forget(&network.run_dir, &host_ifname);
    uids::forget(&network.run_dir, &host_ifname);
    let held = leases.iter().filter(|lease| lease.holder == attachment.holder);
    held.for_each(|lease| gate::leave(attachment, lease.addresses));
    leases.release(&attachment.holder, lease::now()).map_err(|error| error.to_string())
}
