"""The changes as HTTP clients get them: one ring of encoded events for all of them. No IO, clock or chance."""
