#!/usr/bin/env python3
"""igd.py - a router for tests: answers UPnP (SSDP and SOAP) and NAT-PMP, and really forwards.

    igd.py --inside ADDR --outside ADDR [--speak upnp,natpmp] [--taken PORT] [--eternal] [--say ADDR]

--taken: a port that another machine has; --eternal: refuses leases; --say: the address it claims to
have outside.  Each mapping that is made or removed is a line on stdout:

    upnp add 7777 192.168.1.2:7777 3600      natpmp del 7777
"""
import argparse
import asyncio
import re
import struct

p = argparse.ArgumentParser()
p.add_argument("--inside", required=True)
p.add_argument("--outside", required=True)
p.add_argument("--speak", default="upnp,natpmp")
p.add_argument("--taken", type=int, default=0)
p.add_argument("--eternal", action="store_true")
p.add_argument("--say")
args = p.parse_args()
says = args.say or args.outside
SERVICE = "urn:schemas-upnp-org:service:WANIPConnection:1"
DEVICE = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
HTTP_PORT = 5000
mappings = {}  # outside port -> server


def say(*words):
    print(*words, flush=True)


# --- forwarding

async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


def forward_to(host, port):
    async def forward(reader, writer):
        try:
            there, back = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, back), copy(there, writer))
    return forward


async def add(how, outside, host, port, lease):
    if outside not in mappings:
        mappings[outside] = await asyncio.start_server(forward_to(host, port), args.outside, outside)
    say(how, "add", outside, f"{host}:{port}", lease)


def remove(how, outside):
    if outside in mappings:
        mappings.pop(outside).close()
    say(how, "del", outside)


# --- UPnP

DESCRIPTION = f"""<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion>
<device><deviceType>{DEVICE}</deviceType><friendlyName>test router</friendlyName><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1</serviceType>
<serviceId>urn:upnp-org:serviceId:WANCommonIFC1</serviceId><controlURL>/common</controlURL>
<eventSubURL>/event</eventSubURL><SCPDURL>/scpd.xml</SCPDURL></service></serviceList><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><serviceList><service>
<serviceType>{SERVICE}</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
<controlURL>/control</controlURL><eventSubURL>/event</eventSubURL><SCPDURL>/scpd.xml</SCPDURL>
</service></serviceList></device></deviceList></device></deviceList></device></root>"""


def envelope(body):
    return ('<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
            's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
            f"{body}</s:Body></s:Envelope>")


def answer(action, fields=""):
    return "200 OK", envelope(f'<u:{action}Response xmlns:u="{SERVICE}">{fields}</u:{action}Response>')


def fault(code):
    return "500 Internal Server Error", envelope(
        "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>"
        f'<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>{code}</errorCode>'
        "</UPnPError></detail></s:Fault>")


async def control(action, body):
    def field(name):
        found = re.search(f"<{name}>(.*?)</{name}>", body)
        return found.group(1) if found else ""
    if action == "GetStatusInfo":
        return answer(action, "<NewConnectionStatus>Connected</NewConnectionStatus>"
                      "<NewLastConnectionError>ERROR_NONE</NewLastConnectionError><NewUptime>9</NewUptime>")
    if action == "GetExternalIPAddress":
        return answer(action, f"<NewExternalIPAddress>{says}</NewExternalIPAddress>")
    if action == "AddPortMapping":
        outside, lease = int(field("NewExternalPort")), field("NewLeaseDuration")
        if outside == args.taken:
            return fault(718)
        if args.eternal and lease != "0":
            return fault(725)
        await add("upnp", outside, field("NewInternalClient"), int(field("NewInternalPort")), lease)
        return answer(action)
    if action == "DeletePortMapping":
        remove("upnp", int(field("NewExternalPort")))
        return answer(action)
    return fault(401)


async def http(reader, writer):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = re.search(r"(?i)content-length: *(\d+)", head)
    body = (await reader.readexactly(int(length.group(1)))).decode() if length else ""
    action = re.search(r"(?i)soapaction: *\"?[^#\r\n]*#(\w+)", head)
    status, text = (await control(action.group(1), body)) if action else ("200 OK", DESCRIPTION)
    writer.write(f"HTTP/1.1 {status}\r\nContent-Type: text/xml\r\nContent-Length: {len(text)}\r\n"
                 f"Connection: close\r\n\r\n{text}".encode())
    await writer.drain()
    writer.close()


class Ssdp(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, source):
        target = re.search(rb"(?i)\r\nST: *([^\r\n]+)", data)
        if not data.startswith(b"M-SEARCH") or not target or target.group(1).decode() != DEVICE:
            return
        self.transport.sendto(
            f"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: {DEVICE}\r\nUSN: uuid:1::{DEVICE}\r\n"
            f"EXT:\r\nSERVER: test\r\nLOCATION: http://{args.inside}:{HTTP_PORT}/desc.xml\r\n\r\n".encode(),
            source)


# --- NAT-PMP (RFC 6886)

class NatPmp(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, source):
        if len(data) == 2 and data[1] == 0:
            ip = bytes(int(b) for b in says.split("."))
            self.transport.sendto(struct.pack(">BBHI", 0, 128, 0, 1) + ip, source)
        if len(data) == 12 and data[1] == 2:
            _, _, _, inside, outside, lease = struct.unpack(">BBHHHI", data)
            if lease:
                asyncio.ensure_future(add("natpmp", outside, source[0], inside, lease))
            else:
                outside = outside or inside
                remove("natpmp", outside)
            self.transport.sendto(struct.pack(">BBHIHHI", 0, 130, 0, 1, inside, outside, lease), source)


async def main():
    import socket
    loop = asyncio.get_running_loop()
    if "upnp" in args.speak:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("", 1900))
        s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                     socket.inet_aton("239.255.255.250") + socket.inet_aton(args.inside))
        await loop.create_datagram_endpoint(Ssdp, sock=s)
        await asyncio.start_server(http, args.inside, HTTP_PORT)
    if "natpmp" in args.speak:
        await loop.create_datagram_endpoint(NatPmp, local_addr=(args.inside, 5351))
    say("ready")
    await asyncio.Event().wait()

asyncio.run(main())
