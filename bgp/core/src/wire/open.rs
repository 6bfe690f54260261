//! OPEN (RFC 4271 section 4.2), with long parameters (RFC 9072).

use std::borrow::Cow;

use super::capability::{
    AddPathFamily, AfiSafi, Capability, ExtendedNextHop, GracefulRestart, LongLivedGracefulRestart,
    MalformedCapability,
};
use super::fault::Fault;
use super::frame::{self, MessageType};
use super::notification::{self, Notification, code};
use super::reader::Reader;
use crate::prefix::Family;
use crate::types::{Asn, HoldTime, RouterId};

const VERSION: u8 = 4;
const PARAMETER_CAPABILITIES: u8 = 2;
/// In place of the parameters' length and the first type: lengths have two octets (RFC 9072).
const EXTENDED: u8 = 255;

/// An OPEN that keeps the rules which need no configuration to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The sender's AS; the four-octet one where it gave both.
    pub asn: Asn,
    /// What it proposes.
    pub hold_time: HoldTime,
    /// Its identifier.
    pub router_id: RouterId,
    /// In the order of the message.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// # Errors
    /// The OPEN error of RFC 4271 section 6.2 that fits.
    pub fn decode(body: &[u8]) -> Result<Open, Fault> {
        let mut reader = Reader::new(body);
        let fields = (reader.u8(), reader.u16(), reader.u16(), reader.u32(), reader.u8());
        let (Some(version), Some(as_field), Some(hold), Some(router_id), Some(length)) = fields else {
            return Err(unreadable("shorter than its fields"));
        };
        if version != VERSION {
            let newest = u16::from(VERSION).to_be_bytes();
            let subcode = notification::open::UNSUPPORTED_VERSION;
            let answer = Notification::with(code::OPEN, subcode, newest);
            return Err(Fault::new(answer, format!("peer speaks BGP version {version}, we speak {VERSION}")));
        }
        let capabilities = decode_parameters(length, reader)?;
        let four_octets = capabilities.iter().find_map(|capability| match capability {
            Capability::FourOctetAs(asn) => Some(*asn),
            _ => None,
        });
        let bad_as = |what: String| open_error(notification::open::BAD_PEER_AS, what);
        // RFC 6793 section 4.2.3: the capability's number counts; the field must hold it or AS_TRANS.
        let asn = Asn::new(four_octets.unwrap_or(u32::from(as_field)))
            .ok_or_else(|| bad_as("peer announced AS 0, which is reserved (RFC 7607)".to_owned()))?;
        if as_field != asn.two_octets() && u32::from(as_field) != Asn::TRANS.value() {
            return Err(bad_as(format!("peer announced AS {as_field} and, as its four-octet one, AS {asn}")));
        }
        let hold_time = HoldTime::from_secs(hold).ok_or_else(|| {
            let what = format!("peer proposed a hold time of {hold} s; 0 or at least 3 s are allowed");
            open_error(notification::open::UNACCEPTABLE_HOLD_TIME, what)
        })?;
        let router_id = RouterId::new(router_id).ok_or_else(|| {
            open_error(notification::open::BAD_BGP_IDENTIFIER, "peer announced identifier 0.0.0.0")
        })?;
        Ok(Open { asn, hold_time, router_id, capabilities })
    }

    /// Appends the message. Our own capabilities fit one parameter of 255 octets.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut capabilities = Vec::new();
        for capability in &self.capabilities {
            capability.write(&mut capabilities);
        }
        frame::write(out, MessageType::Open, |out| {
            out.push(VERSION);
            out.extend_from_slice(&self.asn.two_octets().to_be_bytes());
            out.extend_from_slice(&self.hold_time.as_secs().to_be_bytes());
            out.extend_from_slice(&self.router_id.value().to_be_bytes());
            match u8::try_from(capabilities.len() + 2) {
                Ok(length) if length < EXTENDED => {
                    out.extend_from_slice(&[length, PARAMETER_CAPABILITIES, length - 2]);
                }
                _ => {
                    let length = u16::try_from(capabilities.len()).unwrap_or(u16::MAX);
                    out.extend_from_slice(&[EXTENDED, EXTENDED]);
                    out.extend_from_slice(&length.saturating_add(3).to_be_bytes());
                    out.push(PARAMETER_CAPABILITIES);
                    out.extend_from_slice(&length.to_be_bytes());
                }
            }
            out.extend_from_slice(&capabilities);
        });
    }

    /// Whether the sender speaks `family`; without any RFC 4760 capability it speaks IPv4 unicast.
    pub fn offers(&self, family: Family) -> bool {
        let mut listed = self.capabilities.iter().filter_map(|capability| match capability {
            Capability::MultiProtocol(entry) => Some(*entry),
            _ => None,
        });
        let first = listed.next();
        match first {
            None => family == Family::Ipv4,
            Some(first) => first == AfiSafi::from(family) || listed.any(|entry| entry == family.into()),
        }
    }

    /// Whether this capability, compared whole, is among them.
    pub fn has(&self, wanted: &Capability) -> bool {
        self.capabilities.contains(wanted)
    }

    /// Whether it takes IPv4 routes with IPv6 next hops (RFC 8950).
    pub(crate) fn offers_ipv4_over_ipv6(&self) -> bool {
        self.capabilities.iter().any(|capability| match capability {
            Capability::ExtendedNextHop(entries) => entries.contains(&ExtendedNextHop::IPV4_OVER_IPV6),
            _ => false,
        })
    }

    /// Its graceful restart capability, if it has one; the last if it sent several.
    pub fn graceful_restart(&self) -> Option<&GracefulRestart> {
        self.capabilities.iter().rev().find_map(|capability| match capability {
            Capability::GracefulRestart(restart) => Some(restart),
            _ => None,
        })
    }

    /// Its long-lived graceful restart capability, if it has one; the last if it sent several.
    pub fn long_lived(&self) -> Option<&LongLivedGracefulRestart> {
        self.capabilities.iter().rev().find_map(|capability| match capability {
            Capability::LongLivedGracefulRestart(long_lived) => Some(long_lived),
            _ => None,
        })
    }

    /// The numbers of the roles that it says it has (RFC 9234 section 4.1).
    pub fn roles(&self) -> impl Iterator<Item = u8> {
        self.capabilities.iter().filter_map(|capability| match capability {
            Capability::Role(role) => Some(*role),
            _ => None,
        })
    }

    /// What it says of several paths to a prefix of `family`; the last word if there are several.
    pub fn add_path(&self, family: Family) -> Option<&AddPathFamily> {
        let said = self.capabilities.iter().filter_map(|capability| match capability {
            Capability::AddPath(families) => Some(families),
            _ => None,
        });
        said.flatten().rev().find(|entry| entry.family == AfiSafi::from(family))
    }

    /// Whether AS numbers on this session have four octets.
    pub fn has_four_octet_as(&self) -> bool {
        self.capabilities.iter().any(|capability| matches!(capability, Capability::FourOctetAs(_)))
    }
}

fn open_error(subcode: u8, what: impl Into<Cow<'static, str>>) -> Fault {
    Fault::new(Notification::new(code::OPEN, subcode), what)
}

fn unreadable(what: &'static str) -> Fault {
    open_error(notification::open::UNSPECIFIC, format!("OPEN: {what}"))
}

/// `length` is the octet that says how long all parameters are; `reader` stands behind it.
fn decode_parameters(length: u8, mut reader: Reader<'_>) -> Result<Vec<Capability>, Fault> {
    let cut = || unreadable("a parameter is cut short");
    // RFC 9072 section 2: the type tells; the length beside it is ignored, and not 0.
    let extended = length != 0 && reader.rest().first() == Some(&EXTENDED);
    let total = if extended {
        reader.u8();
        usize::from(reader.u16().ok_or_else(cut)?)
    } else {
        usize::from(length)
    };
    // The parameters end where the message ends, neither earlier nor later.
    if reader.rest().len() != total {
        return Err(unreadable("its parameters do not end where the message does"));
    }
    let mut capabilities = Vec::new();
    while let Some(kind) = reader.u8() {
        let length = if extended { reader.u16() } else { reader.u8().map(u16::from) };
        let value = length.and_then(|length| reader.take(usize::from(length))).ok_or_else(cut)?;
        if kind != PARAMETER_CAPABILITIES {
            let what = format!("OPEN: parameter of type {kind}");
            return Err(open_error(notification::open::UNSUPPORTED_PARAMETER, what));
        }
        let malformed = |MalformedCapability { code }| {
            open_error(notification::open::UNSPECIFIC, format!("OPEN: capability {code} is malformed"))
        };
        capabilities.extend(Capability::decode_all(value).map_err(malformed)?);
    }
    Ok(capabilities)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::capability::four_octet_as;

    fn open(capabilities: Vec<Capability>) -> Open {
        Open {
            asn: Asn::new(4_200_000_001).expect("not 0"),
            hold_time: HoldTime::DEFAULT,
            router_id: RouterId::new(0x0A00_0001).expect("not 0"),
            capabilities,
        }
    }

    fn body(open: &Open) -> Vec<u8> {
        let mut bytes = Vec::new();
        open.write(&mut bytes);
        bytes[frame::HEADER_BYTES..].to_vec()
    }

    #[test]
    fn open_is_read_as_it_was_written() {
        let asn = Asn::new(4_200_000_001).expect("not 0");
        let open = open(vec![Capability::RouteRefresh, four_octet_as(asn)]);
        assert_eq!(Open::decode(&body(&open)), Ok(open));
    }

    #[test]
    fn open_with_more_than_255_octets_takes_the_long_form() {
        let asn = Asn::new(4_200_000_001).expect("not 0");
        let mut capabilities = vec![four_octet_as(asn)];
        capabilities.extend((0..3).map(|_| Capability::Unknown { code: 200, value: vec![7; 100] }));
        let open = open(capabilities);
        let bytes = body(&open);
        assert_eq!(bytes[9..11], [255, 255]);
        assert_eq!(Open::decode(&bytes), Ok(open));
    }

    #[test]
    fn length_beside_the_long_form_is_ignored() {
        let mut capabilities = vec![four_octet_as(Asn::new(4_200_000_001).expect("not 0"))];
        capabilities.extend((0..3).map(|_| Capability::Unknown { code: 200, value: vec![7; 100] }));
        let open = open(capabilities);
        let mut bytes = body(&open);
        bytes[9] = 1;
        assert_eq!(Open::decode(&bytes), Ok(open));
        bytes[9] = 0;
        assert!(Open::decode(&bytes).is_err());
    }

    #[test]
    fn parameters_must_end_with_the_message() {
        let mut bytes = body(&open(vec![four_octet_as(Asn::new(4_200_000_001).expect("not 0"))]));
        bytes[9] -= 1;
        let error = Open::decode(&bytes).expect_err("one octet too many").notification;
        assert_eq!((error.code, error.subcode), (2, 0));
    }
}
