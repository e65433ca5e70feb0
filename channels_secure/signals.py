"""What the package tells the project, and what its own processes tell themselves.

The public signals send `connection_id`, `user`, `ip`, `path` and `reason`; those of blocks send `block` too, and the
network as `ip`. They are sent robustly: Django logs a receiver that raises, and nobody else notices it. Receivers take
`**kwargs`, because more facts may be added.
"""

from django.dispatch import Signal

connection_accepted = Signal()
connection_closed = Signal()
handshake_denied = Signal()
message_denied = Signal()
block_created = Signal()
block_lifted = Signal()

# Sent in this process, in the committing thread, after every commit that changed blocks or revocations. Carries no
# facts.
policy_changed = Signal()

# Sent by a store that several processes share, in this process's event loop: `store` is its name, `error` what was the
# last straw. In between everything is counted in this process.
store_degraded = Signal()
store_recovered = Signal()

# Sent for the events of the audit trail, of which it says nothing but `kind`, `reason` and `count`: at once for those
# that are rows of their own, some seconds later and together for those that were added to a row. In the recording
# thread, often the event loop's: receivers only count.
event_recorded = Signal(use_caching=True)

# For counting, in the event loop and within it: nobody may wait, or keep what is sent.
# Once for each handshake: `connection`; `result`, which is "accepted", "refused" or "abandoned"; `denial` or None.
handshake_counted = Signal(use_caching=True)
# Once for each connection that was accepted, at its end: `connection`, and `initiator`, who ended it.
end_counted = Signal(use_caching=True)
# Every few seconds: `connections`, the registry of an event loop; `database_is_away`.
sockets_counted = Signal(use_caching=True)
