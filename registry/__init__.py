"""Content by digest, and the Distribution protocol on both ends."""
