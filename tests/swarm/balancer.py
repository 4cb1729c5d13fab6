"""The smallest load balancer there is: TCP, one backend after the other, those that refuse are passed over.
Arguments: PORT ...  Prints the port it listens on."""
import itertools
import socket
import sys
import threading

ports = [int(p) for p in sys.argv[1:]]
turn = itertools.cycle(range(len(ports)))
door = socket.create_server(("127.0.0.1", 0))
print(door.getsockname()[1], flush=True)


def backend():
    first = next(turn)
    for i in range(len(ports)):
        try:
            return socket.create_connection(("127.0.0.1", ports[(first + i) % len(ports)]))
        except OSError:
            pass
    return None


def pass_on(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    for s in (a, b):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


while True:
    client, _ = door.accept()
    to = backend()
    if not to:
        client.close()
        continue
    for pair in ((client, to), (to, client)):
        threading.Thread(target=pass_on, args=pair, daemon=True).start()
