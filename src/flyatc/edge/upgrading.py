"""A request that becomes a tunnel (RFC 9110 §7.8)."""

from flyatc.edge import exchange, gateway
from flyatc.wire import client, tunnel


def join(to: exchange.Exchange, app: client.AppConnection, through: gateway.Gateway) -> None:
    """The answer of 101 is sent: from here on both sides talk past us. ``to`` ends with the tunnel."""
    request = to.request
    visitor, ahead = request.upgrade()
    transport, early = app.give_away()
    one: tunnel.Tunnel

    def ended(octets: int) -> None:
        request.sent += octets
        through.ended(one)
        to.tunnels(-1)
        to.end()

    one = tunnel.Tunnel(visitor, transport, ended)
    through.opened(one)
    to.tunnels(1)
    if early:
        visitor.write(early)
    if ahead:
        transport.write(ahead)
