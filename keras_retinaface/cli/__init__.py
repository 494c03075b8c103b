"""The commands: flags in, library calls, one table out. Only here and in `python -m` programs are flags defined."""
