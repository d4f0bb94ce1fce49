"""Whoever listens on a network interface: all bytes that pass, put together again."""

import select
import socket
import struct
import threading
import time

import pytest

ALL_PROTOCOLS = 3
SO_RCVBUFFORCE = 33
SOL_PACKET, PACKET_STATISTICS, PACKET_OUTGOING = 263, 6, 4
PIECE = 16


class Listener:
    """`ports`: of TCP connections that count; None: everything does."""

    def __init__(self, interface, ports=None):
        self.ports, self.flows, self.stopping = ports and set(ports), {}, False
        self.is_loopback = interface == "lo"  # where each packet is seen going out and coming in
        try:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        except OSError as e:
            pytest.skip(f"no capture without the right to open packet sockets: {e}")
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self.socket.bind((interface, ALL_PROTOCOLS))
        self.thread = threading.Thread(target=self.listen)
        self.thread.start()

    def listen(self):
        while not self.stopping:
            if not select.select([self.socket], [], [], 0.1)[0]:
                continue
            packet, address = self.socket.recvfrom(1 << 17)
            if not self.is_loopback or address[2] == PACKET_OUTGOING:
                self.take(packet, address[1])

    def take(self, packet, ethertype):
        flow, begin = None, 0
        if ethertype == 0x0800 and packet[9] == 6:  # TCP over IPv4
            header = (packet[0] & 15) * 4
            flow = (packet[12:20], *struct.unpack_from("!HH", packet, header))
            begin = header + (packet[header + 12] >> 4) * 4
        if self.ports is None or flow and self.ports & set(flow[1:]):
            self.flows.setdefault(flow, bytearray()).extend(packet[begin:])

    def stop(self):
        """The bytes of each connection and direction, and of all else."""
        time.sleep(0.3)
        self.stopping = True
        self.thread.join()
        _, dropped = struct.unpack("II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self.socket.close()
        assert not dropped, f"{dropped} packets were missed"
        return [bytes(f) for f in self.flows.values()]


def pieces(data, step=1):
    """Runs of 16 bytes, one every `step`, but those that hold next to nothing."""
    runs = (data[i:i + PIECE] for i in range(0, len(data) - PIECE + 1, step))
    return {run for run in runs if len(set(run)) > PIECE // 2}


def found(wanted, flows):
    """Those of the pieces that passed, wherever they began."""
    return {run for flow in flows for i in range(len(flow) - PIECE + 1)
            if (run := flow[i:i + PIECE]) in wanted}
