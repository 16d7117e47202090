"""The composition root: the only package that knows who is who.

`parts` makes them from settings, `serving` joins them into a gateway, `replaying` into a replay: import what you need.
"""
