"""A stand-in for what GKE adds to Kubernetes: its custom resources, its load balancer and certificate controllers, Autopilot."""
