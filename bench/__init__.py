"""Benchmarks: the server from outside, by its command line and its public interface; its stores for references."""
