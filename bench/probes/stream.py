"""A bare stream between two processes: what an encrypted or plain transfer can reach at most here.

    python stream.py serve KIND BYTES ADDRESS PORT [PEM]     sends BYTES to whoever connects, once
    python stream.py fetch KIND BYTES ADDRESS PORT           takes them and prints the rate

KIND is tcp, tls (PEM: key and certificate of the server) or curve (ZeroMQ PUSH and PULL). 1 MiB a write or message.
TLS is the newest that both sides have, in practice 1.3 with AES-GCM; the certificate is not checked, which costs
nothing per byte.
"""

import json
import socket
import ssl
import sys
import time

CHUNK = 1 << 20
PATIENCE_S = 20.0


def context(server: bool) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if server:
        made.load_cert_chain(sys.argv[6])
    return made


def serve_socket(kind: str, size: int, address: str, port: int) -> None:
    data = memoryview(bytearray(b"x") * CHUNK)
    with socket.create_server((address, port)) as listener:
        listener.settimeout(PATIENCE_S)
        sock = listener.accept()[0]
        sock.settimeout(PATIENCE_S)
        if kind == "tls":
            sock = context(True).wrap_socket(sock, server_side=True)
        with sock:
            for _ in range(size // CHUNK):
                sock.sendall(data)
            sock.recv(1)  # until the other side has all


def connected(address: str, port: int) -> socket.socket:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return socket.create_connection((address, port), PATIENCE_S)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def fetch_socket(kind: str, size: int, address: str, port: int) -> float:
    sock = connected(address, port)
    if kind == "tls":
        sock = context(False).wrap_socket(sock)
    room, left = memoryview(bytearray(CHUNK)), size // CHUNK * CHUNK
    with sock:
        start = time.perf_counter()
        while left:
            left -= sock.recv_into(room)
        took = time.perf_counter() - start
        sock.send(b"!")
    return took


def serve_curve(size: int, address: str, port: int) -> None:
    import zmq
    import zmq.utils.z85

    # The keys are those of this measurement: derived from fixed secrets, because both sides must know them.
    with zmq.Context() as made, made.socket(zmq.PUSH) as sock:
        sock.curve_server = True
        sock.curve_secretkey = zmq.utils.z85.encode(b"\1" * 32)
        sock.linger = int(PATIENCE_S * 1000)
        sock.sndhwm = 64
        sock.bind(f"tcp://{address}:{port}")
        data = b"x" * CHUNK
        for _ in range(size // CHUNK):
            if not sock.poll(PATIENCE_S * 1000, zmq.POLLOUT):
                raise TimeoutError("nobody takes the stream")
            sock.send(data)


def fetch_curve(size: int, address: str, port: int) -> float:
    import zmq
    import zmq.utils.z85

    with zmq.Context() as made, made.socket(zmq.PULL) as sock:
        secret = zmq.utils.z85.encode(b"\2" * 32)
        sock.curve_secretkey, sock.curve_publickey = secret, zmq.curve_public(secret)
        sock.curve_serverkey = zmq.curve_public(zmq.utils.z85.encode(b"\1" * 32))
        sock.rcvhwm = 64
        sock.connect(f"tcp://{address}:{port}")
        start = 0.0
        for _ in range(size // CHUNK):
            if not sock.poll(PATIENCE_S * 1000):
                raise TimeoutError("the stream stopped")
            sock.recv(copy=False)
            start = start or time.perf_counter()
        return time.perf_counter() - start


def main() -> None:
    role, kind, size, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
    if role == "serve":
        serve_curve(size, address, port) if kind == "curve" else serve_socket(kind, size, address, port)
        print("@bench " + json.dumps({"served": kind}), flush=True)
        return
    took = fetch_curve(size, address, port) if kind == "curve" else fetch_socket(kind, size, address, port)
    print("@bench " + json.dumps({"kind": kind, "GB/s": size / took / 1e9}), flush=True)


if __name__ == "__main__":
    main()
