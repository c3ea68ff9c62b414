"""Fixtures of what a release is held to."""

from devcluster.fixtures import cluster, namespace

__all__ = ["cluster", "namespace"]
