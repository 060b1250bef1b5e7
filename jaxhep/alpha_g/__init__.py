"""ALPHA-g radial time projection chamber: spacepoints, simulation, the standard vertex reconstruction, displays."""
