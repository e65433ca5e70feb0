"""Where several processes count together: Redis 6.2 or Valkey 7.2, or later. Needs redis-py."""

from channels_secure.stores.redis.store import RedisStore

__all__ = ["RedisStore"]
