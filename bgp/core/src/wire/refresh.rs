//! ROUTE-REFRESH (RFC 2918), with the subtypes of RFC 7313 told apart.

use super::fault::Fault;
use super::frame::{self, MessageType};
use super::notification::{self, Notification, code};
use super::reader::Reader;
use crate::prefix::Family;
use crate::wire::capability::AfiSafi;

/// A request to send the adj-rib-out of one family again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRefresh {
    /// Which table; may be one that we do not speak.
    pub family: AfiSafi,
    /// 0 asks, 1 and 2 frame the answer (RFC 7313), others are reserved.
    pub subtype: u8,
}

impl RouteRefresh {
    /// What stands behind the fields is not looked at. It may be an ORF list (RFC 5291), which we never offer,
    /// or wrong in a demarcation: the error for that (7/1) belongs to enhanced route refresh, which we never
    /// agree on (RFC 7313 section 5).
    ///
    /// # Errors
    /// Shorter than its fields (1/2).
    pub fn decode(body: &[u8]) -> Result<RouteRefresh, Fault> {
        let mut reader = Reader::new(body);
        let fields = (reader.u16(), reader.u8(), reader.u8());
        // The frame has made sure of four octets.
        let (Some(afi), Some(subtype), Some(safi)) = fields else {
            let answer = Notification::new(code::MESSAGE_HEADER, notification::header::BAD_LENGTH);
            return Err(Fault::new(answer, "ROUTE-REFRESH: shorter than its fields"));
        };
        Ok(RouteRefresh { family: AfiSafi { afi, safi }, subtype })
    }
}

/// Appends a request for `family`.
pub(crate) fn write(out: &mut Vec<u8>, family: Family) {
    let AfiSafi { afi, safi } = AfiSafi::from(family);
    frame::write(out, MessageType::RouteRefresh, |out| {
        out.extend_from_slice(&afi.to_be_bytes());
        out.extend_from_slice(&[0, safi]);
    });
}
