"""Drawings of the dollhouse: rooms, people, things and passers-by, in scene units.

Scene units: the picture's shorter side is 1; x runs from -0.5 to 0.5 around the centre, y from 0 (top) to 1.
Everything that a question may ask about is inside that square, so a centre crop keeps it.
"""
