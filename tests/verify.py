#!/usr/bin/python3
"""Reads a trace of the generator with babeltrace2 and proves it: checksums, order, losses.

Prints one JSON object: events, discarded events and packets as babeltrace2 tells them, by
stream; or fails at the first thing that is wrong.
"""
import json
import sys

import bt2

TABLE = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
    TABLE.append(n)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def main(path):
    events, discarded, packets = 0, 0, 0
    last = {}
    for message in bt2.TraceCollectionMessageIterator(path):
        if type(message) is bt2._DiscardedEventsMessageConst:
            discarded += message.count or 0
        elif type(message) is bt2._DiscardedPacketsMessageConst:
            packets += message.count or 0
        elif type(message) is bt2._EventMessageConst:
            event = message.event
            if event.name != "rbpipe:generated":
                continue
            events += 1
            writer, seq = int(event["writer"]), int(event["seq"])
            payload = bytes(int(b) for b in event["payload"])
            head = writer.to_bytes(4, "little") + seq.to_bytes(8, "little")
            assert int(event["check"]) == crc32c(head + payload), (writer, seq)
            key = (event.packet.stream.id, writer)
            assert last.get(key, -1) < seq, (key, seq)
            last[key] = seq
    print(json.dumps({"events": events, "discarded": discarded, "packets_lost": packets}))


main(sys.argv[1])
