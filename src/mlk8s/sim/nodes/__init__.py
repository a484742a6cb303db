"""GPU nodes as NVIDIA's software stack describes them to Kubernetes."""
