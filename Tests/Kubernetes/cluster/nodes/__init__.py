"""The cluster's nodes: where pods go, and the pretence of running them."""
