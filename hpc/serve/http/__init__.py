"""The HTTP side of services: a server of HTTP/1.1 and websockets, the bridge to ASGI, proxies and their doors."""
