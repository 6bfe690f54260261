//! Options of TCP sockets that no crate of ours has a safe name for: signatures (RFC 2385), the least TTL (RFC 5082), and
//! the TTL that a caller came with.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use cambric_bgp::Prefix;
use cambric_bgp::config::Password;
use nix::errno::Errno;
use nix::libc::{self, c_int};

/// From `linux/tcp.h`; `libc` does not have it.
const TCP_AO_DEL_KEY: c_int = 39;
const TCP_MD5SIG_FLAG_PREFIX: u8 = 1;

/// `struct tcp_md5sig` of `linux/tcp.h`.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Md5Signature {
    /// A `sockaddr_in` or `sockaddr_in6`, of which the kernel reads family and address.
    address: [u8; 128],
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: c_int,
    key: [u8; Password::MOST_BYTES],
}

impl Md5Signature {
    fn new(peer: Prefix, key: &[u8]) -> Md5Signature {
        let mut address = [0; 128];
        let family = match peer.address() {
            IpAddr::V4(v4) => {
                address[4..8].copy_from_slice(&v4.octets());
                libc::AF_INET
            }
            IpAddr::V6(v6) => {
                address[8..24].copy_from_slice(&v6.octets());
                libc::AF_INET6
            }
        };
        address[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        let mut octets = [0; Password::MOST_BYTES];
        // No longer than that, as a `Password` is not.
        octets[..key.len()].copy_from_slice(key);
        Md5Signature {
            address,
            flags: TCP_MD5SIG_FLAG_PREFIX,
            prefix_length: peer.length(),
            key_length: key.len() as u16,
            interface: 0,
            key: octets,
        }
    }
}

/// Signs what goes to `peer`, and takes nothing from there without a signature of this key; without a key, neither.
///
/// # Errors
/// In words; never with the key.
pub(crate) fn set_key(socket: &impl AsFd, peer: Prefix, key: Option<&Password>) -> Result<(), String> {
    let signature = Md5Signature::new(peer, key.map_or(&[], Password::octets));
    match set(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG_EXT, &signature) {
        Ok(()) => Ok(()),
        // It had none.
        Err(Errno::ENOENT) if key.is_none() => Ok(()),
        Err(Errno::ENOPROTOOPT) => Err("TCP MD5: this kernel has none (CONFIG_TCP_MD5SIG)".to_owned()),
        Err(Errno::ENOMEM) => Err("TCP MD5: too many keys for one socket (net.core.optmem_max)".to_owned()),
        Err(error) => Err(format!("TCP MD5: {}", error.desc())),
    }
}

/// TTL or hop limit of what goes out; the system's if absent.
pub(crate) fn set_ttl(socket: &impl AsFd, address: IpAddr, ttl: Option<u8>) -> io::Result<()> {
    let ttl = ttl.map_or(-1, c_int::from);
    match address {
        IpAddr::V4(_) => set(socket, libc::IPPROTO_IP, libc::IP_TTL, &ttl)?,
        IpAddr::V6(_) => set(socket, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, &ttl)?,
    }
    Ok(())
}

/// Drops what comes in with a lower TTL or hop limit; 0: nothing.
pub(crate) fn set_least_ttl(socket: &impl AsFd, address: IpAddr, least: u8) -> io::Result<()> {
    let least = c_int::from(least);
    match address {
        IpAddr::V4(_) => set(socket, libc::IPPROTO_IP, libc::IP_MINTTL, &least)?,
        IpAddr::V6(_) => set(socket, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, &least)?,
    }
    Ok(())
}

/// Has the kernel keep the SYN of each connection that `listener` accepts, for [`ttl_of_syn`].
pub(crate) fn save_syn(listener: &impl AsFd) -> io::Result<()> {
    Ok(set(listener, libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, &c_int::from(true))?)
}

/// TTL or hop limit of the SYN that opened the connection, once: the kernel frees it when it is read. `None` where there is
/// none: with SYN cookies, which a flood of SYNs brings about, none is kept, and one that is longer than a BGP speaker's
/// ever is cannot be read.
pub(crate) fn ttl_of_syn(accepted: &impl AsFd) -> Option<u8> {
    // IP header, options or extension headers, TCP header.
    let mut packet = [0_u8; 512];
    let mut length = size_of_val(&packet) as libc::socklen_t;
    let descriptor = accepted.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open as long as it is borrowed; the kernel writes at most `length` octets to `packet`, and
    // their number to `length`, both of which live as long as the call.
    #[expect(unsafe_code, reason = "there is no safe name for this option")]
    let done = unsafe {
        libc::getsockopt(
            descriptor,
            libc::IPPROTO_TCP,
            libc::TCP_SAVED_SYN,
            packet.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    Errno::result(done).ok()?;
    let header = packet.get(..length as usize)?;
    match header.first()? >> 4 {
        4 => header.get(8).copied(),
        6 => header.get(7).copied(),
        _ => None,
    }
}

/// Whether the kernel could sign with TCP-AO (RFC 5925): it would find fault with the length of this, and with nothing else.
pub(crate) fn has_tcp_ao(socket: &impl AsFd) -> bool {
    set(socket, libc::IPPROTO_TCP, TCP_AO_DEL_KEY, &0_u8) != Err(Errno::ENOPROTOOPT)
}

fn set<T: Copy>(socket: &impl AsFd, level: c_int, option: c_int, value: &T) -> Result<(), Errno> {
    let descriptor = socket.as_fd().as_raw_fd();
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the descriptor is open as long as it is borrowed; the kernel reads `length` octets of `value`, which
    // lives as long as the call and is plain data, and keeps nothing of it.
    #[expect(unsafe_code, reason = "there is no safe name for these options")]
    let done =
        unsafe { libc::setsockopt(descriptor, level, option, std::ptr::from_ref(value).cast(), length) };
    Errno::result(done).map(drop)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn signature_is_laid_out_as_the_kernel_has_it() {
        assert_eq!(size_of::<Md5Signature>(), 216);
        let key = Password::new("k").expect("1 octet");
        let of = |text: &str| Md5Signature::new(text.parse().expect("test prefix"), key.octets());
        let (v4, v6) = (of("192.0.2.0/24"), of("fd00::1/128"));
        assert_eq!((v4.address[0], &v4.address[4..8], v4.prefix_length), (2, &[192, 0, 2, 0][..], 24));
        assert_eq!((v6.address[0], v6.address[8], v6.address[23], v6.prefix_length), (10, 0xFD, 1, 128));
    }

    #[test]
    fn key_can_be_set_changed_and_taken_away_twice() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let peer: Prefix = "192.0.2.0/24".parse().expect("test prefix");
        let keys = [Some("one"), Some("two"), None, None];
        let set = keys.map(|key| {
            let key = key.map(|key| Password::new(key).expect("short"));
            set_key(&socket, peer, key.as_ref())
        });
        assert_eq!(set, [const { Ok(()) }; 4]);
    }

    /// The kernel limits the memory of a socket's keys (net.core.optmem_max): a large fabric must fit.
    #[test]
    fn six_hundred_peers_have_a_key_each_on_one_listener() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let key = Password::new([b'k'; 80]).expect("80 octets");
        for number in 0..600_u32 {
            let peer = Prefix::host(IpAddr::from((0x0A00_0000 + number).to_be_bytes()));
            assert_eq!(set_key(&socket, peer, Some(&key)), Ok(()), "key {number}");
        }
    }

    #[test]
    fn ttl_of_who_connects_is_there_once_in_both_families() {
        for address in [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])] {
            let listener = std::net::TcpListener::bind((address, 0)).expect("loopback");
            save_syn(&listener).expect("the kernel has it");
            let at: SocketAddr = listener.local_addr().expect("bound");
            let caller = Socket::new(Domain::for_address(at), Type::STREAM, None).expect("a socket");
            set_ttl(&caller, address, Some(77)).expect("set");
            caller.connect(&at.into()).expect("somebody listens");
            let (accepted, _) = listener.accept().expect("it connected");
            assert_eq!([ttl_of_syn(&accepted), ttl_of_syn(&accepted)], [Some(77), None], "{address}");
        }
    }
}
