"""A project whose users log in with an email address and have a UUID for a primary key."""
