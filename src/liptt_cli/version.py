"""The version of liptt, written in this one place."""

VERSION = "0.1.0"
