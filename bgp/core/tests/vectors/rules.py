#!/usr/bin/env python3
"""Writes rules.json: a case for each rule on malformed input, from the text of the RFCs.

Run it in its folder after a change of the list below.
"""

import json
from ipaddress import ip_address

DEVICE, TESTER = "10.2.0.1", "10.2.0.2"
DEVICE_V6, TESTER_V6 = "fd00:2::1", "fd00:2::2"
DEVICE_AS, EXTERNAL_AS, OLD, NEW = 65001, 65002, 64999, 64512
CAPS = ["mp4", "mp6", "rr", "as4"]
WELL_KNOWN, TRANSITIVE, LOCAL, EXTENDED, PARTIAL = 0x40, 0xC0, 0x80, 0x10, 0x20
MP = ["notification 3/1", "notification 3/5", "notification 3/8", "notification 3/10"]

cases = []


# --- octets ---------------------------------------------------------------------------------------------------

def u16(value):
    return value.to_bytes(2, "big")


def u32(value):
    return value.to_bytes(4, "big")


def addr(text):
    return ip_address(text).packed


def message(kind, body, length=None, marker=b"\xff" * 16):
    return marker + u16(19 + len(body) if length is None else length) + bytes([kind]) + body


def attr(code, value, flags=WELL_KNOWN, length=None):
    length = len(value) if length is None else length
    head = u16(length) if flags & EXTENDED else bytes([length])
    return bytes([flags, code]) + head + value


def origin(value=b"\0", **more):
    return attr(1, value, **more)


def segment(asns, kind=2, width=4):
    return bytes([kind, len(asns)]) + b"".join(asn.to_bytes(width, "big") for asn in asns)


def path(*asns, width=4):
    return attr(2, segment(asns, width=width) if asns else b"")


def next_hop(value=addr(TESTER)):
    return attr(3, value)


def nlri(text):
    address, length = text.split("/")
    return bytes([int(length)]) + addr(address)[: (int(length) + 7) // 8]


def reach(prefixes, hop=addr(TESTER_V6), afi=2, safi=1, reserved=0, **more):
    value = u16(afi) + bytes([safi, len(hop)]) + hop + bytes([reserved]) + prefixes
    return attr(14, value, **{"flags": LOCAL, **more})


def unreach(prefixes, afi=2, safi=1, **more):
    return attr(15, u16(afi) + bytes([safi]) + prefixes, **{"flags": LOCAL, **more})


def update(attributes, announced=b"", withdrawn=b""):
    return message(2, u16(len(withdrawn)) + withdrawn + u16(len(attributes)) + attributes + announced)


def capability(code, value=b""):
    return bytes([code, len(value)]) + value


def as4(asn=EXTERNAL_AS):
    return capability(65, u32(asn))


MP4, MP6 = capability(1, b"\0\1\0\1"), capability(1, b"\0\2\0\1")


def opened(capabilities=None, asn=EXTERNAL_AS, hold=90, identifier=TESTER, version=4, parameters=None):
    if parameters is None:
        capabilities = MP4 + MP6 + as4() if capabilities is None else capabilities
        parameters = bytes([2, len(capabilities)]) + capabilities
        parameters = bytes([len(parameters)]) + parameters
    return message(1, bytes([version]) + u16(asn) + u16(hold) + addr(identifier) + parameters)


def long_form(parameters, beside=255, total=None):
    return bytes([beside, 255]) + u16(len(parameters) if total is None else total) + parameters


# --- cases ----------------------------------------------------------------------------------------------------

def case(name, message, action, ref, phase="established", peer="ebgp", also=(), checks=None, why=None, **more):
    """`action` is a word, or code/subcode of a NOTIFICATION; `also` are other answers that will do."""
    code = [int(part) for part in action.split("/")] if "/" in action else None
    one = {
        "id": f"rule-{len(cases):03}",
        "name": name,
        "category": "rule",
        "phase": phase,
        "peer": peer,
        "caps": more.pop("caps", CAPS),
        "requires": more.pop("requires", []),
        "delivery": "whole",
        "message": message.hex(),
        "expect": {
            "action": "notification" if code else action,
            "notification": code,
            "alternatives": list(also),
            "checks": checks or {},
        },
        "ref": ref,
        "source": "rfc",
    }
    if why:
        one["why"] = why
    cases.append(one | more)


def on_open(name, message, action, ref, **more):
    case(name, message, action, ref, phase="opensent", **more)


def on_header(name, message, action, ref, **more):
    case(name, message, action, ref, **more)


class Route:
    """Attributes of a route of a peer, and the prefixes that the next case is about."""

    def __init__(self, peer="ebgp", width=4):
        self.number, self.peer, self.width = len(cases), peer, width
        self.v4 = f"203.0.{self.number}.0/24"
        self.v6 = f"2001:db8:{0x9000 + self.number:x}::/48"
        self.sentinel = f"100.100.{self.number}.0/24"
        self.first = [EXTERNAL_AS] if peer == "ebgp" else [EXTERNAL_AS + 100]

    def base(self, last=NEW):
        return origin() + path(*self.first, last, width=self.width) + next_hop()

    def mp_base(self, last=NEW):
        return origin() + path(*self.first, last, width=self.width)

    def more(self, prefix):
        of_setup = self.base(OLD) if prefix == self.v4 else reach(nlri(self.v6)) + self.mp_base(OLD)
        announced = nlri(self.v4) if prefix == self.v4 else b""
        more = {
            "sentinel": update(self.base(), nlri(self.sentinel)).hex(),
            "sentinel_prefix": self.sentinel,
            "peer": self.peer,
        }
        if self.width == 2:
            more["caps"] = ["mp4", "mp6", "rr"]
        return more | ({"setup": [update(of_setup, announced).hex()], "prefix": prefix} if prefix else {})


def on_route(name, extra, action, ref, peer="ebgp", width=4, checks=None, **more):
    """An announcement with one more attribute, or several."""
    route = Route(peer, width)
    body = update(route.base() + extra, nlri(route.v4))
    case(name, body, action, ref, checks=checks, **more, **route.more(route.v4))


def on_path(name, value, action, ref, peer="ebgp", width=4, extra=b"", **more):
    """An announcement with that value of AS_PATH."""
    route = Route(peer, width)
    body = update(origin() + attr(2, value) + next_hop() + extra, nlri(route.v4))
    case(name, body, action, ref, **more, **route.more(route.v4))


def on_next_hop(name, value, action, ref, **more):
    route = Route()
    body = update(origin() + path(*route.first, NEW) + next_hop(value), nlri(route.v4))
    case(name, body, action, ref, **more, **route.more(route.v4))


def on_reach(name, attribute, action, ref, extra=b"", **more):
    """An IPv6 announcement; `attribute` makes MP_REACH_NLRI of the prefix."""
    route = Route()
    body = update(attribute(nlri(route.v6)) + route.mp_base() + extra)
    case(name, body, action, ref, **(route.more(route.v6) | more))


def on_message(name, body, action, ref, prefix="v4", **more):
    """`body` makes a message of a Route; `prefix` is what is looked at."""
    route = Route()
    looked_at = {"v4": route.v4, "v6": route.v6, None: None}[prefix]
    case(name, body(route), action, ref, **(route.more(looked_at) | more))


# header
HEADER = "RFC 4271 6.1"
on_header("type-0", message(0, b""), "1/3", HEADER)
on_header("type-6", message(6, b""), "1/3", HEADER)
on_header("length-0", message(4, b"", length=0), "1/2", HEADER)
on_header("keepalive-18", message(4, b"", length=18), "1/2", HEADER)
on_header("keepalive-23", message(4, b"\0" * 4), "1/2", HEADER)
on_header("update-22", message(2, b"\0" * 3), "1/2", HEADER)
on_header("notification-20", message(3, b"\6"), "1/2", HEADER, also=["close"])
on_header("refresh-22", message(5, b"\0\1\0"), "1/2", HEADER, also=["notification 7/1"])
on_header("length-65535-not-agreed", message(2, b"\0" * 80, length=65535), "1/2", "RFC 8654 4")
on_header("keepalive-4097-with-long-messages", message(4, b"\0" * 4078), "1/2", "RFC 8654 4", caps=CAPS + ["extmsg"])
on_header("open-4097-with-long-messages", message(1, b"\0" * 4078), "1/2", "RFC 8654 4", caps=CAPS + ["extmsg"], also=["notification 5/3"])
on_header("last-octet-of-marker", message(4, b"", marker=b"\xff" * 15 + b"\xfe"), "1/1", HEADER)
on_message(
    "long-update",
    lambda r: update(r.base(), nlri(r.v4) + b"".join(nlri(f"198.128.{n // 250}.{n % 250}/32") for n in range(1000))),
    "accept", "RFC 8654 3", caps=CAPS + ["extmsg"], requires=["extmsg"],
)

# OPEN
OPEN, LONG = "RFC 4271 6.2", "RFC 9072 2"
on_open("version-5", opened(version=5), "2/1", OPEN)
on_open("hold-time-1", opened(hold=1), "2/6", OPEN)
on_open("hold-time-0", opened(hold=0), "accept", OPEN)
on_open("hold-time-65535", opened(hold=65535), "accept", OPEN)
on_open("another-as", opened(MP4 + as4(65009), asn=65009), "2/2", OPEN)
on_open("four-octet-as-0", opened(MP4 + as4(0), asn=23456), "2/2", "RFC 7607 2")
on_open("as-trans-without-four-octets", opened(MP4, asn=23456), "2/2", "RFC 6793 4.2.3")
on_open("four-octet-as-of-two-octets", opened(MP4 + capability(65, b"\xfd\xea")), "2/0", "RFC 6793 3", also=["accept"])
on_open("identifier-all-ones", opened(identifier="255.255.255.255"), "accept", "RFC 6286 2.1", also=["notification 2/3"])
on_open("own-identifier-from-another-as", opened(identifier=DEVICE), "accept", "RFC 6286 2.1")
on_open("long-form-with-another-length-beside", opened(parameters=long_form(b"\2\0\14" + MP4 + as4(), beside=1)), "accept", LONG, also=["notification 2/0"])
on_open("long-form-with-0-beside", opened(parameters=long_form(b"\2\0\14" + MP4 + as4(), beside=0)), "2/0", LONG, also=["notification 2/4", "notification 1/2"])
on_open("long-form-longer-than-message", opened(parameters=long_form(b"\2\0\14" + MP4 + as4(), total=200)), "2/0", LONG, also=["notification 2/4"])
on_open("long-parameter-runs-over", opened(parameters=long_form(b"\2\1\14" + MP4 + as4())), "2/0", LONG, also=["notification 2/4"])
on_open("long-form-with-unknown-parameter", opened(parameters=long_form(b"\x4d\0\1\0")), "2/4", LONG)
on_open("empty-parameter", opened(parameters=bytes([16, 2, 0, 2, 12]) + MP4 + as4()), "accept", "RFC 5492 4")
on_open("capability-twice", opened(MP4 + MP4 + MP6 + as4() + as4()), "accept", "RFC 5492 4")
on_open("capabilities-0-and-255", opened(MP4 + capability(0) + capability(255, b"\1\2\3") + as4()), "accept", "RFC 5492 3")
on_open("multiprotocol-with-reserved-octet", opened(capability(1, b"\0\1\xff\1") + as4()), "accept", "RFC 4760 8")
on_open("refresh-capability-of-one-octet", opened(MP4 + as4() + capability(2, b"\0")), "2/0", "RFC 2918 2", also=["accept"])
on_open("long-message-capability-of-one-octet", opened(MP4 + as4() + capability(6, b"\0")), "2/0", "RFC 8654 3", also=["accept"])
on_open("restart-capability-of-one-octet", opened(MP4 + as4() + capability(64, b"\0")), "2/0", "RFC 4724 3", also=["accept"])
on_open("restart-capability-with-reserved-bits", opened(MP4 + as4() + capability(64, b"\x30\x78\0\1\1\x7f")), "accept", "RFC 4724 3")
on_open("restart-capability-twice", opened(MP4 + as4() + capability(64, b"\0\x78") + capability(64, b"\0\x78\0\1\1\x80")), "accept", "RFC 4724 3")
on_open("restart-capability-of-unknown-family", opened(MP4 + as4() + capability(64, b"\0\x78\x63\x63\1\x80")), "accept", "RFC 4724 3")
on_open("long-lived-capability-of-6-octets", opened(MP4 + as4() + capability(71, b"\0\1\1\x80\0\0")), "2/0", "RFC 9494 3", also=["accept"])
on_open("next-hop-capability-of-5-octets", opened(MP4 + as4() + capability(5, b"\0\1\0\1\0")), "2/0", "RFC 8950 4", also=["accept"])
on_open("update-instead", update(b"", b""), "5/1", "RFC 6608 4")
on_open("refresh-instead", message(5, b"\0\1\0\1"), "5/1", "RFC 6608 4")
case("update-in-openconfirm", update(b"", b""), "5/2", "RFC 6608 4", phase="openconfirm")
case("cease-in-openconfirm", message(3, b"\6\2"), "close", "RFC 4271 8.2.2", phase="openconfirm")
case("open-in-established", opened(), "5/3", "RFC 6608 4")
case("keepalive-4096-zeros-after", message(4, b"") + b"\0" * 64, "1/1", HEADER)

# AS_PATH
PATH, AS4 = "RFC 7606 7.2", "RFC 6793 6"
W = "treat-as-withdraw"
on_path("path-of-one-octet", b"\2", W, PATH)
on_path("path-with-header-alone", b"\2\1", W, PATH)
on_path("path-with-octet-behind", segment([EXTERNAL_AS, NEW]) + b"\2", W, PATH)
on_path("path-with-empty-segment-behind", segment([EXTERNAL_AS, NEW]) + b"\2\0", W, PATH)
on_path("path-with-as-set", segment([EXTERNAL_AS]) + segment([NEW], kind=1), W, "RFC 9774 3", also=["accept"])
on_path("path-of-confederation", segment([EXTERNAL_AS], kind=3) + segment([EXTERNAL_AS, NEW]), W, "RFC 5065 5")
on_path("path-of-confederation-from-inside", segment([65102], kind=3) + segment([NEW]), W, "RFC 5065 5", peer="ibgp", also=["accept"])
on_path("path-empty-from-outside", b"", W, "RFC 4271 6.3", also=["accept"])
on_path("path-empty-from-inside", b"", "accept", "RFC 4271 5.1.2", peer="ibgp")
on_path("path-with-as-0-first", segment([0, NEW]), W, "RFC 7607 2")
on_path("path-in-two-segments", segment([EXTERNAL_AS]) + segment([NEW]), "accept", PATH)
on_path("path-with-own-as-from-inside", segment([DEVICE_AS, NEW]), W, "RFC 4271 9.1.2", peer="ibgp")
merged = segment([EXTERNAL_AS, 4200000001, NEW]).hex()
narrow = segment([EXTERNAL_AS, 23456, NEW], width=2)
plain = segment([EXTERNAL_AS, 23456, NEW]).hex()
wide = segment([4200000001, NEW])
on_path("as4-path-merged", narrow, "accept", AS4, width=2, extra=attr(17, wide, TRANSITIVE), checks={"attr_value": {"2": merged}})
on_path("as4-path-with-confederation-sequence", narrow, "accept", AS4, width=2, extra=attr(17, segment([64900], kind=3) + wide, TRANSITIVE), checks={"attr_value": {"2": merged}})
on_path("as4-path-with-as-set", narrow, W, "RFC 9774 3", width=2, extra=attr(17, segment([64900], kind=1) + wide, TRANSITIVE), also=["accept", "attribute-discard"])
on_path("as4-path-with-as-0", narrow, "attribute-discard", AS4, width=2, extra=attr(17, segment([0, NEW]), TRANSITIVE), checks={"attr_value": {"2": plain}})
on_path("as4-path-of-unknown-segment", narrow, "attribute-discard", AS4, width=2, extra=attr(17, segment([NEW], kind=9), TRANSITIVE), checks={"attr_value": {"2": plain}})
on_path("as4-path-empty", narrow, "accept", AS4, width=2, extra=attr(17, b"", TRANSITIVE), also=["attribute-discard"])
on_path(
    "as4-path-beside-a-two-octet-aggregator", narrow, "accept", "RFC 6793 4.2.3", width=2,
    extra=attr(7, u16(65002) + addr(TESTER), TRANSITIVE) + attr(17, wide, TRANSITIVE) + attr(18, u32(4200000001) + addr(TESTER), TRANSITIVE),
    checks={"attr_value": {"2": plain}},
)
on_route("as4-aggregator-of-7-octets", attr(7, u16(23456) + addr(TESTER), TRANSITIVE) + attr(18, b"\0" * 7, TRANSITIVE), "attribute-discard", AS4, width=2, checks={"discard_attrs": [18]})

# attributes that every speaker knows
on_next_hop("next-hop-0", addr("0.0.0.0"), W, "RFC 4271 6.3")
on_next_hop("next-hop-multicast", addr("224.0.0.5"), W, "RFC 4271 6.3")
on_next_hop("next-hop-empty", b"", W, "RFC 7606 7.3")
on_next_hop("next-hop-of-5-octets", addr(TESTER) + b"\0", W, "RFC 7606 7.3")
on_next_hop("next-hop-is-ours", addr(DEVICE), W, "RFC 4271 5.1.3")
on_message("origin-of-2-octets", lambda r: update(origin(b"\0\0") + path(*r.first, NEW) + next_hop(), nlri(r.v4)), W, "RFC 7606 7.1")
on_message("origin-255", lambda r: update(origin(b"\xff") + path(*r.first, NEW) + next_hop(), nlri(r.v4)), W, "RFC 7606 7.1")
on_route("med-empty", attr(4, b"", LOCAL), W, "RFC 7606 7.4")
on_route("med-of-5-octets", attr(4, b"\0" * 5, LOCAL), W, "RFC 7606 7.4")
on_route("med-transitive", attr(4, b"\0" * 4, TRANSITIVE), W, "RFC 7606 3(c)")
on_route("local-pref-empty-from-outside", attr(5, b""), "attribute-discard", "RFC 7606 7.5", checks={"attr_not_value": {"5": ""}})
on_route("local-pref-empty-from-inside", attr(5, b""), W, "RFC 7606 7.5", peer="ibgp")
on_route("atomic-aggregate-of-1-octet", attr(6, b"\0"), "attribute-discard", "RFC 7606 7.6", checks={"discard_attrs": [6]})
on_route("aggregator-empty", attr(7, b"", TRANSITIVE), "attribute-discard", "RFC 7606 7.7", checks={"discard_attrs": [7]})
on_route("aggregator-of-8-octets-in-two", attr(7, b"\0" * 8, TRANSITIVE), "attribute-discard", "RFC 7606 7.7", width=2, checks={"discard_attrs": [7]})
on_route("community-empty", attr(8, b"", TRANSITIVE), W, "RFC 7606 7.8")
on_route("community-of-5-octets", attr(8, b"\0" * 5, TRANSITIVE), W, "RFC 7606 7.8")
on_route("community-not-transitive", attr(8, b"\0" * 4, LOCAL), W, "RFC 7606 3(c)")
on_route("originator-of-5-octets", attr(9, b"\1" * 5, LOCAL), W, "RFC 7606 7.9", peer="ibgp")
on_route("originator-empty-from-outside", attr(9, b"", LOCAL), "attribute-discard", "RFC 7606 7.9", checks={"discard_attrs": [9]})
on_route("originator-is-ours", attr(9, addr(DEVICE), LOCAL), W, "RFC 4456 8", peer="ibgp", also=["accept"])
on_route("cluster-list-of-5-octets", attr(10, b"\1" * 5, LOCAL), W, "RFC 7606 7.10", peer="ibgp")
on_route("cluster-list-of-3-octets-from-outside", attr(10, b"\1" * 3, LOCAL), "attribute-discard", "RFC 7606 7.10", checks={"discard_attrs": [10]})
on_route("extended-community-of-4-octets", attr(16, b"\0" * 4, TRANSITIVE), W, "RFC 7606 7.14")
on_route("ipv6-community-empty", attr(25, b"", TRANSITIVE), W, "RFC 7606 7.15", also=["accept"])
on_route("ipv6-community", attr(25, b"\0\2" + b"\1" * 18, TRANSITIVE), "accept", "RFC 5701 2", checks={"attr_present": [25]})
on_route("large-community-empty", attr(32, b"", TRANSITIVE), W, "RFC 8092 6")
on_route("large-community-of-13-octets", attr(32, b"\0" * 13, TRANSITIVE), W, "RFC 8092 6")
large = [u32(1) * 3, u32(2) * 3]
on_route("large-community-twice", attr(32, large[0] + large[1] + large[0], TRANSITIVE), "accept", "RFC 8092 3", checks={"attr_value": {"32": (large[0] + large[1]).hex()}})

# attributes that few know
on_route("tunnel-tlv", attr(23, b"\0\x08\0\2\1\0", TRANSITIVE), "accept", "RFC 9012 13", checks={"attr_present": [23]})
on_route("tunnel-tlv-cut-in-its-head", attr(23, b"\0\x08\0", TRANSITIVE), W, "RFC 9012 13", also=["accept", "attribute-discard"])
on_route("aigp-transitive", attr(26, b"\1\0\x0b" + b"\0" * 8, TRANSITIVE), "attribute-discard", "RFC 7311 3", also=["accept"], checks={"discard_attrs": [26]})
on_route("aigp-empty", attr(26, b"", LOCAL), "attribute-discard", "RFC 7311 3.2", also=["accept"], checks={"discard_attrs": [26]})
on_route("prefix-sid-not-transitive", attr(40, b"\1\0\7" + b"\0" * 7, LOCAL), "attribute-discard", "RFC 8669 6", also=["accept", W], checks={"discard_attrs": [40]})
on_route("only-to-customer", attr(35, u32(65002), TRANSITIVE), "accept", "RFC 9234 5", checks={"attr_present": [35]})
on_route("only-to-customer-empty", attr(35, b"", TRANSITIVE), W, "RFC 9234 5", also=["accept"])
on_route("unknown-with-partial-bit", attr(99, b"\1\2", TRANSITIVE | PARTIAL), "accept", "RFC 4271 5", checks={"attr_partial": [99]})
on_route("unknown-of-300-octets", attr(99, b"\7" * 300, TRANSITIVE | EXTENDED), "accept", "RFC 4271 5", checks={"attr_partial": [99]})
on_route("unknown-not-transitive", attr(99, b"\1\2", LOCAL), "accept", "RFC 4271 9", checks={"attr_absent": [99]})
on_route("code-0", attr(0, b"\1", TRANSITIVE), "accept", "RFC 4271 5", also=["attribute-discard", W])
on_route("unknown-well-known", attr(99, b"\1\2"), "3/2", "RFC 4271 6.3", also=[W])

# the list, and the message
LIST = "RFC 7606 4"
on_route("next-hop-twice", next_hop(addr("10.2.0.99")), "accept", "RFC 7606 3(g)")
on_route("origin-twice", origin(b"\2"), "accept", "RFC 7606 3(g)", checks={"attr_value": {"1": "00"}})
on_route("one-octet-left", b"\x40", W, LIST)
on_route("extended-length-cut", b"\xd0\x63\1", W, LIST)
on_route("short-value-with-extended-length", attr(4, b"\0\0\0\1", LOCAL | EXTENDED), "accept", "RFC 4271 4.3")
on_message("no-attributes", lambda r: update(b"", nlri(r.v4)), W, "RFC 7606 3(d)", also=["notification 3/1", "notification 3/3"])
on_message("attributes-alone", lambda r: update(r.base()), "accept", "RFC 7606 5.2", checks={"prefix_unchanged": True})
on_message("withdrawn-and-announced", lambda r: update(r.base(), nlri(r.v4), nlri(r.v4)), "accept", "RFC 4271 4.3")
on_message("withdrawn-that-was-never-told", lambda r: update(b"", b"", nlri("203.1.0.0/24")), "accept", "RFC 4271 4.3", checks={"prefix_unchanged": True})
on_message("withdrawn-prefix-33", lambda r: update(b"", b"", b"\x21" + addr("203.0.0.0") + b"\0"), "3/10", "RFC 7606 5.3", also=["notification 3/1"])
on_message("host-prefix-cut", lambda r: update(r.base(), b"\x20" + addr("203.0.0.1")[:3]), "3/10", "RFC 7606 5.3", also=["notification 3/1"])
on_message(
    "both-families-with-bad-med",
    lambda r: update(reach(nlri(r.v6)) + r.base() + attr(4, b"\0", LOCAL), nlri(r.v4)),
    W, "RFC 7606 7.4", also_prefixes=[Route().v6], checks={"also_absent": True},
)
on_message("loopback-prefix", lambda r: update(r.base(), nlri("127.0.0.0/8")), "accept", "RFC 1122 3.2.1.3", checks={"prefix_unchanged": True, "also_absent": True}, also_prefixes=["127.0.0.0/8"], also=["accept-installed"])

# MP_REACH_NLRI and MP_UNREACH_NLRI
REACH = "RFC 7606 7.11"
for octets in (0, 8, 15, 24, 31, 48):
    on_reach(f"next-hop-of-{octets}-octets", lambda p, n=octets: reach(p, hop=(addr(TESTER_V6) * 3)[:n]), "3/9", REACH, also=MP)
on_reach("reserved-octet", lambda p: reach(p, reserved=255), "accept", "RFC 4760 3")
on_reach("second-next-hop-not-link-local", lambda p: reach(p, hop=addr(TESTER_V6) * 2), "accept", "RFC 2545 3", also=[W])
on_reach("next-hop-link-local-twice", lambda p: reach(p, hop=addr("fe80::2") * 2), W, "RFC 2545 3", also=["accept"])
on_reach("next-hop-mapped", lambda p: reach(p, hop=addr("::ffff:10.2.0.2")), W, "RFC 4291 2.5.5.2", also=["accept"])
on_reach("next-hop-multicast-v6", lambda p: reach(p, hop=addr("ff02::1")), W, "RFC 4271 6.3")
on_reach("next-hop-unspecified-v6", lambda p: reach(p, hop=addr("::")), W, "RFC 4271 6.3")
on_reach("reach-longer-than-list", lambda p: reach(p, length=255), "3/9", "RFC 7606 4", also=MP)
on_reach("reach-transitive", lambda p: reach(p, flags=TRANSITIVE), "3/4", "RFC 7606 3(c)", also=["notification 3/9", "notification 3/1", W])
on_reach("reach-before-an-overrun", reach, W, LIST, extra=b"\xc0\x08\xff\0")
on_reach("reach-twice", lambda p: reach(p) + reach(p), "3/1", "RFC 7606 3(g)")
on_reach("host-prefix-cut-v6", lambda p: reach(b"\x80" + addr("2001:db8::")[:15]), "3/9", REACH, also=MP)
on_message("reach-behind-other-attributes", lambda r: update(r.mp_base() + reach(nlri(r.v6))), "accept", "RFC 7606 5.1", prefix="v6")
on_message("reach-and-unreach-of-one-prefix", lambda r: update(unreach(nlri(r.v6)) + reach(nlri(r.v6)) + r.mp_base()), "accept", "RFC 4760 3", prefix="v6")
on_message("unreach-beside-known-attributes", lambda r: update(r.base() + unreach(nlri(r.v6)), nlri(r.sentinel)), W, "RFC 4760 4", prefix="v6")
on_message("unreach-of-ipv4", lambda r: update(unreach(nlri(r.v4), afi=1)), W, "RFC 4760 4")
on_message("unreach-empty-value", lambda r: update(attr(15, b"", LOCAL)), "3/9", "RFC 7606 5.3", also=MP)
on_message("unreach-prefix-cut-v6", lambda r: update(unreach(b"\x30\x20\1")), "3/9", REACH, also=MP)
on_message("unreach-of-unknown-family", lambda r: update(unreach(b"\xff\xff", afi=99)), "accept", "RFC 4760 7", also=["notification 3/9"], checks={"prefix_unchanged": True})
on_message("end-of-rib-of-unknown-family", lambda r: update(unreach(b"", afi=25, safi=70)), "accept", "RFC 4724 2", checks={"prefix_unchanged": True})
for safi in (2, 4, 128):
    on_message(f"ipv6-safi-{safi}", lambda r, s=safi: update(reach(nlri(r.v6), safi=s) + r.mp_base()), "accept", "RFC 4760 7", prefix="v6", also=["notification 3/9"], checks={"prefix_unchanged": True})
on_message("ipv6-not-agreed", lambda r: update(reach(nlri(r.v6)) + r.mp_base()), "ignore", "RFC 4760 7", prefix=None, caps=["mp4", "rr", "as4"])

# what else comes on a session
on_message("refresh-of-unknown-family", lambda r: message(5, b"\x63\x63\0\1"), "accept", "RFC 2918 4", checks={"prefix_unchanged": True})
on_message("refresh-of-subtype-255", lambda r: message(5, b"\0\1\xff\1"), "accept", "RFC 7313 5", checks={"prefix_unchanged": True})
on_message("refresh-twenty-times", lambda r: message(5, b"\0\1\0\1") * 20, "accept", "RFC 2918 4", checks={"prefix_unchanged": True})
case("hard-reset-with-an-empty-reason", message(3, b"\6\x09"), "close", "RFC 8538 3")
case("shutdown-longer-than-its-text", message(3, b"\6\2\xffhi"), "close", "RFC 9003 2")
case("shutdown-with-broken-utf-8", message(3, b"\6\2\4\xff\xfe\xfd\xfc"), "close", "RFC 9003 2")

if __name__ == "__main__":
    lines = ",\n".join(json.dumps(one) for one in cases)
    with open("rules.json", "w", encoding="utf-8") as file:
        file.write(f'{{"format": 1, "cases": [\n{lines}\n]}}\n')
    print(f"{len(cases)} cases")
