"""A bridge between eth1 and eth2 over which every frame takes a while: what two speakers begin meanwhile, they begin without
knowing of each other.

usage: delay.py MILLISECONDS. Prints a line for each SYN of BGP: the interface it came from.
"""

import heapq
import select
import socket
import sys
import time

IP, ARP = 0x0800, 0x0806
TCP = 6
BGP = 179


def checksum(octets):
    """RFC 1071."""
    octets += b"\0" * (len(octets) % 2)
    total = sum(octets[at] << 8 | octets[at + 1] for at in range(0, len(octets), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def tcp_of(frame):
    """Where TCP begins and ends in a frame of IPv4, or None."""
    if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != TCP:
        return None
    start = 14 + (frame[14] & 15) * 4
    return start, 14 + int.from_bytes(frame[16:18], "big")


def with_checksum(frame):
    """A veth leaves the checksum to hardware that is not there."""
    tcp = tcp_of(frame)
    if not tcp:
        return frame
    start, end = tcp
    segment = bytearray(frame[start:end])
    segment[16:18] = b"\0\0"
    pseudo = frame[26:34] + bytes([0, TCP]) + len(segment).to_bytes(2, "big")
    segment[16:18] = checksum(pseudo + bytes(segment)).to_bytes(2, "big")
    return frame[:start] + bytes(segment)


def is_syn(frame):
    tcp = tcp_of(frame)
    if not tcp:
        return False
    start, _ = tcp
    return frame[start + 13] & 0x12 == 0x02 and int.from_bytes(frame[start + 2 : start + 4], "big") == BGP


def main():
    delay = int(sys.argv[1]) / 1000
    ends = {}
    for name in ("eth1", "eth2"):
        end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        end.bind((name, 0))
        ends[end] = name
    other = dict(zip(ends, reversed(ends)))
    waiting, number = [], 0
    while True:
        patience = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        for end in select.select(list(ends), [], [], patience)[0]:
            frame, address = end.recvfrom(70000)
            if address[2] == socket.PACKET_OUTGOING or frame[12:14] not in (b"\x08\x00", b"\x08\x06"):
                continue
            if is_syn(frame):
                print(ends[end], flush=True)
            number += 1
            heapq.heappush(waiting, (time.monotonic() + delay, number, other[end], with_checksum(frame)))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, out, frame = heapq.heappop(waiting)
            out.send(frame)


main()
