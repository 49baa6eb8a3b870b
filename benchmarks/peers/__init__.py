"""Other people's neural operators, each behind the interface of an `OperatorNetwork`."""

import importlib

# name → module; a module loads when its model is asked for
PEERS = {
    "FNO": "peers.fno",
    "UNO": "peers.uno",
    "GINO": "peers.gino",
    "Transolver": "peers.transolver",
    "PodDeepONet": "peers.pod_deeponet",
}


def find_peer(name):
    """Return the class of a peer."""
    return getattr(importlib.import_module(PEERS[name]), name)
