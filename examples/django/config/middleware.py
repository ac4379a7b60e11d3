"""What the app has to know about the gateway that its server does not tell it."""


class UnixSocketPeer:
    """Gives a request that came through a Unix socket the loopback address as its peer.

    A Unix socket has no address, so gunicorn leaves REMOTE_ADDR empty. Libraries that ask "is the peer one of my proxies?"
    then answer no and ignore the client's address in the header, or take the empty text for the client. Whoever may open the
    socket (its folder's permissions decide) is a local process, which is what 127.0.0.1 says. Over TCP this changes nothing.
    """

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        if not request.META.get("REMOTE_ADDR"):
            request.META["REMOTE_ADDR"] = "127.0.0.1"
        return self.get_response(request)
