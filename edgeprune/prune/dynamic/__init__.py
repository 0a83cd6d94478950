"""Dynamic sparse training: connections are dropped and others grown while a network is trained."""
