"""Who is it: authenticators turn the credentials of a handshake into an identity or a refusal."""
