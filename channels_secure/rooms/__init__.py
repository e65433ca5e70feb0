"""Rooms with rules: who may enter, who may speak, and who may say so.

An app of its own, ``"channels_secure.rooms"`` in `INSTALLED_APPS`. Its functions are in `moderation`, `membership` and
`presence`, its consumer in `consumers`.
"""
