//! ROUTE-REFRESH (RFC 2918), with the subtypes of RFC 7313.

use super::fault::Fault;
use super::frame::{self, MessageType};
use super::notification::{self, Notification, code};
use super::reader::Reader;
use crate::prefix::Family;
use crate::session::Agreed;
use crate::wire::capability::AfiSafi;

/// A request to send the adj-rib-out of one family again, or where the answer to one begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRefresh {
    /// Which table; may be one that we do not speak.
    pub family: AfiSafi,
    /// What of it.
    pub subtype: Subtype,
}

/// The octet that RFC 2918 left reserved (RFC 7313 section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subtype {
    /// 0: tell it all again.
    Request,
    /// 1, BoRR: from here on it is told again.
    Begin,
    /// 2, EoRR: that was all.
    End,
    /// Reserved: passed over (RFC 7313 section 5).
    Unknown(u8),
}

impl Subtype {
    fn from_octet(octet: u8) -> Subtype {
        match octet {
            0 => Subtype::Request,
            1 => Subtype::Begin,
            2 => Subtype::End,
            other => Subtype::Unknown(other),
        }
    }

    fn octet(self) -> u8 {
        match self {
            Subtype::Request => 0,
            Subtype::Begin => 1,
            Subtype::End => 2,
            Subtype::Unknown(octet) => octet,
        }
    }
}

impl RouteRefresh {
    /// What stands behind the fields of a request is not looked at: it may be an ORF list (RFC 5291), which we never
    /// offer. BoRR and EoRR are looked at where enhanced route refresh is agreed on.
    ///
    /// # Errors
    /// Shorter than its fields (1/2); BoRR or EoRR is not of their length (7/1, RFC 7313 section 5).
    pub fn decode(body: &[u8], enhanced: Agreed) -> Result<RouteRefresh, Fault> {
        let mut reader = Reader::new(body);
        let fields = (reader.u16(), reader.u8(), reader.u8());
        // The frame has made sure of four octets.
        let (Some(afi), Some(subtype), Some(safi)) = fields else {
            let answer = Notification::new(code::MESSAGE_HEADER, notification::header::BAD_LENGTH);
            return Err(Fault::new(answer, "ROUTE-REFRESH: shorter than its fields"));
        };
        let subtype = Subtype::from_octet(subtype);
        if enhanced == Agreed::Yes && matches!(subtype, Subtype::Begin | Subtype::End) && !reader.is_empty() {
            let mut whole = Vec::new();
            frame::write(&mut whole, MessageType::RouteRefresh, |out| out.extend_from_slice(body));
            let subcode = notification::refresh::INVALID_LENGTH;
            let answer = Notification::with(code::ROUTE_REFRESH, subcode, whole);
            let name = if subtype == Subtype::Begin { "BoRR" } else { "EoRR" };
            let what = format!("ROUTE-REFRESH: {name} of {} octets, it has 4", body.len());
            return Err(Fault::new(answer, what));
        }
        Ok(RouteRefresh { family: AfiSafi { afi, safi }, subtype })
    }
}

/// Appends a message for `family`.
pub(crate) fn write(out: &mut Vec<u8>, family: Family, subtype: Subtype) {
    let AfiSafi { afi, safi } = AfiSafi::from(family);
    frame::write(out, MessageType::RouteRefresh, |out| {
        out.extend_from_slice(&afi.to_be_bytes());
        out.extend_from_slice(&[subtype.octet(), safi]);
    });
}
