"""The gRPC side of services: the server in each proxy, which needs the extra `grpc`."""
