"""What gRPC itself is told of limits, pings and the age of connections."""

from datetime import timedelta

from job_service.settings import Settings


def channel_options(settings: Settings) -> list[tuple[str, int]]:
    """The options of the server."""
    limits = settings.call_limits
    return [
        # More than the limit on messages, so that one over it gets a proper answer.
        ("grpc.max_receive_message_length", 2 * settings.max_message_bytes),
        # Between the two, metadata would be refused at random.
        ("grpc.max_metadata_size", settings.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_metadata_bytes),
        # Also bounds the streams on which nothing has been asked yet: those are no calls so far.
        ("grpc.max_concurrent_streams", limits.short + limits.held + limits.transfers),
        # Held calls are silent for up to a minute; proxies and dead peers are found by pings.
        ("grpc.keepalive_time_ms", _ms(settings.ping_interval)),
        # gRPC makes this the socket's TCP_USER_TIMEOUT: a machine that is gone is found by it. How
        # long a ping itself may take stays at gRPC's minute ("grpc.http2.ping_timeout_ms"): on a
        # slow line it waits behind all that an upload has sent, and ten seconds would cut it off.
        ("grpc.keepalive_timeout_ms", _ms(settings.ping_timeout)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(settings.min_ping_interval)),
        ("grpc.max_connection_age_ms", _ms(settings.max_connection_age)),
        ("grpc.max_connection_age_grace_ms", _ms(settings.max_connection_age_grace)),
        ("grpc.so_reuseport", 0),
    ]


def _ms(span: timedelta) -> int:
    return min(span // timedelta(milliseconds=1), 2**31 - 1)
