#!/usr/bin/env python3
"""Our handshake and records against an independent Noise (PyPI noiseprotocol), both ways round.

    python3 tests/interop_noise.py build/bin/conn_stdio

Everything but Noise itself is written here a second time from docs/protocol.md: preamble, frames,
certificate, psk, records, fragments, REKEY, CLOSE.  Exit 77: noiseprotocol is not installed."""
import hashlib
import os
import struct
import subprocess
import sys
import time

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from noise.connection import Keypair, NoiseConnection
except ImportError as e:
    print(f"skipped: {e.name} is not installed (pip install noiseprotocol)")
    sys.exit(77)

DATA, PAD, REKEY, CLOSE = range(4)
FIRST, LAST = 1, 2
PING, PONG, ACT = 2, 3, 22
SWARM_KEY = hashlib.blake2b(b"swarm public key v1", digest_size=32).digest()
ME = Ed25519PrivateKey.from_private_bytes(b"p" * 32)
THEM = Ed25519PrivateKey.from_private_bytes(b"\x62" + bytes(31)).public_key()


def raw(key):
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def psk(swarm_key):
    """libsodium's crypto_kdf_derive_from_key(32, 1, "swrmnois", key)"""
    return hashlib.blake2b(b"", digest_size=32, key=swarm_key, salt=struct.pack("<QQ", 1, 0),
                           person=b"swrmnois".ljust(16, b"\0")).digest()


def pack(v):
    """MessagePack, as much of it as messages need"""
    if isinstance(v, int):
        return bytes([v]) if v < 128 else b"\xcf" + struct.pack(">Q", v)
    if isinstance(v, bytes):
        return b"\xc6" + struct.pack(">I", len(v)) + v
    if isinstance(v, str):
        return bytes([0xa0 | len(v)]) + v.encode()
    if isinstance(v, list):
        return bytes([0x90 | len(v)]) + b"".join(map(pack, v))
    return bytes([0x80 | len(v)]) + b"".join(pack(k) + pack(x) for k, x in v.items())


def unpack(b, at=0):
    t = b[at]
    at += 1
    if t < 0x80:
        return t, at
    if t >> 4 == 8 or t >> 4 == 9:
        items = []
        for _ in range((t & 15) * (2 if t >> 4 == 8 else 1)):
            v, at = unpack(b, at)
            items.append(v)
        return (dict(zip(items[::2], items[1::2])) if t >> 4 == 8 else items), at
    if t >> 5 == 5:
        n = t & 31
        return b[at:at + n].decode(), at + n
    if 0xc4 <= t <= 0xc6:
        w = 1 << (t - 0xc4)
        n = int.from_bytes(b[at:at + w], "big")
        return b[at + w:at + w + n], at + w + n
    if 0xcc <= t <= 0xcf:
        w = 1 << (t - 0xcc)
        return int.from_bytes(b[at:at + w], "big"), at + w
    raise ValueError(f"msgpack 0x{t:02x}")


def record(kind, flags=0, stream=0, data=b"", mlen=None, pad=64):
    p = struct.pack(">BBHHHI", kind, flags, stream, len(data), 0, len(data) if mlen is None else mlen)
    p += data
    return p + bytes(-len(p) % pad)


class Peer:
    def __init__(self, program, they, class_, key=SWARM_KEY, cert_key=ME):
        self.p = subprocess.Popen([program, they, ["fast", "bulk"][class_]], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.room = [16396, 65519][class_] - 12
        self.cert_key = cert_key
        self.n = NoiseConnection.from_name(b"Noise_XXpsk0_25519_ChaChaPoly_BLAKE2b")
        preamble = b"SWRM" + bytes([1, 1, class_, 0])
        self.initiator = they == "resp"
        if self.initiator:
            self.send(preamble)
            self.n.set_as_initiator()
        else:
            assert self.read(8) == preamble
            self.n.set_as_responder()
        self.n.set_psks(psk(key))
        self.n.set_prologue(b"swarm-noise-v1\0" + preamble)
        self.static = os.urandom(32)
        self.n.set_keypair_from_private_bytes(Keypair.STATIC, self.static)
        self.n.start_handshake()
        self.state = self.n.noise_protocol.handshake_state

    def send(self, b):
        self.p.stdin.write(b)
        self.p.stdin.flush()

    def read(self, n):
        b = self.p.stdout.read(n)
        if len(b) != n:
            raise EOFError(self.p.stderr.read().decode())
        return b

    def frame(self, b):
        self.send(struct.pack(">H", len(b)) + bytes(b))

    def unframe(self):
        return self.read(struct.unpack(">H", self.read(2))[0])

    def hello(self):
        until = int(time.time()) + 86400
        text = b"swarm-noise-static-v1\0" + self.state.s.public_bytes + struct.pack(">Q", until)
        return pack([1, 0, {"id": raw(ME.public_key()), "cert": self.cert_key.sign(text),
                            "na": until, "ag": "python", "role": 2}])

    def check(self, hello):
        (kind, _, body), end = unpack(bytes(hello))
        assert kind == 1 and end == len(hello) and body["id"] == raw(THEM) and body["ag"] == "stdio/1"
        text = (b"swarm-noise-static-v1\0" + self.state.rs.public_bytes + struct.pack(">Q", body["na"]))
        Ed25519PublicKey.from_public_bytes(body["id"]).verify(body["cert"], text)

    def shake(self):
        if self.initiator:
            self.frame(self.n.write_message())
            self.check(self.n.read_message(self.unframe()))
            self.frame(self.n.write_message(self.hello()))
        else:
            assert self.n.read_message(self.unframe()) == b""
            self.frame(self.n.write_message(self.hello()))
            self.check(self.n.read_message(self.unframe()))

    def say(self, *args, **kw):
        self.frame(self.n.encrypt(record(*args, **kw)))

    def message(self, stream, b):
        for at in range(0, len(b), self.room):
            part = b[at:at + self.room]
            flags = (FIRST if at == 0 else 0) | (LAST if at + len(part) == len(b) else 0)
            self.say(DATA, flags, stream, part, len(b), 1 if len(part) == self.room else 64)

    def hear(self):
        """the next whole message; follows their REKEYs"""
        parts = {}
        while True:
            p = self.n.decrypt(self.unframe())
            kind, flags, stream, dlen, zero, mlen = struct.unpack(">BBHHHI", p[:12])
            assert zero == 0 and not any(p[12 + dlen:])
            if kind == REKEY:
                self.n.rekey_inbound_cipher()
                self.rekeys += 1
                continue
            assert kind == DATA and (stream in parts) != bool(flags & FIRST)
            parts[stream] = parts.get(stream, b"") + p[12:12 + dlen]
            if flags & LAST:
                assert len(parts[stream]) == mlen
                return unpack(parts[stream])[0]

    rekeys = 0


def talk(program, they, class_):
    peer = Peer(program, they, class_)
    peer.shake()
    for i in range(20):
        peer.message(0, pack([PING, i, {"t": i * 1000}]))
        kind, rid, body = peer.hear()
        assert (kind, rid, body["t"]) == (PONG, i, i * 1000)
        if i % 5 == 0:
            peer.say(REKEY)
            peer.n.rekey_outbound_cipher()
        peer.say(PAD)
    for n in (1, 16384, 40000, 300000, 8 << 20):
        x = os.urandom(n)
        act = {"s": bytes(16), "e": 1, "p": 0, "n": 1, "st": n, "w": 0, "x": x}
        peer.message(3, pack([ACT, 0, act]))
        kind, _, body = peer.hear()
        assert kind == ACT and body == act
    assert peer.rekeys > 5
    peer.say(CLOSE, data=b"\0")
    err = peer.p.stderr.read().decode()
    assert peer.p.wait() == 0 and "open swm1" in err and "closed the connection" in err, err


def refused(program, they, expect, **kw):
    peer = Peer(program, they, 0, **kw)
    try:
        peer.shake()
        peer.hear()
        raise SystemExit(f"{they}: {expect}: was not refused")
    except EOFError as e:
        assert expect in str(e), str(e)
    except AssertionError:  # the responder's CLOSE instead of a message
        assert expect in peer.p.stderr.read().decode()
    assert peer.p.wait() == 1


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for they in ("resp", "init"):
        for class_ in (0, 1):
            talk(sys.argv[1], they, class_)
            print(f"conn.c as {they}, class {class_}: handshake, messages to 8 MiB, REKEY, CLOSE agree")
    refused(sys.argv[1], "resp", "uses another swarm key", key=bytes(32))
    print("another swarm key: refused in silence")
    for they in ("resp", "init"):
        refused(sys.argv[1], they, "does not verify", cert_key=Ed25519PrivateKey.generate())
        print(f"conn.c as {they}: a certificate by another key is refused")


main()
